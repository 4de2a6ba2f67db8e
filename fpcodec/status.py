"""How errors travel: one table of error classes and gRPC status codes, read in both directions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import grpc

from fpcodec import errors
from fpcodec.errors import FpcodecError
from fpcodec.handshake import handshake_error

ERROR_KEY = "fpcodec-error"
"""Trailing metadata key whose value names the exact error class."""

PUSHBACK_KEY = "grpc-retry-pushback-ms"
"""Trailing metadata key, gRPC's own, of the milliseconds to wait before a retry."""

TIME_KEY = "fpcodec-time-ms"
"""Trailing metadata key of the server's clock, in an answer to ``Negotiate``: milliseconds since
1970, by which a device finds out that its own is wrong."""

MAX_PUSHBACK_MS = 60_000
"""Longest wait that a server is believed."""

MAX_MESSAGE_CHARS = 512
"""Longest message on the wire: receivers drop calls whose metadata is above 8 KiB, and gRPC writes
a character outside ASCII as up to twelve bytes."""


@dataclass(frozen=True)
class Status:
    """What one error class is on the wire.

    Attributes:
        error: The class; its name is the machine-readable reason.
        code: The gRPC status code.
        retryable: Whether the same request may succeed a moment later.
    """

    error: type[FpcodecError]
    code: grpc.StatusCode
    retryable: bool = False

    @property
    def reason(self) -> str:
        """The value under ``ERROR_KEY``."""
        return self.error.__name__


# RESOURCE_EXHAUSTED means overload alone: a frame above a limit stays so however often it is
# sent, so LimitExceeded is INVALID_ARGUMENT like every other fault of a frame.
STATUSES: tuple[Status, ...] = (
    Status(errors.FpcodecError, grpc.StatusCode.INTERNAL),
    Status(errors.InputError, grpc.StatusCode.INVALID_ARGUMENT),
    Status(errors.FormatError, grpc.StatusCode.INVALID_ARGUMENT),
    Status(errors.BadMagic, grpc.StatusCode.INVALID_ARGUMENT),
    Status(errors.UnsupportedVersion, grpc.StatusCode.INVALID_ARGUMENT),
    Status(errors.UnknownCodec, grpc.StatusCode.INVALID_ARGUMENT),
    Status(errors.Truncated, grpc.StatusCode.INVALID_ARGUMENT),
    Status(errors.ChecksumMismatch, grpc.StatusCode.INVALID_ARGUMENT),
    Status(errors.LimitExceeded, grpc.StatusCode.INVALID_ARGUMENT),
    Status(errors.InvalidField, grpc.StatusCode.INVALID_ARGUMENT),
    Status(errors.ProfileError, grpc.StatusCode.FAILED_PRECONDITION),
    Status(errors.ProfileMismatch, grpc.StatusCode.FAILED_PRECONDITION),
    Status(errors.ModelError, grpc.StatusCode.INTERNAL),
    Status(errors.MissingDependency, grpc.StatusCode.INTERNAL),
    # The same frame again helps nothing: the sender codes a refresh frame and goes on from it.
    Status(errors.NeedsRefresh, grpc.StatusCode.FAILED_PRECONDITION),
    # Nothing is wrong with the request: another worker may answer it.
    Status(errors.WorkerLost, grpc.StatusCode.UNAVAILABLE, retryable=True),
    Status(errors.TransportError, grpc.StatusCode.UNKNOWN),
    Status(errors.Unavailable, grpc.StatusCode.UNAVAILABLE, retryable=True),
    Status(errors.Timeout, grpc.StatusCode.DEADLINE_EXCEEDED),
    Status(errors.Overloaded, grpc.StatusCode.RESOURCE_EXHAUSTED, retryable=True),
    Status(errors.Unauthenticated, grpc.StatusCode.UNAUTHENTICATED),
)

