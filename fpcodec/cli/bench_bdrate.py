"""``fpcodec bench bdrate``: average difference in bytes of two families at equal AP drop."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fpcodec.cli.drop_interval import Drops, Method, parse_drops
from fpcodec.cli.output import print_json

if TYPE_CHECKING:
    from fpcodec.evaluation.bd_rate import BdRate


def bdrate(
    results: Annotated[
        Path, typer.Argument(metavar="RESULTS", help="Folder with rows.json, or a file of rows.")
    ],
    anchor: Annotated[
        str, typer.Option(metavar="FAMILY", help="Compared with; 'best picture' is all pictures.")
    ],
    test: Annotated[str, typer.Option(metavar="FAMILY", help="Compared.")],
    drops: Drops = "0.5:4",
    method: Method = "pchip",
    no_draws: Annotated[
        bool, typer.Option("--no-draws", help="A value alone, without the bootstrap's interval.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare the bytes of two families of settings over an interval of AP drops.

    A family is the rows that share one, as webp or fpc p3+p4+p5. Its settings that others beat
    do not count. Refused where the families share under 75 % of the interval.

    Example:  fpcodec bench bdrate runs/coco --anchor webp --test 'fpc p3+p4+p5'

    Another:  fpcodec bench bdrate rows.json --anchor 'best picture' --test boxes --drops 0.2:1
    """
    interval = parse_drops(drops)
    from fpcodec.evaluation.bd_rate import FittedCurve, bd_rate, known_method
    from fpcodec.evaluation.curves import named_curve
    from fpcodec.evaluation.report.source import load_results

    loaded = load_results(results)
    draws = {} if no_draws else loaded.draws
    curves = [named_curve(loaded.rows, name, draws) for name in (anchor, test)]
    first, second = (FittedCurve(curve, known_method(method)) for curve in curves)
    result = bd_rate(first, second, interval)
    if as_json:
        print_json(result.to_dict())
    else:
        _say(result)


def _say(result: BdRate) -> None:
    print(f"{result.test} against {result.anchor}: {result.percent:+.1f} % bytes")
    low, high = result.drops_used
    print(f"averaged over drops of {low:.2f} to {high:.2f} points ({result.method})")
    if result.low is not None:
        print(
            f"95 % of {result.draws_used} draws lie in {result.low:+.1f} to {result.high:+.1f} % "
            f"({result.draws} drawn)"
        )
