"""Low-delay video coders: one packet a picture, and pictures back."""

from __future__ import annotations

import numpy as np
import pytest

from fpcodec.errors import FormatError, InputError
from fpcodec.evaluation.rivals.video_stream import (
    PRESETS,
    StreamSetting,
    decode_stream,
    encode_stream,
)

each_codec = pytest.mark.parametrize("codec", PRESETS)


def pictures(count: int, size: tuple[int, int] = (96, 64)) -> list[np.ndarray]:
    """A gradient through which a square moves."""
    width, height = size
    still = np.zeros((height, width, 3), np.uint8)
    still[..., 0] = np.linspace(0, 200, width).astype(np.uint8)
    out = []
    for index in range(count):
        picture = still.copy()
        picture[20:40, 4 * index : 4 * index + 20] = (200, 220, 90)
        out.append(picture)
    return out


@pytest.fixture(autouse=True)
def _video() -> None:
    pytest.importorskip("av", reason="the extra video is not installed")


@each_codec
def test_every_picture_leaves_at_once_and_comes_back(codec):
    setting = StreamSetting(codec, 25, 10.0, 4)
    given = pictures(9)
    packets = encode_stream(given, setting)
    assert len(packets) == 9
    found = decode_stream(packets, setting)
    for before, after in zip(given, found, strict=True):
        assert after.shape == before.shape
        assert np.abs(before.astype(int) - after).mean() < 12


@each_codec
def test_pictures_between_key_pictures_are_shorter(codec):
    sizes = np.array([len(x) for x in encode_stream(pictures(8), StreamSetting(codec, 30, 10, 4))])
    assert sizes[[1, 2, 3, 5, 6, 7]].max() < sizes[[0, 4]].min()


@each_codec
def test_more_crf_is_fewer_bytes(codec):
    few, many = (
        sum(map(len, encode_stream(pictures(6), StreamSetting(codec, crf, 10, 6))))
        for crf in (50, 15)
    )
    assert few < many


@pytest.mark.parametrize(
    "arguments", [("h264", 20, 10, 5), ("x264", 64, 10, 5), ("x264", 20, 0, 5), ("x264", 20, 10, 0)]
)
def test_a_setting_that_means_nothing_is_refused(arguments):
    with pytest.raises(InputError):
        StreamSetting(*arguments)


def test_bytes_that_are_no_pictures_are_refused():
    with pytest.raises(FormatError):
        decode_stream([b"\1\2\3" * 9], StreamSetting("x264", 20, 10, 5))
