"""The one tree of errors that fpcodec raises on purpose.

    FpcodecError
    ├── InputError              the caller's image, argument or file cannot be used
    ├── FormatError             the bytes are not a usable .fpc frame
    │   ├── BadMagic            not an .fpc frame at all
    │   ├── UnsupportedVersion  a frame version this release cannot read
    │   ├── UnknownCodec        a codec id this release does not have
    │   ├── Truncated           the frame ends too early
    │   ├── ChecksumMismatch    bytes were changed on the way
    │   ├── LimitExceeded       a declared size is above the receiver's limit
    │   └── InvalidField        a field holds a value the format forbids
    ├── ProfileError            a profile folder is damaged or incomplete
    │   └── ProfileMismatch     a frame or a peer uses another profile
    ├── ModelError              a detector cannot be loaded, cut or run
    │   └── MissingDependency   an optional package is needed; names the extra
    ├── NeedsRefresh            an inter frame whose reference is not at hand; send a refresh frame
    ├── WorkerLost              a worker process died while it worked
    └── TransportError          the request did not get an answer
        ├── Unavailable         no server there, or it is going away
        ├── Timeout             no answer before the deadline
        ├── Overloaded          the server refuses work for now
        └── Unauthenticated     one side refuses the other's credentials

A message is one line: what was wrong, the limit or the expectation, and what to do.
"""

from __future__ import annotations


class FpcodecError(Exception):
    """Base of every error that fpcodec raises on purpose."""


class InputError(FpcodecError, ValueError):
    """An image, argument or file given by the caller cannot be used."""


class FormatError(FpcodecError, ValueError):
    """Bytes are not a usable ``.fpc`` frame."""


class BadMagic(FormatError):
    """The bytes do not begin as an ``.fpc`` frame does."""


class UnsupportedVersion(FormatError):
    """The frame's version is unknown to this release."""


class UnknownCodec(FormatError):
    """The frame's codec id is unknown to this release."""


class Truncated(FormatError):
    """The frame ends before its declared end."""


class ChecksumMismatch(FormatError):
    """A checksum does not match: bytes were changed on the way."""


class LimitExceeded(FormatError):
    """A declared size is above the receiver's limit."""


class InvalidField(FormatError):
    """A field holds a value that the format forbids."""


class ProfileError(FpcodecError):
    """A profile folder is damaged, incomplete or of an unknown format version."""


class ProfileMismatch(ProfileError):
    """A frame or a peer uses another profile than the one at hand."""


class ModelError(FpcodecError):
    """A detector cannot be loaded, cut or run."""


class MissingDependency(ModelError):
    """An optional package is needed; the message names the extra that installs it."""


class NeedsRefresh(FpcodecError):
    """An inter frame leans on another state than the decoder's; only a refresh frame helps."""


class WorkerLost(FpcodecError):
    """A worker process died while it worked."""


class TransportError(FpcodecError):
    """A request did not get an answer."""


class Unavailable(TransportError):
    """No server answers at the address, or it is shutting down."""


class Timeout(TransportError):
    """No answer came before the deadline."""


class Overloaded(TransportError):
    """The server refuses more work for now.

    Attributes:
        retry_after_ms: Milliseconds after which the same request may be taken; None where the
            server gave no hint.
    """

    def __init__(self, message: str, retry_after_ms: int | None = None) -> None:
        super().__init__(message)
        self.retry_after_ms = retry_after_ms


class Unauthenticated(TransportError):
    """The server refuses this client's credentials, or the client the server's certificate."""
