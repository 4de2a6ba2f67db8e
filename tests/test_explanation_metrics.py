"""Measures of heat maps on maps whose worth is known."""

from __future__ import annotations

import numpy as np
import pytest

from fpcodec.detections import Detections
from fpcodec.errors import InputError
from fpcodec.explain.metrics import (
    box_mask,
    compactness,
    energy_in_box,
    energy_in_mask,
    has_one_peak,
    object_discrimination_index,
    peak,
    pointing_game_box,
    pointing_game_mask,
    visual_explanation_accuracy,
)
from fpcodec.explain.perturbation import Curve, Target, deletion, insertion

SIZE = (40, 30)
BOX = (10, 8, 21, 19)


def delta(x: int, y: int) -> np.ndarray:
    heatmap = np.zeros(SIZE[::-1], np.float32)
    heatmap[y, x] = 1
    return heatmap


def test_a_point_in_the_middle_is_perfect() -> None:
    heatmap = delta(15, 13)
    mask = box_mask(BOX, SIZE)
    assert peak(heatmap) == (15, 13)
    assert has_one_peak(heatmap)
    assert pointing_game_box(heatmap, BOX)
    assert pointing_game_mask(heatmap, BOX, mask)
    assert energy_in_box(heatmap, BOX) == 1
    assert energy_in_mask(heatmap, mask) == 1
    assert compactness(heatmap, BOX) == 0
    assert object_discrimination_index(heatmap, 0, [mask, box_mask((25, 2, 30, 9), SIZE)]) == 0


def test_a_point_elsewhere_is_worthless() -> None:
    heatmap = delta(30, 13)
    mask = box_mask(BOX, SIZE)
    assert not pointing_game_box(heatmap, BOX)
    assert not pointing_game_mask(heatmap, BOX, mask)
    assert energy_in_box(heatmap, BOX) == 0
    other = box_mask((28, 10, 35, 20), SIZE)
    assert object_discrimination_index(heatmap, 0, [mask, other]) == 1


def test_pointing_is_strict_at_the_boxs_edge() -> None:
    assert not pointing_game_box(delta(10, 13), BOX)
    assert pointing_game_box(delta(11, 13), BOX)
    assert not pointing_game_box(delta(21, 13), BOX)
    # On the mask, but not inside the box.
    assert not pointing_game_mask(delta(10, 13), BOX, np.ones(SIZE[::-1], bool))
    assert not pointing_game_mask(delta(11, 13), BOX, np.zeros(SIZE[::-1], bool))


def test_energy_is_a_share_of_pixels_rounded_outwards() -> None:
    flat = np.ones(SIZE[::-1], np.float32)
    assert energy_in_box(flat, (0, 0, 20, 30)) == pytest.approx(0.5)
    assert energy_in_box(flat, (9.9, 9.9, 11.1, 10.1)) == pytest.approx(3 * 2 / 1200)
    assert energy_in_box(flat, (-5, -5, 100, 100)) == 1
    assert energy_in_box(flat, (-9, -9, -2, -2)) == 0
    assert energy_in_box(np.zeros_like(flat), BOX) == 0


def test_compactness_is_in_half_diagonals() -> None:
    heatmap = delta(15, 13)
    heatmap[13 + 4, 15 + 3] = 0.5
    half_diagonal_squared = (6**2 + 8**2) / 4
    expected = np.sqrt(0.5 * 25 / (1.5 * half_diagonal_squared))
    assert compactness(heatmap, (12, 9, 18, 17)) == pytest.approx(expected)
    assert np.isnan(compactness(np.zeros_like(heatmap), BOX))
    with pytest.raises(InputError, match="no area"):
        compactness(heatmap, (5, 5, 5, 9))


def test_vea_of_the_mask_itself_is_one_at_every_threshold() -> None:
    mask = box_mask(BOX, SIZE)
    np.testing.assert_array_equal(visual_explanation_accuracy(mask.astype(np.float32), mask), 1)
    half = mask.astype(np.float32)
    half[:, 15:] *= 0.45
    found = visual_explanation_accuracy(half, mask)
    np.testing.assert_allclose(found[:4], 1)
    np.testing.assert_allclose(found[4:], 5 / 11)


def test_odi_counts_the_overlap_as_the_others() -> None:
    flat = np.ones(SIZE[::-1], np.float32)
    own, other = box_mask((0, 0, 10, 10), SIZE), box_mask((5, 0, 15, 10), SIZE)
    assert object_discrimination_index(flat, 0, [own, other]) == pytest.approx(100 / 150)
    assert object_discrimination_index(flat, 0, [own]) == 0
    assert np.isnan(object_discrimination_index(delta(39, 29), 0, [own, other]))
    with pytest.raises(InputError, match="object 2"):
        object_discrimination_index(flat, 2, [own, other])


