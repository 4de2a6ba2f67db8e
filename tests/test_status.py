"""Every typed error keeps its class and message over the wire's table."""

from __future__ import annotations

import grpc
import pytest

from fpcodec import errors
from fpcodec.status import ERROR_KEY, MAX_MESSAGE_CHARS, STATUSES, from_wire, to_wire

ALL_ERRORS = sorted(
    (
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, errors.FpcodecError)
    ),
    key=lambda kind: kind.__name__,
)

EXPECTED_CODES = {
    "FpcodecError": "INTERNAL",
    "InputError": "INVALID_ARGUMENT",
    "FormatError": "INVALID_ARGUMENT",
    "BadMagic": "INVALID_ARGUMENT",
    "UnsupportedVersion": "INVALID_ARGUMENT",
    "UnknownCodec": "INVALID_ARGUMENT",
    "Truncated": "INVALID_ARGUMENT",
    "ChecksumMismatch": "INVALID_ARGUMENT",
    "LimitExceeded": "INVALID_ARGUMENT",
    "InvalidField": "INVALID_ARGUMENT",
    "ProfileError": "FAILED_PRECONDITION",
    "ProfileMismatch": "FAILED_PRECONDITION",
    "ModelError": "INTERNAL",
    "MissingDependency": "INTERNAL",
    "NeedsRefresh": "FAILED_PRECONDITION",
    "WorkerLost": "UNAVAILABLE",
    "TransportError": "UNKNOWN",
    "Unavailable": "UNAVAILABLE",
    "Timeout": "DEADLINE_EXCEEDED",
    "Overloaded": "RESOURCE_EXHAUSTED",
    "Unauthenticated": "UNAUTHENTICATED",
}


def test_the_table_holds_every_error_once() -> None:
    assert sorted(row.reason for row in STATUSES) == [kind.__name__ for kind in ALL_ERRORS]


def test_codes_and_reasons_are_part_of_the_protocol() -> None:
    assert {row.reason: row.code.name for row in STATUSES} == EXPECTED_CODES


def test_only_passing_conditions_are_retried() -> None:
    assert {row.reason for row in STATUSES if row.retryable} == {
        "Unavailable", "Overloaded", "WorkerLost",
    }  # fmt: skip


@pytest.mark.parametrize("kind", ALL_ERRORS, ids=lambda kind: kind.__name__)
def test_class_and_message_come_back(kind: type[errors.FpcodecError]) -> None:
    message = f"level p9 is unknown ({kind.__name__}); use one of p3, p4 — 3 µs"
    code, text, metadata = to_wire(kind(message))
    assert metadata == ((ERROR_KEY, kind.__name__),)
    back = from_wire(code, text, metadata, "host:1")
    assert type(back) is kind
    assert str(back) == message


def test_a_class_outside_the_table_travels_as_its_nearest_base() -> None:
    class Odd(errors.Truncated):
        pass

    code, text, metadata = to_wire(Odd("ends at byte 3"))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert type(from_wire(code, text, metadata, "host:1")) is errors.Truncated


@pytest.mark.parametrize(
    ("message", "sent"),
    [
        ("one\ntwo\r\nthree", "one two three"),
        ("x" * 5000, "x" * (MAX_MESSAGE_CHARS - 1) + "…"),
        ("name \udc80", "name \\udc80"),
    ],
)
def test_messages_are_one_short_line_of_valid_text(message: str, sent: str) -> None:
    assert to_wire(errors.InputError(message))[1] == sent


@pytest.mark.parametrize(
    ("code", "details", "kind"),
    [
        ("UNAVAILABLE", "failed; last error: ipv4: Connection refused (111)", errors.Unavailable),
        ("DEADLINE_EXCEEDED", "Deadline Exceeded", errors.Timeout),
        ("RESOURCE_EXHAUSTED", "Concurrent RPC limit exceeded!", errors.Overloaded),
        (
            "RESOURCE_EXHAUSTED",
            "SERVER: Received message larger than max (9 vs. 5)",
            errors.LimitExceeded,
        ),
        ("UNAUTHENTICATED", "no token", errors.Unauthenticated),
        ("PERMISSION_DENIED", "not you", errors.Unauthenticated),
        ("UNIMPLEMENTED", "Method not found!", errors.TransportError),
        ("CANCELLED", "", errors.TransportError),
        ("INTERNAL", "internal error, incident 1", errors.TransportError),
        ("INVALID_ARGUMENT", "a newer server's complaint", errors.FormatError),
        ("FAILED_PRECONDITION", "a newer server's complaint", errors.ProfileError),
    ],
)
@pytest.mark.parametrize("metadata", [(), ((ERROR_KEY, "FromTheFuture"),)])
def test_answers_that_name_no_known_error_go_by_code(
    code: str, details: str, kind: type[errors.FpcodecError], metadata: tuple[tuple[str, str], ...]
) -> None:
    error = from_wire(grpc.StatusCode[code], details, metadata, "host:7")
    assert type(error) is kind
    assert "host:7" in str(error)
    assert "\n" not in str(error)


def test_a_refused_connection_is_explained() -> None:
    details = "failed to connect to all addresses; last error: UNKNOWN: x: Connection refused (111)"
    error = from_wire(grpc.StatusCode.UNAVAILABLE, details, (), "host:7")
    assert "Connection refused" in str(error)
    assert "fpcodec serve --listen host:7" in str(error)
