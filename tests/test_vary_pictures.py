"""``scripts/vary_pictures.py``: more pictures of few, as large as they were."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from script_kit import script_fixture

from fpcodec.errors import InputError

script = script_fixture("vary_pictures")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        pixels = rng.integers(0, 256, (40, 60, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder


def test_the_first_variant_is_the_picture_and_the_others_are_not(script, pictures, tmp_path):
    script.main([str(pictures), "--count", "4", "--out", str(tmp_path / "out")])
    found = sorted((tmp_path / "out").iterdir())
    assert [x.name for x in found] == [f"{name}-{i:02d}.png" for name in "ab" for i in range(4)]
    variants = [np.asarray(Image.open(x)) for x in found]
    np.testing.assert_array_equal(variants[0], np.asarray(Image.open(pictures / "a.png")))
    assert {x.shape for x in variants} == {(40, 60, 3)}
    assert len({x.tobytes() for x in variants}) == 8


def test_the_same_seed_gives_the_same_variants(script, pictures, tmp_path):
    for out, seed in [("one", "3"), ("two", "3"), ("three", "4")]:
        args = [str(pictures), "--count", "2", "--seed", seed, "--out", str(tmp_path / out)]
        script.main(args)
    bytes_of = {x: (tmp_path / x / "b-01.png").read_bytes() for x in ("one", "two", "three")}
    assert bytes_of["one"] == bytes_of["two"] != bytes_of["three"]


def test_an_old_folder_is_not_added_to(script, pictures):
    with pytest.raises(InputError, match="name a new folder"):
        script.main([str(pictures), "--out", str(pictures)])
