"""Rate-accuracy curves: AP over bytes per image, for all objects and for each scale of them."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fpcodec.errors import MissingDependency
from fpcodec.evaluation.curves import Floats
from fpcodec.evaluation.report.comparisons import Comparisons
from fpcodec.evaluation.report.labels import Name, place_names
from fpcodec.evaluation.report.palette import GRID, INK, Style, is_ours, styles
from fpcodec.evaluation.report.source import FEATURES, ResultSet
from fpcodec.evaluation.results import ResultRow
from fpcodec.files import replacing

AREAS = {
    "ap": "all objects",
    "ap_small": "small objects",
    "ap_medium": "medium objects",
    "ap_large": "large objects",
}
"""Key of a row's AP to its title."""

SHOWN_DROP = 6.0
"""Settings that lose more points than this lie below the plots, unless all of ours do."""

_DPI = 200
_MOST_TICKS_PER_INCH = 1.8


def area_figure(
    comparisons: Comparisons, area: str, *, size: tuple[float, float] = (7.2, 5)
) -> Any:
    """AP over bytes for one scale of objects, a matplotlib ``Figure``.

    Raises:
        MissingDependency: matplotlib is not installed.
    """
    return _figure(comparisons, [area], size)


def scales_figure(comparisons: Comparisons) -> Any:
    """AP over bytes for small, medium and large objects, side by side where measured.

    Raises:
        MissingDependency: matplotlib is not installed.
    """
    areas = measured_scales(comparisons.results)
    return _figure(comparisons, areas, (4.5 * max(len(areas), 1), 4.6))


def measured_scales(results: ResultSet) -> list[str]:
    """Keys of the object scales for which a setting with bytes has an AP."""
    rows = [row for members in results.families.values() for row in members]
    scales = [area for area in AREAS if area != "ap"]
    return [area for area in scales if any(row.ap.get(area) is not None for row in rows)]


def shown_drop(results: ResultSet) -> float:
    """Drop of AP at the lower end of the plots: the best of our settings is always seen."""
    ours = [row.drop.value for row in results.rows if row.kind == FEATURES and row.drop is not None]
    return max(SHOWN_DROP, min(ours, default=SHOWN_DROP))


def left_out(results: ResultSet) -> list[str]:
    """Families that lie wholly below the plots."""
    most = shown_drop(results)
    return [
        name
        for name, rows in results.families.items()
        if all(row.drop is not None and row.drop.value > most for row in rows)
    ]


def save_figure(figure: Any, path: Path) -> None:
    """Write a figure; the ending is the format.

    Raises:
        InputError: The file cannot be written.
    """
    with replacing(path) as temporary:
        if path.suffix == ".svg":
            temporary.write_text(svg_text(figure, path.stem), "utf-8")
        else:
            figure.savefig(temporary, dpi=_DPI)


def svg_text(figure: Any, salt: str) -> str:
    """A figure as SVG with text as text; the same figure and salt give the same characters."""
    from matplotlib import rc_context

    buffer = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}):
        figure.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    return buffer.getvalue()


def _figure(comparisons: Comparisons, areas: Sequence[str], size: tuple[float, float]) -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependency(
            'a report needs matplotlib; install it with pip install "fpcodec[bench]"'
        ) from error
    results = comparisons.results
    rivals = [*comparisons.pictures, *comparisons.others]
    looks = styles(results, comparisons.ours, rivals)
    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    axes = figure.subplots(1, len(areas), squeeze=False)[0] if areas else []
    for axis, area in zip(axes, areas, strict=True):
        _draw_area(axis, results, area, looks)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    # Names are placed in pixels from here on; our families and the best rivals choose first.
    order = [*comparisons.ours, *rivals, *results.families]
    for axis, area in zip(axes, areas, strict=True):
        measured = {name: _points(rows, area) for name, rows in results.families.items()}
        lines = {name: found for name, found in measured.items() if len(found)}
        names = [
            Name(name, looks[name].colour, lines[name], is_ours(results, name))
            for name in dict.fromkeys(order)
            if name in lines and looks[name].labelled
        ]
        if lines:
            points = 10.5 if len(areas) == 1 else 9.5
            place_names(axis, names, list(lines.values()), points, _name_line(axis, results, area))
    return figure


