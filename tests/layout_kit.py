"""Small ONNX detectors with the output layouts of the field, and plain loops that decode them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
from onnx_kit import CHANNELS, CLASSES, LEVELS, SIDE, GraphWriter, save_model, write_pyramid

REG_MAX = 7
BINS = 4 * (REG_MAX + 1)
STRIDES = {3: 8, 4: 16, 5: 32}
V5_ANCHORS = np.asarray([[10, 13], [16, 30], [33, 23]], np.float32)
Box = tuple[list[float], float, int]
"""Corners, score, label."""


def cells(n: int) -> int:
    """Cells along a side of level ``n``."""
    return SIDE // STRIDES[n]


def grid(n: int) -> np.ndarray:
    """Column and row of each cell, (2, H, W)."""
    y, x = np.indices((cells(n), cells(n)))
    return np.stack([x, y]).astype(np.float32)


def reshaped(g: GraphWriter, source: str, output: str, shape: list[int]) -> str:
    return g.node("Reshape", [source, g.weight(f"{output}.s", np.asarray(shape, np.int64))], output)


def head_conv(g: GraphWriter, level: str, output: str, channels: int, gain: float = 1.0) -> str:
    """A 1x1 convolution whose answers differ by ``gain``."""
    plain = g.conv(level, f"{output}.conv", (CHANNELS, channels), 1, 1)
    return g.node("Mul", [plain, g.weight(f"{output}.gain", np.float32(gain))], output)


def _nanodet(g: GraphWriter, levels: Mapping[int, str]) -> list[str]:
    flat = []
    for n, level in sorted(levels.items()):
        scores = g.node("Sigmoid", [head_conv(g, level, f"c{n}.cls", CLASSES)], f"p{n}.scores")
        boxes = head_conv(g, level, f"p{n}.reg", BINS, 2.0)
        both = g.node("Concat", [scores, boxes], f"p{n}.both", axis=1)
        flat.append(reshaped(g, both, f"p{n}.flat", [1, CLASSES + BINS, -1]))
    joined = g.node("Concat", flat, "joined", axis=2)
    return [g.node("Transpose", [joined], "output", perm=[0, 2, 1])]


def _picodet(g: GraphWriter, levels: Mapping[int, str]) -> list[str]:
    found: dict[str, list[str]] = {"cls": [], "reg": []}
    for n, level in sorted(levels.items()):
        scores = g.node("Sigmoid", [head_conv(g, level, f"c{n}.cls", CLASSES)], f"p{n}.scores")
        for kind, source, width in (
            ("cls", scores, CLASSES),
            ("reg", head_conv(g, level, f"p{n}.boxes", BINS, 2.0), BINS),
        ):
            flat = reshaped(g, source, f"{kind}{n}.flat", [1, width, -1])
            found[kind].append(g.node("Transpose", [flat], f"{kind}_{n}", perm=[0, 2, 1]))
    return found["cls"] + found["reg"]


def _yolov5(g: GraphWriter, levels: Mapping[int, str]) -> list[str]:
    flat = []
    anchors, width = len(V5_ANCHORS), 5 + CLASSES
    g.weight("two", np.float32(2))
    g.weight("parts", np.asarray([2, 2, width - 4], np.int64))
    for n, level in sorted(levels.items()):
        raw = head_conv(g, level, f"p{n}.raw", anchors * width, 2.0)
        split = reshaped(g, raw, f"p{n}.split", [1, anchors, width, cells(n), cells(n)])
        turned = g.node("Transpose", [split], f"p{n}.turned", perm=[0, 1, 3, 4, 2])
        y = g.node("Sigmoid", [turned], f"p{n}.y")
        xy, wh, rest = g.split(y, [f"p{n}.{part}" for part in ("xy", "wh", "rest")], axis=4)
        place = (grid(n).transpose(1, 2, 0) - 0.5)[None, None].astype(np.float32)
        xy = g.node("Mul", [xy, "two"], f"p{n}.xy2")
        xy = g.node("Add", [xy, g.weight(f"p{n}.grid", place)], f"p{n}.placed")
        xy = g.node("Mul", [xy, g.weight(f"p{n}.stride", np.float32(STRIDES[n]))], f"p{n}.centre")
        wh = g.node("Mul", [wh, "two"], f"p{n}.wh2")
        wh = g.node("Mul", [wh, wh], f"p{n}.square")
        sides = V5_ANCHORS.reshape(1, anchors, 1, 1, 2)
        wh = g.node("Mul", [wh, g.weight(f"p{n}.anchors", sides)], f"p{n}.sides")
        both = g.node("Concat", [xy, wh, rest], f"p{n}.all", axis=4)
        flat.append(reshaped(g, both, f"p{n}.flat", [1, -1, width]))
    return [g.node("Concat", flat, "output", axis=1)]


def _yolov8(g: GraphWriter, levels: Mapping[int, str]) -> list[str]:
    flat = []
    g.weight("parts", np.asarray([2, 2], np.int64))
    g.weight("two", np.float32(2))
    for n, level in sorted(levels.items()):
        scores = g.node("Sigmoid", [head_conv(g, level, f"c{n}.cls", CLASSES)], f"p{n}.scores")
        sides = g.node("Softplus", [head_conv(g, level, f"p{n}.reg", 4)], f"p{n}.sides")
        near, far = g.split(sides, [f"p{n}.{part}" for part in ("near", "far")], axis=1)
        point = g.weight(f"p{n}.grid", (grid(n) + 0.5)[None])
        low = g.node("Sub", [point, near], f"p{n}.low")
        high = g.node("Add", [point, far], f"p{n}.high")
        middle = g.node("Div", [g.node("Add", [low, high], f"p{n}.sum"), "two"], f"p{n}.middle")
        box = g.node(
            "Concat", [middle, g.node("Sub", [high, low], f"p{n}.size")], f"p{n}.box", axis=1
        )
        scaled = g.node("Mul", [box, g.weight(f"p{n}.stride", np.float32(STRIDES[n]))], f"p{n}.px")
        both = g.node("Concat", [scaled, scores], f"p{n}.both", axis=1)
        flat.append(reshaped(g, both, f"p{n}.flat", [1, 4 + CLASSES, -1]))
    return [g.node("Concat", flat, "output", axis=2)]


def _retinanet(g: GraphWriter, levels: Mapping[int, str]) -> list[str]:
    """Maps level by level, as detectron2's head gives them."""
    found = []
    for n, level in sorted(levels.items()):
        found.append(head_conv(g, level, f"logits_{n}", 9 * CLASSES))
        found.append(head_conv(g, level, f"deltas_{n}", 9 * 4, 0.3))
    return found


