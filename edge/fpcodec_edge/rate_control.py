"""How many bytes the next frame may have, and when it may be sent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fpcodec.errors import InputError
from fpcodec_edge.link_estimate import LinkEstimate

_USABLE = 0.85
"""Share of the goodput that frames are planned for: retransmissions and headers have the rest."""

_TRANSFER = 0.5
"""Share of the time left under the latency bound that one frame's bytes may take: a link that
slows down to half its speed still keeps the bound."""

_LEAST_TRANSFER_S = 0.02
_LEAST_ANSWER_S = 0.05
_BACKLOG_S = 0.01
_SMOOTH = 0.2


@dataclass(frozen=True)
class RateTarget:
    """What the controller aims at.

    Attributes:
        latency_s: Bound from an image's capture to its answer.
        quality: Of frames where the link has room for it, in [0, 1]; more is never sent.
        max_bps: Most bits of frames per second; None for what the link carries.
        max_frame_bytes: Longest frame; None for what the link carries.
        min_frame_bytes: Budgets are never below.
        worthwhile_bytes: Rather than send shorter frames than these, fewer are sent, ..
        min_fps: .. down to so many per second.

    Raises:
        InputError: A value is out of range.
    """

    latency_s: float = 0.5
    quality: float = 0.6
    max_bps: float | None = None
    max_frame_bytes: int | None = None
    min_frame_bytes: int = 300
    worthwhile_bytes: int = 1500
    min_fps: float = 2.0

    def __post_init__(self) -> None:
        if not 0 <= self.quality <= 1:
            raise InputError(f"quality {self.quality} is not in [0, 1]; 1 is the best")
        if not min(self.latency_s, self.min_fps, self.min_frame_bytes, self.worthwhile_bytes) > 0:
            raise InputError(
                f"a latency of {self.latency_s} s, {self.min_fps} frames per second, or frames of "
                f"{self.min_frame_bytes} or {self.worthwhile_bytes} bytes leave nothing to send; "
                "use more than 0"
            )
        if self.max_bps is not None and not self.max_bps > 0:
            raise InputError(f"a target of {self.max_bps} bit/s sends nothing; use more than 0")
        if self.max_frame_bytes is not None and self.max_frame_bytes < self.min_frame_bytes:
            raise InputError(
                f"frames of {self.max_frame_bytes} bytes hold no pyramid; allow "
                f"{self.min_frame_bytes} or more"
            )


@dataclass(frozen=True)
class FramePlan:
    """How to encode and send the next frame.

    Attributes:
        quality: In [0, 1]; None where ``max_bytes`` takes its place.
        max_bytes: Longest frame; None where the link has room for ``quality``.
        budget_bytes: What the link has room for, in either case.
    """

    quality: float | None
    max_bytes: int | None
    budget_bytes: int


class RateController:
    """Turns measured goodput and round trip into frame sizes and sending times.

    Pure: it has no thread and reads only the clock it is given. Tell it of every frame captured,
    encoded, sent and settled.

    Args:
        target: What to aim at.
        link: The link's estimate; None for a fresh one.
        clock: Monotonic seconds.
    """

    def __init__(
        self, target: RateTarget, clock: Callable[[], float], link: LinkEstimate | None = None
    ) -> None:
        self.target, self.link, self._clock = target, link or LinkEstimate(), clock
        self._captured_s: float | None = None
        self._interval_s: float | None = None
        self._edge_s = 0.0
        self._next_s = float("-inf")
        self._full_bytes: int | None = None
        self._is_cut = False

    @property
    def goodput_bps(self) -> float:
        """Bit/s that the link delivers, as far as is known."""
        return self.link.goodput_bps(self._clock())

    @property
    def fps(self) -> float | None:
        """Frames per second that the source gives; None where it waits for the link."""
        return None if self._interval_s is None else 1 / max(self._interval_s, 1e-3)

    def captured(self, captured_s: float) -> None:
        """Note when an image of a live source was made."""
        if self._captured_s is not None:
            interval_s = captured_s - self._captured_s
            old_s = interval_s if self._interval_s is None else self._interval_s
            self._interval_s = old_s + _SMOOTH * (interval_s - old_s)
        self._captured_s = captured_s

    def ready(self) -> bool:
        """Whether the link has room for a frame now."""
        now_s = self._clock()
        if now_s < self._next_s:
            return False
        if not self.link.flying_bytes:
            return True
        if self.link.is_overdue(now_s) or self.link.free_at_s(now_s) > now_s + _BACKLOG_S:
            return False
        bps = self.link.goodput_bps(now_s)
        window_s = self.link.round_trip_s + self.link.server_s + 2 * self._transfer_s()
        return 8 * (self.link.flying_bytes + self._budget_bytes(now_s)) <= bps * window_s

    def plan(self) -> FramePlan:
        """How to encode the frame that is sent now."""
        budget = self._budget_bytes(self._clock())
        # The first frame shows how long frames are, unless somebody has set a limit.
        unlimited = self.target.max_bps is None and self.target.max_frame_bytes is None
        full_bytes = self._full_bytes or (0 if unlimited else budget + 1)
        if full_bytes <= budget:
            return FramePlan(self.target.quality, None, budget)
        return FramePlan(None, budget, budget)

    def answer_within_s(self, captured_s: float) -> float:
        """When, on the server, an answer is due that arrives within the latency bound."""
        age_s = self._clock() - captured_s
        left_s = self.target.latency_s - age_s - self.link.round_trip_s - self.link.server_s
        return max(left_s, _LEAST_ANSWER_S)

    def encoded(self, frame_bytes: int, quality: float, edge_s: float) -> None:
        """Note a frame that was made.

        Args:
            frame_bytes: Its length.
            quality: The quality it came out with, in [0, 1].
            edge_s: Seconds it took.
        """
        self._edge_s += _SMOOTH * (edge_s - self._edge_s)
        # The wire has 256 qualities. A frame cut to its budget would have been longer than it is.
        self._is_cut = quality < self.target.quality - 1 / 255
        if self._is_cut:
            frame_bytes = max(self._full_bytes or 0, frame_bytes + 1)
        self._full_bytes = frame_bytes

    def sent(self, frame_id: int, frame_bytes: int) -> None:
        """Note a frame that was begun."""
        now_s = self._clock()
        self.link.sent(frame_id, frame_bytes, now_s)
        pauses_s = [0.0]
        if self.target.max_bps is not None:
            pauses_s.append(8 * frame_bytes / self.target.max_bps)
        fps, source = self._planned_fps(now_s), self.fps
        if fps is not None and source is not None and fps < source:
            pauses_s.append(1 / fps)
        # Images come at the camera's times, not at ours: what one came late, the next may catch
        # up, and no more.
        late_s = max(self._interval_s or 0.0, _BACKLOG_S)
        self._next_s = max(self._next_s, now_s - late_s) + max(pauses_s)

    def _transfer_s(self) -> float:
        """Seconds that one frame's bytes may take on the link."""
        taken_s = self.link.round_trip_s + self.link.server_s + self._edge_s
        waits_s = min(self._interval_s or 0.0, 0.1)
        left_s = self.target.latency_s - taken_s - waits_s
        return max(_TRANSFER * left_s, _LEAST_TRANSFER_S)

    def _usable_bps(self, now_s: float) -> float:
        bps = _USABLE * self.link.goodput_bps(now_s)
        return bps if self.target.max_bps is None else min(bps, self.target.max_bps)

    def _planned_fps(self, now_s: float) -> float | None:
        """Frames per second to send: the source's, or fewer that are worth sending."""
        if self.fps is None:
            return None
        wanted = min(self.target.worthwhile_bytes, self._longest_bytes(now_s))
        if self._full_bytes is not None and not self._is_cut:
            wanted = min(wanted, self._full_bytes)
        affordable = self._usable_bps(now_s) / (8 * wanted)
        return min(self.fps, max(affordable, self.target.min_fps))

    def _budget_bytes(self, now_s: float) -> int:
        budget = self._longest_bytes(now_s)
        fps = self._planned_fps(now_s)
        if fps is not None:
            budget = min(budget, self._usable_bps(now_s) / (8 * fps))
        return max(round(budget), self.target.min_frame_bytes)

    def _longest_bytes(self, now_s: float) -> float:
        """What one frame may have, however seldom frames are sent."""
        longest = self.link.goodput_bps(now_s) * self._transfer_s() / 8
        if self.target.max_frame_bytes is not None:
            longest = min(longest, self.target.max_frame_bytes)
        return max(longest, self.target.min_frame_bytes)
