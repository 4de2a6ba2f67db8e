"""Inter frames over real streams: read in order at one place, the head anywhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import grpc
import numpy as np
import pytest
from test_streams import Call
from wire_kit import LoopThread, client_of

from fpcodec.data import generate_scene
from fpcodec.errors import NeedsRefresh
from fpcodec.profile import Profile, embedded_profile_path
from fpcodec.pyramid import Pyramid
from fpcodec.split import EdgeHalf, ServerHalf
from fpcodec.v1 import codec_pb2, codec_pb2_grpc
from fpcodec.video import VideoDecoder, VideoEncoder, is_inter
from fpcodec_server import CodecServer, StreamLimits
from fpcodec_server.client_limits import ClientRates
from fpcodec_server.operations import Operations

QUALITY = 0.4


@pytest.fixture(scope="module")
def profile() -> Profile:
    return Profile.load(embedded_profile_path())


@pytest.fixture(scope="module")
def frames(profile: Profile) -> list[bytes]:
    """A refresh frame and five that lean on it, of a scene under which the camera moves."""
    edge, encoder = EdgeHalf(profile, threads=1), VideoEncoder(profile.open_codec())
    image = generate_scene(8).image
    pyramids: Iterator[Pyramid] = (
        edge.detector.extract(np.ascontiguousarray(np.roll(image, shift, axis=1)))
        for shift in range(0, 12, 2)
    )
    return [encoder.encode(pyramid, QUALITY) for pyramid in pyramids]


@pytest.fixture(scope="module")
def server(loop_thread: LoopThread, profile: Profile) -> Iterator[CodecServer]:
    started = CodecServer(
        [profile], listen="127.0.0.1:0", workers=2, threads=1, streams=StreamLimits(credits=16)
    )
    loop_thread.run(started.start(), 60)
    yield started
    loop_thread.run(started.stop(1), 30)


def _stream(
    server: CodecServer, frames: Sequence[bytes]
) -> dict[int, codec_pb2.InferStreamResponse]:
    requests = [
        codec_pb2.InferStreamRequest(frame_id=number, data=data, last=True)
        for number, data in enumerate(frames, 1)
    ]
    with grpc.insecure_channel(server.address) as channel:
        call = codec_pb2_grpc.CodecServiceStub(channel).InferStream(iter(requests), timeout=60)
        return {answer.frame_id: answer for answer in call if answer.frame_id}


def test_inter_frames_are_answered_as_their_integers_are(
    server: CodecServer, profile: Profile, frames: list[bytes]
) -> None:
    assert [is_inter(frame) for frame in frames] == [False, *[True] * 5]
    decoder, half = VideoDecoder(profile.codec), ServerHalf(profile, threads=1)
    expected = half.infer_batch(
        [decoder.decode(frame) for frame in frames], [False] * 6, [lambda: None] * 6
    )
    found = _stream(server, frames)
    for number, answer in enumerate(expected, 1):
        boxes = [(d.x1, d.y1, d.x2, d.y2) for d in found[number].answer.detections]
        assert len(boxes) == len(answer.detections) > 0
        np.testing.assert_allclose(boxes, answer.detections.boxes, rtol=1e-4, atol=1e-2)


def test_a_lost_frame_asks_for_a_refresh_and_one_helps(
    server: CodecServer, frames: list[bytes]
) -> None:
    found = _stream(server, [frames[0], frames[1], frames[3], frames[4], frames[0], frames[1]])
    outcomes = [
        answer.error.name or answer.WhichOneof("outcome") for _, answer in sorted(found.items())
    ]
    refresh = "NeedsRefresh"
    assert outcomes == ["answer", "answer", refresh, refresh, "answer", "answer"]


def test_damage_costs_one_frame_where_it_can_be_sent_again(
    server: CodecServer, frames: list[bytes]
) -> None:
    damaged = bytearray(frames[1])
    damaged[-1] ^= 1
    found = _stream(server, [frames[0], bytes(damaged), frames[1], frames[2]])
    assert found[2].error.name in {"ChecksumMismatch", "InvalidField", "Truncated"}
    assert [found[n].WhichOneof("outcome") for n in (1, 3, 4)] == ["answer"] * 3


def test_a_stream_that_begins_in_the_midst_needs_a_refresh(
    server: CodecServer, frames: list[bytes]
) -> None:
    assert _stream(server, frames[2:3])[1].error.name == "NeedsRefresh"


def test_a_call_of_its_own_has_nothing_to_lean_on(server: CodecServer, frames: list[bytes]) -> None:
    with client_of(server) as client, pytest.raises(NeedsRefresh, match="InferStream"):
        client.infer(frames[1])


def test_a_refresh_that_came_in_part_is_answered_but_not_leaned_on(
    server: CodecServer, frames: list[bytes]
) -> None:
    with Call(server) as call:
        call.next()
        call.send(1, frames[0][:-1], last=False, answer_within_ms=1)
        assert call.next().answer.levels_ignored
        call.send(2, frames[1])
        assert call.next().error.name == "NeedsRefresh"


def test_a_frame_above_its_clients_limits_breaks_the_chain_and_a_refresh_mends_it(
    loop_thread: LoopThread, profile: Profile, frames: list[bytes]
) -> None:
    size = max(map(len, frames))
    # A second part too long for any allowance stands for the frame that was to come second.
    rates = ClientRates(bytes_per_s=1, burst_bytes=len(frames[0]) * 2 + size * 3)
    limited = CodecServer(
        [profile], listen="127.0.0.1:0", workers=1, threads=1, executor="threads",
        operations=Operations(rates=rates),
    )  # fmt: skip
    loop_thread.run(limited.start(), 60)
    try:
        with Call(limited) as call:
            call.next()
            outcomes = []
            call.send(1, frames[0])
            outcomes.append(call.next())
            call.send(2, bytes(size), last=False)
            call.send(2, bytes(rates.burst_bytes), last=True)
            outcomes.append(call.next())
            call.send(3, frames[2])
            outcomes.append(call.next())
            call.send(4, frames[0])
            outcomes.append(call.next())
            call.send(5, frames[1])
            outcomes.append(call.next())
    finally:
        loop_thread.run(limited.stop(0), 30)
    names = [x.error.name or x.WhichOneof("outcome") for x in outcomes]
    assert names == ["answer", "Overloaded", "NeedsRefresh", "answer", "answer"]
