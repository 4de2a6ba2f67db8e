"""Counting what a graph of convolutions costs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fpcodec.errors import ModelError
from fpcodec.evaluation.graph_macs import convolution_macs

onnx = pytest.importorskip("onnx", reason="the test makes a graph with the onnx package")


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """Two pointwise convolutions, 4 to 8 channels, whose equal weights are kept once."""
    from onnx import TensorProto, helper, numpy_helper

    def plane(name: str, channels: int) -> object:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, channels, "h", "w"])

    weight = numpy_helper.from_array(np.zeros((8, 4, 1, 1), np.float32), "weight")
    nodes = [
        helper.make_node("Identity", ["weight"], ["same"]),
        helper.make_node("Conv", ["x", "weight"], ["a"]),
        helper.make_node("Conv", ["x", "same"], ["b"]),
    ]
    made = helper.make_graph(nodes, "g", [plane("x", 4)], [plane("a", 8), plane("b", 8)], [weight])
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    path = tmp_path / "graph.onnx"
    onnx.save(model, str(path))
    return path


def test_shared_weights_count_for_every_convolution(graph: Path) -> None:
    feeds = {"x": np.zeros((1, 4, 5, 6), np.float32)}
    assert convolution_macs(graph, feeds, ["a"]) == 5 * 6 * 4 * 8
    assert convolution_macs(graph, feeds, ["a", "b"]) == 2 * 5 * 6 * 4 * 8


def test_an_absent_graph_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none\.onnx: no such graph file"):
        convolution_macs(tmp_path / "none.onnx", {}, ["a"])
