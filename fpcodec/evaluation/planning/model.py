"""Which way to send an image's detections over a given link: the boxes, a frame, the picture.

A model of latency over measured rows, nothing else: bytes, drops and times are those of the rows,
a device is so many times the measuring machine's one-thread speed, a link is a rate and a delay.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fpcodec.errors import InputError
from fpcodec.evaluation.planning.settings import WAYS, Setting, allowed, measured_settings
from fpcodec.evaluation.results import ResultRow

SLOWEST_BPS, FASTEST_BPS = 16e3, 100e6
"""Uplinks that ranges and plots cover, in bit/s."""


@dataclass(frozen=True)
class Link:
    """An uplink.

    Attributes:
        uplink_bps: Rate in bit/s.
        rtt_ms: Round-trip time in ms, counted once per image for every way.
    """

    uplink_bps: float
    rtt_ms: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.uplink_bps) and self.uplink_bps > 0):
            raise InputError(f"uplink {self.uplink_bps:g} bit/s is not a rate; give more than 0")
        if not (math.isfinite(self.rtt_ms) and self.rtt_ms >= 0):
            raise InputError(f"round-trip time {self.rtt_ms:g} ms is no time; give 0 or more")

    def send_ms(self, size_bytes: float) -> float:
        """Round trip and transfer, in ms."""
        return self.rtt_ms + 8e3 * size_bytes / self.uplink_bps


@dataclass(frozen=True)
class Speeds:
    """How fast both sides are, as multiples of the measuring machine's one thread."""

    edge: float = 1.0
    server: float = 1.0

    def __post_init__(self) -> None:
        for side, speed in (("edge", self.edge), ("server", self.server)):
            if not (math.isfinite(speed) and speed > 0):
                raise InputError(f"{side} speed {speed:g} is not a factor; give more than 0")


@dataclass(frozen=True)
class Candidate:
    """A setting at a link and at speeds.

    Attributes:
        way: One of ``WAYS``.
        name: The row's.
        family: The row's.
        bytes: Sent per image, mean.
        bytes_p95: Sent per image, 95th percentile.
        drop: Points of AP lost against the unsplit detector.
        edge_ms: Compute on the edge.
        link_ms: Round trip and transfer of the mean bytes.
        server_ms: Compute on the server.
        latency_ms: The three together.
        latency_p95_ms: The same for an image of ``bytes_p95``.
        uplink_fps: Frames per second that the uplink carries, mean bytes.
        edge_fps: Frames per second that the edge computes.
    """

    way: str
    name: str
    family: str
    bytes: float
    bytes_p95: float
    drop: float
    edge_ms: float
    link_ms: float
    server_ms: float
    latency_ms: float
    latency_p95_ms: float
    uplink_fps: float
    edge_fps: float

    @classmethod
    def of(cls, setting: Setting, link: Link, speeds: Speeds) -> Candidate:
        """The setting's latency and rates."""
        edge_ms, server_ms = setting.edge_ms / speeds.edge, setting.server_ms / speeds.server
        link_ms = link.send_ms(setting.bytes)
        return cls(
            way=setting.way,
            name=setting.name,
            family=setting.family,
            bytes=setting.bytes,
            bytes_p95=setting.bytes_p95,
            drop=setting.drop,
            edge_ms=edge_ms,
            link_ms=link_ms,
            server_ms=server_ms,
            latency_ms=edge_ms + link_ms + server_ms,
            latency_p95_ms=edge_ms + link.send_ms(setting.bytes_p95) + server_ms,
            uplink_fps=link.uplink_bps / (8 * setting.bytes),
            edge_fps=1e3 / edge_ms,
        )


@dataclass(frozen=True)
class UplinkRange:
    """Uplinks in bit/s at which one way has the least latency."""

    low_bps: float
    high_bps: float
    way: str