# For answers that name no error this release knows: a proxy's, gRPC's own, a newer server's.
_CLASS_OF_CODE: dict[grpc.StatusCode, type[FpcodecError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: errors.FormatError,
    grpc.StatusCode.FAILED_PRECONDITION: errors.ProfileError,
    grpc.StatusCode.UNAVAILABLE: errors.Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.Timeout,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.Overloaded,
    grpc.StatusCode.UNAUTHENTICATED: errors.Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: errors.Unauthenticated,
}


def status_of(error: FpcodecError) -> Status:
    """The table's row for an error; a class that is not in the table has its nearest base's."""
    rows = {row.error: row for row in STATUSES}
    return next(rows[base] for base in type(error).__mro__ if base in rows)


def to_wire(error: FpcodecError) -> tuple[grpc.StatusCode, str, tuple[tuple[str, str], ...]]:
    """Status code, one-line message and trailing metadata that carry an error."""
    status = status_of(error)
    metadata: tuple[tuple[str, str], ...] = ((ERROR_KEY, status.reason),)
    if isinstance(error, errors.Overloaded) and error.retry_after_ms is not None:
        metadata += ((PUSHBACK_KEY, str(error.retry_after_ms)),)
    return status.code, _one_line(str(error)), metadata


def from_wire(
    code: grpc.StatusCode, message: str, metadata: Iterable[tuple[str, Any]], address: str
) -> FpcodecError:
    """The error that a failed call carries.

    Args:
        code: The call's status code.
        message: The call's message.
        metadata: The call's trailing metadata.
        address: The server, for messages that did not come from one.

    Returns:
        The class and message that the server raised, where it names a known class; else an
        error by status code whose message names the address.
    """
    trailers = dict(metadata)
    error = from_name(trailers.get(ERROR_KEY), message)
    if error is None:
        error = _from_code(code, _one_line(message), address)
    if isinstance(error, errors.Overloaded):
        error.retry_after_ms = _pushback_ms(trailers.get(PUSHBACK_KEY))
    return error


def from_rpc_error(error: Any, address: str) -> FpcodecError:
    """The error that a failed call of gRPC's carries; see ``from_wire``.

    Args:
        error: A ``grpc.RpcError`` that is the call too, as gRPC raises it.
        address: The server, for messages that did not come from one.
    """
    return from_wire(error.code(), error.details() or "", error.trailing_metadata() or (), address)


def from_name(reason: object, message: str) -> FpcodecError | None:
    """The error of a class's name; None where this release knows no such class."""
    for status in STATUSES:
        if status.reason == reason:
            return status.error(_one_line(message))
    return None


def _pushback_ms(value: object) -> int | None:
    text = str(value)
    return (
        min(int(text), MAX_PUSHBACK_MS)
        if text.isascii() and text.isdigit() and len(text) < 10
        else None
    )


def _from_code(code: grpc.StatusCode, message: str, address: str) -> FpcodecError:
    # gRPC's own message for "Connection refused" is five lines' worth of nested causes.
    cause = message.rsplit(": ", 1)[-1].strip("[]") or code.name
    if code is grpc.StatusCode.UNAVAILABLE:
        handshake = handshake_error(message, address)
        if handshake is not None:
            return handshake
        return errors.Unavailable(
            f"no answer from {address} ({cause}); start a server there with "
            f"`fpcodec serve --listen {address}`, or correct the address"
        )
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return errors.Timeout(
            f"no answer from {address} before the deadline; allow more time or send fewer levels"
        )
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in message:
        return errors.LimitExceeded(
            f"a message to or from {address} is too long ({message}); send fewer levels or a "
            "lower quality"
        )
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return errors.TransportError(
            f"the server at {address} does not know this call ({message}); "
            "is it `fpcodec serve`, and of this release?"
        )
    return _CLASS_OF_CODE.get(code, errors.TransportError)(
        f"{address} answered {code.name}: {message or 'no details'}"
    )


def _one_line(message: str) -> str:
    """Printable UTF-8 on one line, within the wire's length."""
    text = " ".join(message.encode("utf-8", "backslashreplace").decode().splitlines())
    return text if len(text) <= MAX_MESSAGE_CHARS else text[: MAX_MESSAGE_CHARS - 1] + "…"
