"""The emulated link over time: rate, latency and agreement of both ways.

python benchmarks/edge_link_plot.py benchmarks/results/edge_link.json --out edge_link.png
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

COLOURS = {"features": "#0072b2", "auto": "#cc79a7", "inter": "#009e73", "webp": "#d55e00"}
NAMES = {
    "features": "frames",
    "auto": "of frames the levels that answers ask for",
    "inter": "frames that lean on the one before",
    "webp": "WebP",
}
WINDOW_S = 2.0
"""Agreement is averaged over so long, or its curve would be a comb."""


def plot(result: Mapping[str, Any], out: Path) -> None:
    """Draw one result."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (rate, latency, agreement) = plt.subplots(
        3, 1, figsize=(10, 8.5), sharex=True, layout="constrained"
    )
    for name, way in result["ways"].items():
        _draw_way(name, way, rate, latency, agreement)
    edges = _draw_steps(result, (rate, latency, agreement))
    bound_ms = 1000 * result["latency_bound_s"]
    latency.axhline(bound_ms, color="black", linestyle="--", linewidth=1)
    latency.text(edges[-1], bound_ms, " bound", va="center", fontsize=8)
    rate.set(yscale="log", ylabel="kbit/s", title="link (black) and frames sent, over 2 s")
    latency.set(yscale="log", ylabel="ms", title="capture to answer")
    agreement.set(
        ylabel="F1", xlabel="s", ylim=(-0.03, 1.03),
        title="agreement with the unsplit detector, of what is known one bound after each image",
    )  # fmt: skip
    figure.legend(*rate.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    figure.savefig(out, dpi=110)
    plt.close(figure)


def _draw_way(name: str, way: Mapping[str, Any], rate: Any, latency: Any, agreement: Any) -> None:
    over = way["over_time"]
    times_s = np.array(over["time_s"])
    sizes = np.array([value or 0 for value in over["bytes"]], np.float64)
    middle_s = np.arange(WINDOW_S / 2, times_s[-1], WINDOW_S / 2)
    near = [np.abs(times_s - at_s) <= WINDOW_S / 2 for at_s in middle_s]
    colour, label = COLOURS[name], NAMES[name]
    kbps = [8 * sizes[x].sum() / WINDOW_S / 1000 for x in near]
    rate.plot(middle_s, kbps, color=colour, label=label, linewidth=1.4)
    times_ms = np.array([np.nan if x is None else x for x in over["latency_ms"]], np.float64)
    latency.plot(times_s, times_ms, ".", color=colour, markersize=2.5)
    live = np.array(over["live_f1"])
    agreement.plot(middle_s, [live[x].mean() for x in near], color=colour, linewidth=1.4)


def _draw_steps(result: Mapping[str, Any], axes: Any) -> list[float]:
    edges = [0.0]
    for step in next(iter(result["ways"].values()))["steps"]:
        begin_s, end_s = edges[-1], edges[-1] + step["seconds"]
        axes[0].plot([begin_s, end_s], [step["bps"] / 1000] * 2, color="black", linewidth=2)
        lossy = f", {100 * step['loss']:g} % lost" if step["loss"] else ""
        axes[0].text(begin_s, step["bps"] / 1000 * 1.15, f" {step['bps'] / 1000:g}k{lossy}",
                     fontsize=8)  # fmt: skip
        edges.append(end_s)
    for axis in axes:
        for edge_s in edges[1:-1]:
            axis.axvline(edge_s, color="grey", linewidth=0.6)
        axis.grid(alpha=0.25)
    return edges


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("result", type=Path)
    parser.add_argument("--out", type=Path, default=None, help="beside the result if left out")
    options = parser.parse_args()
    result = json.loads(options.result.read_text())
    plot(result, options.out or options.result.with_suffix(".png"))


if __name__ == "__main__":
    main()
