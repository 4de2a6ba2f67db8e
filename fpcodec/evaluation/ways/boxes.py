"""Run the whole detector on the edge and send its boxes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fpcodec.errors import InputError
from fpcodec.evaluation.rivals.boxes import pack_boxes, unpack_boxes
from fpcodec.evaluation.ways.base import Outcome, Scene, Workplace, stopwatch


@dataclass(frozen=True)
class BoxesWay:
    """Run the whole detector on the edge and send its boxes.

    Attributes:
        min_score: Boxes below are not sent.
    """

    min_score: float = 0.05
    kind: str = "boxes"

    def __post_init__(self) -> None:
        if not 0 <= self.min_score <= 1:
            raise InputError(f"boxes' least score {self.min_score} is not in [0, 1]")

    @classmethod
    def parse(cls, text: str) -> BoxesWay:
        """Read ``boxes`` or ``boxes:0.1``.

        Raises:
            InputError: The least score is no number in [0, 1].
        """
        _, colon, value = text.partition(":")
        try:
            return cls(float(value)) if colon else cls()
        except ValueError as error:
            raise InputError(f"rival {text!r} has no usable least score; use boxes:0.05") from error

    @property
    def name(self) -> str:
        """Such as ``boxes 0.05``."""
        return f"boxes {self.min_score:g}"

    @property
    def family(self) -> str:
        """``boxes``."""
        return "boxes"

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The least score."""
        return {"min_score": self.min_score}

    def run(self, scene: Scene, workplace: Workplace) -> Outcome:
        """Pack and unpack the unsplit detections; all the network's time is the edge's."""
        times = {"extract": scene.extract_ms, "head": scene.head_ms}
        with stopwatch(times, "encode"):
            data = pack_boxes(scene.unsplit, scene.image_size, self.min_score)
        with stopwatch(times, "decode"):
            found = unpack_boxes(data)
        return Outcome(found, len(data), {}, times)
