"""Detectors small enough to build in a test: three levels, FPN-style; YOLOX-style output here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

SIDE = 64
CLASSES = 3
CHANNELS = 8
LEVELS = {"p3": "out3", "p4": "out4", "p5": "out5"}


class GraphWriter:
    """Collects nodes and weights of an ONNX graph."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self._random = np.random.default_rng(3)

    def weight(self, name: str, values: np.ndarray) -> str:
        from onnx import numpy_helper

        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def split(self, source: str, outputs: list[str], axis: int) -> list[str]:
        """Into parts as long as the weight ``parts`` says."""
        from onnx import helper

        self.nodes.append(helper.make_node("Split", [source, "parts"], outputs, axis=axis))
        return outputs

    def conv(self, source: str, output: str, channels: tuple[int, int], kernel: int, stride: int
             ) -> str:  # fmt: skip
        into, out = channels
        values = self._random.normal(
            0, (into * kernel * kernel) ** -0.5, (out, into, kernel, kernel)
        )
        name = self.weight(f"{output}.w", values.astype(np.float32))
        pads = [kernel // 2] * 4
        return self.node("Conv", [source, name], output, kernel_shape=[kernel] * 2,
                         strides=[stride] * 2, pads=pads)  # fmt: skip


def write_model(path: Path, *, dynamic: bool = False, image_in_head: str = "") -> Path:
    """Write the detector.

    Args:
        path: Where to.
        dynamic: Leave batch, height and width open.
        image_in_head: ``value`` or ``shape``: what the head reads of the image past the levels.
    """
    from onnx import TensorProto

    g = GraphWriter()
    merged = write_merged(g)
    flat = []
    g.weight("rows", np.asarray([1, 5 + CLASSES, -1], np.int64))
    for n in (3, 4, 5):
        level = write_level(g, merged, n)
        if image_in_head == "value" and n == 3:
            level = g.node("Add", [level, "c3"], "leak")
        box = g.conv(level, f"box{n}", (CHANNELS, 4), 1, 1)
        score = g.node("Sigmoid", [g.conv(level, f"s{n}", (CHANNELS, 1 + CLASSES), 1, 1)], f"p{n}s")
        both = g.node("Concat", [box, score], f"both{n}", axis=1)
        flat.append(g.node("Reshape", [both, "rows"], f"flat{n}"))
    joined = g.node("Concat", flat, "joined", axis=2)
    g.node("Transpose", [joined], "turned", perm=[0, 2, 1])
    last = "turned"
    if image_in_head == "shape":
        shape = g.node("Shape", ["image"], "shape")
        g.weight("zero", np.zeros(1, np.float32))
        size = g.node("Cast", [shape], "size", to=TensorProto.FLOAT)
        none = g.node("Mul", [g.node("ReduceSum", [size], "area", keepdims=0), "zero"], "none")
        last = g.node("Add", [last, none], "sized")
    g.node("Identity", [last], "output")
    return save_model(g, path, ["output"], dynamic)


def write_pyramid(g: GraphWriter) -> dict[int, str]:
    """Write backbone and pyramid; return the tensors of levels 3 to 5."""
    merged = write_merged(g)
    return {n: write_level(g, merged, n) for n in (3, 4, 5)}


def write_level(g: GraphWriter, merged: dict[int, str], n: int) -> str:
    """Write a level's last convolution."""
    return g.conv(merged[n], LEVELS[f"p{n}"], (CHANNELS, CHANNELS), 3, 1)


def write_merged(g: GraphWriter) -> dict[int, str]:
    """Write backbone and the pyramid's way down."""
    x = g.conv("image", "stem", (3, CHANNELS), 3, 4)
    laterals = {}
    for n in (3, 4, 5):
        x = g.node("Relu", [g.conv(x, f"body{n}", (CHANNELS, CHANNELS), 3, 2)], f"c{n}")
        laterals[n] = g.conv(x, f"lateral{n}", (CHANNELS, CHANNELS), 1, 1)
    g.weight("scales", np.asarray([1, 1, 2, 2], np.float32))
    top = laterals[5]
    merged = {5: top}
    for n in (4, 3):
        up = g.node("Resize", [top, "", "scales"], f"up{n}", mode="nearest",
                    coordinate_transformation_mode="asymmetric", nearest_mode="floor")  # fmt: skip
        top = merged[n] = g.node("Add", [up, laterals[n]], f"merged{n}")
    return merged


def save_model(g: GraphWriter, path: Path, outputs: list[str], dynamic: bool = False) -> Path:
    """Write a graph that takes ``image``."""
    from onnx import TensorProto, helper, save

    sides = ["n", 3, "h", "w"] if dynamic else [1, 3, SIDE, SIDE]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, sides)
    found = [helper.make_tensor_value_info(x, TensorProto.FLOAT, None) for x in outputs]
    graph = helper.make_graph(g.nodes, "toy", [image], found, g.weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    save(model, str(path))
    return path
