"""What travels between the server and its workers."""

from __future__ import annotations

from dataclasses import dataclass

from fpcodec.codecs.base import Decoded
from fpcodec_server.trace import parse_traceparent

Outcome = bytes | Exception
"""A serialised ``InferResponse``, or why there is none: a ``FpcodecError``, or an
``UnexpectedFailure`` that no client may read."""


@dataclass(frozen=True)
class Job:
    """One frame to answer.

    Attributes:
        stream_id: Of the profile that answers it.
        frame: The bytes of one ``.fpc`` frame.
        partial: Whether it may end early or be damaged.
        decoded: The frame's integers, where they are known already: an inter frame's.
        seconds_left: Until nobody wants the answer, at the moment of handing over; None for never.
        request_id: The client's name for the request; may be empty.
        traceparent: The server's step of the request's trace, as W3C trace context writes it; None
            outside of a call.
        odam_nms: Whether Odam-NMS selects the boxes.
    """

    stream_id: bytes
    frame: bytes
    partial: bool = False
    decoded: Decoded | None = None
    seconds_left: float | None = None
    request_id: str = ""
    traceparent: str | None = None
    odam_nms: bool = False

    @property
    def frame_bytes(self) -> int:
        """What it holds: the frame, and its integers where they are known."""
        held = len(self.frame)
        if self.decoded is not None:
            held += sum(x.nbytes for x in self.decoded.symbols.values())
            held += sum(x.nbytes for x in self.decoded.step_maps.values())
        return held

    @property
    def names(self) -> dict[str, str]:
        """What a line of the log calls it; nothing empty."""
        trace = None if self.traceparent is None else parse_traceparent(self.traceparent)
        names = {"request_id": self.request_id, "trace_id": trace.trace_id if trace else ""}
        return {key: value for key, value in names.items() if value}

    def fits(self, other: Job) -> bool:
        """Whether both can be worked on together."""
        return (self.stream_id, self.odam_nms) == (other.stream_id, other.odam_nms)
