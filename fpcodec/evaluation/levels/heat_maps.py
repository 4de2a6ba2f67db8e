"""Heat maps of a degradation study: points of AP lost by level, ratio and object scale."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fpcodec.errors import MissingDependency
from fpcodec.evaluation.levels.reading import MEASURES, LevelLosses
from fpcodec.files import replacing

Grid = npt.NDArray[np.float64]

_TITLES = {
    "ap": "all objects",
    "ap_small": "small objects",
    "ap_medium": "medium objects",
    "ap_large": "large objects",
}
# One hue, told apart by lightness alone; white is no loss.
_COLOURS = "Blues"
_LEAST_SPAN = 1.0
_DPI = 130


def draw_heat_maps(losses: LevelLosses, folder: Path, kind: str, caption: str) -> list[Path]:
    """Write a PNG per object scale and one with all of them.

    Args:
        losses: Of one scope and resampling.
        folder: Where to.
        kind: Scope and resampling, part of the file names: ``all seed``.
        caption: What was measured on what; stands above each figure.

    Returns:
        The files, the overview last: ``ap_small_all_seed.png``, ``overview_all_seed.png``.

    Raises:
        MissingDependency: matplotlib is not installed.
    """
    suffix = kind.replace(" ", "_")
    measures = [x for x in MEASURES if losses.reference.get(x) is not None]
    files = []
    for measure in measures:
        files.append(folder / f"{measure}_{suffix}.png")
        _save(_scale_figure(losses, measure, caption), files[-1])
    files.append(folder / f"overview_{suffix}.png")
    _save(_overview(losses, measures, caption), files[-1])
    return files


def singles_grid(losses: LevelLosses, measure: str) -> Grid:
    """Points lost, shape (levels, ratios); nan where not measured."""
    return np.array(
        [
            [_number(losses.single(level, ratio, measure)) for ratio in losses.ratios]
            for level in losses.levels
        ],
        np.float64,
    ).reshape(len(losses.levels), -1)


def pairs_grid(losses: LevelLosses, measure: str) -> Grid:
    """Points lost at the top ratio, shape (levels, levels); the diagonal is one level alone."""
    top = losses.top_ratio or 1.0
    return np.array(
        [
            [
                _number(
                    losses.single(a, top, measure) if a == b
                    else losses.pair((a, b), top, measure)
                )
                for b in losses.levels
            ]
            for a in losses.levels
        ],
        np.float64,
    )  # fmt: skip


def combinations_grid(losses: LevelLosses, measure: str) -> Grid | None:
    """Points lost, shape (levels * ratios, levels * ratios): every ratio of every level.

    The diagonal blocks hold one level alone, on their own diagonals. None where pairs were
    measured at equal ratios only.
    """
    cells = [(level, ratio) for level in losses.levels for ratio in losses.ratios]
    grid = np.full((len(cells), len(cells)), np.nan)
    mixed = False
    for key, loss in losses.losses.items():
        at = [cells.index(cell) for cell in key if cell in cells]
        if len(at) != len(key) or len(at) > 2 or measure not in loss:
            continue
        grid[at[0], at[-1]] = grid[at[-1], at[0]] = loss[measure]
        mixed = mixed or len({ratio for _, ratio in key}) > 1
    return grid if mixed else None


def _number(value: float | None) -> float:
    return np.nan if value is None else value


def _figure(width: float, height: float) -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependency(
            'heat maps need matplotlib; install it with pip install "fpcodec[bench]"'
        ) from error
    return Figure(figsize=(width, height), dpi=_DPI, layout="constrained")


def _save(figure: Any, path: Path) -> None:
    with replacing(path) as temporary:
        figure.savefig(temporary)


def _scale_figure(losses: LevelLosses, measure: str, caption: str) -> Any:
    figure = _figure(11, 5.2)
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.15))
    singles, combined = singles_grid(losses, measure), combinations_grid(losses, measure)
    pairs = pairs_grid(losses, measure)
    span = _span([singles, pairs if combined is None else combined])
    image = _draw_singles(left, losses, singles, span)
    if combined is None:
        _draw_pairs(right, losses, pairs, span)
    else:
        _draw_combinations(right, losses, combined, span)
    figure.colorbar(image, ax=[left, right], label="points of AP lost", shrink=0.8)
    whole = losses.reference[measure]
    figure.suptitle(f"AP of {_TITLES[measure]}: {whole:.1f} with nothing degraded\n{caption}",
                    fontsize=11)  # fmt: skip
    return figure


def _overview(losses: LevelLosses, measures: Sequence[str], caption: str) -> Any:
    figure = _figure(3.6 * len(measures) + 0.6, 7)
    axes = figure.subplots(2, len(measures), squeeze=False)
    for column, measure in enumerate(measures):
        singles, pairs = singles_grid(losses, measure), pairs_grid(losses, measure)
        span = _span([singles, pairs])
        _draw_singles(axes[0, column], losses, singles, span)
        _draw_pairs(axes[1, column], losses, pairs, span)
        whole = losses.reference[measure]
        axes[0, column].set_title(f"{_TITLES[measure]} (AP {whole:.1f})\none level degraded",
                                  fontsize=10)  # fmt: skip
    figure.suptitle(f"Points of AP lost; {caption}", fontsize=11)
    return figure


def _span(grids: Sequence[Grid]) -> float:
    """The loss at the dark end of the colours."""
    known = [float(np.nanmax(grid)) for grid in grids if np.isfinite(grid).any()]
    return max([_LEAST_SPAN, *known])


def _draw_singles(axes: Any, losses: LevelLosses, grid: Grid, span: float) -> Any:
    image = _draw(axes, grid, span)
    axes.set_xticks(range(len(losses.ratios)), [f"{ratio:g}" for ratio in losses.ratios])
    axes.set_xlabel("degradation ratio")
    axes.set_yticks(range(len(losses.levels)), losses.levels)
    axes.set_title("one level degraded", fontsize=10)
    return image


def _draw_pairs(axes: Any, losses: LevelLosses, grid: Grid, span: float) -> None:
    _draw(axes, grid, span)
    for which in (axes.set_xticks, axes.set_yticks):
        which(range(len(losses.levels)), losses.levels)
    axes.set_title(f"two levels degraded by {losses.top_ratio or 1:g}", fontsize=10)


def _draw_combinations(axes: Any, losses: LevelLosses, grid: Grid, span: float) -> None:
    _draw(axes, grid, span, numbers=False)
    count = len(losses.ratios)
    middles = [count * i + (count - 1) / 2 for i in range(len(losses.levels))]
    for which in (axes.set_xticks, axes.set_yticks):
        which(middles, losses.levels)
    for edge in range(1, len(losses.levels)):
        axes.axhline(count * edge - 0.5, color="0.35", linewidth=1)
        axes.axvline(count * edge - 0.5, color="0.35", linewidth=1)
    ratios = ", ".join(f"{ratio:g}" for ratio in losses.ratios)
    axes.set_title(f"two levels degraded, each by {ratios}", fontsize=10)


def _draw(axes: Any, grid: Grid, span: float, *, numbers: bool = True) -> Any:
    image = axes.imshow(grid, cmap=_COLOURS, vmin=0, vmax=span, aspect="auto")
    axes.set_facecolor("0.93")
    axes.tick_params(length=0)
    for row, column in np.argwhere(np.isfinite(grid)) if numbers else ():
        # Adding nothing turns a rounded -0.0 into 0.0.
        value = round(grid[row, column], 1) + 0.0
        axes.text(column, row, f"{value:.1f}", ha="center", va="center", fontsize=9,
                  color="white" if value > 0.55 * span else "black")  # fmt: skip
    return image
