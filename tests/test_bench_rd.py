"""Which settings ``fpcodec bench rd`` measures."""

from __future__ import annotations

import pytest

from fpcodec.cli.bench_rd import choose_ways
from fpcodec.errors import InputError
from fpcodec.profile import embedded_profile_path

TINY = {"fpc": embedded_profile_path()}


def test_pictures_asked_for_take_the_place_of_the_grids() -> None:
    ways = choose_ways(TINY, "fpc,webp", [0.5], None, "jpeg:70:444@0.75, webp:60", parts=False)
    assert [way.name for way in ways] == [
        "fpc q0.5 p2+p3+p4+p5", "jpeg 4:4:4 q70 @0.75", "webp q60",
    ]  # fmt: skip


def test_without_them_the_grid_is_measured() -> None:
    ways = choose_ways(TINY, "webp", [], "network", None, parts=False)
    assert len(ways) > 3
    assert {way.family for way in ways} == {"webp"}


def test_a_picture_setting_that_is_none_is_named() -> None:
    with pytest.raises(InputError, match=r"picture 'webp:x' is not like webp:80"):
        choose_ways(TINY, "fpc", [0.5], None, "webp:x", parts=False)
