"""Cutting an ONNX detector at its pyramid, and counting what each half costs.

Needs the ``onnx`` package; running the halves does not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import combinations
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np

from fpcodec.detectors.onnx_session import needed_nodes, node_inputs
from fpcodec.detectors.onnx_shapes import (
    Shapes,
    count_macs,
    find_shapes,
    import_onnx,
    infer_shapes,
    list_tensors,
    load_model,
    static_shapes,
)
from fpcodec.errors import ModelError
from fpcodec.pyramid import LevelSpec, PyramidSpec

__all__ = ["CutGraph", "count_macs", "cut_onnx", "edge_macs_table", "list_tensors"]


@dataclass(frozen=True)
class CutGraph:
    """What cutting a detector found.

    Attributes:
        spec: The pyramid at the cut.
        network_size: ``(width, height)`` of the network input in pixels.
        input_name: The edge graph's input.
        tensors: Level name to tensor name, the same in both halves; finest first.
        outputs: The server graph's outputs.
        edge_macs: Level names joined by commas to multiply-accumulates of extracting them.
        server_macs: Multiply-accumulates of the server graph; None where shapes are unknown.
    """

    spec: PyramidSpec
    network_size: tuple[int, int]
    input_name: str
    tensors: dict[str, str]
    outputs: tuple[str, ...]
    edge_macs: dict[str, int]
    server_macs: int | None


def cut_onnx(
    model_path: Path,
    level_tensors: Mapping[str, str],
    out_dir: Path,
    network_size: tuple[int, int] | None = None,
) -> CutGraph:
    """Cut a detector at named tensors into ``edge.onnx`` and ``server.onnx``.

    Args:
        model_path: An ONNX detector with one image input, batch 1 or dynamic.
        level_tensors: Level name to the tensor that holds it, shape (1, C, H, W).
        out_dir: Where the halves are written; made if absent.
        network_size: ``(width, height)`` for a graph whose input size is dynamic.

    Raises:
        MissingDependency: The ``onnx`` package is absent.
        ModelError: The file is no ONNX model, a tensor is not in it or is no feature map, or the
            server's half would need more than the levels.
        InputError: A level name is not a letter and a number.
    """
    onnx = import_onnx()
    model = load_model(model_path)
    input_name = fix_input(model, network_size)
    _check_tensors(model, level_tensors, model_path)
    model = infer_shapes(model)
    size = _network_size(model, input_name)
    level_names = list(level_tensors.values())
    outputs = [value.name for value in model.graph.output]
    _fold_shapes(model, onnx)
    shapes = find_shapes(model, level_names)
    spec = _pyramid_spec(level_tensors, shapes, size)
    tensors = {name: level_tensors[name] for name in spec.names}
    _check_cut(model, input_name, list(tensors.values()), outputs)
    edge = _subgraph(model, [input_name], list(tensors.values()), shapes)
    server = _subgraph(model, list(tensors.values()), outputs, shapes)
    out_dir.mkdir(parents=True, exist_ok=True)
    for graph, name in ((edge, "edge.onnx"), (server, "server.onnx")):
        scratch = out_dir / f".{name}.part"
        scratch.write_bytes(graph.SerializeToString())
        scratch.replace(out_dir / name)
    return CutGraph(
        spec, size, input_name, tensors, tuple(outputs),
        edge_macs=edge_macs_table(edge, tensors),
        server_macs=count_macs(server),
    )  # fmt: skip


def edge_macs_table(edge: Any, tensors: Mapping[str, str]) -> dict[str, int]:
    """Multiply-accumulates of every set of levels: names joined by commas, finest first, to count.

    Args:
        edge: The edge graph, a ``ModelProto`` of fixed input size.
        tensors: Level name to tensor name, finest first; coded levels only.
    """
    counts: dict[str, int] = {}
    for size in range(1, len(tensors) + 1):
        for names in combinations(tensors, size):
            macs = count_macs(edge, [tensors[name] for name in names])
            if macs is not None:
                counts[",".join(names)] = macs
    return counts


def _check_tensors(model: Any, level_tensors: Mapping[str, str], path: Path) -> None:
    if not level_tensors:
        raise ModelError(f"{path}: no level tensors given; name them as p3=TENSOR&p4=TENSOR; "
                         f"fpcodec tensors {path.name} lists them")  # fmt: skip
    known = [name for node in model.graph.node for name in node.output if name]
    for level, tensor in level_tensors.items():
        if tensor not in known:
            close = get_close_matches(tensor, known, n=3, cutoff=0.5)
            hint = f"; close: {', '.join(close)}" if close else ""
            raise ModelError(
                f"{path}: no tensor {tensor!r} for level {level}{hint}; fpcodec tensors "
                f"{path.name} lists those to cut at"
            )
    if len(set(level_tensors.values())) != len(level_tensors):
        raise ModelError(f"{path}: two levels name one tensor; give each level its own")


def _check_cut(model: Any, input_name: str, levels: list[str], outputs: list[str]) -> None:
    """Check that the server's half needs nothing of the image but the levels."""
    nodes = model.graph.node
    unused = [t for t in levels if t not in _reads(needed_nodes(nodes, outputs, stop=levels))]
    if unused:
        raise ModelError(f"tensor {unused[0]} is not used by the head; leave that level out")
    server = needed_nodes(nodes, outputs, stop=levels)
    edge_made = {name for node in needed_nodes(nodes, levels) for name in node.output}
    of_image = {input_name}
    for node in nodes:
        if of_image.intersection(node_inputs(node)):
            of_image.update(node.output)
    crossing = {
        name
        for node in server
        for name in node_inputs(node)
        if name in of_image and name not in levels
        and (name == input_name or (name in edge_made and not edge_made.issuperset(node.output)))
    }  # fmt: skip
    needs_image = input_name in _reads(server)
    if needs_image:
        # The image itself is where every other path begins: name it only when nothing nearer does.
        named = sorted(crossing - {input_name}) or [input_name]
        raise ModelError(
            f"the head also needs {', '.join(named[:3])}, which no level holds; add that tensor "
            "as a level, or cut at tensors behind it"
        )


