"""Feature drift over many objects: means, and how sure they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fpcodec.detections import SCALES
from fpcodec.errors import InputError
from fpcodec.evaluation.bootstrap import draw_weights
from fpcodec.explain.drift import ObjectDrift

MEASURES = (
    "drift", "centre_bias", "noise", "squared_drift", "squared_bias", "plain_drift",
    "probe_to_features", "probe_to_image",
)  # fmt: skip
"""What is averaged over objects; in box diagonals, the squared ones in squared diagonals."""


@dataclass(frozen=True)
class MeanInterval:
    """A mean over objects, with the central 95 % of its bootstrap draws.

    Attributes:
        n: Objects.
        mean: Of the objects as they are.
        low: 2.5 % of the draws lie below.
        high: 2.5 % of the draws lie above.
    """

    n: int
    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float], draws: int = 1000, seed: int = 0) -> MeanInterval:
        """Draw objects with replacement.

        Raises:
            InputError: There is no value, or too few draws.
        """
        if not len(values):
            raise InputError("a mean of no objects has no interval; measure some")
        known = np.asarray(values, np.float64)
        means = draw_weights(len(known), draws, seed) @ known / len(known)
        low, high = np.percentile(means, [2.5, 97.5])
        return cls(len(known), float(known.mean()), float(low), float(high))


def summarise(
    objects: Sequence[ObjectDrift], draws: int = 1000, seed: int = 0
) -> dict[str, dict[str, MeanInterval]]:
    """Means with intervals, of all objects and of each COCO scale that has some.

    Returns:
        ``all`` or a scale to measure to mean; a measure that no object has is left out.
    """
    groups = {"all": list(objects)}
    groups |= {scale: [x for x in objects if x.scale == scale] for scale in SCALES}
    result: dict[str, dict[str, MeanInterval]] = {}
    for name, group in groups.items():
        for measure in MEASURES:
            values = [v for v in (getattr(x, measure) for x in group) if v is not None]
            if values:
                interval = MeanInterval.of(values, draws, seed)
                result.setdefault(name, {})[measure] = interval
    return result
