"""Agreement with the unsplit detector, frame by frame, and bytes at equal agreement.

Neighbouring frames of a clip are nearly the same, so draws are of blocks of consecutive frames: a
block bootstrap (Künsch, "The jackknife and the bootstrap for general stationary observations",
1989).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fpcodec.detections import Detections
from fpcodec.errors import InputError
from fpcodec.evaluation.agreement import agreement

Floats = npt.NDArray[np.float64]

MIN_SCORE = 0.3
"""Boxes that score less count on neither side, as ``evaluation.agreement`` has it."""

SCORES = (0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5)
"""Thresholds that ``mean_f1`` is a mean over: one alone hangs on few boxes near it."""


@dataclass(frozen=True)
class Track:
    """One setting on one clip, frame by frame.

    Attributes:
        sizes: Bytes, shape (frames,).
        counts: Per score threshold and frame: pairs, boxes here, boxes of the unsplit detector;
            shape (thresholds, frames, 3).
        seconds: When each frame was taken, shape (frames,).
    """

    sizes: Floats
    counts: Floats
    seconds: Floats

    @classmethod
    def of(
        cls, sizes: Sequence[int], found: Sequence[Detections], wanted: Sequence[Detections],
        rate: float,
    ) -> Track:  # fmt: skip
        """Compare detections of as many frames."""
        if not len(sizes) == len(found) == len(wanted):
            raise InputError(f"{len(sizes)} sizes, {len(found)} detections and {len(wanted)} of "
                             "the unsplit detector are not of the same frames")  # fmt: skip
        counts = np.zeros((len(SCORES), len(sizes), 3))
        for row, score in enumerate(SCORES):
            for column, (a, b) in enumerate(zip(found, wanted, strict=True)):
                one = agreement(a, b, min_score=score)
                counts[row, column] = one.matched, one.count_a, one.count_b
        return cls(np.asarray(sizes, np.float64), counts, np.arange(len(sizes)) / rate)

    def every(self, step: int) -> Track:
        """Every so-many-th frame: what frames that stand alone give at a lower rate."""
        return Track(self.sizes[::step], self.counts[:, ::step], self.seconds[::step])

    def blocks(self, seconds: float) -> Floats:
        """Sums over blocks: frames, bytes, then the counts; shape (blocks, 2 + thresholds * 3)."""
        index = (self.seconds // seconds).astype(int)
        columns = [np.ones_like(self.sizes), self.sizes, *self.counts.transpose(0, 2, 1).reshape(
            -1, len(self.sizes))]  # fmt: skip
        return np.stack([np.bincount(index, column) for column in columns], axis=1)


def scores_of(sums: Floats) -> tuple[Floats, Floats, Floats]:
    """Mean bytes, F1 at ``MIN_SCORE`` and mean F1 over ``SCORES`` from summed blocks.

    Args:
        sums: Shape (..., 2 + thresholds * 3).
    """
    counts = sums[..., 2:].reshape(*sums.shape[:-1], len(SCORES), 3)
    boxes = counts[..., 1] + counts[..., 2]
    f1 = np.where(boxes > 0, 2 * counts[..., 0] / np.maximum(boxes, 1), 1.0)
    return sums[..., 1] / sums[..., 0], f1[..., SCORES.index(MIN_SCORE)], f1.mean(axis=-1)


def bytes_at(sizes: Floats, agreements: Floats, level: float) -> float:
    """Bytes at which a curve reaches an agreement; NaN where it never does, or begins above.

    Of several settings that reach it, the one of fewest bytes counts: settings that are worse and
    longer than another are left out. Between two, the logarithm of the bytes is interpolated.
    """
    order = np.argsort(sizes)
    sizes, best = sizes[order], np.maximum.accumulate(agreements[order])
    at = int(np.searchsorted(best, level))
    if at in (0, len(best)):
        return float("nan")
    share = (level - best[at - 1]) / (best[at] - best[at - 1])
    # Of those that are no better than the one before, the first is the cheapest.
    before = int(np.searchsorted(best, best[at - 1]))
    logs = np.log(sizes[[before, at]])
    return float(np.exp(logs[0] + share * (logs[1] - logs[0])))


@dataclass(frozen=True)
class Ratio:
    """Bytes of one way by those of another, at equal agreement.

    Attributes:
        ours_bytes, theirs_bytes: Mean bytes a frame.
        ratio: The one by the other.
        low, high: The central 95 % of the draws in which both reach the agreement.
        draws: How many these are.
    """

    ours_bytes: float
    theirs_bytes: float
    ratio: float
    low: float
    high: float
    draws: int


Blocks = Mapping[object, Floats]
"""Setting to its blocks, all settings' of the same frames."""


def compare(
    ours: Blocks, theirs: Blocks, level: float, *, mean: bool, draws: int, seed: int
) -> Ratio | None:
    """Bytes at an agreement, with a paired block bootstrap; None where one never reaches it.

    Args:
        ours: One curve.
        theirs: Another.
        level: F1.
        mean: Whether it is the mean over ``SCORES``.
        draws: Bootstrap draws.
        seed: Of the generator.
    """
    curves = [np.stack(list(x.values())) for x in (ours, theirs)]  # (settings, blocks, sums)
    count = curves[0].shape[1]
    weights = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), draws)
    values = [_at(curve.sum(axis=1), level, mean) for curve in curves]
    if not np.isfinite(values).all():
        return None
    drawn = []
    for weight in weights:
        pair = [_at(np.einsum("b,sbk->sk", weight, curve), level, mean) for curve in curves]
        if np.isfinite(pair).all():
            drawn.append(pair[0] / pair[1])
    low, high = np.percentile(drawn, [2.5, 97.5]) if drawn else (float("nan"),) * 2
    return Ratio(values[0], values[1], values[0] / values[1], float(low), float(high), len(drawn))


def _at(sums: Floats, level: float, mean: bool) -> float:
    sizes, f1, mean_f1 = scores_of(sums)
    return bytes_at(sizes, mean_f1 if mean else f1, level)
