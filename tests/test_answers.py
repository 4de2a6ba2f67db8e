"""What a server finds arrives at the client as it was found."""

from __future__ import annotations

import io
import random

import numpy as np
import pytest
from PIL import Image
from wire_kit import (
    FakeAnswer,
    FakeHalf,
    StartServer,
    client_of,
    detections,
)

from fpcodec import errors
from fpcodec.v1 import codec_pb2
from fpcodec_edge.replies import to_reply


def _png(mode: str, side: int) -> bytes:
    data = io.BytesIO()
    Image.new(mode, (side, side)).save(data, "PNG")
    return data.getvalue()


@pytest.mark.parametrize("count", [0, 1, 100])
def test_answers_arrive_whole(start_server: StartServer, count: int) -> None:
    answer = FakeAnswer(detections(count), levels_ignored={"p4": "parent p5 is absent"})
    half = FakeHalf(lambda frame: answer)
    frame = random.Random(1).randbytes(5000)
    with client_of(start_server(half)) as client:
        reply = client.infer(frame, "request-7")
    assert half.frames == [frame]
    assert reply.request_id == "request-7"
    for name in ("boxes", "scores", "labels"):
        sent, got = getattr(answer.detections, name), getattr(reply.detections, name)
        assert got.dtype == sent.dtype
        np.testing.assert_array_equal(got, sent)
    assert reply.detections.masks is None
    assert (reply.levels_used, reply.levels_recovered) == (("p3", "p5"), ("p4",))
    assert reply.levels_ignored == {"p4": "parent p5 is absent"}
    times = dict(reply.timings_ms)
    assert 0 <= times.pop("queue") < reply.round_trip_ms
    assert times == {"decode": 1.5, "reconstruct": 2.25, "head": 3.0}


def test_masks_arrive_exactly(start_server: StartServer) -> None:
    masks = np.zeros((5, 37, 53), np.bool_)
    masks[1] = True
    masks[2, 36, 52] = True
    masks[3] = np.random.default_rng(0).random((37, 53)) < 0.5
    masks[4, 5:20, 7:9] = True
    half = FakeHalf(lambda frame: FakeAnswer(detections(5, masks)))
    with client_of(start_server(half)) as client:
        got = client.infer(b"frame").detections.masks
    np.testing.assert_array_equal(got, masks)


@pytest.mark.parametrize(
    ("png", "left"),
    [(b"GIF89a", 0), (b"\x89PNG\r\n\x1a\n", 0), (_png("1", 2), 3), (_png("L", 2), 0)],
    ids=["not PNG", "truncated", "outside the image", "not a bitmap"],
)
def test_masks_that_cannot_be_read_are_a_typed_error(png: bytes, left: int) -> None:
    response = codec_pb2.InferResponse(
        detections=[codec_pb2.Detection(mask=codec_pb2.Mask(left=left, png=png))],
        image_size=codec_pb2.ImageSize(width=4, height=4),
    )
    with pytest.raises(errors.TransportError, match="mask"):
        to_reply(response, 0.0)


def test_masks_of_an_absurd_size_are_not_allocated() -> None:
    response = codec_pb2.InferResponse(
        detections=[codec_pb2.Detection()],
        image_size=codec_pb2.ImageSize(width=1 << 31, height=1 << 31),
    )
    with pytest.raises(errors.TransportError, match="limit"):
        to_reply(response, 0.0)
