"""Reading image files: every file gives an RGB array or one line that names it."""

from __future__ import annotations

import contextlib
import io
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from fpcodec.errors import InputError
from fpcodec.images import load_image


def pixels(height: int = 20, width: int = 30) -> np.ndarray:
    ramp = np.arange(height * width * 3) * 7 % 256
    return ramp.reshape(height, width, 3).astype(np.uint8)


def refused(path: Path, words: str, **arguments) -> None:
    with pytest.raises(InputError, match=words) as caught:
        load_image(path, **arguments)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (37, 1), (20, 30)])
def test_pixels_are_as_in_the_file(tmp_path, shape):
    path = tmp_path / "image.png"
    Image.fromarray(pixels(*shape)).save(path)
    image = load_image(str(path))
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, pixels(*shape))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
def test_other_colour_modes_become_rgb(tmp_path, mode):
    path = tmp_path / "image.tiff" if mode == "CMYK" else tmp_path / "image.png"
    Image.fromarray(np.full((6, 5, 3), 255, np.uint8)).convert(mode).save(path)
    image = load_image(path)
    assert image.shape == (6, 5, 3)
    assert image.dtype == np.uint8
    assert (image == 255).all()


@pytest.mark.parametrize("transparency", [0, b"\x00\x80\xff"])
def test_a_transparent_palette_is_read_without_a_warning(tmp_path, transparency):
    path = tmp_path / "image.png"
    picture = Image.fromarray(np.array([[0, 1], [2, 0]], np.uint8), "P")
    picture.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    picture.save(path, transparency=transparency)
    np.testing.assert_array_equal(load_image(path)[0], [[10, 20, 30], [40, 50, 60]])


def test_sixteen_bits_are_scaled_not_clipped(tmp_path):
    path = tmp_path / "deep.png"
    Image.fromarray(np.array([[0, 0x0100, 0x7FFF, 0xFFFF]], np.uint16)).save(path)
    assert load_image(path)[0, :, 0].tolist() == [0, 1, 127, 255]


@pytest.mark.parametrize("mode", ["F", "I"])
def test_values_without_a_white_are_refused(tmp_path, mode):
    path = tmp_path / "values.tiff"
    Image.fromarray(np.zeros((2, 2), np.uint8)).convert(mode).save(path)
    refused(path, "8 or 16 bits")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_upright(tmp_path, orientation):
    path = tmp_path / "held.png"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels()).save(path, exif=exif)
    with Image.open(path) as picture:
        expected = np.asarray(ImageOps.exif_transpose(picture))
    np.testing.assert_array_equal(load_image(path), expected)


@pytest.mark.parametrize(("offset", "value"), [(17, 0), (17, 26), (29, 1), (41, 26)])
def test_an_odd_tag_does_not_hide_a_good_picture(tmp_path, offset, value):
    exif, buffer, path = Image.Exif(), io.BytesIO(), tmp_path / "phone.jpg"
    exif[0x0112], exif[0x010E] = 6, "desc"
    exif.get_ifd(0x8769)[0x9003] = "x"
    Image.fromarray(pixels()).save(buffer, "JPEG", exif=exif)
    data = bytearray(buffer.getvalue())
    data[data.index(b"Exif") + offset] = value
    path.write_bytes(data)
    assert load_image(path).shape in ((30, 20, 3), (20, 30, 3))


def test_a_text_file_named_as_a_picture(tmp_path):
    path = tmp_path / "notes.jpg"
    path.write_text("these are no pixels\n" * 50)
    refused(path, "not an image file")


def test_an_empty_file(tmp_path):
    path = tmp_path / "empty.png"
    path.touch()
    refused(path, "not an image file")


def test_a_missing_file(tmp_path):
    refused(tmp_path / "nowhere.jpg", "no such file")


def test_a_folder(tmp_path):
    refused(tmp_path, "is a folder")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_truncated_file(tmp_path, kind):
    buffer = io.BytesIO()
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (64, 64, 3)).astype(np.uint8)).save(buffer, kind)
    path = tmp_path / "cut.img"
    path.write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    refused(path, "image")


def test_more_pixels_than_the_limit(tmp_path):
    path = tmp_path / "wide.png"
    Image.fromarray(pixels(20, 30)).save(path)
    assert load_image(path, max_pixels=600).shape == (20, 30, 3)
    refused(path, "30x20 pixels is above the limit of 599", max_pixels=599)


def test_a_side_longer_than_the_format_carries(tmp_path):
    path = tmp_path / "long.png"
    Image.new("L", (16384, 1)).save(path)
    refused(path, "16383 a side")


def test_a_decompression_bomb_is_refused_by_its_header(tmp_path):
    path = tmp_path / "bomb.png"
    Image.new("1", (9000, 9000)).save(path)
    assert path.stat().st_size < 20_000
    refused(path, "above the limit")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "GIF", "BMP"])
def test_damaged_files_give_pixels_or_the_typed_error(tmp_path, kind):
    buffer, exif = io.BytesIO(), Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a description"
    Image.fromarray(pixels()).save(buffer, kind, exif=exif)
    whole, random_ = buffer.getvalue(), random.Random(1)
    path = tmp_path / "damaged.img"
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(random_.randint(1, 4)):
            data[random_.randrange(min(len(data), 400))] = random_.randrange(256)
        path.write_bytes(data)
        image = None
        with contextlib.suppress(InputError):
            image = load_image(path, max_pixels=1_000_000)
        assert image is None or (image.ndim == 3 and image.shape[2] == 3)
