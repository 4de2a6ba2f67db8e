"""Sending the picture."""

from __future__ import annotations

import io
import pickle
import struct
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage

from fpcodec.errors import InputError, MissingDependency
from fpcodec.evaluation.agreement import agreement
from fpcodec.evaluation.rivals.containers import container_bytes
from fpcodec.evaluation.rivals.pictures import (
    PICTURE_CODECS,
    PICTURE_GRID,
    PictureFormat,
    content_picture,
    decode_picture,
    detect_in_picture,
)
from fpcodec.evaluation.ways import PictureWay, Scene, Workplace
from fpcodec.pyramid import ImageGeometry

SHARED = Path(__file__).parents[2] / "shared"
NANO = "onnx:{}?p3=input.471&p4=input.531&p5=input.591&decode=yolox"


def smooth_picture(width: int = 120, height: int = 80) -> Any:
    across, down = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    noise = np.random.default_rng(0).normal(0, 4, (height, width))
    planes = [across + noise, down + noise, (across + down) / 2]
    return np.clip(np.stack(planes, axis=2), 0, 255).astype(np.uint8)


def need(codec: str) -> None:
    if codec == "jxl":
        pytest.importorskip("pyjpegxl", reason="the bench extra is not installed")


@pytest.mark.parametrize(
    ("codec", "chroma"),
    [("jpeg", None), ("jpeg", "4:4:4"), ("webp", None), ("avif", None), ("avif", "4:4:4"),
     ("jxl", None)],
)  # fmt: skip
def test_more_quality_is_more_bytes_and_less_error(codec: str, chroma: str | None) -> None:
    need(codec)
    picture = smooth_picture()
    sizes, errors = [], []
    for quality in (20, 60, 90):
        data = PictureFormat(codec, quality, chroma).encode(picture)
        sizes.append(len(data))
        errors.append(np.abs(decode_picture(data).astype(int) - picture).mean())
    assert sizes == sorted(sizes)
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 4


def test_the_files_are_what_they_are_called() -> None:
    picture = smooth_picture()
    for name in ("jpeg", "webp", "avif", "png"):
        with PillowImage.open(io.BytesIO(PictureFormat(name, 50).encode(picture))) as opened:
            assert opened.format == name.upper()
            assert opened.size == (120, 80)
    assert np.array_equal(decode_picture(PictureFormat("png", 0).encode(picture)), picture)


def test_full_chroma_keeps_coloured_edges_and_costs_bytes() -> None:
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[:, 1::2, 0] = 255  # red lines of one pixel on black
    for codec in ("jpeg", "avif"):
        coarse, full = (PictureFormat(codec, 90, chroma) for chroma in ("4:2:0", "4:4:4"))
        errors = [
            np.abs(decode_picture(x.encode(picture)).astype(int) - picture).mean()
            for x in (coarse, full)
        ]
        assert errors[1] < 0.5 * errors[0], codec


def test_jpeg_files_are_no_larger_than_pillows_own_at_the_same_quality() -> None:
    for quality in (15, 50, 90):
        buffer = io.BytesIO()
        PillowImage.fromarray(smooth_picture()).save(buffer, "JPEG", quality=quality)
        data = PictureFormat("jpeg", quality).encode(smooth_picture())
        assert len(data) < len(buffer.getvalue())
        np.testing.assert_array_equal(decode_picture(data), decode_picture(buffer.getvalue()))


def test_the_best_jpeg_xl_is_lossless_and_the_worst_is_small() -> None:
    need("jxl")
    picture = smooth_picture()
    exact = PictureFormat("jxl", 100).encode(picture)
    assert np.array_equal(decode_picture(exact), picture)
    assert len(PictureFormat("jxl", 11).encode(picture)) < len(exact) / 20
    with pytest.raises(InputError, match=r"11\.\.100"):
        PictureFormat("jxl", 10)


def test_without_its_package_jpeg_xl_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyjpegxl", None)
    with pytest.raises(MissingDependency, match="bench"):
        PictureFormat("jxl", 60).encode(smooth_picture())
    with pytest.raises(MissingDependency, match="bench"):
        decode_picture(b"\xff\x0a1234")


def test_formats_are_read_from_text() -> None:
    assert PictureFormat.parse("webp") == PictureFormat("webp", 80)
    assert PictureFormat.parse("jpeg") == PictureFormat("jpeg", 75)
    assert PictureFormat.parse("avif:33") == PictureFormat("avif", 33, "4:2:0", "network")
    assert PictureFormat.parse("avif:50:444@0.75") == PictureFormat("avif", 50, "4:4:4", 0.75)
    assert PictureFormat.parse("avif:50:4:4:4@0.75") == PictureFormat("avif", 50, "4:4:4", 0.75)
    assert PictureFormat.parse("jpeg@original") == PictureFormat("jpeg", 75, size="original")
    assert PictureFormat.parse("jpeg:75@1") == PictureFormat("jpeg", 75)
    slow = PictureFormat.parse("avif:50:s4@0.75")
    assert slow == PictureFormat("avif", 50, size=0.75, speed=4)
    assert (slow.name, slow.family) == ("avif speed4 q50 @0.75", "avif speed4 @0.75")


