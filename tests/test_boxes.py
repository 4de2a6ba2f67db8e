"""Sending the boxes: a compact packet, and any bytes in its place."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fpcodec.detections import Detections
from fpcodec.errors import InputError
from fpcodec.evaluation.rivals.boxes import pack_boxes, unpack_boxes
from fpcodec.evaluation.ways import BoxesWay, PictureWay, parse_rival


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
    ways = [parse_rival(text) for text in ("webp", "jpeg:40", "boxes", "boxes:0.2")]
    assert [way.name for way in ways] == ["webp q80", "jpeg q40", "boxes 0.05", "boxes 0.2"]
    assert isinstance(ways[0], PictureWay)
    assert isinstance(ways[2], BoxesWay)
    for name in ("boxes:x", "boxes:2", "boxes:nan", "bmp"):
        with pytest.raises(InputError):
            parse_rival(name)
