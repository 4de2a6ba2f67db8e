"""Pyramids as still pictures through video coders."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fpcodec.detections import Detections
from fpcodec.errors import FormatError, InputError, MissingDependency
from fpcodec.evaluation.rivals.mosaic import (
    GRAIN,
    LEAST_SIDE,
    MOST,
    MosaicLayout,
    read_header,
    tile,
    untile,
    write_header,
)
from fpcodec.evaluation.rivals.video_coding import QP_RANGES, decode_still, encode_still
from fpcodec.evaluation.ways import MosaicWay, Scene, Workplace
from fpcodec.evaluation.ways.mosaic import MOSAIC_QPS
from fpcodec.pyramid import ImageGeometry, LevelSpec, Pyramid, PyramidSpec

SPEC = PyramidSpec(
    (LevelSpec("p3", 8, 12), LevelSpec("p4", 16, 20), LevelSpec("p5", 32, 33),
     LevelSpec("p6", 64, 33, "p5"))
)  # fmt: skip


def some_pyramid(spec: PyramidSpec = SPEC, size: tuple[int, int] = (160, 96)) -> Pyramid:
    generator = np.random.default_rng(0)
    levels = {}
    for level in spec.levels:
        if level.derived_from is None:
            shape = spec.shape(level.name, size)
            levels[level.name] = generator.normal(0, level.stride, shape).astype(np.float32)
    return Pyramid(spec, levels, ImageGeometry(size, size, size))


@st.composite
def pyramids(draw: st.DrawFn) -> Pyramid:
    count = draw(st.integers(1, 4))
    levels = tuple(
        LevelSpec(f"p{i + 2}", 4 << i, draw(st.integers(1, 40))) for i in range(count)
    )  # fmt: skip
    size = draw(st.integers(1, 90)), draw(st.integers(1, 90))
    spec = PyramidSpec(levels, 1)
    seed = draw(st.integers(0, 2**32 - 1))
    scale = draw(st.sampled_from([0.0, 1e-6, 1.0, 1e4]))
    generator = np.random.default_rng(seed)
    values = {
        level.name: (generator.normal(0.3, 1, spec.shape(level.name, size)) * scale).astype("f4")
        for level in levels
    }
    return Pyramid(spec, values, ImageGeometry(size, size, size))


@settings(max_examples=80, deadline=None)
@given(pyramids())
def test_tiles_come_back_within_half_a_step(pyramid: Pyramid) -> None:
    spec, size = pyramid.spec, pyramid.geometry.network_size
    layout = MosaicLayout.of(spec, size, spec.coded_names)
    frame, ranges = tile(pyramid.levels, layout)
    assert frame.shape == layout.size
    assert frame.dtype == np.uint16
    assert frame.max() <= MOST
    assert all(side >= LEAST_SIDE and side % GRAIN == 0 for side in frame.shape)
    back = untile(frame, ranges, layout)
    for (name, values), (low, high) in zip(pyramid.levels.items(), ranges, strict=True):
        step = (float(high) - float(low)) / MOST
        assert back[name].dtype == np.float32
        assert back[name].shape == values.shape
        largest = float(np.abs(values).max(initial=0))
        assert np.abs(back[name] - values).max() <= 0.5 * step + 1e-6 * largest


def test_every_value_has_one_place_in_the_frame() -> None:
    layout = MosaicLayout.of(SPEC, (160, 96), ("p3", "p4", "p5"))
    levels = {
        x.name: np.arange(np.prod(x.shape), dtype=np.float32).reshape(x.shape)
        for x in layout.tilings
    }
    covered = sum(int(np.prod(x.shape)) for x in layout.tilings)
    assert covered <= layout.size[0] * layout.size[1]
    frame, _ = tile(levels, layout)
    for tiling in layout.tilings:
        channels, height, width = tiling.shape
        for channel in (0, 1, channels - 1):
            row, column = divmod(channel, tiling.columns)
            top, left = tiling.top + row * height, column * width
            part = frame[top : top + height, left : left + width]
            wanted = levels[tiling.name][channel]
            step = (levels[tiling.name].size - 1) / MOST
            np.testing.assert_array_equal(part, np.rint(wanted / step))


def test_a_yolox_pyramid_fills_its_frame_without_gaps() -> None:
    spec = PyramidSpec((LevelSpec("p3", 8, 64), LevelSpec("p4", 16, 128), LevelSpec("p5", 32, 256)))
    layout = MosaicLayout.of(spec, (416, 416), spec.coded_names)
    assert layout.size == (416 + 208 + 104, 416)


def test_headers_come_back_and_damage_is_refused() -> None:
    ranges = [np.array([-1.5, 2.25], np.float32), np.array([0, 0], np.float32)]
    data = write_header((640, 480), (416, 320), ranges)
    assert len(data) == 8 + 16
    image, network, found, rest = read_header(data + b"coded", 2)
    assert (image, network, rest) == ((640, 480), (416, 320), b"coded")
    np.testing.assert_array_equal(found, ranges)
    for length in range(len(data)):
        with pytest.raises(FormatError):
            read_header(data[:length], 2)
    for bad in (np.array([np.nan, 1]), np.array([0, np.inf]), np.array([1, 0])):
        with pytest.raises(FormatError, match="range"):
            read_header(write_header((640, 480), (416, 320), [bad.astype("f4")]), 1)
    for sides in ((0, 480), (16_384, 480)):
        with pytest.raises(FormatError, match="sides"):
            read_header(write_header(sides, (416, 320), []), 0)


def smooth_frame(height: int = 72, width: int = 104) -> Any:
    across, down = np.meshgrid(np.arange(width), np.arange(height))
    wave = 512 + 300 * np.sin(across / 9) * np.cos(down / 7)
    noise = np.random.default_rng(0).normal(0, 3, (height, width))
    return np.clip(wave + noise, 0, 1023).astype(np.uint16)


@pytest.mark.parametrize("codec", ["x265", "svtav1"])
def test_a_low_qp_is_close_and_a_high_one_small(
    codec: str, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("av", reason="the video extra is not installed")
    frame = smooth_frame()
    low, high = QP_RANGES[codec]
    sizes, errors = [], []
    for qp in (low, (low + high) // 2, high):
        data = encode_still(codec, frame, qp)
        received = decode_still(codec, data)
        assert received.shape == frame.shape
        assert received.dtype == np.uint16
        sizes.append(len(data))
        errors.append(np.abs(received.astype(int) - frame).mean())
    assert sizes == sorted(sizes, reverse=True)
    assert errors == sorted(errors)
    assert errors[0] < 1
    assert sizes[-1] < 600  # no settings as text, no second picture
    assert encode_still(codec, frame, high) == encode_still(codec, frame, high)
    printed = capfd.readouterr()
    assert printed.out == printed.err == ""


@pytest.mark.parametrize("codec", ["x265", "svtav1"])
def test_what_is_no_picture_is_refused(codec: str) -> None:
    pytest.importorskip("av", reason="the video extra is not installed")
    data = encode_still(codec, smooth_frame(), 30)
    for broken in (b"", b"nonsense" * 5, data[:10], data + data):
        with pytest.raises(FormatError):
            decode_still(codec, broken)


def test_frames_and_qps_that_cannot_be_coded_are_refused() -> None:
    frame = smooth_frame()
    for bad in (frame[:63], frame[:, :-1], frame.astype(np.int32), frame + 600, frame[None]):
        with pytest.raises(InputError):
            encode_still("x265", bad, 30)
    for codec, qp in (("x265", 52), ("svtav1", 0), ("x265", -1), ("vp9", 30)):
        with pytest.raises(InputError):
            encode_still(codec, frame, qp)
        with pytest.raises(InputError):
            MosaicWay(codec, qp)
    with pytest.raises(InputError):
        decode_still("vp9", b"")


def test_without_pyav_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(MissingDependency, match="video"):
        encode_still("x265", smooth_frame(), 30)


class EchoDetector:
    """Hands the pyramid that it is given back as one box, and keeps it."""

    def __init__(self) -> None:
        self.seen: list[Pyramid] = []

    def geometry(self, image_size: Any, network_size: Any = None) -> ImageGeometry:
        return ImageGeometry(image_size, network_size or image_size, network_size or image_size)

    def detect(self, pyramid: Pyramid) -> Detections:
        self.seen.append(pyramid)
        return Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32),
                          np.zeros(0, np.int64))  # fmt: skip


@pytest.mark.parametrize("codec", ["x265", "svtav1"])
def test_the_way_sends_every_level_and_counts_every_byte(codec: str) -> None:
    pytest.importorskip("av", reason="the video extra is not installed")
    pyramid = some_pyramid()
    detector: Any = EchoDetector()
    empty = detector.detect(pyramid)
    scene = Scene(np.zeros((96, 160, 3), np.uint8), pyramid, empty, 1.0, 1.0)
    low, high = QP_RANGES[codec]
    way = pickle.loads(pickle.dumps(MosaicWay(codec, low)))
    outcome = way.run(scene, Workplace(detector))
    received = detector.seen[-1]
    assert set(received.levels) == {"p3", "p4", "p5", "p6"}
    for name, values in pyramid.levels.items():
        spread = values.max() - values.min()
        assert np.abs(received.levels[name] - values).mean() < 0.01 * spread
    np.testing.assert_array_equal(received.levels["p6"], received.levels["p5"][:, ::2, ::2])
    assert outcome.sent_bytes == outcome.payload_bytes + 8 + 8 * 3
    assert MosaicWay(codec, high).run(scene, Workplace(detector)).sent_bytes < outcome.sent_bytes
    assert (way.name, way.family, way.kind) == (f"{codec} qp{low}", codec, "mosaic")


def test_default_qps_are_six_or_more_and_in_range() -> None:
    for codec, qps in MOSAIC_QPS.items():
        assert len(set(qps)) >= 6
        assert all(MosaicWay(codec, qp) for qp in qps)
    assert MosaicWay.parse("x265:30") == MosaicWay("x265", 30)
    for text in ("x265", "x265:", "x265:x", "vp9:3", "x265:99"):
        with pytest.raises(InputError):
            MosaicWay.parse(text)
