"""Sending the picture, sending the boxes."""

from __future__ import annotations

import io
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as PillowImage

from fpcodec.detections import Detections
from fpcodec.errors import InputError
from fpcodec.evaluation.agreement import agreement
from fpcodec.evaluation.rivals import (
    PictureFormat,
    content_picture,
    decode_picture,
    detect_in_picture,
    pack_boxes,
    unpack_boxes,
)
from fpcodec.evaluation.ways import BoxesWay, PictureWay, rival_ways
from fpcodec.pyramid import ImageGeometry

SHARED = Path(__file__).parents[2] / "shared"


def smooth_picture(width: int = 120, height: int = 80) -> Any:
    across, down = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    noise = np.random.default_rng(0).normal(0, 4, (height, width))
    planes = [across + noise, down + noise, (across + down) / 2]
    return np.clip(np.stack(planes, axis=2), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("name", ["jpeg", "webp", "avif"])
def test_more_quality_is_more_bytes_and_less_error(name: str) -> None:
    picture = smooth_picture()
    sizes, errors = [], []
    for quality in (20, 60, 90):
        data = PictureFormat(name, quality).encode(picture)
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


def test_formats_are_read_from_text_with_pillows_default_qualities() -> None:
    assert PictureFormat.parse("webp") == PictureFormat("webp", 80)
    assert PictureFormat.parse("jpeg") == PictureFormat("jpeg", 75)
    assert PictureFormat.parse("avif:33") == PictureFormat("avif", 33)
    picture = smooth_picture()
    buffer = io.BytesIO()
    PillowImage.fromarray(picture).save(buffer, "JPEG", optimize=True)
    assert PictureFormat.parse("jpeg").encode(picture) == buffer.getvalue()


@pytest.mark.parametrize("text", ["gif", "webp:", "webp:101", "webp:-1", "webp:x", "webp:²", ""])
def test_unknown_formats_are_refused(text: str) -> None:
    with pytest.raises(InputError):
        PictureFormat.parse(text)


@pytest.mark.parametrize("data", [b"", b"\xff\xd8\xff", b"RIFF1234WEBP", b"not an image"])
def test_bytes_that_are_no_picture_are_refused(data: bytes) -> None:
    with pytest.raises(InputError, match="not a readable image"):
        decode_picture(data)


def test_the_content_picture_has_the_contents_size() -> None:
    picture = smooth_picture(200, 100)
    content = content_picture(picture, ImageGeometry((200, 100), (64, 64), (64, 32), (0, 16)))
    assert content.shape == (32, 64, 3)
    same = content_picture(picture, ImageGeometry((200, 100), (256, 128), (200, 100)))
    assert np.array_equal(same, picture)


class CornersDetector:
    """Finds one box: a fixed share of whatever picture it is given."""

    def extract(self, image: Any) -> Any:
        return image.shape

    def detect(self, shape: Any) -> Detections:
        height, width = shape[:2]
        box = np.array([[0.25 * width, 0.5 * height, width, height]], np.float32)
        return Detections(box, np.ones(1, np.float32), np.zeros(1, np.int64))


def test_boxes_found_in_the_small_picture_are_mapped_to_the_large_one() -> None:
    detector: Any = CornersDetector()
    found = detect_in_picture(detector, smooth_picture(120, 80), (600, 800))
    np.testing.assert_allclose(found.boxes, [[150, 400, 600, 800]])


def found(count: int, seed: int = 0, labels: int = 80) -> Detections:
    generator = np.random.default_rng(seed)
    corners = generator.random((count, 2, 2)).astype(np.float32) * np.float32([640, 480])
    boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    return Detections(boxes, generator.random(count).astype(np.float32),
                      generator.integers(0, labels, count))  # fmt: skip


@pytest.mark.parametrize("labels", [80, 1200])
def test_packed_boxes_come_back_within_their_rounding(labels: int) -> None:
    sent = found(40, labels=labels)
    received = unpack_boxes(pack_boxes(sent, (640, 480), 0.0))
    np.testing.assert_allclose(received.boxes, sent.boxes, atol=640 / 65535 / 2 + 1e-3)
    np.testing.assert_allclose(received.scores, sent.scores, atol=0.5 / 255 + 1e-6)
    np.testing.assert_array_equal(received.labels, sent.labels)


def test_low_scores_are_left_out_and_ten_bytes_a_box_suffice() -> None:
    sent = found(100)
    received = unpack_boxes(pack_boxes(sent, (640, 480), 0.6))
    assert len(received) == (sent.scores >= 0.6).sum()
    assert len(pack_boxes(sent, (640, 480), 0.0)) <= 7 + 10 * 100
    same = Detections(np.repeat(sent.boxes[:1], 50, 0), np.ones(50, np.float32),
                      np.zeros(50, np.int64))  # fmt: skip
    assert len(pack_boxes(same, (640, 480))) < 60


def test_no_boxes_are_seven_bytes() -> None:
    data = pack_boxes(found(0), (640, 480))
    assert len(data) == 7
    assert len(unpack_boxes(data)) == 0


def test_labels_that_do_not_fit_are_refused() -> None:
    sent = found(1)
    with pytest.raises(InputError, match="cannot be packed"):
        pack_boxes(Detections(sent.boxes, sent.scores, np.array([70_000])), (640, 480), 0.0)


@given(st.binary(max_size=60))
def test_any_bytes_are_boxes_or_a_typed_error(data: bytes) -> None:
    with suppress(InputError):
        received = unpack_boxes(data)
        assert np.isfinite(received.boxes).all()


def test_every_prefix_of_packed_boxes_is_refused() -> None:
    for count in (2, 60):
        data = pack_boxes(found(count), (640, 480), 0.0)
        for length in range(len(data)):
            with pytest.raises(InputError):
                unpack_boxes(data[:length])


def test_rivals_are_found_by_name() -> None:
    detector: Any = CornersDetector()
    ways = rival_ways(detector, ["webp", "jpeg:40", "boxes", "boxes:0.2"])
    assert [way.name for way in ways] == ["webp q80", "jpeg q40", "boxes 0.05", "boxes 0.2"]
    assert isinstance(ways[0], PictureWay)
    assert isinstance(ways[2], BoxesWay)
    for name in ("boxes:x", "boxes:2", "boxes:nan", "bmp"):
        with pytest.raises(InputError):
            rival_ways(detector, [name])


def test_a_lossless_picture_gives_the_unsplit_detections() -> None:
    model = SHARED / "models" / "yolox_nano.onnx"
    if not model.is_file():
        pytest.skip("no ../shared/models/yolox_nano.onnx beside the checkout")
    from fpcodec.detectors.factory import open_detector
    from fpcodec.images import load_image

    detector = open_detector(
        f"onnx:{model}?p3=input.471&p4=input.531&p5=input.591&decode=yolox"
    )  # fmt: skip
    paths = sorted((SHARED / "data" / "coco" / "val").glob("*.jpg"))[:6]
    assert len(paths) == 6
    for path in paths:
        image = load_image(path)
        size = image.shape[1], image.shape[0]
        picture = content_picture(image, detector.geometry(size))
        received = decode_picture(PictureFormat("png", 0).encode(picture))
        direct = detector.detect(detector.extract(image))
        through = detect_in_picture(detector, received, size)
        # The network sees the same pixels, so only the mapping of boxes could differ.
        assert len(direct) == len(through)
        np.testing.assert_allclose(through.boxes, direct.boxes, atol=0.02)
        np.testing.assert_allclose(through.scores, direct.scores, atol=1e-5)
        assert agreement(direct, through).f1 == 1
