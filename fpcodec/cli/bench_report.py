"""``fpcodec bench report``: one page, plots and tables of measured rows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fpcodec.cli.drop_interval import Drops, Method, parse_drops
from fpcodec.cli.output import print_json, progress_callback


def report(
    results: Annotated[
        list[Path],
        typer.Argument(metavar="RESULTS...", help="Folders with rows.json, or files of rows."),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the report.")],
    drops: Drops = "0.5:4",
    method: Method = "pchip",
    as_json: Annotated[bool, typer.Option("--json", help="Print what was written.")] = False,
) -> None:
    """Write a page that needs no network, plots of rate and accuracy, and tables in Markdown.

    Several results stand in one page. Intervals of BD-rates need the draws.npz beside rows.json.

    Example:  fpcodec bench report runs/coco --out report

    Another:  fpcodec bench report runs/coco runs/tiny --out report --drops 0.5:3
    """
    interval = parse_drops(drops)
    from fpcodec.evaluation.bd_rate import known_method
    from fpcodec.evaluation.report.source import load_all
    from fpcodec.evaluation.report.write import write_report

    loaded = load_all(results)
    with progress_callback("Reporting") as progress:
        written = write_report(
            loaded, out, drops=interval, method=known_method(method), progress=progress
        )
    if as_json:
        print_json({"page": str(written[0]), "files": [str(path) for path in written]})
    else:
        print("\n".join(str(path) for path in written))