_HEADS: dict[str, Callable[[GraphWriter, Mapping[int, str]], list[str]]] = {
    "nanodet": _nanodet, "picodet": _picodet, "yolov5": _yolov5, "yolov8": _yolov8,
    "retinanet": _retinanet,
}  # fmt: skip
OPTIONS = {
    "nanodet": "decode=nanodet&reg_max=7",
    "picodet": "decode=picodet",
    "yolov5": "decode=yolov5",
    "yolov8": "decode=yolov8",
    "retinanet": "decode=retinanet&anchors=detectron2",
}


def write_layout(path: Path, kind: str) -> Path:
    """Write a detector of a layout."""
    g = GraphWriter()
    return save_model(g, path, _HEADS[kind](g, write_pyramid(g)))


def spec_of(model: Path, kind: str, more: str = "") -> str:
    """Its SPEC; small inputs, for a random head saturates on bytes."""
    cut = "&".join(f"{level}={tensor}" for level, tensor in LEVELS.items())
    plain = "mode=letterbox&channel_order=rgb&value_scale=1&mean=0,0,0&std=128,128,128"
    return f"onnx:{model}?{cut}&{OPTIONS[kind]}&{plain}&score_threshold=0.4&max_detections=40{more}"


def decoded(kind: str, outputs: Mapping[str, np.ndarray], threshold: float) -> list[Box]:
    """All boxes at or above the threshold, by loops over rows."""
    return [box for box in _LOOPS[kind](outputs) if box[1] >= threshold]


