"""Pictures of detections show what they should."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from fpcodec.detections import Detections
from fpcodec.drawing import LegendRow, Panel, class_colour, draw_comparison, draw_detections

GREY = np.full((100, 200, 3), 128, np.uint8)


def found(*boxes: tuple[float, float, float, float], score: float = 0.9) -> Detections:
    count = len(boxes)
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.full(count, score, np.float32),
        np.zeros(count, np.int64),
    )


def pixels_of(picture: Image.Image, colour: tuple[int, int, int]) -> int:
    return int((np.asarray(picture) == colour).all(axis=2).sum())


def test_a_panel_per_set_of_boxes() -> None:
    one = draw_comparison(GREY, [Panel("a", found())])
    two = draw_comparison(GREY, [Panel("a", found()), Panel("b", found())])
    assert two.width > 1.9 * one.width
    assert two.height == one.height


def test_boxes_appear_in_their_panel_only() -> None:
    picture = draw_comparison(
        GREY, [Panel("a", found()), Panel("b", found((20, 40, 80, 90)))], ["thing"]
    )
    half = picture.width // 2
    colour = class_colour(0)
    assert pixels_of(picture.crop((0, 0, half, picture.height)), colour) == 0
    assert pixels_of(picture.crop((half, 0, picture.width, picture.height)), colour) > 400


def test_low_scores_are_left_out() -> None:
    panel = Panel("a", found((20, 40, 80, 90), score=0.2))
    assert pixels_of(draw_comparison(GREY, [panel]), class_colour(0)) == 0
    assert pixels_of(draw_comparison(GREY, [panel], min_score=0.1), class_colour(0)) > 400


def test_unconfirmed_boxes_have_gaps() -> None:
    boxes = found((20, 40, 180, 90))
    solid = draw_comparison(GREY, [Panel("a", boxes, np.array([True]))])
    dashed = draw_comparison(GREY, [Panel("a", boxes, np.array([False]))])
    share = pixels_of(dashed, class_colour(0)) / pixels_of(solid, class_colour(0))
    assert 0.3 < share < 0.9


def test_boxes_of_a_larger_image_can_be_drawn_dashed() -> None:
    boxes, colour = found((40, 80, 160, 180)), class_colour(0)
    drawn = draw_detections(GREY, boxes, scale=0.5)
    dashed = draw_detections(GREY, boxes, scale=0.5, confirmed=np.array([False]))
    assert drawn.getpixel((50, 90)) == colour
    assert 0 < pixels_of(dashed, colour) < pixels_of(drawn, colour)


def test_legend_rows_make_the_picture_taller_and_wrap() -> None:
    entry = ((0, 150, 60), "p3 sent: 1,234 bytes")
    heights = [
        draw_comparison(GREY, [Panel("a", found())], legend=[LegendRow([entry] * count)]).height
        for count in (1, 2, 12)
    ]
    assert heights[0] == heights[1] < heights[2]


@pytest.mark.parametrize("shape", [(1, 1, 3), (8, 4000, 3), (3000, 5, 3)])
def test_extreme_shapes_can_be_drawn(shape: tuple[int, int, int]) -> None:
    image = np.zeros(shape, np.uint8)
    boxes = found((0, 0, shape[1], shape[0]), (0, 0, 0, 0))
    picture = draw_comparison(image, [Panel("a", boxes), Panel("b", boxes, np.zeros(2, np.bool_))])
    assert picture.mode == "RGB"
    assert max(picture.size) < 3000


def test_labels_without_a_name_are_numbers() -> None:
    boxes = Detections(
        np.array([[10, 30, 60, 80]], np.float32), np.array([0.9], np.float32), np.array([41])
    )
    assert draw_comparison(GREY, [Panel("a", boxes)], ["only one"]).size[0] > 0
