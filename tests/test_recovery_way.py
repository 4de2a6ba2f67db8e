"""Recovery alone: unquantised levels in, learned synthesis or interpolation for the others."""

from __future__ import annotations

import pickle
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from core_kit import IMAGE, NETWORK, FakeDetector, golden_learned, kit_profile

from fpcodec.detections import Detections
from fpcodec.errors import InputError
from fpcodec.evaluation.ways import OpenProfile, Outcome, RecoveryWay, Scene, Workplace
from fpcodec.evaluation.ways.recovery import METHODS
from fpcodec.profile import Profile
from fpcodec.pyramid import Pyramid
from fpcodec.reconstruct.interpolation import InterpolationRecoverer

PROFILE = golden_learned()


class WatchedDetector(FakeDetector):
    """Keeps the pyramid that its head was given last."""

    seen: Pyramid

    def detect(self, pyramid: Pyramid) -> Detections:
        self.seen = pyramid
        return super().detect(pyramid)


def run(way: RecoveryWay, profile: Profile = PROFILE) -> tuple[Outcome, Scene, Pyramid]:
    detector = WatchedDetector(profile.spec, NETWORK)
    image: Any = np.random.default_rng(3).integers(0, 256, (IMAGE[1], IMAGE[0], 3), np.uint8)
    scene = Scene.of(detector, image)
    opened = OpenProfile(profile, lambda _: None)  # type: ignore[arg-type, return-value]
    outcome = pickle.loads(pickle.dumps(way)).run(scene, Workplace(detector, {"fpc": opened}))
    return outcome, scene, detector.seen


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_fed_the_same_levels_and_keeps_them(method: str) -> None:
    outcome, scene, seen = run(RecoveryWay(method))
    sent = scene.pyramid.levels
    for name in ("p3", "p5"):
        np.testing.assert_array_equal(seen.levels[name], sent[name])
    assert set(seen.levels) == set(PROFILE.spec.names)
    assert outcome.level_bytes == {name: sent[name].nbytes for name in ("p3", "p5")}
    assert {"extract", "reconstruct", "head"} == set(outcome.times_ms)


def test_learned_recovery_is_the_codecs_and_the_others_are_the_studys() -> None:
    p4 = {method: run(RecoveryWay(method))[2].levels["p4"] for method in METHODS}
    scene = run(RecoveryWay("learned"))[1]
    kept = {name: scene.pyramid.levels[name] for name in ("p3", "p5")}
    part = Pyramid(PROFILE.spec, kept, scene.pyramid.geometry)
    codec: Any = PROFILE.codec
    np.testing.assert_array_equal(p4["learned"], codec.recoverer.recover([part])[0].levels["p4"])
    mix = InterpolationRecoverer(PROFILE.spec, PROFILE.recovery, "mix")
    np.testing.assert_array_equal(p4["mix"], mix.recover([part])[0].levels["p4"])
    values = list(p4.values())
    assert all(not np.array_equal(a, b) for a, b in pairwise(values))


def test_a_profile_without_a_learned_recovery_is_named() -> None:
    with pytest.raises(InputError, match="no learned recovery"):
        run(RecoveryWay("learned"), kit_profile("pca"))
    assert run(RecoveryWay("mix"), kit_profile("pca"))[0].sent_bytes


@pytest.mark.parametrize("levels", [("p2",), ("p6",), ("p3", "p9")])
def test_levels_that_cannot_be_kept_are_refused(levels: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="not among"):
        run(RecoveryWay("mix", levels))


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(InputError, match="not one of"):
        RecoveryWay("guess")
