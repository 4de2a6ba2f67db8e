"""Choosing levels: by name, by object scale, after what was seen."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from core_kit import kit_profile

from fpcodec.detections import Detections
from fpcodec.errors import InputError
from fpcodec.levels import AutoLevels, parse_levels, scale_levels
from fpcodec.profile import Profile

ALL = ("p3", "p4", "p5")
SIDES = {"small": 20, "medium": 50, "large": 200}


@pytest.fixture(scope="module")
def profile() -> Profile:
    table = {"small": ("p3",), "medium": ("p4",), "large": ("p4", "p5")}
    return dataclasses.replace(kit_profile("uniform"), key_levels=table)


def found(*scales: str, score: float = 0.9) -> Detections:
    boxes = np.array([[0, 0, SIDES[x], SIDES[x]] for x in scales], np.float32).reshape(-1, 4)
    scores = np.full(len(scales), score, np.float32)
    return Detections(boxes, scores, np.zeros(len(scales), np.int64))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("all", ALL),
        ("p3", ("p3",)),
        ("p5,p3", ("p3", "p5")),
        (" p4 , p4 ,", ("p4",)),
        ("small", ("p3",)),
        ("large", ("p4", "p5")),
        ("small,medium", ("p3", "p4")),
        ("small,p5", ("p3", "p5")),
    ],
)
def test_levels_are_read_finest_first(profile, text, expected):
    assert parse_levels(text, profile) == expected


@pytest.mark.parametrize("text", ["", " , ", "p6", "p9", "tiny", "P3", "p3;p4", "auto,p3"])
def test_what_cannot_be_sent_is_refused_with_the_choices(profile, text):
    with pytest.raises(InputError, match="all or auto"):
        parse_levels(text, profile)


def test_a_scale_that_calibration_did_not_measure_needs_every_level(profile):
    bare = dataclasses.replace(profile, key_levels={})
    assert parse_levels("large", bare) == ALL


def test_scales_map_to_their_levels(profile):
    assert scale_levels(profile, ["small", "large"]) == ALL
    with pytest.raises(InputError):
        scale_levels(profile, ["auto"])


def test_auto_sends_everything_until_something_is_seen(profile):
    auto = parse_levels("auto", profile)
    assert isinstance(auto, AutoLevels)
    assert [auto.next() for _ in range(5)] == [ALL] * 5


def test_auto_follows_what_it_saw(profile):
    auto = AutoLevels(profile, refresh=100, memory=2)
    auto.next()
    auto.observe(found("small"))
    assert auto.next() == ("p3",)
    auto.observe(found("medium"))
    assert auto.next() == ("p3", "p4")
    auto.observe(found("medium"))
    assert auto.next() == ("p4",), "the small object is two answers ago"
    auto.observe(found())
    assert auto.next() == ("p4",)
    auto.observe(found())
    assert auto.next() == ALL, "nothing is known any more"


def test_auto_refreshes_every_so_often(profile):
    auto = AutoLevels(profile, refresh=4)
    sent = []
    for _ in range(12):
        sent.append(auto.next())
        auto.observe(found("small"))
    assert [levels == ALL for levels in sent] == [True, False, False, False] * 3


def test_auto_with_refresh_1_always_sends_everything(profile):
    auto = AutoLevels(profile, refresh=1)
    for _ in range(3):
        auto.observe(found("small"))
        assert auto.next() == ALL


def test_auto_does_not_count_unsure_detections(profile):
    auto = AutoLevels(profile, refresh=100, min_score=0.5)
    auto.next()
    auto.observe(found("small", score=0.4))
    assert auto.next() == ALL
    auto.observe(found("large", score=0.5))
    assert auto.next() == ("p4", "p5")


@pytest.mark.parametrize("arguments", [{"refresh": 0}, {"memory": 0}])
def test_auto_refuses_what_it_cannot_do(profile, arguments):
    with pytest.raises(InputError, match="at least 1"):
        AutoLevels(profile, **arguments)
