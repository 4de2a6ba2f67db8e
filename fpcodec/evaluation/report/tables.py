"""The report's tables, for any markup: what stands in every cell, and what it sorts by."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fpcodec.evaluation.bd_rate import BytesRatio
from fpcodec.evaluation.curves import BEST_PICTURE
from fpcodec.evaluation.report.comparisons import (
    HEADLINE_DROPS,
    REFERENCE_DROP,
    Comparison,
    Comparisons,
    OperatingPoint,
)
from fpcodec.evaluation.report.source import BOXES, ResultSet
from fpcodec.evaluation.results import ResultRow, Spread

STAGES = ("extract", "encode", "queue", "decode", "reconstruct", "head", "detect", "answer")
MAC_PARTS = (("edge", "network"), ("edge", "codec"), ("server", "codec"), ("server", "head"))


_AP_KEYS = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ap_common")
_COMPACT = ("way", "bytes", "p95", "AP", "small", "medium", "large", "drop [95 %]")


@dataclass(frozen=True)
class Cell:
    """One value.

    Attributes:
        text: What people read.
        value: What it sorts by, exactly as measured; None for text.
        note: Said where there is room for it.
    """

    text: str
    value: float | None = None
    note: str = ""


EMPTY = Cell("")


@dataclass(frozen=True)
class Table:
    """A head and rows; the first column is text.

    Attributes:
        head: Titles.
        rows: As many cells each.
    """

    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def without_empty_columns(self) -> Table:
        """Leave out what no row has."""
        kept = [i for i in range(len(self.head)) if i == 0 or any(row[i].text for row in self.rows)]
        return Table(
            tuple(self.head[i] for i in kept),
            tuple(tuple(row[i] for i in kept) for row in self.rows),
        )


def operating_points_table(
    comparisons: Comparisons,
    drops: Sequence[float] = HEADLINE_DROPS,
    families: Iterable[str] | None = None,
) -> Table:
    """Bytes per image at some drops, with the ratio to the best picture.

    Args:
        comparisons: Of one set of results.
        drops: In points of AP.
        families: Which; None for all, ours first.
    """
    head = ["family"]
    for drop in drops:
        head += [f"bytes at {drop:g}", "of best picture"]
    rows = []
    for family in families if families is not None else _all_families(comparisons):
        cells = [Cell(family)]
        for point in comparisons.operating_points(family, drops):
            cells += [_bytes_cell(point), ratio_cell(point.ratio, family != BEST_PICTURE)]
        rows.append(tuple(cells))
    return Table(tuple(head), tuple(rows)).without_empty_columns()


def bd_table(
    comparisons: Comparisons,
    anchors: Iterable[str] | None = None,
    tests: Iterable[str] | None = None,
) -> Table:
    """BD-rates: one row per anchor, one column per test family.

    Args:
        comparisons: Of one set of results.
        anchors: Compared with; None for the best picture, every picture and the other rivals.
        tests: Compared; None for our families.
    """
    columns = list(comparisons.ours if tests is None else tests)
    rows = [
        (Cell(anchor), *(bd_cell(comparisons.bd(anchor, test)) for test in columns))
        for anchor in (comparisons.anchors if anchors is None else anchors)
    ]
    return Table(("against", *columns), tuple(rows))


def ablation_table(comparisons: Comparisons) -> Table:
    """Our other families, mosaics and the like beside our best family."""
    if not comparisons.ours:
        return Table(("family",), ())
    best, *rest = comparisons.ours
    rows = []
    for family in (*rest, *comparisons.others):
        sizes = comparisons.bytes_at(family, REFERENCE_DROP)
        rows.append(
            (
                Cell(family),
                Cell(f"{sizes:,.0f}", sizes) if sizes is not None else Cell("-"),
                ratio_cell(comparisons.ratio(best, family, REFERENCE_DROP)),
                bd_cell(comparisons.bd(best, family)),
            )
        )
    head = ("family", f"bytes at {REFERENCE_DROP:g}", f"of {best}", f"BD-rate against {best}")
    return Table(head, tuple(rows))


def rows_table(results: ResultSet, *, full: bool = True) -> Table:
    """Every row: bytes, AP, drop; with ``full`` also what few readers need."""
    head = ["way", "family", "bytes", "p50", "p95", "payload", "bpp", "bits/element", "symbols"]
    head += ["AP", "AP50", "AP75", "small", "medium", "large", "common", "drop [95 %]"]
    head += ["F1", "IoU"]
    rows = []
    for row in results.rows:
        cells = [Cell(row.name), Cell(row.family), *_sizes(row)]
        cells += [_number(row.ap.get(key), 1) for key in _AP_KEYS]
        cells += [drop_cell(row), _number(row.agreement_f1, 3), _number(row.agreement_iou, 3)]
        rows.append(tuple(cells))
    table = Table(tuple(head), tuple(rows))
    return table.without_empty_columns() if full else _columns(table, _COMPACT)


def costs_table(results: ResultSet) -> Table:
    """Median milliseconds per stage, and multiply-accumulates per part, of every row."""
    macs = [f"{side} {part} MMAC" for side, part in MAC_PARTS]
    rows = []
    for row in results.rows:
        times = [row.times_ms.get(stage) for stage in STAGES]
        counts = [row.macs.get(side, {}).get(part) for side, part in MAC_PARTS]
        cells = [Cell(row.name)]
        cells += [_number(x.p50 if x else None, 1) for x in times]
        cells += [Cell(f"{x / 1e6:,.1f}", x) if x is not None else EMPTY for x in counts]
        rows.append(tuple(cells))
    head = ("way", *(f"{stage} ms" for stage in STAGES), *macs)
    return Table(head, tuple(rows)).without_empty_columns()


def levels_table(results: ResultSet) -> Table:
    """Mean bytes per level of the rows that tell levels apart."""
    rows = [row for row in results.rows if row.level_bytes]
    levels = sorted({level for row in rows for level in row.level_bytes})
    cells = tuple(
        (Cell(row.name), *(_number(row.level_bytes.get(level), 0) for level in levels))
        for row in rows
    )
    return Table(("way", *(f"{level} bytes" for level in levels)), cells)


def bd_cell(comparison: Comparison) -> Cell:
    """A BD-rate in percent with its interval, or a dash and why."""
    result = comparison.result
    if result is None:
        return Cell("-", None, comparison.note)
    text = f"{result.percent:+.1f} %"
    if result.low is not None:
        text += f" [{result.low:+.1f}, {result.high:+.1f}]"
    low, high = result.drops_used
    part = f" over {low:.2f} to {high:.2f}" if result.drops_used != result.drops_asked else ""
    return Cell(text + part, result.percent, comparison.note)


def ratio_cell(ratio: BytesRatio | None, with_interval: bool = True) -> Cell:
    """Bytes by the anchor's, in percent."""
    if ratio is None:
        return EMPTY
    text = f"{ratio.ratio:.0%}"
    if ratio.low is not None and ratio.high is not None and with_interval:
        text += f" [{ratio.low:.0%}, {ratio.high:.0%}]"
    return Cell(text, ratio.ratio)


