"""``fpcodec eval``: bytes and AP of a profile, rivals beside it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fpcodec.cli.options import (
    Annotations,
    Levels,
    ProfileFolder,
    Threads,
    check_quality,
    open_profile,
)
from fpcodec.cli.output import print_table, progress_callback

if TYPE_CHECKING:
    from rich.table import Table

    from fpcodec.evaluation.results import ResultRow
    from fpcodec.profile import Profile

RIVALS = ("webp", "jpeg", "boxes")
DEFAULT_QUALITIES = (0.25, 0.5, 0.75)


Qualities = Annotated[
    list[float] | None,
    typer.Option(
        "--quality",
        "-q",
        metavar="Q",
        help="0 to 1; give it several times. Without it 0.25, 0.5 and 0.75.",
        show_default=False,
    ),
]
Limit = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, help="Only the first N images.", show_default=False),
]
Server = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT",
        help="Send frames to this server; without it all runs in this process.",
        show_default=False,
    ),
]
Rows = Annotated[
    Path | None,
    typer.Option("--json", metavar="OUT", help="Write the rows there.", show_default=False),
]


def evaluate(
    images: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the images.")],
    annotations: Annotations,
    profile: ProfileFolder = None,
    quality: Qualities = None,
    levels: Levels = "all",
    limit: Limit = None,
    server: Server = None,
    rivals: Annotated[
        bool, typer.Option("--rivals", help="Measure WebP, JPEG and boxes alone beside it.")
    ] = False,
    rival: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            show_default=False,
            help="Measure this one: webp:65, jpeg, avif:60, boxes:0.1; several times.",
        ),
    ] = None,
    out: Rows = None,
    threads: Threads = None,
) -> None:
    """Measure bytes per image and AP against the unsplit detector.

    Example:  fpcodec eval --images val --annotations val.json -q 0.3 -q 0.6 --rivals

    Another:  fpcodec eval --images val --annotations val.json --rival webp:65 --rival jpeg:85
    """
    qualities = [check_quality(q) for q in quality or DEFAULT_QUALITIES]
    loaded = open_profile(profile)
    from fpcodec.cli.level_choice import fixed_levels
    from fpcodec.data.coco import load_coco
    from fpcodec.evaluation.results import write_rows
    from fpcodec.evaluation.runner import evaluate as run
    from fpcodec.evaluation.ways import parse_rival

    chosen = fixed_levels(levels, loaded)
    dataset = load_coco(annotations, images, limit=limit)
    with _server_answers(server, loaded) as infer, progress_callback("Evaluating") as progress:
        result = run(
            loaded, dataset, qualities=qualities, levels=[chosen],
            rivals=[parse_rival(x) for x in (*(RIVALS if rivals else ()), *(rival or ()))],
            infer=infer, threads=threads,
            command=shlex.join(["fpcodec", *sys.argv[1:]]), progress=progress,
        )  # fmt: skip
    if out is not None:
        write_rows(out, result.rows)
    _print(result.rows)


@contextmanager
def _server_answers(
    address: str | None, profile: Profile
) -> Iterator[Callable[[bytes], Any] | None]:
    """A function that asks the server, or None to do it in this process."""
    if address is None:
        yield None
        return
    from fpcodec_edge import EdgeClient

    with EdgeClient(address, deadline_s=30.0) as client:
        client.negotiate(profile.stream_id)
        yield client.infer


def _print(rows: tuple[ResultRow, ...]) -> None:
    from rich.table import Table

    first = rows[0]
    table = Table(title=f"{first.data}: {first.images} images, AP in points")
    table.add_column("way", no_wrap=True)
    for title in ("bytes", "p95", "AP", "drop", "95 % of draws", "F1"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        sent, drop = row.sent_bytes, row.drop
        table.add_row(
            row.name,
            f"{sent.mean:,.0f}" if sent else "",
            f"{sent.p95:,.0f}" if sent else "",
            _points(row.ap.get("ap")),
            _points(drop.value) if drop else "",
            f"{drop.low:.1f} to {drop.high:.1f}" if drop else "",
            f"{row.agreement_f1:.3f}",
        )
    print_table(table)
    print_table(_scales_table(rows))
    print_table(_cost_table(rows))


def _scales_table(rows: tuple[ResultRow, ...]) -> Table:
    from rich.table import Table

    table = Table(title="AP by overlap and object scale")
    table.add_column("way", no_wrap=True)
    keys = ("ap50", "ap75", "ap_small", "ap_medium", "ap_large")
    for key in keys:
        table.add_column(key.removeprefix("ap_"), justify="right", no_wrap=True)
    for row in rows:
        table.add_row(row.name, *(_points(row.ap.get(key)) for key in keys))
    return table


def _cost_table(rows: tuple[ResultRow, ...]) -> Table:
    from rich.table import Table

    table = Table(title="Where bytes and time go, per image")
    for title in ("way", "median bytes", "mean bytes of", "median ms of"):
        table.add_column(title)
    for row in rows:
        table.add_row(
            row.name,
            f"{row.sent_bytes.p50:,.0f}" if row.sent_bytes else "",
            ", ".join(f"{name} {size:,.0f}" for name, size in row.level_bytes.items()),
            ", ".join(f"{stage} {spread.p50:.1f}" for stage, spread in row.times_ms.items()),
        )
    return table


def _points(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"
