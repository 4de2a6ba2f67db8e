"""From a network's raw outputs to boxes, scores and labels, in numpy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from fpcodec.detections import Detections
from fpcodec.detectors.base import HeadOutput
from fpcodec.errors import InputError, ModelError
from fpcodec.pyramid import Array, PyramidSpec

Outputs = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class DecodeConfig:
    """How raw outputs become boxes.

    Attributes:
        kind: ``yolox`` (one tensor of box offsets, objectness and class scores), ``detections``
            (the graph selects boxes itself), or ``module:function``, called with
            ``(outputs, spec, network_size)`` and returning ``Detections`` in network pixels.
            That function is imported and run: use profiles from people you trust.
        score_threshold: Boxes below it are dropped.
        nms_iou: Overlap above which the lower of two boxes of one class is dropped (``yolox``).
        max_detections: Most boxes of an image.
        outputs: Role to output name: ``raw`` for ``yolox``; ``boxes``, ``scores``, ``labels``
            and, where the graph has them, ``objectness_p3`` and so on for ``detections``.
        label_offset: Subtracted from the graph's labels (``detections``).
    """

    kind: str
    score_threshold: float = 0.01
    nms_iou: float = 0.65
    max_detections: int = 100
    outputs: Mapping[str, str] = field(default_factory=dict)
    label_offset: int = 0

    def __post_init__(self) -> None:
        module, _, function = self.kind.partition(":")
        if self.kind not in ("yolox", "detections") and not (module and function):
            raise InputError(f"decode {self.kind!r} is not yolox, detections or module:function")
        for name in ("score_threshold", "nms_iou"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise InputError(f"decode {name} {getattr(self, name)} is not in [0, 1]")
        if not 1 <= self.max_detections <= 10_000:
            raise InputError(f"decode max_detections {self.max_detections} is not in 1..10000")

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form; ``from_dict`` reads it back."""
        return asdict(self) | {"outputs": dict(self.outputs)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> DecodeConfig:
        """Read the form that ``to_dict`` writes; absent keys take their defaults.

        Raises:
            InputError: A key is unknown, ``kind`` is missing, or a value is out of range.
        """
        known = [item.name for item in fields(cls)]
        unknown = [key for key in data if key not in known]
        if unknown:
            raise InputError(f"decode has no {', '.join(unknown)}; it has {', '.join(known)}")
        try:
            return cls(**data)
        except TypeError as error:
            raise InputError(f"decode description cannot be used: {error}") from error


Judge = Callable[[int, npt.NDArray[np.int64], npt.NDArray[np.bool_]], npt.NDArray[np.bool_]]
"""From a box that is kept, those below it, by their places in the order of scores, and whether they
overlap it, to whether they are dropped."""


def batched_nms(
    boxes: Array,
    scores: Array,
    labels: npt.NDArray[np.int64],
    iou_threshold: float,
    max_kept: int | None = None,
    judge: Judge | None = None,
) -> npt.NDArray[np.int64]:
    """Greedy non-maximum suppression within each class.

    Args:
        boxes: Shape (N, 4), float32, ``x1 y1 x2 y2``.
        scores: Shape (N,), float32.
        labels: Shape (N,), int64; boxes of different labels never suppress each other.
        iou_threshold: Overlap above which the box of lower score is dropped.
        max_kept: Stop after this many boxes; None for all. The first ones are the same.
        judge: Which boxes are dropped, where it is not those that overlap.

    Returns:
        Indices of the boxes kept, best first, shape (M,), int64.
    """
    order = np.argsort(-scores, kind="stable")
    boxes, labels = boxes[order], labels[order]
    areas = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1)
    remaining = np.arange(len(order))
    kept: list[int] = []
    while len(remaining) and (max_kept is None or len(kept) < max_kept):
        best, rest = remaining[0], remaining[1:]
        kept.append(int(order[best]))
        low = np.maximum(boxes[best, :2], boxes[rest, :2])
        high = np.minimum(boxes[best, 2:], boxes[rest, 2:])
        overlap = np.prod(np.maximum(high - low, 0), axis=1)
        union = areas[best] + areas[rest] - overlap
        drop = overlap > iou_threshold * union
        if judge is not None:
            drop = judge(int(best), rest, drop)
        remaining = rest[~(drop & (labels[rest] == labels[best]))]
    return np.asarray(kept, np.int64)


