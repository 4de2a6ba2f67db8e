"""Shapes of an ONNX graph's tensors, and what its convolutions and matrix products cost.

Needs the ``onnx`` package.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from fpcodec.detectors.onnx_session import first_line, needed_nodes, open_session, run_session
from fpcodec.errors import MissingDependency, ModelError

Shapes = dict[str, tuple[int, ...]]

_COUNTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def load_model(path: Path) -> Any:
    """Read an ONNX file.

    Raises:
        MissingDependency: The ``onnx`` package is absent.
        ModelError: The file is absent or no ONNX model.
    """
    onnx = import_onnx()
    if not path.is_file():
        raise ModelError(f"{path}: no such file; give the path of an ONNX model")
    try:
        model = onnx.load(str(path))
    except Exception as error:  # protobuf's and onnx's exceptions share no base class
        raise ModelError(f"{path}: not an ONNX model: {first_line(error)}") from error
    if not model.graph.node:
        raise ModelError(f"{path}: not an ONNX model: it has no nodes")
    return model


def list_tensors(model_path: Path) -> dict[str, tuple[int, ...]]:
    """Feature maps of an ONNX model that could be levels: tensor name to shape (N, C, H, W).

    Dynamic sides are 0.

    Raises:
        MissingDependency: The ``onnx`` package is absent.
        ModelError: The file is no ONNX model.
    """
    shapes = static_shapes(infer_shapes(load_model(model_path)), dynamic=True)
    return {name: shape for name, shape in shapes.items() if len(shape) == 4}


def count_macs(model: Any, outputs: Sequence[str] | None = None) -> int | None:
    """Multiply-accumulates of a graph's convolutions and matrix products.

    Args:
        model: A ``ModelProto`` with inputs of fixed size. Where shapes depend on values (a
            two-stage head's proposals) it is run once on noise to find them.
        outputs: Count only what these need; None for all outputs.

    Returns:
        The count, or None where a shape cannot be found.
    """
    wanted = list(outputs) if outputs else [value.name for value in model.graph.output]
    nodes = [n for n in needed_nodes(model.graph.node, wanted) if n.op_type in _COUNTED]
    names = {name for node in nodes for name in (*node.input[:2], node.output[0])}
    try:
        shapes = find_shapes(infer_shapes(model), sorted(names))
    except ModelError:
        return None
    return sum(_node_macs(node, shapes) for node in nodes)


def _node_macs(node: Any, shapes: Shapes) -> int:
    first, weight = shapes[node.input[0]], shapes[node.input[1]]
    out = shapes[node.output[0]]
    if node.op_type == "Conv":
        return prod(out) * prod(weight[1:])  # weight: (out, in / groups, k, k)
    if node.op_type == "ConvTranspose":
        return prod(first) * prod(weight[1:])  # weight: (in, out / groups, k, k)
    if node.op_type == "Gemm":
        transposed = any(a.name == "transA" and a.i for a in node.attribute)
        return prod(out) * first[0 if transposed else 1]
    return prod(out) * first[-1]


def infer_shapes(model: Any) -> Any:
    """The model with what ONNX can infer about its tensors' shapes.

    Raises:
        ModelError: The graph contradicts itself.
    """
    onnx = import_onnx()
    try:
        return onnx.shape_inference.infer_shapes(model, data_prop=True)
    except Exception as error:  # onnx's exceptions share no base class
        raise ModelError(f"shapes cannot be inferred: {first_line(error)}") from error


def static_shapes(model: Any, dynamic: bool = False) -> Shapes:
    """Shapes that a model states; with ``dynamic`` unknown sides are 0, else such are left out."""
    graph = model.graph
    shapes: Shapes = {item.name: tuple(item.dims) for item in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        if not value.type.tensor_type.HasField("shape"):
            continue
        dims = value.type.tensor_type.shape.dim
        if dynamic or all(dim.HasField("dim_value") for dim in dims):
            shapes[value.name] = tuple(dim.dim_value for dim in dims)
    return shapes


def find_shapes(model: Any, names: Sequence[str]) -> Shapes:
    """Shapes of some tensors: as stated, or found by running the model once on noise.

    Raises:
        ModelError: A tensor is not in the graph, or the graph cannot be run.
    """
    shapes = static_shapes(model)
    absent = [name for name in names if name not in shapes]
    if absent:
        probe = import_onnx().ModelProto.FromString(model.SerializeToString())
        made = {name for node in probe.graph.node for name in node.output}
        if not made.issuperset(absent):
            raise ModelError(f"the shape of {absent[0]} cannot be found")
        stated = {value.name for value in probe.graph.output}
        probe.graph.output.extend(
            import_onnx().ValueInfoProto(name=name) for name in absent if name not in stated
        )
        session = open_session(probe.SerializeToString(), threads=1)
        noise = np.random.default_rng(0)
        feeds = {
            item.name: noise.uniform(0, 1, item.shape).astype(np.float32)
            for item in session.get_inputs()
        }
        shapes |= {k: v.shape for k, v in run_session(session, feeds, absent).items()}
    return shapes


def import_onnx() -> Any:
    """The ``onnx`` package.

    Raises:
        MissingDependency: It is not installed.
    """
    try:
        import onnx
        import onnx.numpy_helper
        import onnx.shape_inference
    except ImportError as error:
        raise MissingDependency(
            'cutting an ONNX graph needs the onnx package: pip install "fpcodec[bench]"'
        ) from error
    return onnx
