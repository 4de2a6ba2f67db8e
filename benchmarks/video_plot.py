"""Agreement against bytes a frame, one panel per clip, from ``video_coding``'s rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fpcodec.evaluation.report.palette import GRID, INK, OTHERS, OURS, PICTURES
from fpcodec.evaluation.report.plots import save_figure

_LOOKS = {
    "video mode": (OURS, "o", "-", 2.4),
    "frame by frame": (OURS, "s", (0, (5, 2)), 1.6),
    "x264": (PICTURES[0], "^", "-", 1.3),
    "x265": (PICTURES[3], "D", "-", 1.3),
    "svtav1": (OTHERS[0], "P", "-", 1.3),
}


def draw(rows: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """Write ``mean_f1-every<n>.png`` for every frame rate that was measured."""
    from matplotlib.figure import Figure

    points = [row for row in rows if "mean_bytes" in row]
    for step in sorted({row["every"] for row in points}):
        some = [row for row in points if row["every"] == step]
        clips = list(dict.fromkeys(row["clip"] for row in some))
        figure = Figure(figsize=(4.6 * len(clips), 4.2), layout="constrained", facecolor="white")
        axes = figure.subplots(1, len(clips), squeeze=False, sharey=True)[0]
        for axis, clip in zip(axes, clips, strict=True):
            _panel(axis, [row for row in some if row["clip"] == clip], clip)
        axes[0].set_ylabel("agreement: mean F1 with unsplit detections")
        axes[-1].legend(fontsize=8, frameon=False, loc="lower right")
        save_figure(figure, folder / f"mean_f1-every{step}.png")


def _panel(axis: Any, rows: Sequence[Mapping[str, Any]], clip: str) -> None:
    for family, scale in dict.fromkeys((row["family"], row["scale"]) for row in rows):
        curve = sorted(
            (row["mean_bytes"], row["mean_f1"]) for row in rows
            if (row["family"], row["scale"]) == (family, scale)
        )  # fmt: skip
        colour, marker, dash, width = _LOOKS[family]
        small = scale != 1
        name = family if not small else f"{family} at {scale:g}"
        axis.plot(
            *zip(*curve, strict=True), color=colour, marker=marker, label=name,
            linestyle=(0, (1.5, 1.5)) if small else dash, linewidth=width * (0.7 if small else 1),
            markersize=4 if small else 5, alpha=0.7 if small else 1,
        )  # fmt: skip
    axis.set_xscale("log")
    axis.set_title(clip, color=INK, fontsize=10)
    axis.set_xlabel("bytes a frame")
    axis.grid(True, which="both", color=GRID, linewidth=0.6)
    axis.set_axisbelow(True)