def _side(bins: np.ndarray) -> float:
    powers = [math.exp(x) for x in bins]
    return sum(i * x for i, x in enumerate(powers)) / sum(powers)


def _of_distribution(
    n: int, index: int, bins: np.ndarray, offset: float, clip: bool
) -> list[float]:
    y, x = divmod(index, cells(n))
    left, top, right, bottom = (
        _side(bins[i : i + REG_MAX + 1]) for i in range(0, BINS, REG_MAX + 1)
    )
    found = [x + offset - left, y + offset - top, x + offset + right, y + offset + bottom]
    box = [value * STRIDES[n] for value in found]
    return [min(max(value, 0), SIDE) for value in box] if clip else box


def _nanodet_boxes(outputs: Mapping[str, np.ndarray]) -> Iterator[Box]:
    rows = iter(outputs["output"][0])
    for n in STRIDES:
        for index in range(cells(n) ** 2):
            row = next(rows)
            box = _of_distribution(n, index, row[CLASSES:], 0, True)
            yield from ((box, float(row[k]), k) for k in range(CLASSES))


def _picodet_boxes(outputs: Mapping[str, np.ndarray]) -> Iterator[Box]:
    for n in STRIDES:
        pairs = zip(outputs[f"cls_{n}"][0], outputs[f"reg_{n}"][0], strict=True)
        for index, (scores, bins) in enumerate(pairs):
            box = _of_distribution(n, index, bins, 0.5, False)
            yield from ((box, float(scores[k]), k) for k in range(CLASSES))


def _corners(x: float, y: float, width: float, height: float) -> list[float]:
    return [x - width / 2, y - height / 2, x + width / 2, y + height / 2]


def _yolov5_boxes(outputs: Mapping[str, np.ndarray]) -> Iterator[Box]:
    for row in outputs["output"][0]:
        best = int(row[5:].argmax())
        yield _corners(*row[:4].tolist()), float(row[4] * row[5 + best]), best


def _yolov8_boxes(outputs: Mapping[str, np.ndarray]) -> Iterator[Box]:
    for row in outputs["output"][0].T:
        best = int(row[4:].argmax())
        yield _corners(*row[:4].tolist()), float(row[4 + best]), best


def _retinanet_boxes(outputs: Mapping[str, np.ndarray]) -> Iterator[Box]:
    for n, stride in STRIDES.items():
        logits, deltas = outputs[f"logits_{n}"][0], outputs[f"deltas_{n}"][0]
        sizes = [4 * stride * 2 ** (i / 3) for i in range(3)]
        shapes = [(s / math.sqrt(r), s * math.sqrt(r)) for s in sizes for r in (0.5, 1, 2)]
        for y, x in np.ndindex(cells(n), cells(n)):
            for a, (width, height) in enumerate(shapes):
                dx, dy, dw, dh = deltas[4 * a : 4 * a + 4, y, x].tolist()
                box = _corners(
                    x * stride + dx * width, y * stride + dy * height,
                    math.exp(dw) * width, math.exp(dh) * height,
                )  # fmt: skip
                for k in range(CLASSES):
                    yield box, 1 / (1 + math.exp(-logits[a * CLASSES + k, y, x])), k


_LOOPS: dict[str, Callable[[Mapping[str, np.ndarray]], Iterator[Box]]] = {
    "nanodet": _nanodet_boxes, "picodet": _picodet_boxes, "yolov5": _yolov5_boxes,
    "yolov8": _yolov8_boxes, "retinanet": _retinanet_boxes,
}  # fmt: skip
