"""A camera and a link on a virtual clock, around a real rate controller."""

from __future__ import annotations

import heapq
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from fpcodec_edge.rate_control import RateController, RateTarget

Schedule = Sequence[tuple[float, float]]
"""Since when, in seconds, the link has which rate in bit/s."""


@dataclass
class Delivery:
    """A frame that was answered."""

    captured_s: float
    sent_s: float
    answered_s: float
    frame_bytes: int

    @property
    def latency_s(self) -> float:
        return self.answered_s - self.captured_s


@dataclass
class SimulatedCamera:
    """Sends frames over a link whose rate changes; a frame never gets lost, but may be late.

    Attributes:
        schedule: The link's rates.
        target: The controller's.
        fps: Of the camera.
        round_trip_s: Of the link.
        server_s: Of the server, give or take half.
        full_bytes: Of a frame at the quality that is aimed at, give or take a quarter.
        retransmit: Share of frames that the link delivers 0.2 s late.
    """

    schedule: Schedule
    target: RateTarget = field(default_factory=RateTarget)
    fps: float = 12.5
    round_trip_s: float = 0.04
    server_s: float = 0.02
    edge_s: float = 0.02
    full_bytes: int = 3000
    retransmit: float = 0.0
    seed: int = 0
    now_s: float = 0.0
    deliveries: list[Delivery] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.controller = RateController(self.target, lambda: self.now_s)
        self._rng = random.Random(self.seed)
        self._free_s = 0.0

    def bps(self, at_s: float) -> float:
        return next(bps for since_s, bps in reversed(self.schedule) if since_s <= at_s)

    def run(self, seconds: float) -> list[Delivery]:
        """Everything that was answered within the time; the camera's images wait at most one."""
        self.controller.link.connected(self.round_trip_s, 0.0)
        answers: list[tuple[float, int, Delivery, float]] = []
        waiting, next_capture_s, number = None, 0.0, 0
        while self.now_s < seconds:
            while answers and answers[0][0] <= self.now_s:
                _, frame_id, delivery, server_s = heapq.heappop(answers)
                self.controller.link.answered(frame_id, self.now_s, server_s)
                self.deliveries.append(delivery)
            if self.now_s >= next_capture_s:
                waiting = next_capture_s
                self.controller.captured(next_capture_s)
                next_capture_s += 1 / self.fps
            if self.controller.link.wants_ping(self.now_s):
                self.now_s += self.round_trip_s
                self.controller.link.pinged(self.round_trip_s, self.now_s)
            if waiting is not None and self.controller.ready():
                number += 1
                delivery, server_s = self._send(number, waiting)
                heapq.heappush(answers, (delivery.answered_s, number, delivery, server_s))
                waiting = None
            self.now_s += 0.002
        return self.deliveries

    def _send(self, number: int, captured_s: float) -> tuple[Delivery, float]:
        plan = self.controller.plan()
        full = int(self.full_bytes * self._rng.uniform(0.75, 1.25))
        size = full if plan.max_bytes is None else min(full, plan.max_bytes)
        quality = self.target.quality * min(1.0, size / full)
        self.now_s += self.edge_s
        self.controller.encoded(size, quality, self.edge_s)
        self.controller.sent(number, size)
        start_s = max(self.now_s, self._free_s)
        left_bits, at_s = 8.0 * size, start_s
        while left_bits > 0:
            left_bits -= self.bps(at_s) * 0.001
            at_s += 0.001
        if self._rng.random() < self.retransmit:
            at_s += 0.2
        self._free_s = at_s
        server_s = self.server_s * self._rng.uniform(0.5, 1.5)
        answered_s = at_s + self.round_trip_s + server_s
        return Delivery(captured_s, self.now_s, answered_s, size), server_s
