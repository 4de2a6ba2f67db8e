"""Which levels each object scale needs, measured by leaving levels out."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from fpcodec.detections import SCALES, Detections
from fpcodec.detectors.base import Detector
from fpcodec.evaluation.agreement import has_counterpart
from fpcodec.pyramid import Pyramid
from fpcodec.reconstruct.base import Recoverer

TOLERANCE = 0.9
"""A level set serves a scale when its detections agree with all levels' to this F1."""

_MIN_SCORE = 0.3


def measure_key_levels(
    detector: Detector,
    recoverer: Recoverer,
    pyramids: Sequence[Pyramid],
    seconds: float,
) -> tuple[dict[str, tuple[str, ...]], dict[str, Any]]:
    """For every set of coded levels: how far its detections agree with the unsplit ones, by scale.

    Args:
        detector: Runs the head.
        recoverer: Fills the levels left out.
        pyramids: Full pyramids, as extracted.
        seconds: Stop after this long; at least one pyramid is measured.

    Returns:
        The key-level table (per scale the set with fewest features that reaches ``TOLERANCE``),
        and what was measured.
    """
    names = detector.spec.coded_names
    sets = [kept for n in range(1, len(names) + 1) for kept in combinations(names, n)]
    matched = {kept: np.zeros(3) for kept in sets}
    found_count = {kept: np.zeros(3) for kept in sets}
    total, used, started = np.zeros(3), 0, time.monotonic()
    for pyramid in pyramids:
        if used and time.monotonic() - started > seconds:
            break
        used += 1
        reference = detector.detect(recoverer.recover([pyramid])[0])
        total += _by_scale(reference, np.ones(len(reference), bool))
        for kept in sets:
            found = reference
            if kept != names:
                levels = {x: pyramid.levels[x] for x in kept}
                part = Pyramid(pyramid.spec, levels, pyramid.geometry)
                found = detector.detect(recoverer.recover([part])[0])
            for boxes, others in ((reference, found), (found, reference)):
                agreed = has_counterpart(boxes, others, min_score=_MIN_SCORE)
                matched[kept] += _by_scale(boxes, agreed)
            found_count[kept] += _by_scale(found, np.ones(len(found), bool))
    f1 = {x: matched[x] / np.maximum(total + found_count[x], 1) for x in sets}
    network = pyramids[0].geometry.network_size if pyramids else (1, 1)
    size = {kept: detector.spec.elements(network, kept) for kept in sets}
    table = {}
    for i, scale in enumerate(SCALES):
        good = [kept for kept in sets if f1[kept][i] >= TOLERANCE]
        # A scale that was not seen tells nothing: send everything for it.
        table[scale] = min(good, key=size.__getitem__, default=names) if total[i] else names
    facts = {
        "images": used,
        "detections": dict(zip(SCALES, total.astype(int).tolist(), strict=True)),
        "f1": {
            ",".join(kept): dict(zip(SCALES, np.round(values, 4).tolist(), strict=True))
            for kept, values in f1.items()
        },
    }
    return table, facts


def _by_scale(
    detections: Detections, chosen: np.ndarray[Any, np.dtype[np.bool_]]
) -> np.ndarray[Any, np.dtype[np.float64]]:
    sure = chosen & (detections.scores >= _MIN_SCORE)
    return np.bincount(detections.scale_indices[sure], minlength=3).astype(float)


def macs_saved(detector: Detector, table: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Edge multiply-accumulates that each scale's levels spare, where they are known."""
    full = detector.macs(None)
    out = {}
    for scale, names in table.items():
        some = detector.macs(names)
        if full is not None and some is not None:
            out[scale] = full - some
    return out
