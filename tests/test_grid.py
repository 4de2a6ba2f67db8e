"""What a default run measures."""

from __future__ import annotations

from collections import Counter

import pytest

from fpcodec.errors import InputError
from fpcodec.evaluation.grid import CODECS, default_ways, level_choices, parse_size, require_codec
from fpcodec.evaluation.ways import FeaturesWay, PictureWay
from fpcodec.profile import Profile, embedded_profile_path

TINY = {"fpc": Profile.load(embedded_profile_path())}


def test_every_picture_codec_has_a_curve_at_every_size() -> None:
    ways = default_ways(TINY, ["jpeg", "webp", "avif"])
    pictures = [way for way in ways if isinstance(way, PictureWay)]
    curves = Counter(way.family for way in pictures)
    assert {"jpeg", "jpeg 4:4:4", "avif 4:4:4", "webp @original", "webp @0.5"} < set(curves)
    assert min(curves.values()) >= 6
    assert len({way.name for way in ways}) == len(ways)


def test_sizes_can_be_chosen() -> None:
    ways = default_ways(TINY, ["webp"], sizes=[parse_size("0.5"), parse_size("network")])
    assert {way.family for way in ways} == {"webp", "webp @0.5"}
    with pytest.raises(InputError, match=r"'2' is not one of network, original, 0\.75, 0\.5"):
        parse_size("2")


def test_every_choice_of_levels_leaves_something_out() -> None:
    profile = TINY["fpc"]
    choices = level_choices(profile)
    assert ("p3", "p4", "p5") in choices
    assert profile.spec.coded_names not in choices
    ways = default_ways(TINY, ["fpc"], [0.5])
    assert {way.levels for way in ways if isinstance(way, FeaturesWay)} == {
        profile.spec.coded_names, *choices,
    }  # fmt: skip


def test_parts_of_the_levels_can_be_left_out() -> None:
    ways = default_ways(TINY, ["fpc"], [0.5, 0.7], parts=False)
    assert [way.name for way in ways] == ["fpc q0.5 p2+p3+p4+p5", "fpc q0.7 p2+p3+p4+p5"]


def test_unknown_codecs_are_refused() -> None:
    with pytest.raises(InputError, match=f"'bpg' is not one of {CODECS[0]}, "):
        default_ways(TINY, ["bpg"])
    require_codec("webp")
