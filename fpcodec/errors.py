"""The one tree of errors that fpcodec raises on purpose::

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

from typing import ClassVar


class FpcodecError(Exception):
    """Base of every error that fpcodec raises on purpose.

    Attributes:
        cause: What makes it happen, for ``docs/errors.md``; every class has its own.
        remedy: What helps.
    """

    cause: ClassVar[str] = (
        "Base of all others; a peer that answers it alone has a fault of its own."
    )
    remedy: ClassVar[str] = "Look into the server's log, and report what stands there."


class InputError(FpcodecError, ValueError):
    """An image, argument or file given by the caller cannot be used."""

    cause = (
        "An image, argument, setting or file cannot be used: missing, unreadable, out of its "
        "range, or in the way of what is to be written."
    )
    remedy = (
        "The message names the input and what is expected instead; correct it and run the command "
        "again."
    )


class FormatError(FpcodecError, ValueError):
    """Bytes are not a usable ``.fpc`` frame."""

    cause = "The bytes are not a frame that can be read, or a message of the wire is not one."
    remedy = (
        "Encode the image again; where it happens again, compare the releases of both sides with "
        "`fpcodec --version`."
    )


class BadMagic(FormatError):
    """The bytes do not begin as an ``.fpc`` frame does."""

    cause = "The bytes do not begin as a frame does: another file, or a frame cut at its start."
    remedy = "Name a file that `fpcodec encode` wrote; look at it with `fpcodec inspect`."


class UnsupportedVersion(FormatError):
    """The frame's version is unknown to this release."""

    cause = "The frame was written by a newer release, whose format this one does not know."
    remedy = "Update the side that reads; its `fpcodec --version` is the older one."


class UnknownCodec(FormatError):
    """The frame's codec id is unknown to this release."""

    cause = "The frame's codec came with a newer release, or its header is damaged."
    remedy = "Update the side that reads, or encode the image again."


class Truncated(FormatError):
    """The frame ends before its declared end."""

    cause = "The frame ends before its declared end: a copy or a connection broke off."
    remedy = "Send it again; or decode what arrived with `partial=True`."


class ChecksumMismatch(FormatError):
    """A checksum does not match: bytes were changed on the way."""

    cause = "Bytes of the frame were changed on the way or on disk."
    remedy = (
        "Send or copy it again; `fpcodec inspect` names the damaged chunks, `partial=True` "
        "decodes the others."
    )


class LimitExceeded(FormatError):
    """A declared size is above the receiver's limit."""

    cause = "A size that the frame or message declares is above what the receiver allows."
    remedy = (
        "Send fewer levels or a lower quality; where such sizes are wanted, raise the limit that "
        "the message names."
    )


class InvalidField(FormatError):
    """A field holds a value that the format forbids."""

    cause = (
        "A field of the frame holds a value that the format forbids: damage, or a faulty encoder."
    )
    remedy = "Encode the image again; where it happens again, report it with the frame."


class ProfileError(FpcodecError):
    """A profile folder is damaged, incomplete or of an unknown format version."""

    cause = "A profile's folder is absent, damaged, incomplete or of another format version."
    remedy = (
        "Check it with `fpcodec profiles verify DIR`; copy it again, or make it again with "
        "`fpcodec calibrate`."
    )


class ProfileMismatch(ProfileError):
    """A frame or a peer uses another profile than the one at hand."""

    cause = "Edge and server, or a frame and its reader, have different profiles."
    remedy = (
        "Deploy the same folder on both sides; `fpcodec profiles show DIR` prints the stream id "
        "that must be equal."
    )


class ModelError(FpcodecError):
    """A detector cannot be loaded, cut or run."""

    cause = (
        "A detector cannot be loaded, cut or run: a wrong file, a wrong tensor, another "
        "architecture, a runtime that failed."
    )
    remedy = (
        "The message names the model and what was found; correct the SPEC, or fetch the file again."
    )


class MissingDependency(ModelError):
    """An optional package is needed; the message names the extra that installs it."""

    cause = "The command needs an optional package that is not installed."
    remedy = "Install the extra that the message names."


class NeedsRefresh(FpcodecError):
    """An inter frame leans on another state than the decoder's; only a refresh frame helps."""

    cause = (
        "An inter frame leans on frames that the receiver does not have: one was lost, or it "
        "restarted."
    )
    remedy = "The edge client sends a refresh frame by itself; of your own client, do the same."


class WorkerLost(FpcodecError):
    """A worker process died while it worked."""

    cause = "A worker process died at work, most often for want of memory."
    remedy = (
        "Try again: another worker may answer. Where it stays, use fewer workers or smaller "
        "batches."
    )


class TransportError(FpcodecError):
    """A request did not get an answer."""

    cause = "A request did not get an answer, for a reason that no class below has."
    remedy = (
        "The message says what the other side answered; check address, release and what lies "
        "between."
    )


class Unavailable(TransportError):
    """No server answers at the address, or it is shutting down."""

    cause = "No server answers at the address, it is shutting down, or the link is down."
    remedy = "Start the server or correct the address; the edge client tries again by itself."


class Timeout(TransportError):
    """No answer came before the deadline."""

    cause = "No answer came before the deadline."
    remedy = "Allow more time with `--deadline`, or send fewer levels or a lower quality."


class Overloaded(TransportError):
    """The server refuses more work for now.

    Attributes:
        retry_after_ms: Milliseconds after which the same request may be taken; None where the
            server gave no hint.
    """

    cause = (
        "The server refuses work for now: its queue is full, or this client is above its limits."
    )
    remedy = (
        "Wait as long as the answer says and send again; slow down, or raise `queue` or `clients` "
        "in the server's settings."
    )

    def __init__(self, message: str, retry_after_ms: int | None = None) -> None:
        super().__init__(message)
        self.retry_after_ms = retry_after_ms


class Unauthenticated(TransportError):
    """The server refuses this client's credentials, or the client the server's certificate."""

    cause = "One side refuses the other's certificate or token."
    remedy = "The message says whose; give the right `--tls-ca`, `--tls-cert` or `--token-file`."
