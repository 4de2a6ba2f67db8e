"""The shipped detector, split over the loopback."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import pytest
from wire_kit import FakeHalf, FakeProfile, LoopThread, client_of, servers

from fpcodec import errors
from fpcodec.data import generate_scene
from fpcodec.profile import Profile, embedded_profile_path
from fpcodec.profile_folder import MANIFEST
from fpcodec.split import EdgeHalf, ServerHalf
from fpcodec_edge import EdgeClient, SplitClient
from fpcodec_server import CodecServer

IMAGE = generate_scene(11).image


@pytest.fixture(scope="module")
def profile() -> Profile:
    path = embedded_profile_path()
    if not (path / MANIFEST).is_file():
        pytest.skip(f"the embedded profile {path.name!r} has not been made yet")
    return Profile.load(path)


@pytest.fixture(scope="module")
def loop_thread() -> Iterator[LoopThread]:
    with LoopThread() as thread:
        yield thread


@pytest.fixture(scope="module")
def server(profile: Profile, loop_thread: LoopThread) -> Iterator[CodecServer]:
    server = CodecServer([profile], listen="127.0.0.1:0", threads=1)
    loop_thread.run(server.start(), timeout_s=60)
    yield server
    loop_thread.run(server.stop(0))


def test_the_wire_changes_nothing(profile: Profile, server: CodecServer) -> None:
    client = EdgeClient(server.address, deadline_s=30)
    with SplitClient(profile, server.address, client=client, threads=1) as split:
        assert split.connect().labels == profile.labels
        remote = split.detect(IMAGE, quality=0.6, levels=profile.spec.coded_names[:2])
    frame = EdgeHalf(profile, threads=1).encode(
        IMAGE, quality=0.6, levels=profile.spec.coded_names[:2]
    )
    local = ServerHalf(profile, threads=1).infer(frame.data)
    assert len(local.detections) > 0
    np.testing.assert_array_equal(remote.detections.boxes, local.detections.boxes)
    np.testing.assert_array_equal(remote.detections.scores, local.detections.scores)
    np.testing.assert_array_equal(remote.detections.labels, local.detections.labels)
    assert remote.frame_bytes == len(frame.data)
    assert remote.chunk_bytes == frame.chunk_bytes
    assert remote.reply.levels_used == local.levels_used
    assert remote.reply.levels_recovered == local.levels_recovered
    assert set(remote.edge_ms) == {"extract", "encode"}
    assert min(remote.reply.timings_ms[stage] for stage in ("decode", "head")) > 0


def test_frames_can_be_given_a_length(profile: Profile, server: CodecServer) -> None:
    client = EdgeClient(server.address, deadline_s=30)
    with SplitClient(profile, server.address, client=client, threads=1) as split:
        assert 0.97 * 900 <= split.detect(IMAGE, max_bytes=900).frame_bytes <= 900
        with pytest.raises(errors.InputError, match="smallest frame"):
            split.detect(IMAGE, max_bytes=9)


def test_another_profile_is_noticed_before_anything_is_sent(
    profile: Profile, loop_thread: LoopThread
) -> None:
    half = FakeHalf()
    with (
        servers(loop_thread) as start,
        SplitClient(profile, start(half, profile=FakeProfile()).address, threads=1) as split,
        pytest.raises(errors.ProfileMismatch, match="same profile on both sides"),
    ):
        split.detect(IMAGE)
    assert half.frames == []


def test_the_server_survives_random_frames(profile: Profile, server: CodecServer) -> None:
    frame = EdgeHalf(profile, threads=1).encode(IMAGE, quality=0.3).data
    rng = random.Random(5)
    refused = 0
    with client_of(server, deadline_s=30) as client:
        whole = client.infer(frame)
        for n in range(200):
            try:
                client.infer(rng.randbytes(rng.randrange(2000)) if n % 2 else _damage(frame, rng))
            except (errors.FormatError, errors.ProfileMismatch):
                refused += 1
        again = client.infer(frame)
    assert refused > 100
    np.testing.assert_array_equal(again.detections.boxes, whole.detections.boxes)


def _damage(frame: bytes, rng: random.Random) -> bytes:
    data = bytearray(frame)
    for _ in range(rng.randrange(1, 9)):
        data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data[: rng.randrange(len(data) + 1)] if rng.random() < 0.3 else data)
