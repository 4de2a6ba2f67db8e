"""How raw outputs become boxes: the description, suppression, and graphs that select boxes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from fpcodec.detections import Detections
from fpcodec.detectors.layouts import LAYOUTS, Candidates, Layout
from fpcodec.errors import InputError, ModelError
from fpcodec.pyramid import Array, PyramidSpec

Outputs = Mapping[str, npt.NDArray[Any]]

KINDS = (*LAYOUTS, "detections")
"""What ``DecodeConfig`` knows by name."""


@dataclass(frozen=True)
class DecodeConfig:
    """How raw outputs become boxes.

    Attributes:
        kind: One of ``layouts.LAYOUTS``, ``detections`` (the graph selects boxes itself), or
            ``module:function``, called with ``(outputs, spec, network_size)`` and returning
            ``Detections`` in network pixels. That function is imported and run: use profiles from
            people you trust.
        score_threshold: Boxes below it are dropped.
        nms_iou: Overlap above which the lower of two boxes of one class is dropped (layouts).
        max_detections: Most boxes of an image.
        outputs: Role to output name: a layout's own (``raw``, or ``scores`` and ``boxes``);
            ``boxes``, ``scores``, ``labels`` and, where the graph has them, ``objectness_p3`` and
            so on for ``detections``.
        label_offset: Subtracted from the graph's labels (``detections``).
        options: Of the layout.
    """

    kind: str
    score_threshold: float = 0.01
    nms_iou: float = 0.65
    max_detections: int = 100
    outputs: Mapping[str, str] = field(default_factory=dict)
    label_offset: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        module, _, function = self.kind.partition(":")
        if self.kind not in KINDS and not (module and function):
            raise InputError(
                f"decode {self.kind!r} is not one of {', '.join(KINDS)} or module:function"
            )
        if self.kind in LAYOUTS:
            plain = LAYOUTS[self.kind].Options.plain(self.options)
            object.__setattr__(self, "options", plain)
        elif self.options:
            raise InputError(f"decode {self.kind} takes no option {next(iter(self.options))}")
        for name in ("score_threshold", "nms_iou"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise InputError(f"decode {name} {getattr(self, name)} is not in [0, 1]")
        if not 1 <= self.max_detections <= 10_000:
            raise InputError(f"decode max_detections {self.max_detections} is not in 1..10000")

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form; ``from_dict`` reads it back."""
        data = asdict(self) | {"outputs": dict(self.outputs), "options": dict(self.options)}
        if not self.options:  # as descriptions were before layouts had options
            del data["options"]
        return data

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
        except (AttributeError, TypeError) as error:
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


def open_layout(
    config: DecodeConfig, spec: PyramidSpec, network_size: tuple[int, int]
) -> Layout[Any] | None:
    """The layout that a description names; None where it names none.

    Raises:
        InputError: An option does not fit the pyramid.
    """
    if config.kind not in LAYOUTS:
        return None
    return LAYOUTS[config.kind](config.options, config.outputs, spec, network_size)


def select(found: Candidates, config: DecodeConfig) -> Candidates:
    """Suppress and keep the best, best first: the last step of one-stage detectors."""
    return found[
        batched_nms(found.boxes, found.scores, found.labels, config.nms_iou, config.max_detections)
    ]


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
