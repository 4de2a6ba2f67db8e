"""What frames and their answers tell of a link: goodput and round trip."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from fpcodec.errors import InputError

_WINDOW_S = 10.0
_MAX_SAMPLES = 64
_LEAST_BUSY_S = 0.004
"""A link that was busy for less was not slower than this: clocks and threads jitter."""

_OVERDUE_S = 0.02
_HELD_S, _HELD_SHARE = 0.04, 0.5
"""An answer is overdue after so long, or so much of the time that its frame should have taken."""

_PINGS, _PING_S, _PING_SOON_S, _SUSPICIOUS = 3, 5.0, 1.0, 0.6
"""How many pings count, seconds between them, seconds where the goodput fell by so much since."""

_MIN_BPS, _MAX_BPS = 4e3, 1e9
_FALL, _RISE, _MOST_RISE = 0.5, 0.35, 2.0
_SMOOTH = 0.2


@dataclass(frozen=True)
class _Sent:
    sent_s: float
    frame_bytes: int


class LinkEstimate:
    """Goodput and round trip of a link, from sizes and times alone.

    The model: a frame of B bytes takes a round trip, plus B bytes at the goodput, begun when the
    link had delivered the frame before it. The server's own time, which answers tell, is taken
    off. Answers that are overdue count before they come, so that a link that has slowed down is
    noticed while it is silent. All times are seconds of one monotonic clock, given by the caller.

    Args:
        start_bps: Goodput to begin with, in bit/s: a careful guess costs little.

    Raises:
        InputError: The guess is not positive.
    """

    def __init__(self, start_bps: float = 256e3) -> None:
        if not start_bps > 0:
            raise InputError(f"a goodput of {start_bps} bit/s sends nothing; use more than 0")
        self._bps = min(max(start_bps, _MIN_BPS), _MAX_BPS)
        self._flying: dict[int, _Sent] = {}
        self._samples: deque[tuple[float, float]] = deque(maxlen=_MAX_SAMPLES)
        self._pings: deque[float] = deque(maxlen=_PINGS)
        self._pinged_s, self._pinged_bps = float("-inf"), 0.0
        self._delivered_s = float("-inf")
        self._server_s = 0.0
        self._last_sample = _MAX_BPS

    @property
    def server_s(self) -> float:
        """Seconds the server spends on a frame, smoothed."""
        return self._server_s

    @property
    def flying_bytes(self) -> int:
        """Bytes of the frames without an answer."""
        return sum(frame.frame_bytes for frame in self._flying.values())

    @property
    def round_trip_s(self) -> float:
        """Seconds of a frame of no bytes, to an idle link and a server that takes no time."""
        known = [*self._pings, *(net_s for _, net_s in self._samples)]
        return min(known, default=0.0)

    def wants_ping(self, now_s: float) -> bool:
        """Whether the round trip should be measured anew: sizes alone do not tell it from speed."""
        slower = self._bps < _SUSPICIOUS * self._pinged_bps
        return not self._flying and now_s - self._pinged_s > (_PING_SOON_S if slower else _PING_S)

    def goodput_bps(self, now_s: float) -> float:
        """Bit/s of frames that the link delivers, as far as is known now."""
        if not self._flying:
            return self._bps
        first = next(iter(self._flying.values()))
        begun_s = max(first.sent_s + self.round_trip_s, self._delivered_s)
        overdue_s = now_s - begun_s - self._server_s
        if overdue_s < _OVERDUE_S:
            return self._bps
        return max(_MIN_BPS, min(self._bps, 8 * first.frame_bytes / overdue_s))

    def is_overdue(self, now_s: float) -> bool:
        """Whether an answer should long be there: what is sent now would only wait behind it."""
        if not self._flying:
            return False
        first = next(iter(self._flying.values()))
        busy_s = 8 * first.frame_bytes / self._bps
        begun_s = max(first.sent_s + self.round_trip_s, self._delivered_s)
        late_s = now_s - begun_s - self._server_s - busy_s
        return late_s > max(_HELD_S, _HELD_SHARE * busy_s)

    def free_at_s(self, now_s: float) -> float:
        """When the link will have taken in all that was sent."""
        if not self._flying:
            return now_s
        first = next(iter(self._flying.values()))
        begun_s = max(first.sent_s, self._delivered_s - self.round_trip_s)
        return begun_s + 8 * self.flying_bytes / self.goodput_bps(now_s)

    def connected(self, hello_s: float, now_s: float) -> None:
        """Begin anew on another connection.

        Args:
            hello_s: Seconds that its first word took: a round trip of nearly no bytes.
            now_s: The time.
        """
        self._flying.clear()
        self._samples.clear()
        self._pings.clear()
        self._delivered_s = float("-inf")
        self.pinged(hello_s, now_s)

    def pinged(self, round_trip_s: float, now_s: float) -> None:
        """Note the round trip of nearly no bytes on an idle link."""
        self._pings.append(round_trip_s)
        self._pinged_s, self._pinged_bps = now_s, self._bps

    def sent(self, frame_id: int, frame_bytes: int, now_s: float) -> None:
        """Note a frame that was begun."""
        self._flying[frame_id] = _Sent(now_s, frame_bytes)

    def answered(
        self, frame_id: int, now_s: float, server_s: float, delivered_bytes: int | None = None
    ) -> None:
        """Note an answer.

        Args:
            frame_id: The frame's.
            now_s: The time.
            server_s: Seconds the server says it spent.
            delivered_bytes: Bytes it had by then; None for the whole frame.
        """
        frame = self._flying.pop(frame_id, None)
        if frame is None:
            return
        size = frame.frame_bytes if delivered_bytes is None else delivered_bytes
        delivered_s = now_s - server_s
        self._server_s += _SMOOTH * (server_s - self._server_s)
        while self._samples and self._samples[0][0] < now_s - _WINDOW_S:
            self._samples.popleft()
        begun_s = max(frame.sent_s + self.round_trip_s, self._delivered_s)
        self._learn(8 * size, delivered_s - begun_s)
        self._samples.append((now_s, delivered_s - frame.sent_s))
        self._delivered_s = max(self._delivered_s, delivered_s)

    def lost(self, frame_id: int, now_s: float) -> None:
        """Note a frame that will have no answer, or one that tells nothing of the link."""
        if frame_id in self._flying:
            self._bps = self.goodput_bps(now_s)
            del self._flying[frame_id]

    def _learn(self, bits: int, busy_s: float) -> None:
        sample = min(max(bits / max(busy_s, _LEAST_BUSY_S), _MIN_BPS), _MAX_BPS)
        if sample < self._bps and busy_s >= _LEAST_BUSY_S:
            # One slow frame may be a packet that was sent again; two are a slower link.
            again = self._last_sample < self._bps
            slower = max(sample, self._last_sample) if again else sample
            self._bps += (1.0 if again else _FALL) * (slower - self._bps)
        elif sample > self._bps:
            self._bps += _RISE * (min(sample, self._bps * _MOST_RISE) - self._bps)
        self._last_sample = sample if busy_s >= _LEAST_BUSY_S else _MAX_BPS
