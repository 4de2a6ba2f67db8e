"""How sure a drop in AP is: a paired bootstrap over images.

Efron, "Bootstrap methods: another look at the jackknife", 1979. Every setting sees the same
draws, so the luck of which images were drawn cancels out of a difference.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fpcodec.errors import InputError
from fpcodec.evaluation.matching import IOU_THRESHOLDS, CategoryMatches, Floats, Integers, Matches

RECALL_THRESHOLDS = np.linspace(0.0, 1.0, 101)
_NEXT_THRESHOLD = np.append(RECALL_THRESHOLDS[1:], np.inf)
MIN_DRAWS = 200
_DRAWS_AT_ONCE = 128

Weights = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Interval:
    """A drop of AP in points, with the central 95 % of its bootstrap draws.

    Attributes:
        value: The drop on the images as they are.
        low: 2.5 % of the draws lie below.
        high: 2.5 % of the draws lie above.
        draws: How many draws.
    """

    value: float
    low: float
    high: float
    draws: int

    @classmethod
    def of(cls, value: float, drops: Floats) -> Interval:
        """Around a drop, from the drop in each draw."""
        low, high = np.nanpercentile(drops, [2.5, 97.5])
        return cls(value, float(low), float(high), len(drops))


def paired_drops(
    reference: Matches, settings: Mapping[str, Matches], *, draws: int = 1000, seed: int = 0
) -> dict[str, Interval]:
    """The drop of AP from a reference to each setting, with 95 % intervals.

    Images are drawn with replacement; each draw's AP is exact, with images weighted by how
    often they were drawn.

    Args:
        reference: Matches of the unsplit detector.
        settings: Name to matches on the same images.
        draws: Bootstrap draws, at least 200.
        seed: Of the generator; the same seed gives the same interval.

    Raises:
        InputError: Too few draws, or a setting was matched on other images.
    """
    for name, matches in settings.items():
        if matches.image_count != reference.image_count:
            raise InputError(
                f"{name} was matched on {matches.image_count} images, the reference on "
                f"{reference.image_count}; pair the same images"
            )
    weights = draw_weights(reference.image_count, draws, seed)
    reference_ap, reference_draws = average_precision(reference), weighted_ap(reference, weights)
    intervals = {}
    for name, matches in settings.items():
        drops = reference_draws - weighted_ap(matches, weights)
        intervals[name] = Interval.of(reference_ap - average_precision(matches), drops)
    return intervals


def draw_weights(count: int, draws: int, seed: int) -> Weights:
    """How often each image stands in each draw: shape (draws, count), int32.

    The same arguments give the same draws, so settings scored apart are still paired.

    Raises:
        InputError: There are too few draws.
    """
    if draws < MIN_DRAWS:
        raise InputError(f"{draws} bootstrap draws are too few for 95 %; use {MIN_DRAWS} or more")
    generator = np.random.default_rng(seed)
    return generator.multinomial(count, np.full(count, 1 / count), size=draws).astype(np.int32)


def average_precision(matches: Matches) -> float:
    """COCO's AP over IoU 0.50:0.95, all areas, in points; nan where nothing is annotated."""
    return float(weighted_ap(matches, np.ones((1, matches.image_count), np.int32))[0])


def weighted_ap(matches: Matches, weights: Weights) -> Floats:
    """COCO's AP with images counted several times or not at all, exactly.

    Equal to evaluating a data set in which image ``i`` stands ``weights[., i]`` times.

    Args:
        matches: Of one set of detections.
        weights: Shape (draws, images), int32, not negative.

    Returns:
        Shape (draws,), float64, in points; nan where a draw holds no annotated box.
    """
    parts = [_weighted_ap(matches, part) for part in _chunks(weights)]
    return np.concatenate(parts) if parts else np.zeros(0)


def _chunks(weights: Weights) -> Iterator[Weights]:
    """Draws in portions, images first: memory stays in the tens of megabytes."""
    for start in range(0, len(weights), _DRAWS_AT_ONCE):
        yield np.ascontiguousarray(weights[start : start + _DRAWS_AT_ONCE].T)


def _weighted_ap(matches: Matches, weights: Weights) -> Floats:
    """AP per draw for weights of shape (images, draws)."""
    total, counted = np.zeros(weights.shape[1]), np.zeros(weights.shape[1], np.int64)
    for category in matches.categories:
        present = np.flatnonzero(category.truths)
        truths = category.truths[present] @ weights[present].astype(np.int64)
        # As in COCO, a category without boxes among the drawn images has no say.
        total += np.where(truths > 0, _category_ap(category, weights, truths), 0.0)
        counted += truths > 0
    return np.where(counted > 0, 100 * total / np.maximum(counted, 1), np.nan)


def _category_ap(category: CategoryMatches, weights: Weights, truths: Integers) -> Floats:
    """One category's AP per draw, in [0, 1], averaged over the IoU thresholds."""
    ap = np.zeros(weights.shape[1])
    hit_anywhere = np.flatnonzero(category.hits.any(axis=0))
    if not len(hit_anywhere):
        return ap
    # What scores below the last hit changes neither precision nor recall at any hit.
    last = int(hit_anywhere[-1]) + 1
    per_detection = weights[category.images[:last]]
    seen_by_all = np.cumsum(per_detection, axis=0, dtype=np.int32)
    for hits, ignored in zip(category.hits[:, :last], category.ignored[:, :last], strict=True):
        at = np.flatnonzero(hits)
        if not len(at):
            continue
        seen = seen_by_all
        if ignored.any():
            seen = np.cumsum(per_detection * ~ignored[:, None], axis=0, dtype=np.int32)
        found = np.cumsum(per_detection[at], axis=0, dtype=np.int32)
        ap += _interpolated_ap(found, seen[at], truths)
    return ap / len(IOU_THRESHOLDS)


def _interpolated_ap(
    found: npt.NDArray[np.int32], seen: npt.NDArray[np.int32], truths: Integers
) -> Floats:
    """The 101-point average of the best precision at or beyond each recall.

    Only detections that hit can be where such a precision is reached, so only they are here.

    Args:
        found: Shape (hits, draws): weighted hits up to and with each hit.
        seen: Shape (hits, draws): weighted detections up to and with each hit.
        truths: Shape (draws,): weighted boxes.
    """
    precision = found / np.maximum(seen, 1)
    best = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    recall = found / np.maximum(truths, 1)
    steps = np.diff(_thresholds_reached(recall), axis=0, prepend=0)
    return np.asarray((best * steps).sum(axis=0) / len(RECALL_THRESHOLDS), np.float64)


def _thresholds_reached(recall: Floats) -> Integers:
    """How many recall thresholds are at or below each recall: a faster ``searchsorted``."""
    reached = (recall * 100).astype(np.int64)
    # The product rounds: compare with the very thresholds that COCO compares with.
    reached += recall >= _NEXT_THRESHOLD[reached]
    reached -= recall < RECALL_THRESHOLDS[reached]
    return reached + 1
