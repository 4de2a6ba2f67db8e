"""fp16 edge graphs: half the bytes; faster where the processor computes in half precision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fpcodec.detectors.onnx_session import first_line
from fpcodec.detectors.onnx_shapes import load_model
from fpcodec.errors import ModelError


def halve_graph(path: Path) -> bytes:
    """An edge graph whose weights and activations are fp16; input and outputs stay float32.

    Raises:
        MissingDependency: The ``onnx`` package is absent.
        ModelError: The graph cannot be converted.
    """
    graph = load_model(path)
    # Part of onnxruntime itself; it needs onnx besides.
    from onnxruntime.transformers.float16 import convert_float_to_float16

    try:
        halved = convert_float_to_float16(graph, keep_io_types=True)
    except Exception as error:  # onnx's and onnxruntime's exceptions share no base class
        raise ModelError(f"{path}: cannot be made fp16: {first_line(error)}") from error
    return serialised(halved)


def serialised(graph: Any) -> bytes:
    """A converted graph, its nodes in the order that ONNX demands: converters append theirs."""
    from onnxruntime.quantization.onnx_model import ONNXModel

    ordered = ONNXModel(graph)
    ordered.topological_sort()
    return bytes(ordered.model.SerializeToString())
