"""Readers of faces and text, which see whether a person or a machine could still make them out.

Both come with their weights; neither is needed by fpcodec:

    pip install rapidocr
    pip install --no-deps facenet-pytorch

``facenet-pytorch`` asks for older packages than it needs, so its dependencies are left alone.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fpcodec.detectors.base import Image
from fpcodec.evaluation.matching import iou_matrix, to_xywh

FACE_SURE, FACE_LIKELY, FACE_IOU = 0.95, 0.9, 0.4
LEAST_FACE = 16
"""Pixels of the smallest face that is looked for."""

LINE_SURE, LEAST_LETTERS = 0.9, 3
_MARGIN = 0.15
"""Of a line's height, around it, when it is cut out to be read."""


@dataclass(frozen=True)
class Line:
    """A line of text in a picture.

    Attributes:
        text: Letters and digits alone, lower case.
        box: ``x1 y1 x2 y2`` in pixels.
    """

    text: str
    box: tuple[float, float, float, float]


class FaceFinder:
    """MTCNN (Zhang et al., 2016), as facenet-pytorch ships it."""

    def __init__(self) -> None:
        from facenet_pytorch import MTCNN

        self._network = MTCNN(keep_all=True, min_face_size=LEAST_FACE, post_process=False)

    def find(self, picture: Image, least: float) -> npt.NDArray[np.float64]:
        """Boxes (N, 4) of faces that it is at least so sure of."""
        boxes, scores = self._network.detect(picture)
        if boxes is None:
            return np.zeros((0, 4))
        return np.asarray(boxes, np.float64)[np.asarray(scores, np.float64) >= least]


def faces_again(known: npt.NDArray[np.float64], found: npt.NDArray[np.float64]) -> tuple[int, int]:
    """How many known faces are found at their place, and how many faces are found elsewhere."""
    if not len(known) or not len(found):
        return 0, len(found)
    ious = iou_matrix(to_xywh(found), to_xywh(known))
    return int((ious.max(0) >= FACE_IOU).sum()), int((ious.max(1) < FACE_IOU).sum())


class TextReader:
    """PP-OCR's networks, as RapidOCR ships them."""

    def __init__(self) -> None:
        from rapidocr import RapidOCR

        engine = "EngineConfig.onnxruntime"
        self._engine = RapidOCR(params={
            "Global.log_level": "critical", "Det.limit_side_len": 512, "Det.limit_type": "min",
            f"{engine}.intra_op_num_threads": 1, f"{engine}.inter_op_num_threads": 1,
        })  # fmt: skip

    def lines(self, picture: Image) -> list[Line]:
        """Lines that are read surely, and read the same when they are cut out."""
        found: Any = self._engine(_bgr(picture), use_cls=False)
        if getattr(found, "boxes", None) is None:  # of a picture without text, too
            return []
        lines = []
        for corners, text, score in zip(found.boxes, found.txts, found.scores, strict=True):
            (x1, y1), (x2, y2) = np.min(corners, 0), np.max(corners, 0)
            line = Line(plain(text), (float(x1), float(y1), float(x2), float(y2)))
            sure = score >= LINE_SURE and len(line.text) >= LEAST_LETTERS
            if sure and self.read(picture, line.box) == line.text:
                lines.append(line)
        return lines

    def read(self, picture: Image, box: tuple[float, float, float, float]) -> str:
        """What stands at a place."""
        x1, y1, x2, y2 = box
        margin = _MARGIN * (y2 - y1)
        left, top = max(0, int(x1 - margin)), max(0, int(y1 - margin))
        cut = picture[top : int(y2 + margin) + 1, left : int(x2 + margin) + 1]
        if min(cut.shape[:2]) < 2:
            return ""
        found: Any = self._engine(_bgr(cut), use_det=False, use_cls=False)
        return plain("".join(getattr(found, "txts", None) or ()))


def plain(text: str) -> str:
    """Letters and digits alone, lower case."""
    return "".join(x for x in text.lower() if x.isalnum())


def letters_kept(read: str, true: str) -> float:
    """Share of a text's letters that were read, in order, 0..1."""
    matcher = difflib.SequenceMatcher(None, true, read, autojunk=False)
    return sum(x.size for x in matcher.get_matching_blocks()) / len(true)


def _bgr(picture: Image) -> Image:
    return np.ascontiguousarray(picture[:, :, ::-1])
