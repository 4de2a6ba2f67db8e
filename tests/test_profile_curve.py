"""The curve that a profile carries."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fpcodec import Profile
from fpcodec.embedded import EMBEDDED, RECIPES, embedded_folder, recipe_folder
from fpcodec.errors import ProfileError
from fpcodec.evaluation.profile_curve import CurvePoint, ProfileCurve, carried_curve
from fpcodec.evaluation.results import read_rows

POINTS = (
    CurvePoint("webp q60", "webp", "picture", 900.0, 19.0),
    CurvePoint("q1", "frames", "features", 1000.0, 20.0, 1.0),
    CurvePoint("q0", "frames", "features", 100.0, 10.0, 0.0),
)


def test_between_measured_qualities_bytes_grow_by_a_factor_and_ap_by_steps() -> None:
    curve = ProfileCurve("data", 5, 21.0, POINTS)
    assert curve.at_quality(0.0) == (100.0, 10.0)
    size, ap = curve.at_quality(0.5) or (0.0, 0.0)
    assert (size, ap) == (pytest.approx(1000**0.5 * 10), pytest.approx(15.0))
    assert ProfileCurve("data", 5, 21.0, POINTS[1:2]).at_quality(0.5) is None
    assert list(curve.families) == ["frames", "webp"]


def test_it_survives_a_file_and_damage_is_an_error() -> None:
    curve = ProfileCurve("data", 5, None, POINTS)
    assert ProfileCurve.from_dict(json.loads(json.dumps(curve.to_dict()))) == curve
    with pytest.raises(ProfileError):
        carried_curve({"rate_accuracy": {"points": 3}})
    assert carried_curve({}) is None


@pytest.mark.parametrize("name", [*EMBEDDED, *RECIPES])
def test_what_ships_carries_the_curve_of_its_own_stream(repository: Path, name: str) -> None:
    folder = embedded_folder(name) if name in EMBEDDED else recipe_folder(name)
    profile = Profile.load(folder)
    rows = read_rows(repository / f"benchmarks/results/{name}_learned")
    curve = ProfileCurve.of_rows(rows, profile.stream_id)
    assert curve is not None
    assert carried_curve(profile.measured) == curve
    assert ProfileCurve.of_rows(rows, bytes(32)) is None
