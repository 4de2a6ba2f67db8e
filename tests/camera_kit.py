"""A camera whose source, encoder and results are a test's."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fpcodec.bitstream import Chunk, Frame, write_frame
from fpcodec.detections import Detections
from fpcodec.errors import InputError
from fpcodec.split import EncodedFrame
from fpcodec_edge import Camera, CameraOptions, RateController, RateTarget, StreamClient
from fpcodec_edge.sources import SourceImage

IMAGE = np.zeros((8, 8, 3), np.uint8)


@dataclass
class Pictures:
    """So many images, and perhaps some that cannot be read."""

    count: int
    is_live: bool = False
    interval_s: float = 0.0
    unreadable: Sequence[int] = ()
    fail_after: int | None = None
    release: threading.Event | None = None

    def __iter__(self) -> Iterator[SourceImage]:
        for number in range(self.count):
            if number == self.fail_after:
                raise InputError("the cable was pulled")
            image = None if number in self.unreadable else IMAGE
            yield SourceImage(number, f"{number}.png", number / 10, image)
            time.sleep(self.interval_s)
        if self.release is not None:
            self.release.wait(20)


class FakeEncoder:
    """Frames of a given length, which remembers what it was asked for."""

    def __init__(self, size: int = 400, smallest: int = 60) -> None:
        self.size, self.smallest = size, smallest
        self.asked: list[dict[str, Any]] = []
        self.refreshes = 0

    def request_refresh(self) -> None:
        self.refreshes += 1

    def encode(
        self,
        image: np.ndarray,
        *,
        quality: float | None = None,
        levels: Sequence[str] | None = None,
        max_bytes: int | None = None,
    ) -> EncodedFrame:
        self.asked.append({"quality": quality, "levels": levels, "max_bytes": max_bytes})
        if max_bytes is not None and max_bytes < self.smallest:
            raise InputError("the budget is below the smallest frame")
        size = self.smallest if quality == 0 else min(self.size, max_bytes or self.size)
        byte = round(255 * (quality if quality is not None else 0.5 * size / self.size))
        chunks = (Chunk(1, False, False, bytes(10)), Chunk(0, True, False, b""))
        empty = write_frame(Frame(1, bytes(6), byte, (8, 8), (32, 32), chunks))
        fine = bytes(size - len(empty))
        data = write_frame(
            Frame(1, bytes(6), byte, (8, 8), (32, 32), (chunks[0], Chunk(0, True, False, fine)))
        )[:size]
        sizes = {"p5": 10, "p3": len(fine)}
        return EncodedFrame(data, sizes, {"encode": 0.1}, None, byte / 255)  # type: ignore[arg-type]


class AllLevels:
    def __init__(self) -> None:
        self.observed: list[Detections] = []

    def next(self) -> None:
        return None

    def observe(self, detections: Detections) -> None:
        self.observed.append(detections)


@dataclass
class Lines:
    """A recorder that keeps what it is told."""

    lines: list[dict[str, Any]] = field(default_factory=list)

    def sent(self, number: int, time_s: float, image: np.ndarray) -> None:
        pass

    def answered(self, facts: Mapping[str, Any], detections: Detections) -> None:
        self.lines.append({**facts, "detections": len(detections)})

    def ended(self, facts: Mapping[str, Any]) -> None:
        self.lines.append(dict(facts))

    def numbers(self, key: str) -> list[int]:
        """Frame numbers of the lines that have a key."""
        return [line["frame"] for line in self.lines if key in line]


@dataclass
class Rig:
    """A camera and everything around it."""

    client: StreamClient
    source: Any
    encoder: FakeEncoder = field(default_factory=FakeEncoder)
    target: RateTarget = field(default_factory=RateTarget)
    options: CameraOptions = field(default_factory=CameraOptions)
    spool: Any = None

    def __post_init__(self) -> None:
        self.results, self.levels = Lines(), AllLevels()
        self.controller = RateController(self.target, time.monotonic)
        self.camera = Camera(
            self.source, self.encoder, self.client, self.controller, self.levels, self.results,
            spool=self.spool, options=self.options,
        )  # fmt: skip
        self.stop = threading.Event()

    @property
    def tally(self) -> Any:
        return self.camera.accounts.tally

    def run(self) -> None:
        self.client.start()
        guard = threading.Timer(20, self.stop.set)
        guard.start()
        try:
            self.camera.run(self.stop)
        finally:
            guard.cancel()
        self.check()

    def check(self) -> None:
        """Sums that add up, and a line for every frame that has come to its end."""
        tally = self.tally
        assert tally.open == 0, tally
        ends = [x for x in self.results.lines if "spooled" not in x and "frames" not in x]
        failed = sum(tally.failed.values())
        evicted = tally.dropped["spool_full"]
        assert len(ends) == tally.answered + sum(tally.dropped.values()) - evicted + failed
