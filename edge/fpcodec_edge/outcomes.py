"""How a stream behaves, and what it says of each frame."""

from __future__ import annotations

from dataclasses import dataclass, field

from fpcodec.errors import FpcodecError, InputError, TransportError
from fpcodec.status import MAX_PUSHBACK_MS, from_name
from fpcodec.v1 import codec_pb2
from fpcodec_edge.ledger import PendingFrame
from fpcodec_edge.replies import InferReply, to_reply
from fpcodec_edge.retry import RetryPolicy


@dataclass(frozen=True)
class StreamOptions:
    """How a stream behaves.

    Attributes:
        part_bytes: Longest piece of a frame in one message: about a packet, so that what has
            arrived when an answer is due is worth decoding.
        max_pending: Most frames that may await their answer.
        expires_after_s: After so long an answer is not wanted any more.
        silence_s: A connection that owes answers and says nothing for so long is given up.
        connect_s: Seconds for connecting and negotiating.
        reconnect: Waits between connections; they go on for ever, whatever ``max_attempts`` says.
        unary_calls: Calls at the same time to a server that knows no streams.
    """

    part_bytes: int = 1200
    max_pending: int = 8
    expires_after_s: float = 2.0
    silence_s: float = 5.0
    connect_s: float = 5.0
    reconnect: RetryPolicy = field(
        default_factory=lambda: RetryPolicy(initial_backoff_s=0.2, max_backoff_s=10.0)
    )
    unary_calls: int = 2

    def __post_init__(self) -> None:
        if min(self.part_bytes, self.max_pending, self.unary_calls) < 1:
            raise InputError(
                f"parts of {self.part_bytes} bytes, {self.max_pending} pending frames or "
                f"{self.unary_calls} calls send nothing; use 1 or more"
            )
        if not min(self.expires_after_s, self.silence_s, self.connect_s) > 0:
            raise InputError(
                f"{self.expires_after_s} s to expiry, {self.silence_s} s of silence or "
                f"{self.connect_s} s to connect leave no time; use more than 0"
            )


@dataclass(frozen=True)
class FrameOutcome:
    """What became of one frame.

    Attributes:
        frame_id: As ``StreamClient.send`` returned it.
        frame_bytes: The frame's length.
        reply: What was found; None where there is an error.
        error: Why there is no answer; None where there is one.
        error_name: The error's name on the wire, which may be newer than this release.
        retry_after_s: When the same frame may be sent again; None where that is of no use.
        sent_s: When the frame was begun, on the client's clock.
        settled_s: When its outcome was known.
    """

    frame_id: int
    frame_bytes: int
    reply: InferReply | None
    error: FpcodecError | None
    error_name: str
    retry_after_s: float | None
    sent_s: float
    settled_s: float


def read_outcome(
    frame: PendingFrame, response: codec_pb2.InferStreamResponse, heard_s: float, address: str
) -> FrameOutcome:
    """What a response says of a frame.

    Args:
        frame: The frame that it is about.
        response: With an answer or an error.
        heard_s: When it came, on the client's clock.
        address: The server, for messages.
    """
    reply: InferReply | None = None
    error: FpcodecError | None = None
    name, retry_after_s = "", None
    try:
        if response.WhichOneof("outcome") == "answer":
            reply = to_reply(response.answer, 1000 * (heard_s - frame.sent_s))
        else:
            said = response.error
            name = said.name or TransportError.__name__
            # A newer server may have errors that this release does not know.
            error = from_name(name, said.message) or TransportError(
                f"{address} answered {name}: {said.message}"
            )
            if said.HasField("retry_after_ms"):
                retry_after_s = min(said.retry_after_ms, MAX_PUSHBACK_MS) / 1000
    except TransportError as unread:
        error, name = unread, TransportError.__name__
    return FrameOutcome(
        frame.frame_id, frame.frame_bytes, reply, error, name, retry_after_s, frame.sent_s, heard_s
    )
