"""Streaming calls: parts, credits, early answers, errors of one frame, the end of a call."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import pytest
from wire_kit import FakeAnswer, FakeHalf, Gate, LoopThread, StartServer, detections

from fpcodec import errors
from fpcodec.codecs.base import Limits
from fpcodec.status import to_wire
from fpcodec.v1 import codec_pb2, codec_pb2_grpc
from fpcodec_server import CodecServer, StreamLimits
from fpcodec_server.streams import ByteBudget, Stream


class Call:
    """One streaming call, by hand."""

    def __init__(self, server: CodecServer) -> None:
        self._sent: queue.Queue[Any] = queue.Queue()
        self._channel = grpc.insecure_channel(server.address)
        stub = codec_pb2_grpc.CodecServiceStub(self._channel)
        self.answers = stub.InferStream(iter(self._sent.get, None), timeout=20)

    def send(self, frame_id: int, data: bytes, last: bool = True, **fields: Any) -> None:
        self._sent.put(
            codec_pb2.InferStreamRequest(frame_id=frame_id, data=data, last=last, **fields)
        )

    def next(self) -> Any:
        return next(self.answers)

    def done(self) -> None:
        self._sent.put(None)

    def __enter__(self) -> Call:
        return self

    def __exit__(self, *error: object) -> None:
        self.answers.cancel()
        self.done()
        self._channel.close()


@pytest.fixture
def half() -> FakeHalf:
    return FakeHalf()


def _granted(call: Call) -> int:
    first = call.next()
    assert first.WhichOneof("outcome") is None
    assert first.frame_id == 0
    return int(first.credits)


def test_the_server_speaks_first_and_every_answer_grants_a_credit(
    start_server: StartServer, half: FakeHalf
) -> None:
    server = start_server(half, streams=StreamLimits(credits=3))
    with Call(server) as call:
        assert _granted(call) == 3
        for frame_id in (1, 2, 7):
            call.send(frame_id, b"frame", request_id=f"r{frame_id}")
        answers = [call.next() for _ in range(3)]
        assert {x.frame_id for x in answers} == {1, 2, 7}
        assert {x.answer.request_id for x in answers} == {"r1", "r2", "r7"}
        assert [x.credits for x in answers] == [1, 1, 1]
        assert len(answers[0].answer.detections) == 3


def test_a_frame_arrives_in_parts_between_those_of_others(
    start_server: StartServer, half: FakeHalf
) -> None:
    with Call(start_server(half)) as call:
        _granted(call)
        call.send(1, b"on", last=False)
        call.send(2, b"tw", last=False)
        call.send(1, b"e")
        call.send(2, b"o")
        assert {call.next().frame_id, call.next().frame_id} == {1, 2}
    assert sorted(half.frames) == [b"one", b"two"]
    assert half.partial == [False, False]


def test_what_has_arrived_is_answered_in_time_and_the_rest_ignored(
    start_server: StartServer, half: FakeHalf
) -> None:
    with Call(start_server(half)) as call:
        _granted(call)
        start_s = time.monotonic()
        call.send(1, b"begin", last=False, answer_within_ms=200)
        assert call.next().WhichOneof("outcome") == "answer"
        assert 0.15 < time.monotonic() - start_s < 1.0
        call.send(1, b"ning", last=True)
        call.send(2, b"next")
        assert call.next().frame_id == 2
    assert half.frames == [b"begin", b"next"]
    assert half.partial == [True, False]


def test_a_whole_frame_is_not_kept_waiting_for_its_time(
    start_server: StartServer, half: FakeHalf
) -> None:
    with Call(start_server(half)) as call:
        _granted(call)
        start_s = time.monotonic()
        call.send(1, b"frame", answer_within_ms=5000)
        call.next()
        assert time.monotonic() - start_s < 1.0
    assert half.partial == [False]


def test_a_frame_that_does_not_come_whole_expires(
    start_server: StartServer, half: FakeHalf
) -> None:
    with Call(start_server(half)) as call:
        _granted(call)
        call.send(1, b"begin", last=False, expires_after_ms=100)
        answer = call.next()
        assert answer.error.name == "Timeout"
        assert answer.credits == 1
    assert half.frames == []


def test_a_frames_error_leaves_the_call_open(start_server: StartServer) -> None:
    def answer(frame: bytes) -> FakeAnswer:
        if frame == b"bad":
            raise errors.ChecksumMismatch("chunk p3 was changed on the way; send it again")
        if frame == b"bug":
            raise RuntimeError("secret path")
        return FakeAnswer(detections(1))

    with Call(start_server(FakeHalf(answer), workers=1)) as call:
        _granted(call)
        for frame_id, frame in enumerate([b"bad", b"bug", b"good"], 1):
            call.send(frame_id, frame)
        found = {x.frame_id: x for x in (call.next(), call.next(), call.next())}
    assert found[1].error.name == "ChecksumMismatch"
    assert found[1].error.message.startswith("chunk p3")
    assert found[2].error.name == ""
    assert "incident" in found[2].error.message
    assert "secret" not in found[2].error.message
    assert found[3].WhichOneof("outcome") == "answer"


def test_a_frame_without_a_credit_is_refused_alone(start_server: StartServer) -> None:
    gate = Gate()
    server = start_server(FakeHalf(gate), streams=StreamLimits(credits=2))
    with Call(server) as call:
        _granted(call)
        for frame_id in (1, 2, 3):
            call.send(frame_id, b"frame")
        refused = call.next()
        assert (refused.frame_id, refused.error.name) == (3, "Overloaded")
        gate.release.set()
        assert {call.next().frame_id, call.next().frame_id} == {1, 2}


def test_refusals_that_nobody_reads_stop_the_reading() -> None:
    """Each frame costs the client a few bytes and the server a message: it must not go on."""
    read = 0

    async def flood() -> AsyncIterator[codec_pb2.InferStreamRequest]:
        nonlocal read
        while True:
            read += 1
            yield codec_pb2.InferStreamRequest(frame_id=read, data=b"f")

    async def infer(*_: Any) -> codec_pb2.InferResponse:
        raise AssertionError("no frame was whole")

    async def work() -> None:
        limits = StreamLimits(credits=2)
        stream = Stream(flood(), infer, limits, 100, "client", ByteBudget(1000), to_wire)
        responses = stream.responses()
        for _ in range(3):
            await anext(responses)
        await asyncio.sleep(0.1)
        assert read < 20
        await stream.end()
        await responses.aclose()

    asyncio.run(work())


def test_names_and_times_of_a_frame_are_bounded(
    start_server: StartServer, half: FakeHalf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fpcodec_server.streams.MOST_EXPIRES_S", 0.2)
    with Call(start_server(half)) as call:
        _granted(call)
        call.send(1, b"", last=False, request_id="x" * 1_000_000)
        assert call.next().error.name == "InputError"
        call.send(2, b"begin", last=False, expires_after_ms=4_000_000_000)
        assert call.next().error.name == "Timeout"
        call.send(3, b"begin", last=False)
        call.send(3, b"ning", request_id="x" * 1_000_000)
        assert call.next().error.name == "InputError", "of a later part, too"


def test_a_frame_above_the_limit_is_refused_as_it_grows(
    start_server: StartServer, half: FakeHalf
) -> None:
    server = start_server(half, limits=Limits(max_frame_bytes=1000))
    with Call(server) as call:
        _granted(call)
        call.send(1, bytes(600), last=False)
        call.send(1, bytes(600), last=False)
        assert call.next().error.name == "LimitExceeded"
        call.send(1, bytes(600))
        call.send(2, b"frame")
        assert call.next().frame_id == 2


def test_unfinished_frames_share_a_budget(start_server: StartServer, half: FakeHalf) -> None:
    server = start_server(half, streams=StreamLimits(max_arriving_bytes=4000))
    with Call(server) as call, Call(server) as other:
        _granted(call), _granted(other)
        call.send(1, bytes(800), last=False)
        call.send(2, b"frame")
        assert call.next().frame_id == 2
        other.send(1, bytes(800), last=False)
        refused = other.next()
        assert refused.error.name == "Overloaded"
        assert refused.error.retry_after_ms > 0
        call.send(1, b"end")
        assert call.next().frame_id == 1
        other.send(2, bytes(800))
        assert other.next().WhichOneof("outcome") == "answer"


def test_one_client_cannot_hold_what_all_share() -> None:
    budget = ByteBudget(1000)
    budget.hold("greedy", 250)
    with pytest.raises(errors.Overloaded, match="of this client's"):
        budget.hold("greedy", 1)
    for other in "abc":
        budget.hold(other, 250)
    with pytest.raises(errors.Overloaded, match="1000 bytes of unfinished frames are held"):
        budget.hold("late", 1)
    budget.release("greedy", 250)
    budget.hold("late", 250)


def test_the_end_of_a_call_answers_what_is_left(start_server: StartServer, half: FakeHalf) -> None:
    with Call(start_server(half)) as call:
        _granted(call)
        call.send(1, b"half", last=False)
        call.send(2, b"whole")
        call.done()
        found = {x.frame_id: x for x in call.answers}
    assert found[1].error.name == "Truncated"
    assert found[2].WhichOneof("outcome") == "answer"
    assert call.answers.code() is grpc.StatusCode.OK


def test_frame_ids_count_from_one(start_server: StartServer, half: FakeHalf) -> None:
    with Call(start_server(half)) as call:
        _granted(call)
        call.send(0, b"frame")
        with pytest.raises(grpc.RpcError) as caught:
            call.next()
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_silent_call_is_ended(start_server: StartServer, half: FakeHalf) -> None:
    with Call(start_server(half, streams=StreamLimits(idle_s=0.1))) as call:
        _granted(call)
        with pytest.raises(grpc.RpcError) as caught:
            call.next()
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_calls_above_the_limit_are_refused_with_a_hint(
    start_server: StartServer, half: FakeHalf
) -> None:
    server = start_server(half, streams=StreamLimits(most=1))
    with Call(server) as call:
        _granted(call)
        with Call(server) as other, pytest.raises(grpc.RpcError) as caught:
            other.next()
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "grpc-retry-pushback-ms" in dict(caught.value.trailing_metadata())


def test_a_stop_answers_what_was_begun_and_ends_the_call(
    start_server: StartServer, loop_thread: LoopThread
) -> None:
    gate = Gate()
    server = start_server(FakeHalf(gate))
    with Call(server) as call:
        _granted(call)
        call.send(1, b"frame")
        assert gate.begun.acquire(timeout=5)
        stopped = threading.Thread(target=lambda: loop_thread.run(server.stop(10)))
        stopped.start()
        time.sleep(0.1)
        gate.release.set()
        assert call.next().WhichOneof("outcome") == "answer"
        with pytest.raises(grpc.RpcError) as caught:
            call.next()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        stopped.join(10)


def test_a_caller_that_goes_leaves_nothing_behind(
    start_server: StartServer, loop_thread: LoopThread
) -> None:
    gate = Gate()
    half = FakeHalf(gate)
    server = start_server(half, workers=1, streams=StreamLimits(max_arriving_bytes=400))
    with Call(server) as call:
        _granted(call)
        call.send(1, b"runs")
        call.send(2, b"waits")
        call.send(3, bytes(90), last=False)
        assert gate.begun.acquire(timeout=5)
    gate.release.set()
    for _ in _attempts():
        with Call(server) as call:
            _granted(call)
            call.send(1, bytes(90))
            if call.next().WhichOneof("outcome") == "answer":
                break
    assert b"waits" not in half.frames


def _attempts() -> Iterator[None]:
    end_s = time.monotonic() + 5
    while time.monotonic() < end_s:
        yield
        time.sleep(0.05)
    raise AssertionError("the bytes of the call that went were not given back")
