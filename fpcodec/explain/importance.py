"""Where a codec should be careful, by ODAM: the maps of an image's detections in one.

Zhao and Chan, "ODAM: Gradient-based instance-specific visual explanations for object detection",
ICLR 2023, explain one detection. Here the maps of all detections are added, each stretched to its
detection's score, so that they compare with the head's response S (Du et al., NeurIPS 2021).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fpcodec.errors import InputError
from fpcodec.explain.odam import MapRule, gradients, odam_map, require_attributes
from fpcodec.explain.predictions import Predictions
from fpcodec.pyramid import Array

LIMIT = 100


def odam_importance(
    predictions: Predictions,
    *,
    attributes: Sequence[str] = ("score",),
    rule: MapRule = odam_map,
    limit: int = LIMIT,
) -> dict[str, Array]:
    """Sum of detections' maps, per coded level: one backward pass per detection and attribute.

    A detection's map is the greatest of its attributes', each divided by its largest value over
    all levels, times the detection's score. Where no detection's gradient comes, it is zero.

    Args:
        predictions: As ``predictions.open_predictor`` gives them.
        attributes: Some of ``odam.ATTRIBUTES``.
        rule: From a gradient and the features it belongs to, to a map: ``odam.odam_map``, or
            ``magnitude_map``, which also keeps what speaks against the detection.
        limit: Only so many detections, the best ones.

    Returns:
        Level name to (H, W) of its grid, float32, not negative.

    Raises:
        InputError: An attribute is unknown, or the limit is negative.
    """
    require_attributes(attributes)
    if limit < 0:
        raise InputError(f"a limit of {limit} detections is below 0; use 0 or more")
    features = {name: leaf.detach().numpy()[0] for name, leaf in predictions.levels.items()}
    total = {name: np.zeros(x.shape[1:], np.float32) for name, x in features.items()}
    scores = predictions.scores.detach().numpy()
    for index in range(min(limit, len(predictions))):
        strongest = {name: np.zeros_like(x) for name, x in total.items()}
        for attribute in attributes:
            found = gradients(predictions, index, attribute)
            maps = {name: rule(found[name], x) for name, x in features.items()}
            largest = max(float(x.max(initial=0)) for x in maps.values())
            if not largest > 0:  # nothing speaks for it: a saturated score has no gradient
                continue
            for name, values in maps.items():
                np.maximum(strongest[name], values / np.float32(largest), out=strongest[name])
        for name, values in strongest.items():
            total[name] += scores[index] * values
    return total


def magnitude_map(gradient: Array, features: Array) -> Array:
    """Sum over channels of the absolute products of gradient and feature; (C, H, W) to (H, W)."""
    products = np.einsum("chw,chw->hw", np.abs(gradient), np.abs(features), dtype=np.float64)
    return np.asarray(products, np.float32)