def test_bad_maps_and_masks_are_named() -> None:
    with pytest.raises(InputError, match="negative"):
        peak(-delta(1, 1))
    with pytest.raises(InputError, match="bool"):
        energy_in_mask(delta(1, 1), np.ones((3, 3), bool))
    with pytest.raises(InputError, match="four"):
        energy_in_box(delta(1, 1), (1, 2, 3))
    assert not has_one_peak(np.ones((2, 2), np.float32))


class WhiteSquare:
    """Finds one object whose score is the share of white pixels in a box."""

    def __init__(self, label: int = 3) -> None:
        self.label = label
        self.seen: list[np.ndarray] = []

    def __call__(self, image: np.ndarray) -> Detections:
        self.seen.append(image)
        x1, y1, x2, y2 = BOX
        score = (image[y1:y2, x1:x2] == 255).all(axis=2).mean()
        return Detections(
            np.asarray([BOX, (0, 0, 4, 4)], np.float32), np.asarray([score, 1], np.float32),
            np.asarray([self.label, self.label], np.int64),
        )  # fmt: skip


TARGET = Target((10.0, 8.0, 21.0, 19.0), 3)


def white() -> np.ndarray:
    return np.full((30, 40, 3), 255, np.uint8)


def test_deletion_of_the_object_itself_ends_at_nothing() -> None:
    detector = WhiteSquare()
    heatmap = box_mask(BOX, SIZE).astype(np.float32)
    curve = deletion(detector, white(), heatmap, TARGET)
    # 121 pixels: one per step, a hundred of them in all.
    np.testing.assert_array_equal(curve.pixels, np.arange(0, 101, 10))
    np.testing.assert_allclose(curve.scores, 1 - curve.pixels / 121, atol=1e-6)
    assert curve.area == pytest.approx(1 - 50 / 121)
    np.testing.assert_array_equal(detector.seen[0], white())
    worst = deletion(detector, white(), 1 - heatmap, TARGET)
    np.testing.assert_array_equal(worst.scores, 1)


def test_budget_of_the_image_changes_every_pixel() -> None:
    detector = WhiteSquare()
    heatmap = box_mask(BOX, SIZE).astype(np.float32)
    curve = deletion(detector, white(), heatmap, TARGET, budget="image")
    np.testing.assert_array_equal(curve.pixels, np.arange(0, 1201, 120))
    assert curve.scores[-1] == 0
    assert (detector.seen[-1] != 255).any(axis=2).mean() > 0.99


def test_deletion_is_seeded() -> None:
    first, second, third = WhiteSquare(), WhiteSquare(), WhiteSquare()
    heatmap = delta(15, 13)
    deletion(first, white(), heatmap, TARGET, seed=1)
    deletion(second, white(), heatmap, TARGET, seed=1)
    deletion(third, white(), heatmap, TARGET, seed=2)
    np.testing.assert_array_equal(first.seen[-1], second.seen[-1])
    assert (first.seen[-1] != third.seen[-1]).any()


def test_insertion_starts_at_zero_and_is_not_divided() -> None:
    detector = WhiteSquare()
    heatmap = box_mask(BOX, SIZE).astype(np.float32)
    curve = insertion(detector, white(), heatmap, TARGET)
    np.testing.assert_allclose(curve.scores, curve.pixels / 121, atol=1e-6)
    assert len(detector.seen) == 10
    assert (detector.seen[-1] == 255).all(axis=2).sum() == 100


def test_maps_of_any_size_are_brought_to_the_image() -> None:
    heatmap = np.zeros((3, 4), np.float32)
    heatmap[1, 1] = 1  # x 10 to 20, y 10 to 20
    curve = deletion(WhiteSquare(), white(), heatmap, TARGET)
    assert curve.scores[-1] < 0.35


def test_what_cannot_be_followed_is_named() -> None:
    heatmap = delta(15, 13)
    with pytest.raises(InputError, match="label 4"):
        deletion(WhiteSquare(), white(), heatmap, Target(TARGET.box, 4))
    with pytest.raises(InputError, match="overlaps"):
        deletion(WhiteSquare(), white(), heatmap, Target((30.0, 1.0, 39.0, 9.0), 3))
    with pytest.raises(InputError, match="budget"):
        deletion(WhiteSquare(), white(), heatmap, TARGET, budget="half")
    with pytest.raises(InputError, match="no area"):
        insertion(WhiteSquare(), white(), heatmap, Target((9.0, 9.0, 9.0, 12.0), 3))
    with pytest.raises(InputError, match="RGB"):
        insertion(WhiteSquare(), white()[..., 0], heatmap, TARGET)


def test_area_is_the_trapezoids() -> None:
    curve = Curve(np.arange(3), np.asarray([1.0, 0.5, 0.0]))
    assert curve.area == pytest.approx(0.5)
