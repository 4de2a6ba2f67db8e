"""Hostile bytes over the wire: every answer is a typed error, and the workers live."""

from __future__ import annotations

import random
from collections.abc import Iterator

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_attacks import hostile
from wire_kit import LoopThread, client_of

from fpcodec.bitstream import Chunk, read_frame, write_frame
from fpcodec.data import generate_scene
from fpcodec.errors import FormatError, InputError, ProfileError
from fpcodec.profile import Profile, embedded_profile_path
from fpcodec.split import EdgeHalf
from fpcodec.status import from_name
from fpcodec.v1 import codec_pb2, codec_pb2_grpc
from fpcodec_edge import EdgeClient
from fpcodec_server import CodecServer, Observer, StreamLimits

REFUSALS = (FormatError, ProfileError, InputError)


class Losses(Observer):
    lost = 0

    def worker_lost(self) -> None:
        self.lost += 1


@pytest.fixture(scope="module")
def frame() -> bytes:
    profile = Profile.load(embedded_profile_path())
    return EdgeHalf(profile, threads=1).encode(generate_scene(3).image, quality=0.2).data


@pytest.fixture(scope="module")
def served(loop_thread: LoopThread) -> Iterator[tuple[CodecServer, EdgeClient]]:
    losses = Losses()
    profile = Profile.load(embedded_profile_path())
    server = CodecServer(
        [profile], listen="127.0.0.1:0", workers=1, threads=1, observer=losses,
        streams=StreamLimits(credits=64),
    )  # fmt: skip
    loop_thread.run(server.start(), 60)
    with client_of(server, deadline_s=20) as client:
        yield server, client
    loop_thread.run(server.stop(1), 30)
    assert losses.lost == 0


def _refused(client: EdgeClient, data: bytes) -> None:
    with pytest.raises(REFUSALS):
        client.infer(data)


def test_beginnings_and_flipped_bits(served: tuple[CodecServer, EdgeClient], frame: bytes) -> None:
    _, client = served
    rng = random.Random(0)
    for length in [*range(40), *rng.sample(range(len(frame)), 40)]:
        _refused(client, frame[:length])
    for bit in rng.sample(range(8 * len(frame)), 80):
        damaged = bytearray(frame)
        damaged[bit // 8] ^= 1 << bit % 8
        _refused(client, bytes(damaged))
    assert client.infer(frame).levels_used


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_whatever_stands_behind_a_right_checksum(
    served: tuple[CodecServer, EdgeClient], frame: bytes, data: st.DataObject
) -> None:
    """The worst there is: sizes, chunks and flags of the attacker's choice, sealed again."""
    _, client = served
    honest = read_frame(frame)
    side = st.integers(1, 16_383)
    chunks = tuple(
        Chunk(x.level, x.has_parent, x.has_map, data.draw(st.binary(max_size=60)))
        for x in honest.chunks
    )
    forged = hostile(
        list(chunks),
        codec_id=honest.codec_id,
        stream_prefix=honest.stream_prefix,
        quality=data.draw(st.integers(0, 255)),
        image_size=data.draw(st.tuples(side, side)),
        network_size=data.draw(st.sampled_from([honest.network_size, (32, 32), (4096, 4096)])),
    )
    try:
        client.infer(forged)
    except REFUSALS:
        return


def test_hostile_frames_in_a_stream_leave_it_open(
    served: tuple[CodecServer, EdgeClient], frame: bytes
) -> None:
    server, _ = served
    rng = random.Random(1)
    bad = [rng.randbytes(rng.randrange(300)) for _ in range(20)]
    bad += [frame[: rng.randrange(len(frame))] for _ in range(20)]
    bad += [write_frame(read_frame(frame)) + b"more"]
    requests = [
        codec_pb2.InferStreamRequest(frame_id=number, data=data, last=True)
        for number, data in enumerate([*bad, frame], 1)
    ]
    with grpc.insecure_channel(server.address) as channel:
        call = codec_pb2_grpc.CodecServiceStub(channel).InferStream(iter(requests), timeout=60)
        found = {answer.frame_id: answer for answer in call}
    assert found.pop(len(requests)).WhichOneof("outcome") == "answer"
    assert found.pop(0).credits == 64
    assert len(found) == len(bad)
    for answer in found.values():
        assert isinstance(from_name(answer.error.name, answer.error.message), REFUSALS)
