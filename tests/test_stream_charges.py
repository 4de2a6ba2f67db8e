"""What a client's limits take of a stream's frames: a request as one begins, bytes as they come."""

from __future__ import annotations

import pytest
from test_streams import Call
from wire_kit import FakeHalf, StartServer

from fpcodec_server import StreamLimits
from fpcodec_server.client_limits import ClientRates
from fpcodec_server.operations import Operations

FRAME = {"method": "InferStream/frame", "code": "RESOURCE_EXHAUSTED"}


def _limited(**rates: float) -> Operations:
    return Operations(rates=ClientRates(**rates))  # type: ignore[arg-type]


def _count(operations: Operations, name: str, **labels: str) -> float:
    return operations.metrics.registry.get_sample_value(name, labels) or 0.0


def test_a_frame_is_a_request_from_its_beginning_and_no_more_later(
    start_server: StartServer,
) -> None:
    half = FakeHalf()
    # The call itself is the first request.
    operations = _limited(requests_per_s=0.01, burst_requests=3)
    with Call(start_server(half, operations=operations)) as call:
        call.next()
        for frame_id in (1, 2, 3):
            call.send(frame_id, b"begin", last=False, request_id=f"r{frame_id}")
        refused = call.next()
        assert (refused.frame_id, refused.error.name, refused.credits) == (3, "Overloaded", 1)
        assert refused.error.retry_after_ms > 1000
        for frame_id in (1, 2, 3):
            call.send(frame_id, b"ning", last=True)
        assert {call.next().frame_id, call.next().frame_id} == {1, 2}
        call.done()
        assert list(call.answers) == [], "one answer for a refused frame, whatever follows of it"
    assert half.frames == [b"beginning"] * 2
    assert _count(operations, "fpcodec_shed_requests_total", reason="client_limit") == 1


def test_bytes_are_paid_for_before_their_frame_is_whole(start_server: StartServer) -> None:
    half = FakeHalf()
    operations = _limited(bytes_per_s=1, burst_bytes=1000)
    with Call(start_server(half, operations=operations)) as call:
        call.next()
        call.send(1, bytes(50))
        assert call.next().WhichOneof("outcome") == "answer"
        for _ in range(3):
            call.send(2, bytes(400), last=False)
        refused = call.next()
        assert (refused.frame_id, refused.error.name) == (2, "Overloaded")
        assert refused.error.retry_after_ms > 850_000, "the frame may be as long as the bucket"
        call.send(3, bytes(200))
        assert call.next().error.name == "Overloaded"
        call.send(4, bytes(100))
        assert call.next().WhichOneof("outcome") == "answer"
    assert half.frames == [bytes(50), bytes(100)]
    assert _count(operations, "fpcodec_requests_total", **FRAME) == 2


def test_a_frame_that_is_never_finished_was_not_free(start_server: StartServer) -> None:
    operations = _limited(bytes_per_s=1, burst_bytes=1000)
    with Call(start_server(FakeHalf(), operations=operations)) as call:
        call.next()
        call.send(1, bytes(900), last=False, expires_after_ms=50)
        assert call.next().error.name == "Timeout"
        call.send(2, bytes(900), last=False)
        assert call.next().error.name == "Overloaded"


@pytest.mark.parametrize("fate", ["answered", "refused"])
def test_parts_that_come_too_late_are_owed(start_server: StartServer, fate: str) -> None:
    """They may be on their way honestly, so they end nothing; for nothing they are not."""
    operations = _limited(bytes_per_s=1, burst_bytes=1000)
    with Call(start_server(FakeHalf(), operations=operations)) as call:
        call.next()
        call.send(1, b"frame", last=fate == "answered", expires_after_ms=50)
        assert call.next().WhichOneof("outcome") == ("answer" if fate == "answered" else "error")
        for _ in range(3):
            call.send(1, bytes(700))
        call.send(2, b"frame")
        refused = call.next()
        assert (refused.frame_id, refused.error.name) == (2, "Overloaded")
        assert refused.error.retry_after_ms > 1_100_000
        call.done()
        assert list(call.answers) == []


def test_a_message_pays_for_all_that_it_carries(start_server: StartServer) -> None:
    operations = _limited(bytes_per_s=1, burst_bytes=1000)
    with Call(start_server(FakeHalf(), operations=operations)) as call:
        call.next()
        call.send(1, bytes(50))
        assert call.next().WhichOneof("outcome") == "answer"
        for _ in range(8):
            call.send(2, b"", last=False, request_id="r" * 120)
        assert call.next().error.name == "Overloaded"


def test_a_frame_without_a_credit_is_not_free_either(start_server: StartServer) -> None:
    operations = _limited(requests_per_s=0.01, burst_requests=3)
    limits = StreamLimits(credits=1)
    with Call(start_server(FakeHalf(), operations=operations, streams=limits)) as call:
        call.next()
        for frame_id in (1, 2, 3):
            call.send(frame_id, b"begin", last=False)
        found = {x.frame_id: x.error for x in (call.next(), call.next())}
    assert "credit" in found[2].message
    assert "requests per second" in found[3].message


def test_what_is_refused_as_it_arrives_is_counted_and_logged(
    start_server: StartServer, caplog: pytest.LogCaptureFixture
) -> None:
    operations = _limited(bytes_per_s=1, burst_bytes=150)
    with (
        caplog.at_level("INFO", "fpcodec_server.requests"),
        Call(start_server(FakeHalf(), operations=operations)) as call,
    ):
        call.next()
        call.send(1, bytes(10))
        call.next()
        call.send(2, bytes(80), last=False, request_id="r2")
        call.send(2, bytes(90), last=False)
        assert call.next().error.name == "Overloaded"
        lines = [x.fpcodec_fields for x in caplog.records]  # type: ignore[attr-defined]
    _, line = (x for x in lines if x["method"] == "InferStream/frame")
    assert (line["request_id"], line["error"]) == ("r2", "Overloaded")
    assert (line["code"], line["received_bytes"]) == ("RESOURCE_EXHAUSTED", 170)
    assert _count(operations, "fpcodec_requests_total", **FRAME) == 1
