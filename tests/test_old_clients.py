"""Clients of released versions against this server: their recorded bytes, sent as they are.

The bytes below were written by the releases they name; a change here breaks devices in the field.
"""

from __future__ import annotations

import grpc
import pytest
from wire_kit import STREAM_ID, FakeHalf, StartServer

from fpcodec_server import CodecServer

# fpcodec 0.1.0: stream bytes(range(32)), frame version 1; request "abcd" with the frame b"FPC".
NEGOTIATE_0_1 = bytes.fromhex("0a20" + STREAM_ID.hex() + "1201011a05302e312e30")
INFER_0_1 = bytes.fromhex("0a04616263641203465043")

# What 0.1.0 reads of the answers: outcome ACCEPTED, then the stream and the frame version.
ACCEPTED_0_1 = bytes.fromhex("08011220" + STREAM_ID.hex() + "1801")
REQUEST_ID_0_1 = bytes.fromhex("0a0461626364")


@pytest.fixture
def server(start_server: StartServer) -> CodecServer:
    return start_server(FakeHalf())


def _send(server: CodecServer, method: str, request: bytes) -> bytes:
    with grpc.insecure_channel(server.address) as channel:
        call = channel.unary_unary(f"/fpcodec.v1.CodecService/{method}")
        answer: bytes = call(request, timeout=5)
    return answer


def test_version_0_1_negotiates(server: CodecServer) -> None:
    assert _send(server, "Negotiate", NEGOTIATE_0_1).startswith(ACCEPTED_0_1)


def test_version_0_1_is_answered(server: CodecServer) -> None:
    answer = _send(server, "Infer", INFER_0_1)
    assert answer.startswith(REQUEST_ID_0_1)
    # Three detections, each begun by field 2 and its length.
    assert answer.count(b"\x0d") >= 3
    assert b"\x1a\x02p3" in answer
    assert b"\x22\x02p4" in answer


def test_a_field_from_the_future_does_no_harm(server: CodecServer) -> None:
    assert _send(server, "Infer", INFER_0_1 + bytes.fromhex("f2070568656c6c6f"))
