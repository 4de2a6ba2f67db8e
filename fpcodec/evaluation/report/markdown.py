"""Compact Markdown tables of results, as README shows them."""

from __future__ import annotations

from collections.abc import Sequence

from fpcodec.evaluation.report.comparisons import HEADLINE_DROPS, Comparisons
from fpcodec.evaluation.report.tables import (
    Table,
    bd_table,
    costs_table,
    operating_points_table,
    rows_table,
)
from fpcodec.evaluation.report.verdict import verdict


def table_markdown(table: Table) -> str:
    """A pipe table; the first column is text, the others numbers."""
    lines = [
        table.head,
        ("---", *("---:" for _ in table.head[1:])),
        *(tuple(cell.text for cell in row) for row in table.rows),
    ]
    return "\n".join(f"| {' | '.join(_escaped(text) for text in line)} |" for line in lines)


def operating_points_markdown(
    comparisons: Comparisons,
    drops: Sequence[float] = HEADLINE_DROPS,
    families: Sequence[str] | None = None,
) -> str:
    """Bytes per image at some drops of AP, with the ratio to the best picture."""
    return table_markdown(operating_points_table(comparisons, drops, families))


def bd_markdown(
    comparisons: Comparisons,
    anchors: Sequence[str] | None = None,
    tests: Sequence[str] | None = None,
) -> str:
    """BD-rates of our families, and the reasons where there is none."""
    table = bd_table(comparisons, anchors, tests)
    notes = dict.fromkeys(cell.note for row in table.rows for cell in row if cell.note)
    low, high = comparisons.drops
    said = f"BD-rate over drops of {low:g} to {high:g} points ({comparisons.method})."
    return "\n".join([table_markdown(table), "", said, *(f"\n- {note}" for note in notes)])


def rows_markdown(comparisons: Comparisons, *, full: bool = False) -> str:
    """Every row's bytes, AP and drop."""
    return table_markdown(rows_table(comparisons.results, full=full))


def source_markdown(comparisons: Comparisons) -> str:
    """The commands and commits that made the rows, in small type."""
    environments = dict.fromkeys(
        (row.environment.command, row.environment.git_sha) for row in comparisons.results.rows
    )
    return "\n".join(
        f"<sub>`{command or 'unknown command'}`, commit {(sha or 'unknown')[:7]}</sub>"
        for command, sha in environments
    )


def report_markdown(comparisons: Comparisons) -> str:
    """All of it: verdict, operating points, BD-rates, rows, costs and where they come from."""
    results = comparisons.results
    first = results.rows[0]
    parts = [
        f"# {results.name}: {first.images} images of {first.data}",
        "\n".join(f"- {sentence}" for sentence in verdict(comparisons)),
        "## Bytes at equal accuracy",
        operating_points_markdown(comparisons),
        "## BD-rate",
        bd_markdown(comparisons),
        "## Rows",
        rows_markdown(comparisons, full=True),
        "## Times and multiply-accumulates",
        table_markdown(costs_table(results)),
        source_markdown(comparisons),
    ]
    return "\n\n".join(parts) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")
