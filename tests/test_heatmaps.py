"""Heat maps: stretched, brought to the image, found and shown."""

from __future__ import annotations

import numpy as np
import pytest

from fpcodec.errors import InputError
from fpcodec.explain.heatmaps import (
    blend,
    centroid,
    heat_colour,
    in_colour,
    normalised,
    resize,
    to_image,
)
from fpcodec.pyramid import ImageGeometry


def test_normalised_stretches_and_keeps_flat_maps_flat() -> None:
    stretched = normalised(np.asarray([[2.0, 3.0], [4.0, 6.0]]))
    np.testing.assert_allclose(stretched, [[0, 0.25], [0.5, 1]])
    assert stretched.dtype == np.float32
    assert not normalised(np.full((2, 3), 7.0)).any()
    tiny = normalised(np.asarray([[0, 1e-40]], np.float32))
    np.testing.assert_allclose(tiny, [[0, 1]])


@pytest.mark.parametrize("bad", [np.zeros((0, 3)), np.zeros(4), np.asarray([[np.nan, 1.0]])])
def test_what_is_no_map_is_refused(bad: np.ndarray) -> None:
    with pytest.raises(InputError):
        normalised(bad)


def test_resize_keeps_range_mean_and_place() -> None:
    heatmap = np.zeros((8, 12), np.float32)
    heatmap[2, 9] = 1
    bigger = resize(heatmap, (48, 32))
    assert bigger.shape == (32, 48)
    assert bigger.min() >= 0
    assert bigger.max() <= 1
    assert bigger.mean() == pytest.approx(heatmap.mean(), rel=1e-3)
    assert centroid(bigger) == pytest.approx((9.5 * 4, 2.5 * 4), abs=1e-3)


def test_to_image_cuts_the_padding_off() -> None:
    # An image 40 x 20, twice as large in a 128 x 64 input, at (16, 8).
    geometry = ImageGeometry((40, 20), (128, 64), (80, 40), (16, 8))
    heatmap = np.zeros((8, 16), np.float32)
    heatmap[3, 7] = 1  # centre at network pixel (60, 28), image pixel (22, 10)
    found = to_image(heatmap, geometry)
    assert found.shape == (20, 40)
    assert centroid(found) == pytest.approx((22, 10), abs=1e-3)
    padding = np.ones((8, 16), np.float32)
    padding[1:6, 2:12] = 0
    assert not to_image(padding, geometry)[2:-2, 2:-2].any()


def test_to_image_knows_cells_that_reach_past_the_input() -> None:
    geometry = ImageGeometry((100, 100), (100, 100), (100, 100))
    heatmap = np.zeros((2, 2), np.float32)
    heatmap[:, 1] = 1
    ramp = to_image(heatmap, geometry, stride=64)[50]
    # Half way between the cells' centres, 32 and 96.
    assert ramp[63] == pytest.approx((63.5 - 32) / 64, abs=1e-4)
    with pytest.raises(InputError, match="stride"):
        to_image(heatmap, geometry, stride=32)


def test_centroid_of_nothing_is_the_middle() -> None:
    assert centroid(np.zeros((4, 6))) == (3.0, 2.0)
    with pytest.raises(InputError, match="negative"):
        centroid(np.asarray([[-1.0, 2.0]]))


def test_blend_shows_heat_and_leaves_the_rest_recognisable() -> None:
    image = np.full((10, 20, 3), 120, np.uint8)
    heatmap = np.zeros((10, 20), np.float32)
    heatmap[:, 10:] = 1
    shown = blend(image, heatmap)
    assert shown.shape == image.shape
    assert shown.dtype == np.uint8
    assert len(np.unique(shown[:, 0], axis=0)) == 1
    assert shown[0, 19].astype(int).sum() > shown[0, 0].astype(int).sum() + 200
    with pytest.raises(InputError, match="RGB"):
        blend(image[..., 0], heatmap)
    with pytest.raises(InputError, match="strength"):
        blend(image, heatmap, strength=2)


def test_a_map_alone_has_the_colours_of_the_legend() -> None:
    coloured = in_colour(np.asarray([[0.0, 0.3, 7.0]]))
    assert coloured.shape == (1, 3, 3)
    assert [tuple(pixel) for pixel in coloured[0].tolist()] == [heat_colour(x) for x in (0, 0.3, 1)]


def test_heat_grows_lighter() -> None:
    lightness = [sum(heat_colour(value)) for value in (0, 0.3, 0.6, 1)]
    assert lightness == sorted(lightness)
    assert heat_colour(2) == heat_colour(1)
