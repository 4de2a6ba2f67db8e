"""What a detector finds in the first images: whether its outputs are read as they are meant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fpcodec.detections import Detections
from fpcodec.errors import ModelError

FIRST_IMAGES = 16
"""In so many the detector's findings are looked at."""

_MIN_SCORE = 0.3
_ROUNDING = 1e-3


class Findings:
    """Objects found in some images, and the best of them.

    Args:
        labels: The detector's.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        self._labels = labels
        self._images = self._objects = 0
        self._best: dict[str, Any] | None = None

    def add(self, found: Detections) -> None:
        """Add one image's detections.

        Raises:
            ModelError: A score is not in [0, 1].
        """
        self._images += 1
        if not len(found):
            return
        for score in (float(found.scores.min()), float(found.scores.max())):
            if not -_ROUNDING <= score <= 1 + _ROUNDING:
                raise ModelError(
                    f"the detector scores {score:.2f}, which is not in [0, 1]: decode= does not "
                    "fit what the graph gives; fpcodec tensors MODEL lists the layouts that fit"
                )
        self._objects += int((found.scores >= _MIN_SCORE).sum())
        best = found.to_dicts(self._labels)[int(found.scores.argmax())]
        if self._best is None or best["score"] > self._best["score"]:
            self._best = {"label": best["label"], "score": best["score"]}

    def facts(self) -> dict[str, Any]:
        """``images``, ``objects`` that score 0.3 or more, and the ``best`` (None without any)."""
        return {"images": self._images, "objects": self._objects, "best": self._best}


def findings_line(facts: dict[str, Any]) -> str:
    """``Findings.facts`` for people."""
    best = facts["best"]
    example = "" if best is None else f"{best['label']} {best['score']:.2f}"
    if not facts["objects"]:
        nearest = f" (the best is {example})" if example else ""
        return (f"nothing scores {_MIN_SCORE:g} or more in the first {facts['images']} images"
                f"{nearest}: check decode= and the preprocessing keys, or give images of what the "
                "detector knows")  # fmt: skip
    mean = facts["objects"] / facts["images"]
    return f"found {mean:.1f} objects per image, e.g. {example}"