@dataclass(frozen=True)
class Plan:
    """The answer for one link.

    Attributes:
        link: The link asked about.
        speeds: The speeds asked about.
        max_drop: Most points of AP that a setting may lose.
        candidates: Each way's setting of least latency, the best way first.
        ranges: Which way is best over all uplinks at these speeds, slow ones first.
    """

    link: Link
    speeds: Speeds
    max_drop: float
    candidates: tuple[Candidate, ...]
    ranges: tuple[UplinkRange, ...]

    @property
    def winner(self) -> Candidate:
        """The best way's setting."""
        return self.candidates[0]


def plan(
    rows: Sequence[ResultRow],
    link: Link,
    speeds: Speeds = Speeds(),
    max_drop: float = 1.0,
    *,
    head_on_server: bool = False,
) -> Plan:
    """Find each way's setting of least latency, and the best way.

    Args:
        rows: Of one run, the unsplit detector among them.
        link: Uplink and delay.
        speeds: Of both sides.
        max_drop: Most points of AP that a setting may lose.
        head_on_server: The edge may not run the head, so boxes are out.

    Raises:
        InputError: The rows lack the unsplit detector or its times, or no setting loses so little.
    """
    settings = allowed(measured_settings(rows), max_drop, head_on_server=head_on_server)
    found = [Candidate.of(setting, link, speeds) for setting in settings]
    best: dict[str, Candidate] = {}
    for candidate in sorted(found, key=lambda x: (x.latency_ms, x.drop)):
        best.setdefault(candidate.way, candidate)
    return Plan(link, speeds, max_drop, tuple(best.values()), uplink_ranges(settings, speeds))


def uplink_ranges(settings: Sequence[Setting], speeds: Speeds) -> tuple[UplinkRange, ...]:
    """Which way has the least latency at each uplink, exactly.

    Latency is a line over the inverse rate, so the best settings are the lines' lower envelope.
    The round trip is the same for all and decides nothing.
    """
    # ms at an infinite rate, and ms times bit/s that the bytes add.
    lines = [
        (x.edge_ms / speeds.edge + x.server_ms / speeds.server, 8e3 * x.bytes, x.way)
        for x in settings
    ]
    inverse, last = 1 / FASTEST_BPS, 1 / SLOWEST_BPS
    current = min(lines, key=lambda x: (x[0] + x[1] * inverse, x[1]))
    ranges = [UplinkRange(SLOWEST_BPS, FASTEST_BPS, current[2])]
    while True:
        crossings = [
            ((x[0] - current[0]) / (current[1] - x[1]), x[1], x) for x in lines if x[1] < current[1]
        ]
        if not crossings or min(crossings)[0] >= last:
            return tuple(reversed(ranges))
        inverse, _, current = min(crossings)
        if current[2] != ranges[-1].way:
            faster = ranges.pop()
            ranges.append(UplinkRange(1 / inverse, faster.high_bps, faster.way))
            ranges.append(UplinkRange(SLOWEST_BPS, 1 / inverse, current[2]))


def winning_ways(
    settings: Sequence[Setting],
    uplinks_bps: npt.NDArray[np.float64],
    edge_speeds: npt.NDArray[np.float64],
    server_speed: float = 1.0,
) -> npt.NDArray[np.int64]:
    """The best way at every pair of edge speed and uplink.

    Args:
        settings: To choose from.
        uplinks_bps: Shape (X,), bit/s.
        edge_speeds: Shape (Y,), factors.
        server_speed: Factor.

    Returns:
        Shape (Y, X), int64: places in ``WAYS``.
    """
    sizes, edge_ms, server_ms = np.array(
        [(x.bytes, x.edge_ms, x.server_ms) for x in settings], np.float64
    ).T
    latency = (
        8e3 * sizes / uplinks_bps[None, :, None]
        + edge_ms / edge_speeds[:, None, None]
        + server_ms / server_speed
    )
    ways = np.array([WAYS.index(x.way) for x in settings], np.int64)
    return np.asarray(ways[np.argmin(latency, axis=-1)], np.int64)
