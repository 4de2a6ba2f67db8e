"""A camera's books: every frame's end is counted once and told to the recorder."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from fpcodec.detections import Detections
from fpcodec.detectors.base import Image
from fpcodec.errors import FpcodecError
from fpcodec.status import status_of
from fpcodec_edge.frames import CapturedImage, CodedFrame
from fpcodec_edge.replies import InferReply
from fpcodec_edge.tally import Tally

_LATENCIES = 10_000


class Recorder(Protocol):
    """Takes what became of frames. Called by one thread at a time."""

    def sent(self, number: int, time_s: float, image: Image) -> None:
        """The image of a frame of which ``answered`` or ``ended`` will be told."""

    def answered(self, facts: Mapping[str, Any], detections: Detections) -> None:
        """A frame's answer; ``facts`` are JSON-able and name the frame's number as ``frame``."""

    def ended(self, facts: Mapping[str, Any]) -> None:
        """A frame without an answer, and why."""


class Accounts:
    """Counts and tells the end of every frame; any thread may call.

    Args:
        recorder: Told of every end.
        spooled: Frames that lie in the spool already.
    """

    def __init__(self, recorder: Recorder, spooled: int = 0) -> None:
        self._recorder = recorder
        self._lock = threading.Lock()
        self._closed = False
        self._latencies_ms: deque[float] = deque(maxlen=_LATENCIES)
        self._answered_s: float | None = None
        self._longest_gap_s = 0.0
        self.tally = Tally(resumed=spooled, spooled=spooled)

    def captured(self) -> bool:
        """Count an image; False, and not counted, once the books are closed."""
        with self._lock:
            self.tally.captured += not self._closed
            return not self._closed

    def close(self) -> None:
        """Take no more images; what was captured still comes to its end."""
        with self._lock:
            self._closed = True

    def encoded(self, captured: CapturedImage) -> None:
        """Keep an image for the recorder until its frame's end."""
        with self._lock:
            if captured.item.image is not None:
                self._recorder.sent(captured.number, captured.item.time_s, captured.item.image)

    def sent(self, frame: CodedFrame) -> None:
        """Count a frame that was sent."""
        with self._lock:
            self.tally.sent_bytes += len(frame.data)
            self.tally.sent_again += frame.attempts > 0 or frame.sequence is not None

    def answered(self, frame: CodedFrame, reply: InferReply, settled_s: float) -> None:
        """Count an answer."""
        with self._lock:
            self.tally.answered += 1
            if self._answered_s is not None:
                self._longest_gap_s = max(self._longest_gap_s, settled_s - self._answered_s)
            self._answered_s = settled_s
            facts = {**frame.facts, **_facts(frame, reply)}
            if frame.captured_s is not None:
                latency_ms = 1000 * (settled_s - frame.captured_s)
                self._latencies_ms.append(latency_ms)
                facts["latency_ms"] = round(latency_ms, 1)
            self._recorder.answered(facts, reply.detections)

    def dropped(self, facts: Mapping[str, Any], reason: str) -> None:
        """Count a frame that was not sent."""
        with self._lock:
            self.tally.dropped[reason] += 1
            self._recorder.ended({**facts, "dropped": reason})

    def failed(self, facts: Mapping[str, Any], error: FpcodecError, name: str = "") -> None:
        """Count a frame that could not be made, or has no answer."""
        name = name or status_of(error).reason
        with self._lock:
            self.tally.failed[name] += 1
            self._recorder.ended({**facts, "error": name, "message": str(error)})

    def spooled(self, facts: Mapping[str, Any], evicted: int) -> None:
        """Count a frame that went to the spool, and those that were given up for it."""
        with self._lock:
            self.tally.spooled += 1 - evicted
            self._recorder.ended({**facts, "spooled": True})
            if evicted:
                self.tally.dropped["spool_full"] += evicted
                self._recorder.ended({"dropped": "spool_full", "frames": evicted})

    def unspooled(self) -> None:
        """Count a frame that left the spool, for an end that is counted besides."""
        with self._lock:
            self.tally.spooled -= 1

    def report(self) -> dict[str, Any]:
        """Everything counted, and latencies from capture to answer; JSON-able."""
        with self._lock:
            times_ms = np.array(self._latencies_ms)
            latency = {
                name: round(float(np.percentile(times_ms, share)), 1)
                for name, share in (("p50", 50), ("p95", 95), ("max", 100))
                if len(times_ms)
            }
            return {
                **self.tally.to_dict(),
                "latency_ms": latency,
                "longest_gap_s": round(self._longest_gap_s, 3),
            }


def _facts(frame: CodedFrame, reply: InferReply) -> dict[str, Any]:
    times = {**reply.timings_ms, "round_trip": reply.round_trip_ms}
    return {
        "levels_used": list(reply.levels_used),
        "levels_recovered": list(reply.levels_recovered),
        "levels_ignored": dict(reply.levels_ignored),
        "timings_ms": {
            **frame.facts.get("timings_ms", {}),
            **{stage: round(ms, 3) for stage, ms in times.items()},
        },
    }
