"""The curve that a profile carries."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from script_kit import script_fixture

from fpcodec import Profile
from fpcodec.embedded import EMBEDDED, RECIPES, embedded_folder, recipe_folder
from fpcodec.errors import InputError, ProfileError
from fpcodec.evaluation.profile_curve import CurvePoint, ProfileCurve, carried_curve
from fpcodec.evaluation.results import read_rows

script = script_fixture("store_curve")

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


def test_a_curve_is_stored_in_the_profile_that_it_is_of(
    script: Any, repository: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "profile"
    shutil.copytree(embedded_folder("tiny"), folder)
    manifest = json.loads((folder / "profile.json").read_text())
    del manifest["measured"]["rate_accuracy"]
    (folder / "profile.json").write_text(json.dumps(manifest))
    assert carried_curve(Profile.load(folder).measured) is None
    with pytest.raises(InputError, match="no frame"):
        script.store(folder, repository / "benchmarks/results/bccd_learned")
    stored = script.store(folder, repository / "benchmarks/results/tiny_learned")
    profile = Profile.load(folder)
    profile.verify(skip_absent=True)
    assert carried_curve(profile.measured) == stored
