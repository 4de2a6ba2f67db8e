"""The stream's client against a server that answers late, early, wrongly, or not at all."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable

import pytest
from stream_kit import (
    ArrivedFrame,
    Outcome,
    StreamServicer,
    answer_one_box,
    stream_client,
    stream_server,
)
from wire_kit import LoopThread, free_port

from fpcodec import errors
from fpcodec.v1 import codec_pb2
from fpcodec_edge import ChannelSecurity, FrameOutcome, StreamClient


def collect(client: StreamClient, count: int, timeout_s: float = 5.0) -> list[FrameOutcome]:
    """Poll until so many outcomes are there."""
    outcomes: list[FrameOutcome] = []
    end_s = time.monotonic() + timeout_s
    while len(outcomes) < count:
        assert time.monotonic() < end_s, f"{len(outcomes)} of {count} outcomes"
        outcomes += client.poll()
        time.sleep(0.002)
    return outcomes


def wait_until(condition: Callable[[], bool], timeout_s: float = 5.0) -> None:
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.002)


def send_when_granted(client: StreamClient, frame: bytes, **options: object) -> int:
    wait_until(lambda: client.can_send)
    return client.send(frame, **options)  # type: ignore[arg-type]


def test_every_frame_is_answered_whole_and_within_the_credits(loop_thread: LoopThread) -> None:
    servicer = StreamServicer(credits=2)
    with stream_server(loop_thread, servicer) as server, stream_client(server) as client:
        sizes, outcomes = [1, 1199, 1200, 1201, 5000, 30_000], []
        for size in sizes:
            send_when_granted(client, bytes(size), request_id=f"r{size}")
            outcomes += client.poll()
        outcomes += collect(client, len(sizes) - len(outcomes))
    assert {len(x.data) for x in servicer.frames} == set(sizes)
    assert [x.parts for x in servicer.frames] == [1, 1, 1, 2, 5, 25]
    assert all(x.first.expires_after_ms == 2000 for x in servicer.frames)
    assert servicer.uncredited == 0
    assert servicer.most_pending <= 2
    for outcome in outcomes:
        assert outcome.reply is not None
        assert outcome.reply.detections.labels.tolist() == [outcome.frame_bytes]
        assert outcome.reply.request_id == f"r{outcome.frame_bytes}"
    assert client.agreement is not None
    assert client.agreement.labels == ("cat", "dog")


def test_answers_may_come_in_any_order(loop_thread: LoopThread) -> None:
    async def slow_first(frame: ArrivedFrame) -> Outcome:
        await asyncio.sleep(0.2 if frame.data == b"slow" else 0)
        return await answer_one_box(frame)

    servicer = StreamServicer(slow_first)
    with stream_server(loop_thread, servicer) as server, stream_client(server) as client:
        slow = send_when_granted(client, b"slow")
        fast = send_when_granted(client, b"fast!")
        outcomes = collect(client, 2)
    assert [x.frame_id for x in outcomes] == [fast, slow]


def test_a_frames_error_is_typed_and_leaves_the_call_open(loop_thread: LoopThread) -> None:
    async def fail_some(frame: ArrivedFrame) -> Outcome:
        if frame.data == b"good":
            return await answer_one_box(frame)
        name = frame.data.decode()
        retry = {"retry_after_ms": 250} if name == "Overloaded" else {}
        return codec_pb2.FrameError(name=name, message=f"{name} it is", **retry)

    servicer = StreamServicer(fail_some)
    names = ["ChecksumMismatch", "Overloaded", "NotYetInvented", "good"]
    with stream_server(loop_thread, servicer) as server, stream_client(server) as client:
        for name in names:
            send_when_granted(client, name.encode())
        outcomes = {x.error_name or "good": x for x in collect(client, 4)}
    assert set(outcomes) == set(names)
    assert type(outcomes["ChecksumMismatch"].error) is errors.ChecksumMismatch
    assert type(outcomes["NotYetInvented"].error) is errors.TransportError
    assert "NotYetInvented it is" in str(outcomes["NotYetInvented"].error)
    assert outcomes["Overloaded"].retry_after_s == 0.25
    assert outcomes["ChecksumMismatch"].retry_after_s is None
    assert servicer.calls == 1


def test_an_early_answer_spares_the_rest_of_the_frame(loop_thread: LoopThread) -> None:
    servicer = StreamServicer()
    frame = bytes(90_000)
    with (
        stream_server(loop_thread, servicer) as server,
        stream_client(server, part_bytes=10) as client,
    ):
        send_when_granted(client, frame, answer_within_s=0.02)
        [outcome] = collect(client, 1)
        send_when_granted(client, b"next")
        collect(client, 1)
    assert outcome.reply is not None
    first, second = servicer.frames
    assert first.first.answer_within_ms == 20
    assert not first.whole
    assert len(first.data) < len(frame)
    assert second.data == b"next"


def test_a_late_answer_is_a_timeout_once_and_gives_its_credit_back(
    loop_thread: LoopThread,
) -> None:
    release = threading.Event()

    async def late(frame: ArrivedFrame) -> Outcome:
        while not release.is_set():
            await asyncio.sleep(0.01)
        return await answer_one_box(frame)

    servicer = StreamServicer(late, credits=1)
    with (
        stream_server(loop_thread, servicer) as server,
        stream_client(server, expires_after_s=0.1) as client,
    ):
        send_when_granted(client, b"first")
        [outcome] = collect(client, 1)
        assert type(outcome.error) is errors.Timeout
        assert not client.can_send
        with pytest.raises(errors.Overloaded):
            client.send(b"second")
        release.set()
        send_when_granted(client, b"second")
        assert [x.error for x in collect(client, 1)] == [None]
    assert servicer.calls == 1


def test_a_silent_server_is_given_up_and_another_connection_made(
    loop_thread: LoopThread,
) -> None:
    async def silent(frame: ArrivedFrame) -> Outcome:
        return None if frame.data == b"lost" else await answer_one_box(frame)

    servicer = StreamServicer(silent)
    with (
        stream_server(loop_thread, servicer) as server,
        stream_client(server, expires_after_s=0.1, silence_s=0.3) as client,
    ):
        send_when_granted(client, b"lost")
        [lost] = collect(client, 1)
        wait_until(lambda: bool(client.poll() or client.connections == 2))
        send_when_granted(client, b"found")
        [found] = collect(client, 1)
        assert "said nothing" in str(client.last_error)
    assert type(lost.error) is errors.Timeout
    assert found.reply is not None


def test_frames_in_flight_fail_once_when_the_server_goes_and_the_client_comes_back(
    loop_thread: LoopThread,
) -> None:
    async def never(frame: ArrivedFrame) -> Outcome:
        return None

    port = free_port()
    with stream_server(loop_thread, StreamServicer(never), port) as server:
        client = stream_client(server)
        client.start()
        sent = [send_when_granted(client, b"a"), send_when_granted(client, b"b")]
        wait_until(lambda: len(server.servicer.frames) == 2)
    outcomes = collect(client, 2)
    assert [x.frame_id for x in outcomes] == sent
    assert all(type(x.error) is errors.Unavailable for x in outcomes)
    assert all(x.retry_after_s == 0 for x in outcomes)
    with pytest.raises(errors.Unavailable):
        client.send(b"c")
    with stream_server(loop_thread, StreamServicer(), port):
        again = send_when_granted(client, b"d")
        assert collect(client, 1)[0].reply is not None
        client.close()
    assert again > max(sent)
    assert client.connections == 2


def test_a_server_without_streams_is_asked_by_unary_calls(loop_thread: LoopThread) -> None:
    async def refuse_some(frame: ArrivedFrame) -> Outcome:
        if frame.data == b"busy":
            return codec_pb2.FrameError(name="Overloaded", message="later")
        return await answer_one_box(frame)

    servicer = StreamServicer(refuse_some, streams=False)
    with stream_server(loop_thread, servicer) as server, stream_client(server) as client:
        for frame in (b"one", b"three", b"busy", b"seven.."):
            send_when_granted(client, frame, request_id="r")
        outcomes = collect(client, 4)
    found = [x.reply.detections.labels[0] for x in outcomes if x.reply is not None]
    assert sorted(found) == [3, 5, 7]
    [busy] = [x for x in outcomes if x.error is not None]
    assert type(busy.error) is errors.Overloaded
    assert busy.retry_after_s == 0
    assert len(servicer.unary) == 4


def test_another_profile_is_final(loop_thread: LoopThread) -> None:
    servicer = StreamServicer(outcome=codec_pb2.NEGOTIATION_OUTCOME_UNKNOWN_STREAM)
    with stream_server(loop_thread, servicer) as server, stream_client(server) as client:
        with pytest.raises(errors.ProfileMismatch):
            client.wait_tried(5)
        assert isinstance(client.fatal, errors.ProfileMismatch)


def test_no_server_is_said_in_one_line() -> None:
    address = f"127.0.0.1:{free_port()}"
    with (
        StreamClient(address, bytes(32)) as client,
        pytest.raises(errors.Unavailable, match=f"{address}.*fpcodec serve"),
    ):
        client.wait_tried(5)


def test_a_frame_above_the_servers_limit_is_not_sent(loop_thread: LoopThread) -> None:
    with stream_server(loop_thread) as server, stream_client(server) as client:
        client.wait_tried(5)
        with pytest.raises(errors.LimitExceeded, match="100000"):
            client.send(bytes(100_001))


def test_closing_does_not_wait_for_a_server_that_never_speaks() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = StreamClient(f"127.0.0.1:{silent.getsockname()[1]}", bytes(32))
        client.start()
        time.sleep(0.1)
        start_s = time.monotonic()
        client.close()
        assert time.monotonic() - start_s < 2


def test_closing_fails_what_is_in_flight(loop_thread: LoopThread) -> None:
    async def never(frame: ArrivedFrame) -> Outcome:
        return None

    with stream_server(loop_thread, StreamServicer(never)) as server:
        client = stream_client(server)
        client.start()
        send_when_granted(client, b"a")
        client.close()
        [outcome] = client.poll()
    assert type(outcome.error) is errors.Unavailable
    assert not client.can_send


@pytest.mark.parametrize("streams", [True, False])
def test_a_token_goes_with_every_call(loop_thread: LoopThread, streams: bool) -> None:
    servicer = StreamServicer(streams=streams)
    security = ChannelSecurity(token="secret")
    with (
        stream_server(loop_thread, servicer) as server,
        stream_client(server, security=security) as client,
    ):
        send_when_granted(client, b"a")
        collect(client, 1)
    assert len(servicer.tokens) >= 2
    assert set(servicer.tokens) == {"Bearer secret"}


def test_a_token_is_not_sent_unencrypted_to_another_machine() -> None:
    client = StreamClient("192.0.2.1:50051", bytes(32), security=ChannelSecurity(token="secret"))
    with client, pytest.raises(errors.InputError, match="unencrypted"):
        client.wait_tried(5)


def test_round_trips_are_measured_at_the_beginning_and_when_asked_for(
    loop_thread: LoopThread,
) -> None:
    with stream_server(loop_thread) as server, stream_client(server) as client:
        client.wait_tried(5)
        first_s = client.take_round_trip_s()
        assert first_s is not None
        assert 0 < first_s < 1
        assert client.take_round_trip_s() is None
        client.ping()
        measured = []
        wait_until(lambda: bool(measured.append(client.take_round_trip_s()) or measured[-1]))
