"""What a way costs to compute: multiply-accumulates by part, and entropy-coded symbols."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from fpcodec.codecs.base import Codec, quality_byte
from fpcodec.codecs.chunked import ChunkedCodec
from fpcodec.codecs.chunks import count_frame
from fpcodec.codecs.graphs import ANALYSIS_FILE, SYNTHESIS_FILE
from fpcodec.codecs.learned import LearnedCodec
from fpcodec.codecs.pca import PcaCodec
from fpcodec.detectors.base import Detector
from fpcodec.entropy import SymbolMeter
from fpcodec.evaluation.graph_macs import convolution_macs
from fpcodec.pyramid import Pyramid
from fpcodec.reconstruct.learned import synthesis_feeds

if TYPE_CHECKING:
    from fpcodec.evaluation.ways import Way, Workplace

Macs = Mapping[str, Mapping[str, int]]
"""Side (``edge``, ``server``) to part (``network``, ``codec``, ``head``) to MACs."""


def coded_symbols(
    codec: Codec, pyramid: Pyramid, quality: float, levels: Sequence[str] | None = None
) -> int | None:
    """Symbols that a frame of these levels codes; None for a codec that is not chunked."""
    if not isinstance(codec, ChunkedCodec):
        return None
    return meter_frame(codec, pyramid, quality, levels).symbols


def meter_frame(
    codec: ChunkedCodec, pyramid: Pyramid, quality: float, levels: Sequence[str] | None = None
) -> SymbolMeter:
    """Symbols and ideal code length of a frame."""
    wire = quality_byte(quality)
    meter = SymbolMeter()
    quantised = codec.quantise(pyramid, wire, levels or codec.spec.coded_names)
    count_frame(meter, codec.coder.tables.get, spec=codec.spec, levels=quantised,
                quality=wire, parents=True)  # fmt: skip
    return meter


def analysis_macs(codec: Codec, pyramid: Pyramid, levels: Sequence[str] | None = None) -> int:
    """Multiply-accumulates of a codec's analysis and probe on the edge."""
    if isinstance(codec, LearnedCodec):
        return _analysis_graph_macs(codec, pyramid, levels or codec.spec.coded_names)
    return _transform_macs(codec, pyramid, levels, probe=2)


def synthesis_macs(codec: Codec, pyramid: Pyramid, levels: Sequence[str] | None = None) -> int:
    """Multiply-accumulates of a codec's synthesis on the server; of all levels if learned."""
    if isinstance(codec, LearnedCodec):
        return _synthesis_graph_macs(codec, pyramid)
    return _transform_macs(codec, pyramid, levels, probe=0)


def _transform_macs(
    codec: Codec, pyramid: Pyramid, levels: Sequence[str] | None, *, probe: int
) -> int:
    if not isinstance(codec, PcaCodec):
        return 0
    total = 0
    for name in levels or codec.spec.coded_names:
        channels, height, width = codec.spec.shape(name, pyramid.geometry.network_size)
        total += height * width * channels * (codec.components[name] + probe)
    return total


def _analysis_graph_macs(codec: LearnedCodec, pyramid: Pyramid, levels: Sequence[str]) -> int:
    size = pyramid.geometry.network_size
    feeds = {x: np.zeros((1, *codec.spec.shape(x, size)), np.float32) for x in levels}
    outputs = [f"{what}_{x}" for x in levels for what in ("components", "importance")]
    return convolution_macs(codec.graphs.folder / ANALYSIS_FILE, feeds, outputs)


def _synthesis_graph_macs(codec: LearnedCodec, pyramid: Pyramid) -> int:
    size = pyramid.geometry.network_size
    feeds = synthesis_feeds(codec.spec, codec.components, size, [{}])
    return convolution_macs(codec.graphs.folder / SYNTHESIS_FILE, feeds, codec.spec.coded_names)


def network_macs(detector: Detector, levels: Sequence[str] | None = None) -> dict[str, int]:
    """Multiply-accumulates of the detector: ``network`` up to the pyramid, and ``head``."""
    parts = {"network": detector.macs(levels), "head": detector.server_macs}
    return {name: value for name, value in parts.items() if value is not None}


def way_macs(workplace: Workplace, pyramid: Pyramid, way: Way | None) -> Macs:
    """Multiply-accumulates by side and part of one way; parts that are not known are left out.

    Args:
        workplace: The detector, and the profiles that ways name.
        pyramid: Of a typical image.
        way: None for the unsplit detector, counted at the server.
    """
    kind = "picture" if way is None else way.kind
    chosen = None if way is None else way.parameters.get("levels")
    whole = network_macs(workplace.detector)
    if kind == "picture":
        return {"edge": {}, "server": whole}
    if kind == "boxes":
        return {"edge": whole, "server": {}}
    macs = network_macs(workplace.detector, chosen)
    edge = {name: value for name, value in macs.items() if name == "network"}
    server = {name: value for name, value in macs.items() if name == "head"}
    label = None if way is None else way.parameters.get("profile")
    if kind == "features" and label is not None:
        opened = workplace.profile(label)
        codec = opened.codec
        other = None if opened.other_edge is None else opened.other_edge.macs(chosen)
        if other is not None:
            edge["network"] = other
        edge["codec"] = analysis_macs(codec, pyramid, chosen)
        server["codec"] = synthesis_macs(codec, pyramid, chosen)
    return {"edge": edge, "server": server}
