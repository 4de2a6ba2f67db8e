"""How small the picture of a light edge must be."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fpcodec.detectors.onnx import EDGE_FILE, OnnxDetector
from fpcodec.detectors.onnx_session import prune
from fpcodec.detectors.onnx_shapes import import_onnx
from fpcodec.distill.light_edge import LightEdge, LightEdgeConfig, cut_light_edge
from fpcodec.distill.thin_body import ThinBody
from fpcodec.errors import ModelError
from fpcodec.training.onnx_heads import convert_graph

MULTIPLE = 32
"""Sides that every FPN's strides divide."""

_WIDTHS = 32
"""Steps of a thin body's width in one."""

_MOST_AREA = 1.3
"""Area by MACs of the largest picture worth trying: what a level's partner does not need is left
out of the body, and the lifts cost something."""


def fit_light_edge(
    detector: OnnxDetector, size: tuple[int, int] | None, macs_share: float
) -> LightEdge:
    """Cut a light edge out of a detector's edge half.

    Args:
        detector: Whose folder holds the half.
        size: ``(width, height)`` that its body sees; None for the largest that keeps within
            ``macs_share``.
        macs_share: Of the full half's multiply-accumulates.

    Raises:
        ModelError: No size keeps within the share, or the half cannot be converted.
    """
    if "light_edge" in detector.config:
        raise ModelError(
            "this detector's edge is a light one already; distil the full detector, with a smaller "
            "share"
        )
    graph = _edge_graph(detector)
    spec, network_size = detector.spec, detector.network_size
    if size is not None:
        return cut_light_edge(graph, spec, network_size, LightEdgeConfig(size))
    full = torch_macs(graph, network_size)
    for smaller in _sizes(network_size, _MOST_AREA * macs_share):
        light = cut_light_edge(graph, spec, network_size, LightEdgeConfig(smaller))
        if torch_macs(light, network_size) <= macs_share * full:
            return light
    raise ModelError(
        f"no picture is small enough for {macs_share:g} of the edge half's MACs; allow more"
    )


def fit_thin_edge(detector: OnnxDetector, macs_share: float, width: float | None = None,
                  start: str | None = None) -> LightEdge:  # fmt: skip
    """Make a light edge around a thin body.

    Args:
        detector: Whose pyramid it is to give.
        macs_share: Of the full half's multiply-accumulates.
        width: Of the body; None for the largest that keeps within ``macs_share``.
        start: Folder of a small detector that it begins as; None for nothing.

    Raises:
        ModelError: No width keeps within the share, the pyramid has other strides, or there is no
            small detector.
        InputError: The small detector is narrower.
    """
    spec, network_size = detector.spec, detector.network_size
    widths = [width] if width is not None else [x / _WIDTHS for x in range(2 * _WIDTHS, 2, -1)]
    full = detector.macs()
    if full is None:
        full = torch_macs(_edge_graph(detector), network_size)
    for some in widths:
        body = ThinBody(spec, some)
        sources = [[index] for index in range(len(spec.coded_names))]
        light = LightEdge(
            body, [body.channels] * len(sources), sources, spec, network_size,
            LightEdgeConfig(None),
        )  # fmt: skip
        if width is not None or torch_macs(light, network_size) <= macs_share * full:
            if start is not None:
                body.begin_as(start)
            return light
    raise ModelError(f"no body is thin enough for {macs_share:g} of the edge half's MACs; allow "
                     "more")  # fmt: skip


def torch_macs(module: nn.Module, network_size: tuple[int, int]) -> int:
    """Multiply-accumulates of one image."""
    width, height = network_size
    module.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(torch.zeros(1, 3, height, width))
    return int(counter.get_total_flops()) // 2


def _edge_graph(detector: OnnxDetector) -> nn.Module:
    onnx = import_onnx()
    path = detector.folder / EDGE_FILE
    tensors = [detector.config["tensors"][name] for name in detector.spec.coded_names]
    model = onnx.load_from_string(prune(Path(path).read_bytes(), tensors))
    graph = {item.name: item for item in model.graph.output}
    # Outputs in the levels' order, whatever the file's is.
    del model.graph.output[:]
    model.graph.output.extend(graph[name] for name in tensors)
    return convert_graph(model, path)


def _sizes(network_size: tuple[int, int], most: float) -> Iterator[tuple[int, int]]:
    """Smaller sizes of about the same shape, with at most a share of the area, largest first."""
    width, height = network_size
    sizes = set()
    for across in range(MULTIPLE, width, MULTIPLE):
        for down in range(MULTIPLE, height, MULTIPLE):
            if across * down > most * width * height:
                continue
            if 0.75 <= (across / width) / (down / height) <= 4 / 3:
                sizes.add((across, down))
    return iter(sorted(sizes, key=lambda s: (-s[0] * s[1], abs(s[0] * height - s[1] * width))))
