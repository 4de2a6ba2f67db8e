"""Which frames of a stream await their outcome, and how many more may be begun."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fpcodec.errors import Overloaded


@dataclass(frozen=True)
class PendingFrame:
    """A frame that was begun and has no outcome yet.

    Attributes:
        frame_id: Counts up within a call.
        frame_bytes: Its length.
        sent_s: When it was begun.
        expires_s: When nobody wants its answer any more.
    """

    frame_id: int
    frame_bytes: int
    sent_s: float
    expires_s: float


class FrameLedger:
    """Credits and pending frames of one call. Every frame begun is settled exactly once.

    A frame that expires here keeps its credit until the server speaks of it: the server still
    has it in hand.

    Args:
        max_pending: Most frames that may await their outcome, however many credits there are.
        clock: Monotonic seconds.
    """

    def __init__(self, max_pending: int, clock: Callable[[], float]) -> None:
        self._max_pending, self._clock = max_pending, clock
        self._credits = 0
        self._next_id = 1
        self._pending: dict[int, PendingFrame] = {}

    @property
    def may_begin(self) -> bool:
        """Whether a frame may be begun now."""
        return self._credits > 0 and len(self._pending) < self._max_pending

    @property
    def pending(self) -> int:
        """Frames that await their outcome."""
        return len(self._pending)

    def grant(self, credits: int) -> None:
        """Note credits that the server granted."""
        self._credits += credits

    def begin(self, frame_bytes: int, expires_after_s: float) -> PendingFrame:
        """Spend a credit on a frame.

        Raises:
            Overloaded: There is no credit, or too many frames are pending.
        """
        if not self.may_begin:
            raise Overloaded(
                f"{len(self._pending)} frames await their answer and {self._credits} more may be "
                "begun; wait for an answer"
            )
        now_s = self._clock()
        frame = PendingFrame(self._next_id, frame_bytes, now_s, now_s + expires_after_s)
        self._next_id += 1
        self._credits -= 1
        self._pending[frame.frame_id] = frame
        return frame

    def is_pending(self, frame_id: int) -> bool:
        """Whether a frame awaits its outcome."""
        return frame_id in self._pending

    def settle(self, frame_id: int) -> PendingFrame | None:
        """Take a frame out; None where it was settled before, or never begun."""
        return self._pending.pop(frame_id, None)

    def take_expired(self) -> list[PendingFrame]:
        """Take out the frames whose time is over, oldest first."""
        now_s = self._clock()
        late = [frame for frame in self._pending.values() if frame.expires_s <= now_s]
        for frame in late:
            del self._pending[frame.frame_id]
        return late

    def take_all(self) -> list[PendingFrame]:
        """Take out every frame, oldest first, and forget all credits: the call has ended."""
        left = list(self._pending.values())
        self._pending.clear()
        self._credits = 0
        return left
