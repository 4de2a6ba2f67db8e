"""Writes a report's files: the page, the plots, the tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from fpcodec.evaluation.bd_rate import DEFAULT_DROPS, Method, Span
from fpcodec.evaluation.report.comparisons import Comparisons
from fpcodec.evaluation.report.html import page
from fpcodec.evaluation.report.markdown import report_markdown
from fpcodec.evaluation.report.plots import (
    area_figure,
    measured_scales,
    save_figure,
    scales_figure,
)
from fpcodec.evaluation.report.source import ResultSet
from fpcodec.files import replacing

PAGE = "report.html"


def write_report(
    results: Sequence[ResultSet],
    out: Path,
    *,
    drops: Span = DEFAULT_DROPS,
    method: Method = "pchip",
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Write ``report.html``, and plots and tables of each set of results, into a folder.

    Args:
        results: One or several; their names are file names.
        out: Made where it is missing.
        drops: Interval of AP drops that BD-rates average over, in points.
        method: Interpolation of the BD-rates.
        progress: Called with the parts done and all.

    Returns:
        The files written, the page first.

    Raises:
        InputError: A file cannot be written.
        MissingDependency: matplotlib or scipy is not installed.
    """
    reports = [Comparisons(result, drops, method) for result in results]
    written: list[Path] = []
    for done, report in enumerate(reports):
        if progress is not None:
            progress(done, len(reports) + 1)
        written += _plots(report, out)
        written.append(_write_text(out / f"{report.results.name}.md", report_markdown(report)))
    if progress is not None:
        progress(len(reports), len(reports) + 1)
    written.insert(0, _write_text(out / PAGE, page(reports)))
    if progress is not None:
        progress(len(reports) + 1, len(reports) + 1)
    return written


def _plots(report: Comparisons, out: Path) -> list[Path]:
    """AP over bytes for all objects, and for each scale of them, as PNG and SVG."""
    if not report.results.families:
        return []
    figures = {"ap": area_figure(report, "ap")}
    if measured_scales(report.results):
        figures["scales"] = scales_figure(report)
    paths = []
    for name, figure in figures.items():
        for ending in ("png", "svg"):
            path = out / f"{report.results.name}-{name}.{ending}"
            save_figure(figure, path)
            paths.append(path)
    return paths


def _write_text(path: Path, text: str) -> Path:
    with replacing(path) as temporary:
        temporary.write_text(text, "utf-8")
    return path
