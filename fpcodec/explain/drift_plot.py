"""The picture of a drift study: where evidence lies in the box, and how far it moves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from fpcodec.errors import MissingDependency
from fpcodec.files import replacing

PICTURE = "drift.png"
_DPI = 130
# Blue for the image, orange for the features: apart for every common colour blindness.
_IMAGE, _FEATURES, _INK, _FAINT = "#1b4f9c", "#c8500a", "#1f2328", "#c3c9d1"


def require_matplotlib() -> None:
    """Find out whether there can be a picture.

    Raises:
        MissingDependency: matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        raise MissingDependency(
            'the picture of drift needs matplotlib; install it with pip install "fpcodec[bench]"'
        )


def draw_drift(result: Mapping[str, Any], folder: Path, caption: str) -> Path:
    """Write a PNG: centres of evidence in the box, and the distributions of drift and bias.

    Args:
        result: What ``run_drift`` returns.
        folder: Where to.
        caption: What was measured on what; stands above.

    Raises:
        MissingDependency: matplotlib is not installed.
    """
    require_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4.2), dpi=_DPI, layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    rows, summary = result["rows"], result["summary"]["all"]
    _draw_centres(left, rows)
    _draw_distribution(middle, [x["drift"] for x in rows], summary["drift"])
    noise = summary["noise"]["mean"]
    middle.axvline(noise, color=_INK, linestyle=":", linewidth=1.2, label="the masks' luck alone")
    middle.set_xlim(left=0)
    middle.set_xlabel("drift, box diagonals")
    middle.set_ylabel("objects")
    _draw_distribution(right, [x["centre_bias"] for x in rows], summary["centre_bias"])
    right.axvline(0, color=_INK, linewidth=0.8)
    right.set_xlabel("centre bias, box diagonals\n(above 0: features lie nearer to the centre)")
    for axes in (left, middle, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(fontsize=8, frameon=False, loc="best")
    figure.suptitle(caption, fontsize=11)
    target = folder / PICTURE
    with replacing(target) as temporary:
        figure.savefig(temporary)
    return target


def _draw_centres(axes: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    """Centres of evidence, every box stretched to the same square."""
    for key, colour, marker, label in (
        ("image", _IMAGE, "o", "evidence in the image"),
        ("features", _FEATURES, "x", "evidence in the features"),
    ):
        places = np.array([_in_box(row[key], row["box"]) for row in rows])
        axes.scatter(places[:, 0], places[:, 1], s=16, color=colour, marker=marker,
                     alpha=0.6, linewidth=1, label=label)  # fmt: skip
    axes.plot([0, 1, 1, 0, 0], [0, 0, 1, 1, 0], color=_INK, linewidth=1)
    axes.set_xlim(-0.3, 1.3)
    axes.set_ylim(1.3, -0.3)
    axes.set_aspect("equal")
    axes.set_xticks([0, 0.5, 1])
    axes.set_yticks([0, 0.5, 1])
    axes.set_xlabel("place in the detected box")


def _in_box(point: Sequence[float], box: Sequence[float]) -> tuple[float, float]:
    x1, y1, x2, y2 = box
    return (point[0] - x1) / (x2 - x1), (point[1] - y1) / (y2 - y1)


def _draw_distribution(axes: Any, values: Sequence[float], interval: Mapping[str, float]) -> None:
    axes.hist(values, bins=min(30, max(5, len(values) // 5)), color=_FAINT)
    axes.axvspan(interval["low"], interval["high"], color=_FEATURES, alpha=0.25, linewidth=0)
    axes.axvline(interval["mean"], color=_FEATURES, linewidth=1.6,
                 label=f"mean {interval['mean']:.3f} "
                       f"({interval['low']:.3f} to {interval['high']:.3f})")  # fmt: skip
