"""The whole service: streams, stages and profiles as metrics and log see them."""

from __future__ import annotations

import asyncio
import queue
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from test_streams import Call
from tls_kit import TOKEN, with_tokens
from wire_kit import FakeHalf, Gate, StartServer, fake_or_error

from fpcodec import errors
from fpcodec.v1 import codec_pb2, codec_pb2_grpc
from fpcodec_edge import ChannelSecurity
from fpcodec_edge.channel import open_channel
from fpcodec_server.client_limits import ClientRates
from fpcodec_server.operations import Operations
from fpcodec_server.video import StreamVideo


def send(address: str, frames: list[bytes], token: str | None = None) -> list[Any]:
    """The answers to frames that are sent as credits allow, by frame id."""
    channel = open_channel(address, ChannelSecurity(token=token))
    answers: dict[int, Any] = {}
    try:
        credits_left, sent, done = [0], [0], []

        outgoing: queue.Queue[Any] = queue.Queue()
        call = codec_pb2_grpc.CodecServiceStub(channel).InferStream(
            iter(outgoing.get, None), timeout=10
        )
        for response in call:
            credits_left[0] += response.credits
            if response.frame_id:
                answers[response.frame_id] = response
            while credits_left[0] and sent[0] < len(frames):
                credits_left[0] -= 1
                sent[0] += 1
                outgoing.put(
                    codec_pb2.InferStreamRequest(
                        frame_id=sent[0], data=frames[sent[0] - 1], last=True,
                        request_id=f"frame-{sent[0]}",
                    )
                )  # fmt: skip
            if len(answers) == len(frames) and not done:
                done.append(True)
                outgoing.put(None)
    finally:
        channel.close()
    return [answers[n + 1] for n in range(len(frames))]


def test_a_stream_is_seen_frame_by_frame(
    start_server: StartServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    operations = with_tokens(tmp_path, rates=ClientRates(requests_per_s=0.001, burst_requests=5))
    half = FakeHalf(fake_or_error(errors.Truncated("short"), on=b"damaged"))
    server = start_server(half, operations=operations)
    with caplog.at_level("INFO", "fpcodec_server.requests"):
        answers = send(server.address, [b"a", b"damaged", b"b", b"c", b"d"], TOKEN)
    outcomes = [x.error.name if x.HasField("error") else "ok" for x in answers]
    assert sorted(outcomes) == ["Overloaded", "Truncated", "ok", "ok", "ok"]
    refused = next(x for x in answers if x.error.name == "Overloaded")
    assert refused.error.retry_after_ms > 0
    sample = operations.metrics.registry.get_sample_value
    labels = {"method": "InferStream/frame", "code": "OK"}
    assert sample("fpcodec_requests_total", labels) == 3
    assert sample("fpcodec_stage_seconds_count", {"stage": "queue"}) >= 3
    assert sample("fpcodec_stage_seconds_count", {"stage": "head"}) == 3
    assert sample("fpcodec_decode_errors_total", {"kind": "Truncated"}) == 1
    assert sample("fpcodec_shed_requests_total", {"reason": "client_limit"}) == 1
    assert sample("fpcodec_open_streams") == 0
    assert sample("fpcodec_batch_frames_count") >= 1
    lines = [x.fpcodec_fields for x in caplog.records if hasattr(x, "fpcodec_fields")]
    good = next(x for x in lines if x.get("request_id") == "frame-1")
    assert (good["client"], good["profile"]) == ("token:camera", "fake")
    assert {"decode", "head"} <= good["stages_ms"].keys()


def test_a_stream_without_a_token_is_refused(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server(FakeHalf(), operations=with_tokens(tmp_path))
    with pytest.raises(grpc.RpcError) as caught:
        send(server.address, [b"a"])
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED  # type: ignore[attr-defined]


def test_a_call_that_names_no_deadline_has_the_servers(start_server: StartServer) -> None:
    gate = Gate()
    server = start_server(FakeHalf(gate), workers=1, deadline_s=0.3)
    with grpc.insecure_channel(server.address) as channel, ThreadPoolExecutor(2) as threads:
        stub = codec_pb2_grpc.CodecServiceStub(channel)
        # The second waits for the first, longer than the server grants.
        calls = [
            threads.submit(lambda: stub.Infer(codec_pb2.InferRequest(frame=b"frame")))
            for _ in range(2)
        ]
        assert gate.begun.acquire(timeout=5)
        time.sleep(0.5)
        gate.release.set()
        codes = {call.exception(10).code().name for call in calls}  # type: ignore[union-attr]
    assert codes == {"DEADLINE_EXCEEDED"}


def test_reading_an_inter_frame_takes_from_the_frames_own_time(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = StreamVideo.read

    async def read_slowly(self: StreamVideo, frame: bytes, partial: bool) -> Any:
        found = await read(self, frame, partial)
        await asyncio.sleep(0.3)
        return found

    monkeypatch.setattr(StreamVideo, "read", read_slowly)
    half = FakeHalf()
    with Call(start_server(half)) as call:
        call.next()
        call.send(1, b"frame", expires_after_ms=200)
        assert call.next().error.name == "Timeout"
        call.send(2, b"frame", expires_after_ms=5000)
        assert call.next().WhichOneof("outcome") == "answer"
    assert len(half.frames) == 1, "nobody wanted the first any more"


def test_the_gauges_of_the_queue_follow_requests_that_are_given_up(
    start_server: StartServer,
) -> None:
    gate, operations = Gate(), Operations()
    server = start_server(FakeHalf(gate), workers=1, operations=operations)

    def waiting() -> tuple[float | None, float | None]:
        sample = operations.metrics.registry.get_sample_value
        return sample("fpcodec_queue_frames"), sample("fpcodec_queue_bytes")

    with grpc.insecure_channel(server.address) as channel, Call(server) as stream:
        infer = codec_pb2_grpc.CodecServiceStub(channel).Infer
        first = infer.future(codec_pb2.InferRequest(frame=b"first"), timeout=10)
        assert gate.begun.acquire(timeout=5)
        second = infer.future(codec_pb2.InferRequest(frame=b"second"), timeout=10)
        stream.next()
        stream.send(1, b"third")
        _wait_until(lambda: waiting() == (2, 11))
        second.cancel()
        _wait_until(lambda: waiting() == (1, 5))
        stream.answers.cancel()
        _wait_until(lambda: waiting() == (0, 0))
        gate.release.set()
        first.result(5)


def _wait_until(condition: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.01)
