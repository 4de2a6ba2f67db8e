"""What travels between the server and its workers."""

from __future__ import annotations

from dataclasses import dataclass

from fpcodec.codecs.base import Decoded

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
    """

    stream_id: bytes
    frame: bytes
    partial: bool = False
    decoded: Decoded | None = None
    seconds_left: float | None = None

    @property
    def frame_bytes(self) -> int:
        """What it holds: the frame, and its integers where they are known."""
        held = len(self.frame)
        if self.decoded is not None:
            held += sum(x.nbytes for x in self.decoded.symbols.values())
            held += sum(x.nbytes for x in self.decoded.step_maps.values())
        return held

    def fits(self, other: Job) -> bool:
        """Whether both can be worked on together."""
        return self.stream_id == other.stream_id