def select(
    boxes: Array, scores: Array, labels: npt.NDArray[np.int64], config: DecodeConfig
) -> Detections:
    """Threshold, suppress and keep the best: the last step of one-stage detectors."""
    keep = selected(boxes, scores, labels, config)
    return Detections(boxes[keep], scores[keep], labels[keep])


def selected(
    boxes: Array, scores: Array, labels: npt.NDArray[np.int64], config: DecodeConfig
) -> npt.NDArray[np.int64]:
    """Indices of the boxes that ``select`` keeps, best first."""
    good = np.flatnonzero(scores >= config.score_threshold)
    kept = batched_nms(
        boxes[good], scores[good], labels[good], config.nms_iou, config.max_detections
    )
    return np.asarray(good[kept], np.int64)


def split_yolox(raw: Array, spec: PyramidSpec, network_size: tuple[int, int]) -> HeadOutput:
    """Cut YOLOX's output into levels.

    Args:
        raw: Shape (1, A, 5 + K) or (A, 5 + K): box offsets, objectness, class scores, both
            already through the sigmoid, finest level first.
        spec: The pyramid at the cut.
        network_size: ``(width, height)`` of the network input.

    Returns:
        Scores ``objectness * class``, shape (K, H, W), and raw box values, shape (4, H, W).

    Raises:
        ModelError: The output's shape does not fit the pyramid.
    """
    rows = raw[0] if raw.ndim == 3 and raw.shape[0] == 1 else raw
    shapes = [spec.shape(name, network_size)[1:] for name in spec.names]
    anchors = sum(height * width for height, width in shapes)
    if rows.ndim != 2 or rows.shape[0] != anchors or rows.shape[1] < 6:
        raise ModelError(
            f"output has shape {raw.shape}; decode=yolox wants (1, {anchors}, 5 + classes) for "
            f"levels {', '.join(spec.names)}; check the level tensors and the decode option"
        )
    scores: dict[str, Array] = {}
    boxes: dict[str, Array] = {}
    start = 0
    for name, (height, width) in zip(spec.names, shapes, strict=True):
        part = rows[start : start + height * width].T.reshape(-1, height, width)
        boxes[name] = np.ascontiguousarray(part[:4], np.float32)
        scores[name] = np.asarray(part[4:5] * part[5:], np.float32)
        start += height * width
    return HeadOutput(scores, boxes)


def decode_yolox(head: HeadOutput, spec: PyramidSpec, config: DecodeConfig) -> Detections:
    """Turn YOLOX's head into boxes in network pixels (Ge et al., 2021).

    A cell at ``(gx, gy)`` of stride ``s`` puts its box centre at ``(x + gx) s, (y + gy) s`` and
    its sides at ``exp(w) s, exp(h) s``. Each cell gives the one class that it scores highest, as
    YOLOX's own post-processing does.
    """
    return decode_yolox_rows(head, spec, config)[0]


def decode_yolox_rows(
    head: HeadOutput, spec: PyramidSpec, config: DecodeConfig
) -> tuple[Detections, npt.NDArray[np.int64]]:
    """As ``decode_yolox``, and which row of the network's output each box is, shape (N,)."""
    found, rows = yolox_candidates(head, spec, config)
    keep = selected(found.boxes, found.scores, found.labels, config)
    return Detections(found.boxes[keep], found.scores[keep], found.labels[keep]), rows[keep]