def drop_cell(row: ResultRow) -> Cell:
    """A drop with its interval."""
    if row.drop is None:
        return EMPTY
    text = f"{row.drop.value:.2f} [{row.drop.low:.2f}, {row.drop.high:.2f}]"
    return Cell(text, row.drop.value)


def _all_families(comparisons: Comparisons) -> list[str]:
    best = [BEST_PICTURE] if comparisons.pictures else []
    boxes = comparisons.results.families_of(BOXES)
    return [*comparisons.ours, *best, *comparisons.pictures, *comparisons.others, *boxes]


def _bytes_cell(point: OperatingPoint) -> Cell:
    if point.mean_bytes is None:
        return Cell("loses more", None, f"every setting of {point.family} loses more")
    if point.is_bound:
        note = f"the smallest setting of {point.family} loses less than {point.drop:g} already"
        return Cell(f"≤ {point.mean_bytes:,.0f}", point.mean_bytes, note)
    return Cell(f"{point.mean_bytes:,.0f}", point.mean_bytes)


def _sizes(row: ResultRow) -> list[Cell]:
    sent, payload, symbols = row.sent_bytes, row.payload_bytes, row.symbols
    return [
        *(_number(getattr(sent, part, None), 0) for part in ("mean", "p50", "p95")),
        _mean(payload), _number(row.bpp, 3), _number(row.bits_per_element, 4), _mean(symbols),
    ]  # fmt: skip


def _mean(spread: Spread | None) -> Cell:
    return _number(spread.mean if spread else None, 0)


def _number(value: float | None, digits: int) -> Cell:
    return EMPTY if value is None else Cell(f"{value:,.{digits}f}", value)


def _columns(table: Table, titles: Sequence[str]) -> Table:
    kept = [table.head.index(title) for title in titles]
    return Table(tuple(titles), tuple(tuple(row[i] for i in kept) for row in table.rows))
