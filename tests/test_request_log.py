"""The log: a line per request, for programs and for people, with nothing secret in it."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tls_kit import OTHER_TOKEN, TOKEN, call_with_metadata, infer, with_tokens
from wire_kit import FakeHalf, StartServer, fake_or_error

from fpcodec import errors
from fpcodec_edge import ChannelSecurity
from fpcodec_server.request_log import RequestRecord, configure_logging, log_request

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture
def log_of() -> Iterator[Any]:
    """Sets up the log and gives its stream; the process's log is put back at the end."""
    root = logging.getLogger()
    before = root.handlers[:]

    def start(form: str, level: str = "info") -> io.StringIO:
        stream = io.StringIO()
        configure_logging(form, level, stream)
        return stream

    yield start
    root.handlers[:] = before
    for name in ("fpcodec", "fpcodec_server"):
        logging.getLogger(name).setLevel(logging.NOTSET)


def test_a_request_is_one_json_line(start_server: StartServer, tmp_path: Path, log_of: Any) -> None:
    stream = log_of("json")
    half = FakeHalf(fake_or_error(errors.Truncated("short"), on=b"damaged"))
    server = start_server(half, operations=with_tokens(tmp_path))
    headers = [("authorization", f"Bearer {TOKEN}"), ("traceparent", f"00-{TRACE}-{'1' * 16}-01")]
    assert call_with_metadata(server, headers, request_id="r-42")[0] == "OK"
    with pytest.raises(errors.Unauthenticated):
        infer(server, ChannelSecurity(token=OTHER_TOKEN))
    with pytest.raises(errors.Truncated):
        infer(server, ChannelSecurity(token=TOKEN), frame=b"damaged")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    good, refused, damaged = (line for line in lines if line["message"] == "request")
    assert good["time"].endswith("Z")
    expected = {
        "level": "info", "method": "Infer", "code": "OK", "client": "token:camera",
        "request_id": "r-42", "trace_id": TRACE,
    }  # fmt: skip
    assert {key: good[key] for key in expected} == expected
    assert good["received_bytes"] > 0
    assert good["sent_bytes"] > 0
    assert good["duration_ms"] > 0
    assert {"decode", "reconstruct", "head"} <= good["stages_ms"].keys()
    assert good["stages_ms"]["head"] == 3.0
    assert refused["code"] == refused["error"].upper() == "UNAUTHENTICATED"
    assert refused["level"] == "warning"
    assert refused["client"] == "ipv4:127.0.0.1"
    assert (damaged["code"], damaged["error"]) == ("INVALID_ARGUMENT", "Truncated")
    for secret in (TOKEN, OTHER_TOKEN, "damaged"):
        assert secret not in stream.getvalue()


def test_other_lines_say_which_request_they_belong_to(
    start_server: StartServer, log_of: Any
) -> None:
    stream = log_of("json")

    def fail(frame: bytes) -> None:
        raise RuntimeError("a bug")

    assert call_with_metadata(start_server(FakeHalf(fail)), request_id="r-7")[0] == "INTERNAL"
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    incident, request = (line for line in lines if line["level"] == "error")
    assert "RuntimeError: a bug" in incident["exception"]
    assert incident["request_id"] == request["request_id"] == "r-7"
    assert incident["trace_id"] == request["trace_id"]


def test_text_is_one_line_whatever_a_client_writes(log_of: Any) -> None:
    stream = log_of("text")
    log_request(
        RequestRecord(
            "Infer", "OK", 0.0123, "token:a", TRACE, "1" * 16, request_id='x\n2026 ERROR "forged',
            stages_ms={"queue": 0.5, "head": 3.25}, received_bytes=2000,
        )
    )  # fmt: skip
    log_request(RequestRecord("Infer", "OK", 1, "a", TRACE, "1" * 16, request_id="x\nERROR\u2028y"))
    line, other = stream.getvalue().splitlines()
    assert "request_id=x\\nERROR\\u2028y " in other
    assert " INFO request method=Infer code=OK duration_ms=12.3 client=token:a " in line
    assert "received_bytes=2000" in line
    assert "stages_ms=queue:0.5,head:3.25" in line
    assert "\\n2026 ERROR" in line


def test_levels_hold_for_fpcodec_and_others_stay_quiet(log_of: Any) -> None:
    stream = log_of("text", "debug")
    logging.getLogger("fpcodec_server.tls").debug("ours")
    logging.getLogger("PIL").info("theirs")
    logging.getLogger("PIL").warning("their warning")
    text = stream.getvalue()
    assert "ours" in text
    assert "theirs" not in text
    assert "their warning" in text
    stream = log_of("json", "error")
    log_request(RequestRecord("Infer", "OK", 0.01, "a", TRACE, "1" * 16))
    assert stream.getvalue() == ""