def yolox_candidates(
    head: HeadOutput, spec: PyramidSpec, config: DecodeConfig
) -> tuple[Detections, npt.NDArray[np.int64]]:
    """As ``decode_yolox_rows``, before anything is suppressed."""
    boxes, scores, labels, rows = [], [], [], []
    first_row = 0
    for name in spec.names:
        level_scores, values, stride = head.scores[name], head.boxes[name], spec[name].stride
        label = level_scores.argmax(axis=0)
        score = np.take_along_axis(level_scores, label[None], axis=0)[0]
        y, x = np.nonzero(score >= config.score_threshold)
        centre = (values[:2, y, x] + np.stack([x, y])) * stride
        # exp(20) is far beyond any image and keeps float32 finite.
        half = np.exp(np.minimum(values[2:, y, x], 20.0)) * (stride / 2)
        boxes.append(np.concatenate([centre - half, centre + half]).T)
        scores.append(score[y, x])
        labels.append(label[y, x])
        rows.append(first_row + y * score.shape[1] + x)
        first_row += score.size
    found = Detections(
        np.concatenate(boxes).astype(np.float32),
        np.concatenate(scores).astype(np.float32),
        np.concatenate(labels).astype(np.int64),
    )
    return found, np.concatenate(rows)


def decode_detections(outputs: Outputs, config: DecodeConfig) -> Detections:
    """Read boxes that the graph has selected itself, in network pixels, best first.

    Raises:
        ModelError: The three outputs do not agree on the number of boxes.
    """
    roles = ("boxes", "scores", "labels")
    boxes, scores, labels = (named_output(outputs, config, role) for role in roles)
    boxes = np.asarray(boxes, np.float32)
    boxes = boxes[0] if boxes.ndim == 3 and boxes.shape[0] == 1 else boxes
    scores = np.asarray(scores, np.float32).reshape(-1)
    labels = np.asarray(labels).reshape(-1).astype(np.int64) - config.label_offset
    if boxes.shape != (len(scores), 4) or len(labels) != len(scores):
        raise ModelError(
            f"outputs disagree: boxes {boxes.shape}, scores {scores.shape}, labels "
            f"{labels.shape}; decode=detections wants (N, 4), (N,), (N,)"
        )
    order = np.argsort(-scores, kind="stable")
    order = order[scores[order] >= config.score_threshold][: config.max_detections]
    return Detections(boxes[order], scores[order], labels[order])


def named_output(outputs: Outputs, config: DecodeConfig, role: str) -> npt.NDArray[Any]:
    """Return the output that plays a role.

    Raises:
        ModelError: The graph has no such output; the message lists what it has.
    """
    name = config.outputs.get(role, role)
    if role == "raw" and "raw" not in config.outputs and len(outputs) == 1:
        return next(iter(outputs.values()))
    if name not in outputs:
        raise ModelError(
            f"server graph has no output {name!r} for {role}; it has {', '.join(outputs)}; "
            "name it in the decode outputs"
        )
    return outputs[name]


def objectness(outputs: Outputs, config: DecodeConfig, names: Sequence[str]) -> dict[str, Array]:
    """Per-level objectness outputs, shape (anchors, H, W); empty where the graph has none."""
    found: dict[str, Array] = {}
    for name in names:
        role = f"objectness_{name}"
        values = outputs.get(config.outputs.get(role, role))
        if values is not None:
            array = np.asarray(values, np.float32)
            found[name] = array[0] if array.ndim == 4 else array.reshape(-1, *array.shape[-2:])
    return found if len(found) == len(names) else {}


def rasterise(
    found: Detections, spec: PyramidSpec, network_size: tuple[int, int]
) -> dict[str, Array]:
    """Response S from boxes alone: per cell the highest score of a box that covers it.

    Every level gets every box, for a decoder does not say which level a box came from.

    Args:
        found: Boxes in network pixels.
        spec: The pyramid at the cut.
        network_size: ``(width, height)`` of the network input.
    """
    responses: dict[str, Array] = {}
    for name in spec.names:
        stride = spec[name].stride
        response = np.zeros(spec.shape(name, network_size)[1:], np.float32)
        cells = np.concatenate(
            [np.floor(found.boxes[:, :2] / stride), np.ceil(found.boxes[:, 2:] / stride)], axis=1
        )
        cells = np.clip(np.nan_to_num(cells), 0, max(response.shape)).astype(np.int64)
        for (x1, y1, x2, y2), score in zip(cells, found.scores, strict=True):
            part = response[y1:y2, x1:x2]
            np.maximum(part, score, out=part)
        responses[name] = response
    return responses