def _name_line(axis: Any, results: ResultSet, area: str) -> list[Any]:
    """Say what the line is; the text, for names to keep clear of."""
    ap = results.unsplit.ap.get(area) if results.unsplit else None
    if ap is None:
        return []
    return [
        axis.annotate(
            f"unsplit {ap:.1f}", (0, ap), (4, 3), xycoords=("axes fraction", "data"),
            textcoords="offset points", ha="left", va="bottom", color=INK, fontsize=9.5,
        )
    ]  # fmt: skip


def _points(rows: Sequence[ResultRow], area: str) -> Floats:
    """Shape (points, 2): bytes and AP of the rows that have both, least bytes first."""
    points = [
        (row.sent_bytes.mean, row.ap[area])
        for row in rows
        if row.sent_bytes is not None and row.ap.get(area) is not None
    ]
    return np.array(sorted(points), np.float64).reshape(-1, 2)


def _draw_area(axis: Any, results: ResultSet, area: str, looks: Mapping[str, Style]) -> None:
    for name, rows in results.families.items():
        look = looks[name]
        points = _points(rows, area)
        layer = 1 if look.is_faint else 4 if is_ours(results, name) else 3
        axis.plot(
            points[:, 0], points[:, 1], color=look.colour, marker=look.marker, ls=look.dash,
            lw=look.width, ms=3 if look.is_faint else 5, zorder=layer,
        )  # fmt: skip
        if area == "ap" and is_ours(results, name) and not look.is_faint:
            _draw_intervals(axis, rows, look)
    unsplit = results.unsplit.ap.get(area) if results.unsplit else None
    if unsplit is not None:
        axis.axhline(unsplit, color=INK, lw=1, ls=(0, (2, 2)), zorder=2)
    _dress(axis, results, area, unsplit)


def _draw_intervals(axis: Any, rows: Sequence[ResultRow], look: Style) -> None:
    """The central 95 % of the bootstrap's drops, as bars around the AP."""
    for row in rows:
        ap = row.ap.get("ap")
        if row.drop is None or row.sent_bytes is None or ap is None:
            continue
        ends = [ap + row.drop.value - row.drop.high, ap + row.drop.value - row.drop.low]
        axis.plot([row.sent_bytes.mean] * 2, ends, color=look.colour, lw=0.9, zorder=3)


def _dress(axis: Any, results: ResultSet, area: str, unsplit: float | None) -> None:
    """Limits, ticks and titles."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    most = shown_drop(results)
    shown = [
        (row.sent_bytes.mean, row.ap[area])
        for rows in results.families.values()
        for row in rows
        if row.sent_bytes and row.drop and row.drop.value <= most
        and row.ap.get(area) is not None
    ]  # fmt: skip
    axis.set_xscale("log")
    if shown:
        sizes, aps = (np.array(x, np.float64) for x in zip(*shown, strict=True))
        top = max(aps.max(), unsplit if unsplit is not None else -math.inf)
        spread = max(top - aps.min(), 1.0)
        axis.set_ylim(max(aps.min() - 0.12 * spread, -0.02 * spread), top + 0.08 * spread)
        axis.set_xlim(sizes.min() / 1.5, sizes.max() * 1.4)
    ticks = _MOST_TICKS_PER_INCH * axis.figure.get_figwidth() / len(axis.figure.axes)
    left, right = axis.get_xlim()
    subs = (1.0, 2.0, 5.0) if 3 * math.log10(right / left) <= ticks else (1.0,)
    axis.xaxis.set_major_locator(LogLocator(subs=subs, numticks=20))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda size, _: bytes_text(size)))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.grid(color=GRID, lw=0.7)
    axis.set_axisbelow(True)
    axis.tick_params(colors=INK, labelsize=9.5, length=3)
    axis.tick_params(axis="x", which="minor", length=0)
    for side, spine in axis.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(INK)
    axis.set_title(AREAS[area].capitalize(), color=INK, fontsize=11.5, loc="left")
    axis.set_xlabel("bytes per image, mean (log)", color=INK, fontsize=10.5)
    axis.set_ylabel("AP, points", color=INK, fontsize=10.5)


def bytes_text(size: float) -> str:
    """A number of bytes for an axis: ``500``, ``2k``, ``1M``."""
    for unit, letter in ((1e6, "M"), (1e3, "k")):
        if size >= unit:
            return f"{size / unit:g}{letter}"
    return f"{size:g}"
