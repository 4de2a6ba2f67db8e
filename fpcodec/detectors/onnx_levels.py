"""Where an ONNX detector can be cut, and which layouts its outputs could be.

Needs the ``onnx`` package.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fpcodec.detectors.layouts import LAYOUTS
from fpcodec.detectors.layouts.maths import NUMPY
from fpcodec.detectors.onnx_graph import fix_input, stride_of
from fpcodec.detectors.onnx_session import needed_nodes, node_inputs
from fpcodec.detectors.onnx_shapes import (
    Shapes,
    find_shapes,
    infer_shapes,
    load_model,
)
from fpcodec.errors import InputError, ModelError
from fpcodec.pyramid import LevelSpec, PyramidSpec

_STRIDES = (2, 4, 8, 16, 32, 64, 128)
_LISTED = 4
"""Tensors named per level."""


@dataclass(frozen=True)
class Tensor:
    """A tensor that can be a level.

    Attributes:
        name: In the graph.
        shape: ``(1, C, H, W)``.
        made_by: The operator that makes it.
        read_by: How many operators read it.
    """

    name: str
    shape: tuple[int, ...]
    made_by: str
    read_by: int


@dataclass(frozen=True)
class Outline:
    """What a graph offers.

    Attributes:
        network_size: ``(width, height)`` of its input in pixels.
        outputs: Name to shape.
        levels: Level name to the tensors that all that the head says of it goes through, the
            nearest to the head first.
        layouts: What ``decode=`` calls the layouts that the outputs' shapes fit.
    """

    network_size: tuple[int, int]
    outputs: dict[str, tuple[int, ...]]
    levels: dict[str, tuple[Tensor, ...]]
    layouts: tuple[str, ...]


def outline(model_path: Path, network_size: tuple[int, int] | None = None) -> Outline:
    """Look for the levels of a detector's head.

    The outputs of a one-stage head are made of maps; those of one stride, just before they are
    laid out as rows or leave the graph, are one level. Whatever they all come through is a place
    to cut at.

    Args:
        model_path: An ONNX detector with one image input, batch 1 or dynamic.
        network_size: ``(width, height)`` for a graph whose input size is dynamic.

    Raises:
        MissingDependency: The ``onnx`` package is absent.
        ModelError: The file is no ONNX model, or has no one image input.
    """
    model = load_model(model_path)
    image = fix_input(model, network_size)
    model = infer_shapes(model)
    nodes = model.graph.node
    outputs = [value.name for value in model.graph.output]
    made = [name for node in nodes for name in node.output if name]
    shapes = find_shapes(model, made)
    size = (shapes[image][3], shapes[image][2])
    strides = {
        name: stride for name in made
        if (stride := _stride(shapes.get(name, ()), size)) is not None
    }  # fmt: skip
    leaves: dict[int, set[str]] = {}
    for name in _last_maps(nodes, outputs, strides):
        leaves.setdefault(strides[name], set()).add(name)
    levels = {
        f"p{stride.bit_length() - 1}": _ways_through(nodes, image, leaves[stride], [
            name for name in made if strides.get(name) == stride
        ], shapes)
        for stride in sorted(leaves)
    }  # fmt: skip
    levels = {name: tensors for name, tensors in levels.items() if tensors}
    found = {name: shapes[name] for name in outputs}
    return Outline(size, found, levels, _fitting(found, sorted(leaves), size))


def _stride(shape: Sequence[int], size: tuple[int, int]) -> int | None:
    if len(shape) != 4 or shape[0] != 1 or min(shape[2:]) < 1 or max(shape[2:]) < 2:
        return None
    stride = stride_of(size, (shape[3], shape[2]))
    return stride if stride in _STRIDES else None


def _last_maps(
    nodes: Sequence[Any], outputs: Iterable[str], strides: dict[str, int]
) -> Iterable[str]:
    """Maps that reach an output through no other map."""
    makers = {name: node for node in nodes for name in node.output}
    seen, waiting = set(outputs), list(outputs)
    while waiting:
        name = waiting.pop()
        if name in strides:
            yield name
            continue
        node = makers.get(name)
        # Who only asks how large a map is takes nothing of it.
        for source in () if node is None or node.op_type == "Shape" else node_inputs(node):
            if source not in seen:
                seen.add(source)
                waiting.append(source)


def _ways_through(
    nodes: Sequence[Any], image: str, leaves: set[str], maps: Sequence[str], shapes: Shapes
) -> tuple[Tensor, ...]:
    """Maps without which no leaf is reached from the image, the last first; behind each the head
    still convolves."""
    found = []
    for name in reversed(maps):
        behind = needed_nodes(nodes, leaves, stop=[name])
        if name in leaves or not any(node.op_type == "Conv" for node in _after(behind, name)):
            continue
        past = {made for node in _after(nodes, image, name) for made in node.output} - {name}
        if past.isdisjoint(leaves):
            (maker,) = (node.op_type for node in nodes if name in node.output)
            readers = sum(name in set(node_inputs(node)) for node in nodes)
            found.append(Tensor(name, tuple(shapes[name]), maker, readers))
            if len(found) == _LISTED:
                break
    return tuple(found)


def _after(nodes: Sequence[Any], tensor: str, without: str = "") -> Iterable[Any]:
    """Nodes that a tensor reaches, if need be on ways around another."""
    reached = {tensor}
    for node in nodes:
        if reached.intersection(node_inputs(node)):
            reached.update(name for name in node.output if name != without)
            yield node


def _fitting(
    outputs: dict[str, tuple[int, ...]], strides: Sequence[int], size: tuple[int, int]
) -> tuple[str, ...]:
    if not strides:
        return ()
    levels = tuple(LevelSpec(f"p{s.bit_length() - 1}", s, 1) for s in strides)
    spec, found = PyramidSpec(levels), []
    blank = {name: np.zeros(shape, np.float32) for name, shape in outputs.items()}
    for kind, layout in LAYOUTS.items():
        try:
            layout({}, {}, spec, size).rows(blank, NUMPY)
        except (InputError, ModelError):
            continue
        found.append(kind)
    return tuple(found)