@pytest.mark.parametrize(
    "text",
    ["gif", "webp:", "webp:101", "webp:-1", "webp:x", "webp:²", "", "webp:60:444", "jpeg:60:422",
     "jxl:60:420", "jpeg@0", "jpeg@1.5", "jpeg@.", "jpeg@half", "jpeg:60@", "jpeg:60:444:420",
     "jpeg:60:s4", "avif:60:s11"],
)  # fmt: skip
def test_unknown_formats_are_refused(text: str) -> None:
    with pytest.raises(InputError):
        PictureFormat.parse(text)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=12) | st.from_regex(r"(jpeg|webp|avif|jxl|png)[:@0-9.a-z]{0,9}"))
def test_any_text_is_a_format_or_a_typed_error(text: str) -> None:
    try:
        parsed = PictureFormat.parse(text)
    except InputError:
        return
    assert parsed.codec in PICTURE_CODECS


def test_names_leave_defaults_unsaid_and_families_leave_the_quality_out() -> None:
    expected = {
        "webp:80": ("webp q80", "webp"),
        "avif:50:444@0.75": ("avif 4:4:4 q50 @0.75", "avif 4:4:4 @0.75"),
        "jpeg:80:420@original": ("jpeg q80 @original", "jpeg @original"),
        "jxl:70": ("jxl q70", "jxl"),
        "png": ("png", "png"),
    }
    for text, names in expected.items():
        parsed = PictureFormat.parse(text)
        assert (parsed.name, parsed.family) == names


@pytest.mark.parametrize("data", [b"", b"\xff\xd8\xff", b"RIFF1234WEBP", b"not an image"])
def test_bytes_that_are_no_picture_are_refused(data: bytes) -> None:
    with pytest.raises(InputError, match="not a readable image"):
        decode_picture(data)


