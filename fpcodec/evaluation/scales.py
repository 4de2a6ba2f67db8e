"""AP by object scale on one set of bootstrap draws, so that settings can be compared in pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fpcodec.data.coco import CocoDataset
from fpcodec.detections import Detections
from fpcodec.evaluation.bootstrap import (
    Interval,
    average_precision,
    draw_weights,
    weighted_ap,
)
from fpcodec.evaluation.matching import SCALE_AREAS, Areas, Floats, match_detections
from fpcodec.evaluation.scoring import Bootstrap

SCALES: Mapping[str, Areas] = {"all": (0.0, float("inf")), **SCALE_AREAS}
"""All objects, then COCO's object scales."""


@dataclass(frozen=True)
class ScaleScore:
    """The AP of one set of detections by object scale; scales without boxes are absent.

    Attributes:
        own: Scale to AP in points.
        draws: Scale to AP per bootstrap draw, shape (draws,), float64.
    """

    own: Mapping[str, float]
    draws: Mapping[str, Floats]

    def lost_against(self, reference: ScaleScore) -> dict[str, Interval]:
        """Points of AP below a reference that was scored on the same draws, by scale."""
        return {
            scale: Interval.of(
                reference.own[scale] - own, reference.draws[scale] - self.draws[scale]
            )
            for scale, own in self.own.items()
        }


def score_scales(
    dataset: CocoDataset,
    detections: Sequence[Detections],
    labels: Sequence[str],
    bootstrap: Bootstrap,
) -> ScaleScore:
    """Score one set of detections; independent of all others, so that sets go in parallel.

    Raises:
        InputError: The counts disagree, or a label index has no category.
    """
    weights = draw_weights(len(dataset), bootstrap.draws, bootstrap.seed)
    own, draws = {}, {}
    for scale, areas in SCALES.items():
        matches = match_detections(dataset, detections, labels, areas)
        value = average_precision(matches)
        if not np.isnan(value):
            own[scale], draws[scale] = value, weighted_ap(matches, weights)
    return ScaleScore(own, draws)
