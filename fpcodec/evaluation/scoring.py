"""From detections to AP, its drop and how sure it is."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fpcodec.data.coco import CocoDataset
from fpcodec.detections import Detections
from fpcodec.errors import InputError
from fpcodec.evaluation.average_precision import evaluate_ap
from fpcodec.evaluation.bootstrap import (
    MIN_DRAWS,
    Interval,
    average_precision,
    draw_weights,
    weighted_ap,
)
from fpcodec.evaluation.detection_files import UNREADABLE
from fpcodec.evaluation.matching import Floats, Matches, match_detections
from fpcodec.files import replacing

COMMON_BOXES = 20
"""Boxes that a class must have for its AP to count in ``ap_common``."""


@dataclass(frozen=True)
class Bootstrap:
    """How drops get their intervals: number of draws and seed.

    Raises:
        InputError: There are fewer than 200 draws.
    """

    draws: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.draws < MIN_DRAWS:
            raise InputError(
                f"{self.draws} bootstrap draws are too few for 95 %; use {MIN_DRAWS} or more"
            )


@dataclass(frozen=True)
class Score:
    """The AP of one set of detections.

    Attributes:
        ap: ``ap``, ``ap50``, ``ap75``, ``ap_small``, ``ap_medium``, ``ap_large`` and
            ``ap_common`` (over classes with at least 20 boxes) in points; None where the data
            has no such box.
        own: AP by this package's matching, of which the draws are resamplings.
        draws: Shape (draws,), float64: AP of each bootstrap draw.
    """

    ap: Mapping[str, float | None]
    own: float
    draws: Floats

    def drop_from(self, reference: Score) -> tuple[Interval, Floats]:
        """The drop from a reference scored on the same draws: interval, and drop per draw."""
        drops = reference.draws - self.draws
        return Interval.of(reference.own - self.own, drops), drops


def score_detections(
    dataset: CocoDataset,
    detections: Sequence[Detections],
    labels: Sequence[str],
    bootstrap: Bootstrap,
) -> Score:
    """Score one set of detections; independent of all others, so that sets go in parallel.

    Raises:
        InputError: The counts disagree, or a label index has no category.
        MissingDependency: faster-coco-eval is not installed.
    """
    matches = match_detections(dataset, detections, labels)
    weights = draw_weights(len(dataset), bootstrap.draws, bootstrap.seed)
    common = _common(matches)
    ap = {
        **evaluate_ap(dataset, detections, labels).to_dict(),
        "ap_common": average_precision(common) if common.categories else None,
    }
    return Score(ap, average_precision(matches), weighted_ap(matches, weights))


def _common(matches: Matches) -> Matches:
    """Only the categories with enough boxes."""
    enough = tuple(x for x in matches.categories if x.truths.sum() >= COMMON_BOXES)
    return replace(matches, categories=enough)


def write_draws(path: Path, draws: Mapping[str, Floats]) -> None:
    """Write the drop of AP per draw of every setting, as float32 in an ``.npz``.

    Raises:
        InputError: The file cannot be written.
    """
    names = list(draws)
    values = np.array([draws[name] for name in names], np.float32)
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, names=np.array(json.dumps(names)),
                            drops=values)  # fmt: skip


def read_draws(path: Path) -> dict[str, Floats]:
    """Read what ``write_draws`` wrote: setting's name to its drop per draw.

    Raises:
        InputError: The file is missing or is not such a file.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as data:
            names = json.loads(str(data["names"]))
            return dict(zip(names, data["drops"].astype(np.float64), strict=True))
    except UNREADABLE as error:
        raise InputError(f"bootstrap draws {path} cannot be read: {error}") from error
