"""An image's way into the network's input, and the geometry that leads boxes back."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fpcodec.detectors.preprocess import Preprocess, yolox_preprocess
from fpcodec.errors import InputError
from fpcodec.pyramid import MAX_SIDE

sides = st.integers(1, MAX_SIDE)


def ramp(width: int, height: int) -> np.ndarray:
    """An image whose red grows to the right and whose green grows downwards."""
    x = np.linspace(0, 255, width)[None, :, None]
    y = np.linspace(0, 255, height)[:, None, None]
    full = np.ones((height, width, 1))
    return np.concatenate([full * x, full * y, full * 50], axis=2).astype(np.uint8)


def test_letterbox_keeps_the_ratio_and_pads_with_grey() -> None:
    tensor, geometry = yolox_preprocess()(ramp(640, 480))
    assert tensor.shape == (1, 3, 416, 416)
    assert tensor.dtype == np.float32
    assert tensor.flags.c_contiguous
    assert geometry.content_size == (416, 312)
    assert (tensor[0, :, 312:] == 114).all()
    assert (tensor[0, 0, :312] == 50).all()  # BGR: the constant blue comes first
    assert tensor[0, 2, 100, 400] > 240 > 15 > tensor[0, 2, 100, 5]


def test_centred_letterbox_pads_both_sides() -> None:
    tensor, geometry = Preprocess((64, 64), align="center", pad_value=7)(ramp(32, 64))
    assert geometry.offset == (16, 0)
    assert (tensor[..., :16] == 7).all()
    assert (tensor[..., 48:] == 7).all()
    assert (tensor[0, 2, :, 16:48] == 50).all()


def test_resize_fills_the_input() -> None:
    tensor, geometry = Preprocess((40, 20), mode="resize")(ramp(100, 100))
    assert tensor.shape == (1, 3, 20, 40)
    assert geometry.content_size == (40, 20)
    assert geometry.scale == (0.4, 0.2)
    assert (tensor[0, 2] == 50).all()


def test_values_are_scaled_then_normalised() -> None:
    image = np.full((4, 4, 3), (51, 102, 204), np.uint8)
    way = Preprocess((4, 4), value_scale=1 / 255, mean=(0.2, 0.2, 0.2), std=(0.5, 1.0, 2.0))
    tensor, _ = way(image)
    np.testing.assert_allclose(tensor[0, :, 0, 0], [0.0, 0.2, 0.3], atol=1e-6)


@given(
    sides, sides, st.sampled_from(["letterbox", "resize"]), st.sampled_from(["top_left", "center"])
)
def test_any_size_has_a_geometry_inside_the_input(
    width: int, height: int, mode: str, align: str
) -> None:
    geometry = Preprocess((416, 320), mode=mode, align=align).geometry((width, height))
    right = geometry.offset[0] + geometry.content_size[0]
    bottom = geometry.offset[1] + geometry.content_size[1]
    assert right <= 416
    assert bottom <= 320
    if mode == "letterbox":
        assert geometry.content_size[0] == 416 or geometry.content_size[1] == 320


@given(st.integers(20, 2000), st.integers(20, 2000))
def test_boxes_come_back_to_where_they_were(width: int, height: int) -> None:
    geometry = Preprocess((416, 416), align="center").geometry((width, height))
    box = np.array([[width * 0.25, height * 0.5, width * 0.75, height]], np.float32)
    scale = np.array(geometry.scale * 2, np.float32)
    offset = np.array(geometry.offset * 2, np.float32)
    np.testing.assert_allclose(geometry.to_image(box * scale + offset), box, rtol=1e-4, atol=1e-2)


def test_the_server_knows_the_geometry_from_the_image_size_alone() -> None:
    way = yolox_preprocess((640, 384))
    _, seen = way(ramp(333, 777))
    received = Preprocess.from_dict(json.loads(json.dumps(way.to_dict())))
    assert received == way
    assert received.geometry((333, 777)) == seen


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 900), (900, 1)])
def test_thin_images_work(width: int, height: int) -> None:
    tensor, geometry = yolox_preprocess()(ramp(width, height))
    assert np.isfinite(tensor).all()
    assert min(geometry.content_size) >= 1


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (np.zeros((0, 5, 3), np.uint8), "empty"),
        (np.zeros((5, 5), np.uint8), "shape"),
        (np.zeros((5, 5, 4), np.uint8), "shape"),
        (np.zeros((5, 5, 3), np.float32), "float32"),
        (np.broadcast_to(np.uint8(0), (9000, 9000, 3)), "pixels"),
        (np.broadcast_to(np.uint8(0), (2, MAX_SIDE + 1, 3)), "side"),
        ([[1, 2, 3]], "list"),
    ],
)
def test_unusable_images_are_input_errors(image: np.ndarray, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        yolox_preprocess()(image)


def test_the_pixel_limit_can_be_lowered() -> None:
    with pytest.raises(InputError, match="limit of 99"):
        yolox_preprocess()(ramp(10, 10), max_pixels=99)


@pytest.mark.parametrize(
    "change",
    [
        {"mode": "crop"},
        {"size": [0, 4]},
        {"size": [4]},
        {"std": [1, 0, 1]},
        {"mean": [float("nan"), 0, 0]},
        {"pad_value": 256},
        {"channel_order": "hsv"},
        {"interpolation": "nearest"},
        {"colour": 1},
        {"value_scale": "x"},
    ],
)
def test_descriptions_are_checked(change: dict[str, object]) -> None:
    with pytest.raises(InputError):
        Preprocess.from_dict({"size": [4, 4]} | change)


def test_a_description_without_a_size_is_refused() -> None:
    with pytest.raises(InputError):
        Preprocess.from_dict({})
