"""Draws which way wins over uplink and edge speed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fpcodec.errors import InputError, MissingDependency
from fpcodec.evaluation.planning.model import FASTEST_BPS, SLOWEST_BPS, Link, Speeds, winning_ways
from fpcodec.evaluation.planning.settings import WAYS, allowed, measured_settings
from fpcodec.evaluation.results import ResultRow
from fpcodec.files import replacing

SLOWEST_EDGE, FASTEST_EDGE = 0.01, 10.0
_SAME = Speeds()
_COLUMNS, _LINES = 480, 320
# Apart for every common colour blindness; the codec's is the strong one.
_COLOURS = {"boxes": "#9ecae1", "split": "#d55e00", "light split": "#f0b27a", "picture": "#c9c9c9"}
_LABELS = {
    "boxes": "send boxes",
    "split": "split",
    "light split": "light edge",
    "picture": "send picture",
}


def plot_regions(
    rows: Sequence[ResultRow],
    path: Path,
    *,
    link: Link,
    speeds: Speeds = _SAME,
    max_drop: float = 1.0,
) -> None:
    """Write two maps of the best way: any way allowed, and the head kept on the server.

    Args:
        rows: As ``planning.plan`` takes them.
        path: The picture; its ending is its format, as ``.png`` or ``.svg``.
        link: Marked by its uplink; the round trip is the same for every way.
        speeds: The edge's is marked, the server's holds everywhere.
        max_drop: Most points of AP that a setting may lose.

    Raises:
        InputError: The rows do not do, or the picture cannot be written.
        MissingDependency: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependency(
            'a plot needs matplotlib; install it: pip install "fpcodec[bench]"'
        ) from error
    settings = measured_settings(rows)
    figure = Figure(figsize=(10, 4.8), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    titles = ("Any way", "Head on the server")
    for axis, title, on_server in zip(axes, titles, (False, True), strict=True):
        kept = allowed(settings, max_drop, head_on_server=on_server)
        _draw(axis, winning_ways(kept, _uplinks(), _edge_speeds(), speeds.server))
        axis.plot(
            link.uplink_bps, speeds.edge, "o", color="black", markeredgecolor="white",
            markersize=9, label="asked about", clip_on=False, zorder=3,
        )  # fmt: skip
        axis.set(title=title, xlabel="uplink, bit/s (log)")
    axes[0].set_ylabel("edge speed, measuring machine's one thread = 1 (log)")
    axes[1].legend(loc="upper left")
    first = rows[0]
    figure.suptitle(
        f"Least latency at a drop of {max_drop:g} AP or less: {first.images} images of "
        f"{first.data}, server speed {speeds.server:g}"
    )
    _save(figure, path)


def _uplinks() -> npt.NDArray[np.float64]:
    return np.geomspace(SLOWEST_BPS, FASTEST_BPS, _COLUMNS)


def _edge_speeds() -> npt.NDArray[np.float64]:
    return np.geomspace(SLOWEST_EDGE, FASTEST_EDGE, _LINES)


def _draw(axis: Any, ways: npt.NDArray[np.int64]) -> None:
    """Colour the map and name its regions."""
    from matplotlib.colors import ListedColormap
    from matplotlib.ticker import FixedLocator, NullLocator

    uplinks, edges = _uplinks(), _edge_speeds()
    axis.pcolormesh(
        uplinks, edges, ways, cmap=ListedColormap([_COLOURS[way] for way in WAYS]),
        vmin=-0.5, vmax=len(WAYS) - 0.5, shading="nearest", rasterized=True,
    )  # fmt: skip
    axis.set(xscale="log", yscale="log", xlim=(SLOWEST_BPS, FASTEST_BPS))
    axis.set(ylim=(SLOWEST_EDGE, FASTEST_EDGE))
    ticks = {16e3: "16k", 64e3: "64k", 256e3: "256k", 1e6: "1M", 4e6: "4M", 16e6: "16M",
             100e6: "100M"}  # fmt: skip
    axis.xaxis.set_major_locator(FixedLocator(list(ticks)))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xticklabels(list(ticks.values()))
    axis.set_yticks([0.01, 0.1, 1, 10], ["0.01", "0.1", "1", "10"])
    for place, way in enumerate(WAYS):
        spot = _middle(ways == place)
        if spot is not None:
            axis.text(
                uplinks[spot[1]], edges[spot[0]], _LABELS[way],
                ha="center", va="center", fontsize=12, weight="bold",
            )  # fmt: skip


def _middle(region: npt.NDArray[np.bool_]) -> tuple[int, int] | None:
    """The point furthest from a region's border, in steps sideways or up; None for a sliver."""
    left, point = np.pad(region, 1), None
    for _ in range(max(region.shape)):
        inner = left.copy()
        inner[1:-1, 1:-1] &= left[:-2, 1:-1] & left[2:, 1:-1] & left[1:-1, :-2] & left[1:-1, 2:]
        if not inner.any():
            break
        left = inner
        point = left
    if point is None:
        return None
    spots = np.argwhere(point[1:-1, 1:-1])
    centre = spots.mean(axis=0)
    spot = spots[np.argmin(((spots - centre) ** 2).sum(axis=1))]
    # A name is about this wide; in a narrower region it would hide the border.
    if not region[spot[0], max(spot[1] - 25, 0) : spot[1] + 25].all():
        return None
    return int(spot[0]), int(spot[1])


def _save(figure: Any, path: Path) -> None:
    try:
        with replacing(path) as temporary:
            figure.savefig(temporary, dpi=130)
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{path}: matplotlib draws no {path.suffix or 'file without an ending'}; use .png, "
            ".svg or .pdf"
        ) from error
