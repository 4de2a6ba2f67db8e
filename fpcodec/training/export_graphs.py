"""A trained network as the two graphs of a profile: the edge's analysis, the server's synthesis.

Both take any batch and any network size. After writing, each is run on onnxruntime at sizes that
it was not traced at and held against torch.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from fpcodec.detectors.torch_export import require_same, trace_graph
from fpcodec.training.network import Analysis, LearnedNetwork, Synthesis

TOLERANCE = 1e-4
"""Largest difference between onnxruntime and torch, relative to an output's largest value."""

_TRACED = (2, 48, 64)
_CHECKED = ((1, 32, 32), (3, 80, 56))
"""Images, and rows and columns of the finest level; the second has odd sides on coarser levels."""


class _FlatAnalysis(nn.Module):
    def __init__(self, analysis: Analysis, names: Sequence[str]) -> None:
        super().__init__()
        self.analysis, self.names = analysis, tuple(names)

    def forward(self, *features: Tensor) -> tuple[Tensor, ...]:
        """Features in the levels' order to components and importance, level by level."""
        components, importance = self.analysis(dict(zip(self.names, features, strict=True)))
        return tuple(x for name in self.names for x in (components[name], importance[name]))


class _FlatSynthesis(nn.Module):
    def __init__(self, synthesis: Synthesis, names: Sequence[str]) -> None:
        super().__init__()
        self.synthesis, self.names = synthesis, tuple(names)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Components, logarithms of steps and presence, level by level, to features."""
        parts = [dict(zip(self.names, inputs[i::3], strict=True)) for i in range(3)]
        levels = self.synthesis(*parts)
        return tuple(levels[name] for name in self.names)


def export_analysis(network: LearnedNetwork, path: Path) -> None:
    """Write the edge's graph.

    Inputs are the levels' names, (N, C, H, W) float32; outputs ``components_<level>``
    (N, K, H, W) and ``importance_<level>`` (N, 1, H, W).

    Args:
        network: Read, not changed.
        path: The file; an old one is replaced.

    Raises:
        ModelError: onnxruntime does not give what torch gives.
    """
    names = network.names
    outputs = [f"{what}_{name}" for name in names for what in ("components", "importance")]

    def inputs(images: int, rows: int, columns: int) -> list[Tensor]:
        noise, sizes = _noise(), _level_sizes(rows, columns, len(names))
        return [
            noise(images, channels, *size)
            for channels, size in zip(network.channels, sizes, strict=True)
        ]

    _export(_FlatAnalysis(network.analysis, names), path, list(names), outputs, inputs)


def export_synthesis(network: LearnedNetwork, path: Path) -> None:
    """Write the server's graph.

    Inputs per level ``components_<level>`` (N, K, H, W), ``log_steps_<level>`` (N, 1, H, W) and
    ``presence_<level>`` (N, 1, 1, 1), float32; outputs are the levels' names, (N, C, H, W).

    Args:
        network: Read, not changed.
        path: The file; an old one is replaced.

    Raises:
        ModelError: onnxruntime does not give what torch gives.
    """
    names = network.names
    parts = ("components", "log_steps", "presence")

    def inputs(images: int, rows: int, columns: int) -> list[Tensor]:
        out = []
        noise, sizes = _noise(), _level_sizes(rows, columns, len(names))
        for count, size in zip(network.config.components, sizes, strict=True):
            here = (torch.arange(images) % 2).float().reshape(-1, 1, 1, 1)
            out += [noise(images, count, *size) * here]
            out += [noise(images, 1, *size) * here, here]
        return out

    flat = _FlatSynthesis(network.synthesis, names)
    _export(flat, path, [f"{what}_{x}" for x in names for what in parts], list(names), inputs)


def _noise() -> Callable[..., Tensor]:
    """Normal noise of its own seed: an export amid training must not change what follows."""
    generator = torch.Generator().manual_seed(0)
    return lambda *shape: torch.randn(*shape, generator=generator)


def _level_sizes(rows: int, columns: int, count: int) -> list[tuple[int, int]]:
    """Sides of the levels, finest first, each half of the one before, rounded up."""
    return [(-(-rows // 2**i), -(-columns // 2**i)) for i in range(count)]


def _export(
    module: nn.Module,
    path: Path,
    inputs: Sequence[str],
    outputs: Sequence[str],
    make: Callable[[int, int, int], list[Tensor]],
) -> None:
    module = copy.deepcopy(module).float().cpu().eval()
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    axes = {
        name: {0: "n"} if name.startswith("presence_") else _moving_axes(name)
        for name in (*inputs, *outputs)
    }
    try:
        trace_graph(module, make(*_TRACED), scratch, inputs, outputs, axes)
        for size in _CHECKED:
            require_same(module, make(*size), scratch, inputs, outputs, TOLERANCE)
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def _moving_axes(name: str) -> Mapping[int, str]:
    """Batch and sides of a tensor; sides are named after its level."""
    level = name.rsplit("_", 1)[-1]
    return {0: "n", 2: f"rows_{level}", 3: f"columns_{level}"}
