"""Which levels each object scale needs, measured by leaving levels out."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from fpcodec.detections import SCALES, Detections
from fpcodec.detectors.base import Detector
from fpcodec.evaluation.matching import iou_matrix, to_xywh
from fpcodec.pyramid import Pyramid
from fpcodec.reconstruct.base import Recoverer

TOLERANCE = 0.9
"""A level set serves a scale when its detections agree with all levels' to this F1."""

_MIN_SCORE = 0.3
_EDGES = (32.0**2, 96.0**2)


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
            part = Pyramid(pyramid.spec, {x: pyramid.levels[x] for x in kept}, pyramid.geometry)
            found = detector.detect(recoverer.recover([part])[0])
            matched[kept] += _by_scale(reference, _has_counterpart(reference, found))
            matched[kept] += _by_scale(found, _has_counterpart(found, reference))
            found_count[kept] += _by_scale(found, np.ones(len(found), bool))
    f1 = {x: matched[x] / np.maximum(total + found_count[x], 1) for x in sets}
    size = {kept: _elements(pyramids[0], kept) for kept in sets} if pyramids else {}
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


def _has_counterpart(boxes: Detections, others: Detections) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Whether each box is among the others' sure ones: same label, IoU of a half or more."""
    overlap = iou_matrix(to_xywh(boxes.boxes), to_xywh(others.boxes)) >= 0.5
    same = boxes.labels[:, None] == others.labels[None]
    return np.asarray((overlap & same & (others.scores >= _MIN_SCORE)).any(axis=1), np.bool_)


def _by_scale(
    detections: Detections, chosen: np.ndarray[Any, np.dtype[np.bool_]]
) -> np.ndarray[Any, np.dtype[np.float64]]:
    sure = chosen & (detections.scores >= _MIN_SCORE)
    return np.bincount(np.digitize(detections.areas[sure], _EDGES), minlength=3).astype(float)


def _elements(pyramid: Pyramid, kept: Sequence[str]) -> int:
    size = pyramid.geometry.network_size
    return sum(int(np.prod(pyramid.spec.shape(name, size))) for name in kept)


def macs_saved(detector: Detector, table: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Edge multiply-accumulates that each scale's levels spare, where they are known."""
    full = detector.macs(None)
    out = {}
    for scale, names in table.items():
        some = detector.macs(names)
        if full is not None and some is not None:
            out[scale] = full - some
    return out
