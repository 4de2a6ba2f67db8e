"""Client and server over the loopback: answers, errors, deadlines, limits, overload."""

from __future__ import annotations

import logging
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from test_status import ALL_ERRORS
from wire_kit import (
    STREAM_ID,
    FakeAnswer,
    FakeHalf,
    FakeProfile,
    Gate,
    LoopThread,
    StartServer,
    client_of,
    detections,
    fake_server,
    free_port,
)

from fpcodec import errors
from fpcodec.codecs.base import Limits
from fpcodec.v1 import codec_pb2, codec_pb2_grpc
from fpcodec_edge import EdgeClient


@pytest.mark.parametrize("kind", ALL_ERRORS, ids=lambda kind: kind.__name__)
def test_typed_errors_arrive_as_they_were_raised(
    start_server: StartServer, kind: type[errors.FpcodecError]
) -> None:
    message = "chunk p3 ends at byte 17 of 40 — 3 µs late; send it again"

    def fail(frame: bytes) -> None:
        raise kind(message)

    with (
        client_of(start_server(FakeHalf(fail))) as client,
        pytest.raises(errors.FpcodecError) as caught,
    ):
        client.infer(b"frame")
    assert type(caught.value) is kind
    assert str(caught.value) == message


def test_unexpected_errors_stay_on_the_server(
    start_server: StartServer, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(frame: bytes) -> None:
        raise RuntimeError("secret path /home/me")

    with (
        caplog.at_level(logging.ERROR),
        client_of(start_server(FakeHalf(fail))) as client,
        pytest.raises(errors.TransportError, match=r"INTERNAL.*incident") as caught,
    ):
        client.infer(b"frame")
    assert "secret" not in str(caught.value)
    assert "RuntimeError: secret path /home/me" in caplog.text


def test_a_slow_server_is_a_timeout_at_the_deadline(start_server: StartServer) -> None:
    gate = Gate()
    with client_of(start_server(FakeHalf(gate)), deadline_s=0.3) as client:
        start_s = time.monotonic()
        with pytest.raises(errors.Timeout, match="deadline"):
            client.infer(b"frame")
        assert 0.25 < time.monotonic() - start_s < 1.5
    gate.release.set()


def test_expired_and_cancelled_work_is_not_started(start_server: StartServer) -> None:
    gate = Gate()
    half = FakeHalf(gate)
    server = start_server(half, workers=1)
    with (
        ThreadPoolExecutor(1) as threads,
        client_of(server) as client,
        client_of(server, deadline_s=0.2) as hurried,
        grpc.insecure_channel(server.address) as channel,
    ):
        first = threads.submit(client.infer, b"first")
        assert gate.begun.acquire(timeout=5)
        with pytest.raises(errors.Timeout):
            hurried.infer(b"expired")
        call = codec_pb2_grpc.CodecServiceStub(channel).Infer.future(
            codec_pb2.InferRequest(frame=b"cancelled"), timeout=5
        )
        time.sleep(0.2)
        call.cancel()
        time.sleep(0.2)
        gate.release.set()
        first.result(5)
        client.infer(b"last")
    assert half.frames == [b"first", b"last"]


def test_frame_limits_hold_on_both_sides(start_server: StartServer) -> None:
    half = FakeHalf()
    server = start_server(half, limits=Limits(max_frame_bytes=10_000))
    with client_of(server) as client:
        client.infer(bytes(10_000))
        # Not negotiated: the service refuses the first, gRPC's own limit the second.
        for length in (10_001, 1_000_000):
            with pytest.raises(errors.LimitExceeded, match=r"long|limit"):
                client.infer(bytes(length))
        client.negotiate(STREAM_ID)
        with pytest.raises(errors.LimitExceeded, match=r"20000 bytes.* 10000;"):
            client.infer(bytes(20_000))
    assert [len(frame) for frame in half.frames] == [10_000]


def test_the_longest_frame_of_the_default_limits_fits(start_server: StartServer) -> None:
    half = FakeHalf()
    with client_of(start_server(half)) as client:
        client.infer(bytes(Limits().max_frame_bytes), "r" * 128)
        with pytest.raises(errors.InputError, match="request id"):
            client.infer(b"frame", "r" * 129)
    assert len(half.frames) == 1


def test_work_above_the_queue_is_refused_at_once_and_taken_later(
    start_server: StartServer,
) -> None:
    gate = Gate()
    server = start_server(FakeHalf(gate), workers=1, max_waiting=1)
    with (
        ThreadPoolExecutor(3) as threads,
        client_of(server) as client,
        EdgeClient(server.address, deadline_s=8) as patient,
    ):
        running = threads.submit(client.infer, b"running")
        assert gate.begun.acquire(timeout=5)
        waiting = threads.submit(client.infer, b"waiting")
        time.sleep(0.2)
        start_s = time.monotonic()
        with pytest.raises(errors.Overloaded):
            client.infer(b"refused")
        assert time.monotonic() - start_s < 0.5
        retried = threads.submit(patient.infer, b"retried")
        time.sleep(0.1)
        gate.release.set()
        assert [len(call.result(8).detections) for call in (running, waiting, retried)] == [1] * 3


def test_a_server_that_comes_late_is_waited_for(loop_thread: LoopThread) -> None:
    listen = f"127.0.0.1:{free_port()}"
    server = fake_server(FakeProfile(), FakeHalf, listen=listen)

    def start_late() -> None:
        time.sleep(0.5)
        loop_thread.run(server.start())

    thread = threading.Thread(target=start_late)
    thread.start()
    try:
        with EdgeClient(listen, deadline_s=10) as client:
            assert len(client.infer(b"frame").detections) == 3
    finally:
        thread.join()
        loop_thread.run(server.stop(0))


def test_a_client_outlives_its_server(loop_thread: LoopThread) -> None:
    listen = f"127.0.0.1:{free_port()}"
    with EdgeClient(listen, deadline_s=10) as client:
        for _ in range(2):
            server = fake_server(FakeProfile(), FakeHalf, listen=listen)
            loop_thread.run(server.start())
            try:
                assert len(client.infer(b"frame").detections) == 3
            finally:
                loop_thread.run(server.stop(0))


def test_no_server_is_said_in_one_line_within_the_deadline() -> None:
    address = f"127.0.0.1:{free_port()}"
    start_s = time.monotonic()
    with (
        EdgeClient(address, deadline_s=1) as client,
        pytest.raises(errors.Unavailable) as caught,
    ):
        client.infer(b"frame")
    assert time.monotonic() - start_s < 1.5
    message = str(caught.value)
    assert address in message
    assert "fpcodec serve" in message
    assert "\n" not in message


def test_a_port_that_never_speaks_is_unavailable_not_slow() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with (
            EdgeClient(address, deadline_s=0.5) as client,
            pytest.raises(errors.Unavailable, match=address),
        ):
            client.infer(b"frame")


def test_negotiation_tells_what_is_served(start_server: StartServer) -> None:
    limits = Limits(5_000_000, 4_000, 3_000, 2_000)
    with client_of(start_server(FakeHalf(), limits=limits)) as client:
        agreement = client.negotiate(STREAM_ID, (9, 1))
        assert (agreement.stream_id, agreement.frame_version) == (STREAM_ID, 1)
        assert agreement.limits == limits
        assert agreement.labels == ("cat", "dog")
        assert agreement.profile_name == "fake"
        with pytest.raises(errors.ProfileMismatch, match=r"'fake'.*000102030405"):
            client.negotiate(bytes(32))
        with pytest.raises(errors.UnsupportedVersion, match="version 1 "):
            client.negotiate(STREAM_ID, (2, 3))


def test_threads_share_a_client(start_server: StartServer) -> None:
    half = FakeHalf(lambda frame: FakeAnswer(detections(frame[0])))
    with (
        client_of(start_server(half, max_waiting=64), deadline_s=20) as client,
        ThreadPoolExecutor(8) as threads,
    ):
        counts = [n % 50 for n in range(200)]
        replies = threads.map(lambda n: client.infer(bytes([n])), counts)
        assert [len(reply.detections) for reply in replies] == counts


@pytest.mark.parametrize("address", ["", "host", "host:", ":1", "host:x", "host:70000", "::1:5"])
def test_addresses_without_sense_are_refused(address: str) -> None:
    with pytest.raises(errors.InputError, match="host:port"):
        EdgeClient(address)


def test_a_closed_client_says_so(start_server: StartServer) -> None:
    client = client_of(start_server(FakeHalf()))
    client.close()
    with pytest.raises(errors.InputError, match="closed"):
        client.infer(b"frame")
