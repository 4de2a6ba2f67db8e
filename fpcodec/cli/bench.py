"""``fpcodec bench``: the group of the benchmark commands."""

from __future__ import annotations

import typer

from fpcodec.cli.bench_bdrate import bdrate
from fpcodec.cli.bench_rd import rd
from fpcodec.cli.bench_report import report

bench = typer.Typer(
    help="Bytes against AP, beside what people use today: rd measures, report shows, bdrate "
    "compares two curves.",
    no_args_is_help=True,
)
for command in (rd, report, bdrate):
    bench.command()(command)
