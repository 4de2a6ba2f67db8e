"""The key-level study's method as a way."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from core_kit import IMAGE, FakeDetector, kit_profile

from fpcodec.detections import Detections
from fpcodec.errors import InputError
from fpcodec.evaluation.ways import OpenProfile, Outcome, Scene, SeedWay, Workplace
from fpcodec.pyramid import Pyramid
from fpcodec.reconstruct.interpolation import CANDIDATES, resize_bilinear


class WatchedDetector(FakeDetector):
    """Keeps the pyramid that its head was given last."""

    seen: Pyramid

    def detect(self, pyramid: Pyramid) -> Detections:
        self.seen = pyramid
        return super().detect(pyramid)


def run(way: SeedWay) -> tuple[Outcome, Scene, Pyramid]:
    detector = WatchedDetector()
    image: Any = np.random.default_rng(3).integers(0, 256, (IMAGE[1], IMAGE[0], 3), np.uint8)
    scene = Scene.of(detector, image)
    workplace = Workplace(detector, {"uniform": unserved()})
    outcome = pickle.loads(pickle.dumps(way)).run(scene, workplace)
    return outcome, scene, detector.seen


def unserved() -> OpenProfile:
    """The study's method must not need a server half."""

    def infer(frame: bytes) -> Any:
        raise AssertionError("the server half was asked")

    return OpenProfile(kit_profile("uniform"), infer)


@pytest.mark.parametrize("candidate", CANDIDATES)
def test_raw_levels_arrive_as_they_are_and_cost_four_bytes_an_element(candidate: str) -> None:
    outcome, scene, seen = run(SeedWay(candidate=candidate))
    sent = scene.pyramid.levels
    np.testing.assert_array_equal(seen.levels["p3"], sent["p3"])
    np.testing.assert_array_equal(seen.levels["p5"], sent["p5"])
    np.testing.assert_array_equal(seen.levels["p6"], sent["p5"][:, ::2, ::2])
    shape = sent["p4"].shape[1:]
    finer, coarser = (resize_bilinear(sent[x], shape) for x in ("p3", "p5"))
    a, b = kit_profile("uniform").recovery["mix.p4.p3.p5"]
    expected = {"finer": finer, "coarser": coarser, "mix": a * finer + b * coarser}[candidate]
    np.testing.assert_allclose(seen.levels["p4"], expected, rtol=1e-5, atol=1e-6)
    assert outcome.level_bytes == {"p3": 4 * sent["p3"].size, "p5": 4 * sent["p5"].size}
    assert outcome.sent_bytes == outcome.payload_bytes == sum(outcome.level_bytes.values())
    assert outcome.symbols is None


@pytest.mark.parametrize("candidate", CANDIDATES)
def test_coded_levels_are_what_the_profiles_codec_makes_of_them(candidate: str) -> None:
    outcome, scene, seen = run(SeedWay(candidate=candidate, quality=1.0))
    codec = kit_profile("uniform").codec
    frame = codec.encode(scene.pyramid, 1.0, ("p3", "p5"))
    assert outcome.sent_bytes == len(frame)
    assert sum(outcome.level_bytes.values()) == len(frame)
    assert set(outcome.level_bytes) == {"p3", "p5", "header"}
    assert outcome.payload_bytes == len(frame) - outcome.level_bytes["header"]
    assert outcome.symbols is not None
    assert outcome.symbols > 0
    decoded = codec.reconstruct([codec.decode(frame)], [scene.pyramid.geometry])[0]
    for name in ("p3", "p5"):
        np.testing.assert_array_equal(seen.levels[name], decoded.levels[name])
    same_p4 = np.array_equal(seen.levels["p4"], decoded.levels["p4"])
    assert same_p4 == (candidate == "mix")


def test_less_quality_is_fewer_bytes_and_the_raw_form_is_the_largest() -> None:
    sizes = [run(SeedWay(quality=quality))[0].sent_bytes for quality in (0.0, 0.5, 1.0, None)]
    assert sizes == sorted(sizes)
    assert len(set(sizes)) == 4


def test_other_levels_can_be_the_keys() -> None:
    outcome, scene, seen = run(SeedWay(levels=("p4",)))
    np.testing.assert_array_equal(seen.levels["p4"], scene.pyramid.levels["p4"])
    assert set(seen.levels) == {"p3", "p4", "p5", "p6"}
    assert set(outcome.level_bytes) == {"p4"}
    assert {"extract", "encode", "decode", "head"} == set(outcome.times_ms)


def test_names_say_what_differs() -> None:
    expected = {
        SeedWay(): ("seed mix raw p3+p5", "seed mix raw"),
        SeedWay(quality=0.5): ("seed mix q0.5 p3+p5", "seed mix"),
        SeedWay(candidate="finer", quality=0.5): ("seed finer q0.5 p3+p5", "seed finer"),
        SeedWay(levels=("p4",)): ("seed mix raw p4", "seed mix raw p4"),
    }
    for way, names in expected.items():
        assert (way.name, way.family, way.kind) == (*names, "seed")
    assert SeedWay(quality=0.5).parameters == {
        "profile": "uniform", "levels": ["p3", "p5"], "candidate": "mix", "quality": 0.5,
    }  # fmt: skip


@pytest.mark.parametrize(
    "wrong", [{"candidate": "4-1"}, {"quality": 1.5}, {"levels": ()}, {"levels": ("p3", "p3")}]
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        SeedWay(**wrong)


@pytest.mark.parametrize("levels", [("p2",), ("p6",), ("p3", "p9")])
def test_levels_that_cannot_be_sent_are_refused(levels: tuple[str, ...]) -> None:
    for quality in (None, 0.5):
        with pytest.raises(InputError, match="not among"):
            run(SeedWay(levels=levels, quality=quality))
