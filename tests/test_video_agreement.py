"""The benchmark of the video mode: curves, equal agreement, and draws of blocks."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from fpcodec.detections import Detections
from fpcodec.errors import InputError


@pytest.fixture(scope="module")
def agreement(repository: Path) -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(repository / "benchmarks"))
        yield importlib.import_module("video_agreement")


def boxes(*scores: float) -> Detections:
    places = np.array([[40.0 * n, 0, 40 * n + 30, 30] for n in range(len(scores))], np.float32)
    return Detections(
        places.reshape(-1, 4), np.array(scores, np.float32), np.zeros(len(scores), np.int64)
    )


def test_a_track_sums_up_over_frames_and_thresholds(agreement):
    found = [boxes(0.9), boxes(0.9, 0.32), boxes()]
    wanted = [boxes(0.9), boxes(0.9, 0.9), boxes()]
    track = agreement.Track.of([10, 20, 60], found, wanted, rate=2.0)
    size, f1, mean = agreement.scores_of(track.blocks(100).sum(axis=0))
    assert size == 30
    assert f1 == 1
    assert mean == pytest.approx((4 + 3 * 0.8) / 7)
    halved = track.every(2)
    assert halved.sizes.tolist() == [10, 60]
    assert halved.seconds.tolist() == [0, 1]


def test_blocks_are_of_consecutive_frames_and_lose_nothing(agreement):
    track = agreement.Track.of(range(7), [boxes(0.5)] * 7, [boxes(0.5)] * 7, rate=2.0)
    blocks = track.blocks(1.5)
    assert blocks[:, 0].tolist() == [3, 3, 1]
    assert blocks[:, 1].tolist() == [3, 12, 6]


def test_frames_that_do_not_pair_are_refused(agreement):
    with pytest.raises(InputError, match="same frames"):
        agreement.Track.of([1, 2], [boxes()], [boxes()], 1.0)


@pytest.mark.parametrize(
    ("level", "expected"),
    [(0.6, np.sqrt(100 * 200)), (0.7, 200.0), (0.75, np.sqrt(200 * 800)), (0.5, np.nan),
     (0.81, np.nan)],
)  # fmt: skip
def test_bytes_are_read_off_the_best_settings(agreement, level, expected):
    sizes, f1 = np.array([800.0, 100, 200, 400]), np.array([0.8, 0.5, 0.7, 0.6])
    assert agreement.bytes_at(sizes, f1, level) == pytest.approx(expected, nan_ok=True)


def test_a_curve_of_half_the_bytes_is_half_in_every_draw(agreement):
    rng = np.random.default_rng(3)
    curve = {}
    for value, share in ((1, 0.6), (2, 0.8), (3, 1.0)):
        sums = np.zeros((12, 2 + 3 * len(agreement.SCORES)))
        sums[:, 0], sums[:, 1] = 20, rng.integers(50, 90, 12) * 100 * share
        sums[:, 2::3], sums[:, 3::3], sums[:, 4::3] = 10 * share, 10, 10
        curve[value] = sums
    half = {value: sums * np.r_[1, 0.5, np.ones(21)] for value, sums in curve.items()}
    for mean in (False, True):
        found = agreement.compare(half, curve, 0.7, mean=mean, draws=200, seed=0)
        assert found.ratio == pytest.approx(0.5)
        assert (found.low, found.high) == (pytest.approx(0.5), pytest.approx(0.5))
        assert found.draws == 200
    assert agreement.compare(half, curve, 1.01, mean=True, draws=200, seed=0) is None
