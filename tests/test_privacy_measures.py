"""How like pictures are, and whether a picture gives away its original."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy", reason="needs the bench extra")

from fpcodec.data import generate_scene
from fpcodec.errors import InputError
from fpcodec.evaluation.privacy.received import content_of, network_picture
from fpcodec.evaluation.privacy.reidentification import (
    centred,
    descriptor,
    pyramid_descriptor,
    rank_of_original,
)
from fpcodec.evaluation.privacy.similarity import MOST_DB, edge_correlation, psnr_db, ssim
from fpcodec.pyramid import ImageGeometry, LevelSpec, Pyramid, PyramidSpec


@pytest.fixture(scope="module")
def scene() -> np.ndarray:
    return generate_scene(5).image


def test_a_picture_is_like_itself(scene: np.ndarray) -> None:
    assert psnr_db(scene, scene) == MOST_DB
    assert ssim(scene, scene) == pytest.approx(1)
    assert edge_correlation(scene, scene) == pytest.approx(1)


def test_psnr_is_of_the_squared_error(scene: np.ndarray) -> None:
    dark = np.full_like(scene, 100)
    assert psnr_db(dark, dark + 10) == pytest.approx(20 * np.log10(255 / 10))


def test_more_noise_is_less_alike(scene: np.ndarray) -> None:
    noise = np.random.default_rng(0).normal(size=scene.shape)
    some, more = (np.clip(scene + x * noise, 0, 255).round().astype(np.uint8) for x in (8.0, 40.0))
    for measure in (psnr_db, ssim, edge_correlation):
        assert measure(scene, scene) > measure(some, scene) > measure(more, scene)


def test_a_flat_picture_has_no_edges_and_little_structure(scene: np.ndarray) -> None:
    flat = np.full_like(scene, int(scene.mean()))
    assert edge_correlation(flat, scene) == 0
    assert ssim(flat, scene) < 0.9


@pytest.mark.parametrize("measure", [psnr_db, ssim, edge_correlation])
def test_pictures_of_other_sizes_are_refused(measure, scene: np.ndarray) -> None:
    with pytest.raises(InputError, match="resize"):
        measure(scene, scene[:-1])


def test_a_blurred_dark_picture_still_gives_its_original_away() -> None:
    scenes = [generate_scene(seed).image for seed in range(12)]
    originals = np.stack([descriptor(x) for x in scenes])
    for own, scene in enumerate(scenes):
        left = scene.astype(np.float32)
        for axis in (0, 1):
            left = sum(np.roll(left, shift, axis) for shift in range(-4, 5)) / 9
        found = descriptor((0.4 * left + 20).round().astype(np.uint8))
        assert rank_of_original(found, originals, own) == 0


def test_noise_and_flat_pictures_find_their_original_by_chance_only() -> None:
    generator = np.random.default_rng(0)
    originals = generator.normal(size=(200, 1024)).astype(np.float32)
    originals /= np.linalg.norm(originals, axis=1, keepdims=True)
    noise = generator.normal(size=(200, 1024)).astype(np.float32)
    ranks = [rank_of_original(x, originals, own) for own, x in enumerate(noise)]
    assert 85 < np.mean(ranks) < 114
    flat = descriptor(np.full((40, 60, 3), 77, np.uint8))
    assert not flat.any()
    assert rank_of_original(flat, originals, 3) == pytest.approx(199 / 2)


def test_a_pyramid_gives_itself_away_through_noise() -> None:
    spec = PyramidSpec((LevelSpec("p3", 8, 4), LevelSpec("p4", 16, 6)))
    geometry = ImageGeometry((96, 64), (96, 64), (96, 64))
    generator = np.random.default_rng(0)

    def pyramid(noise: float, own: int) -> Pyramid:
        steady = np.random.default_rng([1, own])
        levels = {}
        for name in spec.names:
            shape = spec.shape(name, geometry.network_size)
            values = 5 + steady.normal(size=shape) + noise * generator.normal(size=shape)
            levels[name] = values.astype(np.float32)
        return Pyramid(spec, levels, geometry)

    known = np.stack([pyramid_descriptor(pyramid(0, own)) for own in range(20)])
    assert known.shape == (20, (4 + 6) * 4 * 6)
    mean = known.mean(0)
    asked = np.stack([pyramid_descriptor(pyramid(0.5, own)) for own in range(20)])
    found = centred(asked, mean)
    ranks = [rank_of_original(x, centred(known, mean), own) for own, x in enumerate(found)]
    assert ranks == [0] * 20


def test_what_the_network_sees_is_the_content_on_grey() -> None:
    image = np.full((40, 80, 3), 200, np.uint8)
    geometry = ImageGeometry((80, 40), (64, 64), (64, 32))
    canvas = network_picture(image, geometry)
    assert canvas.shape == (64, 64, 3)
    assert (canvas[32:] == 114).all()
    assert (content_of(canvas, geometry) == 200).all()
    assert content_of(canvas, geometry).shape == (32, 64, 3)
