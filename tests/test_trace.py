"""W3C trace context: what is taken over, what is not, and what is given back."""

from __future__ import annotations

import re

import pytest
from tls_kit import call_with_metadata
from wire_kit import FakeHalf, StartServer, client_of

from fpcodec import errors
from fpcodec_server.trace import continue_trace, new_trace, parse_traceparent

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"
VALID = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


@pytest.mark.parametrize(
    ("header", "kept"),
    [
        (PARENT, True),
        (f"00-{TRACE}-{SPAN}-00", True),
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like", True),
        (f"cc-{TRACE}-{SPAN}-01", True),
        (f"cc-{TRACE}-{SPAN}-01.more", False),
        (f"00-{TRACE}-{SPAN}-01-more", False),
        (f"ff-{TRACE}-{SPAN}-01", False),
        (f"00-{'0' * 32}-{SPAN}-01", False),
        (f"00-{TRACE}-{'0' * 16}-01", False),
        (f"00-{TRACE.upper()}-{SPAN}-01", False),
        (f"00-{TRACE[:-1]}-{SPAN}-01", False),
        (f"00-{TRACE}-{SPAN}-1", False),
        (f"00-{TRACE}-{SPAN}", False),
        (f"{PARENT}\n", False),
        ("", False),
    ],
)
def test_headers_are_read_as_the_standard_says(header: str, kept: bool) -> None:
    trace = parse_traceparent(header)
    assert (trace is not None) == kept
    if trace is not None:
        assert (trace.trace_id, trace.span_id) == (TRACE, SPAN)


def test_a_trace_goes_on_with_a_step_of_its_own() -> None:
    trace = continue_trace([("traceparent", PARENT), ("tracestate", "a=1"), ("tracestate", "b=2")])
    assert (trace.trace_id, trace.flags, trace.state) == (TRACE, "01", "a=1,b=2")
    assert trace.span_id != SPAN
    assert trace.child().trace_id == TRACE
    assert trace.child().span_id != trace.span_id


def test_without_a_valid_parent_a_trace_begins_here() -> None:
    for metadata in (
        [],
        [("traceparent", "nonsense"), ("tracestate", "a=1")],
        [("traceparent", PARENT), ("traceparent", PARENT)],
        [("traceparent", b"bytes")],
    ):
        trace = continue_trace(metadata)
        assert trace.trace_id != TRACE
        assert VALID.fullmatch(trace.traceparent)
        assert trace.state == ""
    assert new_trace() != new_trace()


def test_a_long_state_is_dropped_and_the_trace_kept() -> None:
    trace = continue_trace([("traceparent", PARENT), ("tracestate", "a=" + "1" * 600)])
    assert (trace.trace_id, trace.state) == (TRACE, "")


def test_answers_and_errors_carry_the_trace(start_server: StartServer) -> None:
    def answer(frame: bytes) -> None:
        raise errors.Truncated("too short")

    for server in (start_server(FakeHalf()), start_server(FakeHalf(answer))):
        code, trailing = call_with_metadata(server, [("traceparent", PARENT)])
        assert trailing["traceparent"].startswith(f"00-{TRACE}-")
        assert trailing["traceparent"].endswith("-01")
        assert SPAN not in trailing["traceparent"]
        if code != "OK":
            assert trailing["fpcodec-error"] == "Truncated"
        _, fresh = call_with_metadata(server)
        assert VALID.fullmatch(fresh["traceparent"])


def test_a_client_passes_its_trace_on(
    start_server: StartServer, caplog: pytest.LogCaptureFixture
) -> None:
    server = start_server(FakeHalf())
    with caplog.at_level("INFO", "fpcodec_server.requests"), client_of(server) as client:
        client.infer(b"frame", traceparent=PARENT)
        client.infer(b"frame")
    first, second = (record.fpcodec_fields["trace_id"] for record in caplog.records)
    assert first == TRACE
    assert second != TRACE
