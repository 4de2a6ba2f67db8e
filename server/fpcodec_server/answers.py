"""A half's answer as the wire's message."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from fpcodec.detections import Detections
from fpcodec.v1 import codec_pb2


class Answer(Protocol):
    """What a server half says about one frame; ``fpcodec.split.ServerAnswer`` is one."""

    @property
    def detections(self) -> Detections:
        """What was found."""

    @property
    def levels_used(self) -> tuple[str, ...]:
        """Levels that came out of the frame."""

    @property
    def levels_recovered(self) -> tuple[str, ...]:
        """Levels that were predicted."""

    @property
    def levels_ignored(self) -> Mapping[str, str]:
        """Levels that arrived in vain, with the reason."""

    @property
    def timings_ms(self) -> Mapping[str, float]:
        """Milliseconds of ``decode``, ``reconstruct`` and ``head``."""


def to_response(answer: Answer) -> codec_pb2.InferResponse:
    """The response that carries an answer; whose it is and how long it waited is added later."""
    times = answer.timings_ms
    found = answer.detections
    response = codec_pb2.InferResponse(
        levels_used=answer.levels_used,
        levels_recovered=answer.levels_recovered,
        levels_ignored=[
            codec_pb2.IgnoredLevel(name=name, reason=reason)
            for name, reason in answer.levels_ignored.items()
        ],
        timings=codec_pb2.ServerTimings(
            decode_ms=times.get("decode", 0.0),
            reconstruct_ms=times.get("reconstruct", 0.0),
            head_ms=times.get("head", 0.0),
        ),
    )
    columns = zip(found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True)
    for (x1, y1, x2, y2), score, label in columns:
        response.detections.add(x1=x1, y1=y1, x2=x2, y2=y2, score=score, label=label)
    if found.masks is not None:
        _, height, width = found.masks.shape
        response.image_size.width, response.image_size.height = width, height
        for detection, mask in zip(response.detections, found.masks, strict=True):
            detection.mask.CopyFrom(_to_mask(mask))
    return response


def _to_mask(mask: npt.NDArray[np.bool_]) -> codec_pb2.Mask:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return codec_pb2.Mask()
    top, left = int(rows[0]), int(columns[0])
    crop = np.ascontiguousarray(mask[top : rows[-1] + 1, left : columns[-1] + 1])
    png = io.BytesIO()
    Image.fromarray(crop).convert("1").save(png, "PNG")
    return codec_pb2.Mask(left=left, top=top, png=png.getvalue())