def test_damaged_jpeg_xl_is_refused() -> None:
    need("jxl")
    data = PictureFormat("jxl", 60).encode(smooth_picture())
    for length in (2, 3, 20, len(data) // 2, len(data) - 1):
        with pytest.raises(InputError, match="not a readable image"):
            decode_picture(data[:length])


def test_sizes_are_the_networks_the_images_or_a_share() -> None:
    picture = smooth_picture(200, 100)
    geometry = ImageGeometry((200, 100), (64, 64), (64, 32), (0, 16))
    assert content_picture(picture, geometry).shape == (32, 64, 3)
    assert PictureFormat("jpeg", 75).picture(picture, geometry).shape == (32, 64, 3)
    assert PictureFormat("jpeg", 75, size=0.5).picture(picture, geometry).shape == (16, 32, 3)
    original = PictureFormat("jpeg", 75, size="original").picture(picture, geometry)
    assert np.array_equal(original, picture)
    same = content_picture(picture, ImageGeometry((200, 100), (256, 128), (200, 100)))
    assert np.array_equal(same, picture)


class CornersDetector:
    """Finds one box: a fixed share of whatever picture it is given."""

    def extract(self, image: Any) -> Any:
        return image.shape

    def detect(self, shape: Any) -> Any:
        from fpcodec.detections import Detections

        height, width = shape[:2]
        box = np.array([[0.25 * width, 0.5 * height, width, height]], np.float32)
        return Detections(box, np.ones(1, np.float32), np.zeros(1, np.int64))


def test_boxes_found_in_the_small_picture_are_mapped_to_the_large_one() -> None:
    detector: Any = CornersDetector()
    found = detect_in_picture(detector, smooth_picture(120, 80), (600, 800))
    np.testing.assert_allclose(found.boxes, [[150, 400, 600, 800]])


def jpeg_headers(data: bytes) -> int:
    """Bytes of markers and segments, by a reading of its own: segments of a known list."""
    total, position = 4, 2  # SOI and EOI
    while data[position + 1] != 0xD9:
        length = 2 + struct.unpack(">H", data[position + 2 : position + 4])[0]
        total += length
        scan = data[position + 1] == 0xDA
        position += length
        while scan and not (data[position] == 0xFF and data[position + 1] != 0):
            position += 1
    return total


def test_jpeg_headers_are_all_but_the_scans() -> None:
    for progressive in (False, True):
        buffer = io.BytesIO()
        PillowImage.fromarray(smooth_picture()).save(
            buffer, "JPEG", quality=95, progressive=progressive, optimize=True
        )
        data = buffer.getvalue()
        assert container_bytes(data) == jpeg_headers(data)
        assert 200 < container_bytes(data) < 1500
    # Two quantisation tables of 64 bytes are the least that any JPEG of these carries.
    flat = PictureFormat("jpeg", 50).encode(np.zeros((64, 64, 3), np.uint8))
    assert 128 < container_bytes(flat) < len(flat)


def test_webp_headers_are_thirty_bytes_and_the_padding() -> None:
    for quality in (10, 40, 41, 42, 90):
        data = PictureFormat("webp", quality).encode(smooth_picture())
        chunk = struct.unpack("<I", data[16:20])[0]
        assert container_bytes(data) == 30 + chunk % 2


def test_avif_headers_are_all_but_the_media_data() -> None:
    data = PictureFormat("avif", 50).encode(smooth_picture())
    payload = struct.unpack(">I", data[data.index(b"mdat") - 4 : data.index(b"mdat")])[0] - 8
    assert container_bytes(data) == len(data) - payload
    small, large = (PictureFormat("avif", q).encode(smooth_picture()) for q in (20, 95))
    assert container_bytes(small) == container_bytes(large)


def test_a_bare_jpeg_xl_has_only_its_signature_and_boxes_count() -> None:
    need("jxl")
    bare = PictureFormat("jxl", 60).encode(smooth_picture())
    assert container_bytes(bare) == 2
    start = b"\x00\x00\x00\x0cJXL \x0d\x0a\x87\x0a"
    kind = struct.pack(">I", 20) + b"ftypjxl \0\0\0\0jxl "
    boxed = start + kind + struct.pack(">I", 8 + len(bare)) + b"jxlc" + bare
    assert container_bytes(boxed) == 12 + 20 + 8
    assert np.array_equal(decode_picture(boxed), decode_picture(bare))


def test_png_headers_are_all_but_the_pixels() -> None:
    data = PictureFormat("png", 0).encode(smooth_picture())
    assert container_bytes(data) == 8 + 25 + 12 + 12 * data.count(b"IDAT")


@pytest.mark.parametrize("codec", ["jpeg", "webp", "avif", "png"])
def test_truncated_files_have_no_container(codec: str) -> None:
    data = PictureFormat(codec, 50).encode(smooth_picture())
    for length in (0, 1, 4, 11, 40, len(data) // 2, len(data) - 2):
        with pytest.raises(InputError):
            container_bytes(data[:length])


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from([b"", b"\xff\xd8", b"RIFF\0\0\0\0WEBP", b"\x89PNG\r\n\x1a\n", b"\xff\x0a",
                     b"\0\0\0\x1cftypavif", b"\0\0\0\x0cJXL \r\n\x87\n"]),
    st.binary(max_size=60),
)  # fmt: skip
def test_any_bytes_have_a_container_or_a_typed_error(start: bytes, rest: bytes) -> None:
    try:
        size = container_bytes(start + rest)
    except InputError:
        return
    assert 0 <= size <= len(start + rest)


def test_the_default_grid_is_affordable_and_complete() -> None:
    names = [x.name for x in PICTURE_GRID]
    assert len(set(names)) == len(names) < 110
    families = Counter(x.family for x in PICTURE_GRID)
    assert min(families.values()) >= 6
    assert set(families) > {"jpeg", "webp", "avif", "jxl", "jpeg 4:4:4", "avif 4:4:4"}
    for codec in ("jpeg", "webp", "avif", "jxl"):
        assert {f"{codec} @original", f"{codec} @0.75"} <= set(families)


def test_a_lossless_picture_gives_the_unsplit_detections() -> None:
    model = SHARED / "models" / "yolox_nano.onnx"
    if not model.is_file():
        pytest.skip("no ../shared/models/yolox_nano.onnx beside the checkout")
    from fpcodec.detectors.factory import open_detector
    from fpcodec.images import load_image

    detector = open_detector(NANO.format(model))
    workplace = Workplace(detector)
    paths = sorted((SHARED / "data" / "coco" / "val").glob("*.jpg"))[:6]
    assert len(paths) == 6
    for path in paths:
        scene = Scene.of(detector, load_image(path))
        way = pickle.loads(pickle.dumps(PictureWay(PictureFormat("png", 0))))
        outcome = way.run(scene, workplace)
        # The network sees the same pixels, so only the mapping of boxes could differ.
        assert len(scene.unsplit) == len(outcome.detections)
        np.testing.assert_allclose(outcome.detections.boxes, scene.unsplit.boxes, atol=0.02)
        np.testing.assert_allclose(outcome.detections.scores, scene.unsplit.scores, atol=1e-5)
        assert agreement(scene.unsplit, outcome.detections).f1 == 1
        assert outcome.payload_bytes is not None
        assert 0.9 * outcome.sent_bytes < outcome.payload_bytes < outcome.sent_bytes
        assert set(outcome.times_ms) == {"encode", "decode", "detect"}