def _reads(nodes: Iterable[Any]) -> set[str]:
    return {name for node in nodes for name in node_inputs(node)}


def _subgraph(model: Any, inputs: list[str], outputs: list[str], shapes: Shapes) -> Any:
    """The part of a model between some tensors and others."""
    onnx = import_onnx()
    graph = model.graph
    nodes = needed_nodes(graph.node, outputs, stop=inputs)
    used = _reads(nodes)
    known = {v.name: v for v in (*graph.input, *graph.value_info, *graph.output)}

    def value(name: str) -> Any:
        if name in known and name not in shapes:
            return known[name]
        kind = known[name].type.tensor_type.elem_type if name in known else onnx.TensorProto.FLOAT
        return onnx.helper.make_tensor_value_info(name, kind, shapes.get(name))

    part = onnx.helper.make_graph(
        nodes, f"{graph.name}_part", [value(n) for n in inputs], [value(n) for n in outputs],
        initializer=[item for item in graph.initializer if item.name in used],
    )  # fmt: skip
    cut = onnx.helper.make_model(part, opset_imports=model.opset_import)
    cut.ir_version = model.ir_version
    cut.functions.extend(model.functions)
    return cut


def _pyramid_spec(
    level_tensors: Mapping[str, str], shapes: Shapes, size: tuple[int, int]
) -> PyramidSpec:
    levels = []
    for name, tensor in level_tensors.items():
        shape = shapes[tensor]
        if len(shape) != 4 or shape[0] != 1:
            raise ModelError(f"tensor {tensor} has shape {shape}; a level has (1, C, H, W)")
        stride = stride_of(size, (shape[3], shape[2]))
        if stride is None:
            raise ModelError(
                f"tensor {tensor} has {shape[3]}x{shape[2]} cells, no whole stride of the "
                f"{size[0]}x{size[1]} input; choose another tensor"
            )
        levels.append(LevelSpec(name, stride, shape[1]))
    levels.sort(key=lambda level: level.stride)
    return PyramidSpec(tuple(levels), gcd(*size, levels[-1].stride))


def stride_of(size: tuple[int, int], cells: tuple[int, int]) -> int | None:
    """Network pixels per cell, where it is a whole number; both are ``(width, height)``."""
    # Powers of two first: where sizes are not divisible several strides give the same cells.
    for stride in (*(1 << n for n in range(11)), *range(1, 1025)):
        if all(-(-side // stride) == n for side, n in zip(size, cells, strict=True)):
            return int(stride)
    return None


def fix_input(model: Any, network_size: tuple[int, int] | None) -> str:
    """Give the one image input a fixed shape; return its name.

    Raises:
        ModelError: There are other inputs, or the size is dynamic and none is given.
    """
    initializers = {item.name for item in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in initializers]
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs)
        raise ModelError(f"the graph has inputs {names}; a detector to cut has one image input")
    dims = inputs[0].type.tensor_type.shape.dim
    if len(dims) != 4:
        raise ModelError(f"input {inputs[0].name} has {len(dims)} axes; it must be (1, 3, H, W)")
    wanted = (1, 3, *((network_size[1], network_size[0]) if network_size else (0, 0)))
    for axis, (dim, side) in enumerate(zip(dims, wanted, strict=True)):
        if not dim.dim_value and not side:
            raise ModelError(
                f"input {inputs[0].name} has a dynamic size; give one, for example size=640x640"
            )
        if dim.dim_value and side and dim.dim_value != side:
            raise ModelError(
                f"input {inputs[0].name} is {dim.dim_value} on axis {axis}, not {side}; "
                "export with batch 1, 3 channels and the size wanted"
            )
        dim.dim_value = dim.dim_value or side
    return str(inputs[0].name)


def _network_size(model: Any, input_name: str) -> tuple[int, int]:
    shape = static_shapes(model)[input_name]
    return shape[3], shape[2]


def _fold_shapes(model: Any, onnx: Any) -> None:
    """Replace ``Shape`` of tensors whose shape is known: a head that only asks how large the
    image is does not depend on the image."""
    shapes = static_shapes(model)
    kept = []
    for node in model.graph.node:
        if node.op_type == "Shape" and node.input[0] in shapes and not node.attribute:
            value = np.asarray(shapes[node.input[0]], np.int64)
            tensor = onnx.numpy_helper.from_array(value, node.output[0])
            model.graph.initializer.append(tensor)
        else:
            kept.append(node)
    if len(kept) != len(model.graph.node):
        copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in kept]
        del model.graph.node[:]
        model.graph.node.extend(copies)
