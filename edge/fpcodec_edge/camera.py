"""From a source to its results: captures, encodes, sends, and accounts for every frame."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Protocol

from fpcodec.detections import Detections
from fpcodec.detectors.base import Image
from fpcodec.errors import FpcodecError, InputError, Overloaded, Timeout, Unavailable
from fpcodec.split import EncodedFrame
from fpcodec.video import is_inter
from fpcodec_edge.accounts import Accounts, Recorder
from fpcodec_edge.backlog import Backlog
from fpcodec_edge.frame_queue import FrameQueue
from fpcodec_edge.frames import CapturedImage, CodedFrame
from fpcodec_edge.outcomes import FrameOutcome
from fpcodec_edge.rate_control import RateController
from fpcodec_edge.sources import Source, SourceImage
from fpcodec_edge.spool import Spool
from fpcodec_edge.stream import StreamClient

NEEDS_REFRESH = "NeedsRefresh"
"""Name of the error of a frame that referred to one which the server does not have."""

_WAIT_S = 0.02
_PING_AGAIN_S = 1.0
_JOIN_S = 2.0


class FrameEncoder(Protocol):
    """Turns images into frames; ``fpcodec.EdgeHalf`` is one.

    One whose frames refer to earlier ones also has ``request_refresh()``, after which the next
    frame stands alone.
    """

    def encode(
        self,
        image: Image,
        *,
        quality: float | None = None,
        levels: Sequence[str] | None = None,
        max_bytes: int | None = None,
    ) -> EncodedFrame:
        """Encode one image at a quality, or within a number of bytes.

        Raises:
            InputError: The image or the budget cannot be used.
        """


class LevelPolicy(Protocol):
    """Says which levels to send."""

    def next(self) -> Sequence[str] | None:
        """Level names for the frame to come; None for all, or as many as fit."""

    def observe(self, detections: Detections) -> None:
        """Note what an answer held."""


@dataclass(frozen=True)
class CameraOptions:
    """How a camera's frames are handled.

    Attributes:
        queue_frames: Images that wait for the link; of a live source the oldest is dropped. More
            than one makes answers older wherever the link is the bottleneck.
        max_attempts: Times that a frame which may be sent again is sent in all.
        spool_after_s: Seconds without a connection after which frames go to the spool.
        live_per_spooled: While images keep coming, one frame of the spool is sent after so many.
        drain_s: Seconds that answers are waited for at the end.
    """

    queue_frames: int = 1
    max_attempts: int = 3
    spool_after_s: float = 0.5
    live_per_spooled: int = 3
    drain_s: float = 2.0


class Camera:
    """Runs a source through an encoder and a stream.

    Images of a live source that the link has no room for are dropped, the oldest first; any other
    source waits for the link, and frames lost with a connection are sent again.

    Args:
        source: Where images come from.
        encoder: Makes frames.
        client: Sends them; started and closed by the caller.
        controller: Says how large and when.
        levels: Says which levels.
        recorder: Told of every frame's end.
        spool: Where frames go while there is no connection; None to wait or drop.
        options: How frames are handled.
        clock: The monotonic seconds that client and controller have too.
    """

    def __init__(
        self,
        source: Source,
        encoder: FrameEncoder,
        client: StreamClient,
        controller: RateController,
        levels: LevelPolicy,
        recorder: Recorder,
        *,
        spool: Spool | None = None,
        options: CameraOptions | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source, self._encoder, self._client = source, encoder, client
        self._controller, self._levels, self._clock = controller, levels, clock
        self._options = options or CameraOptions()
        self.accounts = Accounts(recorder, 0 if spool is None else len(spool))
        self._backlog = Backlog(self.accounts, spool, self._options.max_attempts)
        self._wake = threading.Event()
        client.on_change = self._wake.set
        self._queue = FrameQueue[CapturedImage](self._options.queue_frames, self._wake.set)
        self._ended = threading.Event()
        self._source_error: FpcodecError | None = None
        self._flying: dict[int, CodedFrame] = {}
        self._connections, self._offline_since_s = 0, clock()
        self._pinged_s = self._held_until_s = float("-inf")
        self._live_since_spooled = self._refresh_id = 0

    def run(self, stop: threading.Event, on_turn: Callable[[], None] = lambda: None) -> None:
        """Run until the source has ended and every frame is accounted for.

        Args:
            stop: Set it to end early: answers on their way are still waited for.
            on_turn: Called often, for progress.

        Raises:
            FpcodecError: The source failed, or the server refuses this client for good.
        """
        thread = threading.Thread(target=self._capture, name="fpcodec-capture", daemon=True)
        thread.start()
        try:
            while not (stop.is_set() or self._client.fatal or self._is_over()):
                self._wake.clear()
                if not self._turn():
                    self._wake.wait(_WAIT_S)
                on_turn()
        finally:
            self._finish()
            thread.join(_JOIN_S)
        error = self._client.fatal or self._source_error
        if error is not None:
            raise error

    def _capture(self) -> None:
        """What the capturing thread does."""
        try:
            for number, item in enumerate(self._source):
                if not self.accounts.captured():
                    break
                self._accept(number, item)
        except FpcodecError as error:
            self._source_error = error
        finally:
            self._ended.set()
            self._wake.set()

    def _accept(self, number: int, item: SourceImage) -> None:
        at = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        captured = CapturedImage(number, item, self._clock(), at)
        if item.image is None:
            error = item.error or InputError(f"{item.name}: there is no image")
            self.accounts.failed(captured.facts, error)
        elif self._source.is_live:
            self._controller.captured(captured.captured_s)
            displaced = self._queue.put_newest(captured)
            if displaced is not None:
                reason = "stopped" if displaced is captured else "queue_full"
                self.accounts.dropped(displaced.facts, reason)
        elif not self._queue.put_when_free(captured):
            self.accounts.dropped(captured.facts, "stopped")

    def _is_over(self) -> bool:
        if not self._ended.is_set() or len(self._queue) or self._flying:
            return False
        # What the spool holds waits for a connection; whatever else there is, too.
        offline = self._client.tried and not self._client.connected
        return not len(self._backlog) or (self._backlog.has_spool and offline)

    def _turn(self) -> bool:
        """Take what has come, and do one thing if there is one to do."""
        self._take_outcomes()
        self._watch_connection()
        if not self._client.connected:
            return self._spool_one()
        held = self._clock() < self._held_until_s
        if held or not self._client.can_send or not self._controller.ready():
            return False
        frame = self._next_frame()
        if frame is not None:
            self._send(frame)
        return frame is not None

    def _watch_connection(self) -> None:
        now_s, link = self._clock(), self._controller.link
        round_trip_s = self._client.take_round_trip_s()
        if round_trip_s is not None:
            is_new = self._client.connections != self._connections
            if is_new:
                self._request_refresh()  # Another call knows none of the frames before.
            (link.connected if is_new else link.pinged)(round_trip_s, now_s)
            self._connections = self._client.connections
        if self._client.connected:
            self._offline_since_s = now_s
            idle = not self._client.pending and now_s - self._pinged_s > _PING_AGAIN_S
            if idle and link.wants_ping(now_s):
                self._pinged_s = now_s
                self._client.ping()

    def _next_frame(self) -> CodedFrame | None:
        """What is sent now: what was lost, an image, or what lies in the spool."""
        lost = self._backlog.take_in_memory()
        if lost is not None:
            return lost
        if self._live_since_spooled >= self._options.live_per_spooled:
            self._live_since_spooled = 0
            spooled = self._backlog.take_spooled(self._flying.values())
            if spooled is not None:
                return spooled
        captured = self._queue.take()
        if captured is None:
            return self._backlog.take_spooled(self._flying.values())
        self._live_since_spooled += 1
        return self._encode(captured)

    def _encode(self, captured: CapturedImage) -> CodedFrame | None:
        """The frame of an image; None where there is none, which is counted."""
        start_s = self._clock()
        try:
            encoded = self._encode_as_planned(captured)
        except FpcodecError as error:
            self.accounts.failed(captured.facts, error)
            return None
        self._controller.encoded(len(encoded.data), encoded.quality, self._clock() - start_s)
        self.accounts.encoded(captured)
        facts = {
            **captured.facts,
            "bytes": len(encoded.data),
            "quality": round(encoded.quality, 3),
            "level_bytes": dict(encoded.chunk_bytes),
            "goodput_bps": round(self._controller.goodput_bps),
            "timings_ms": {stage: round(ms, 3) for stage, ms in encoded.timings_ms.items()},
        }
        return CodedFrame(encoded.data, facts, encoded.chunk_bytes, captured.captured_s)

    def _encode_as_planned(self, captured: CapturedImage) -> EncodedFrame:
        image = captured.item.image
        if image is None:
            raise InputError(f"{captured.item.name}: there is no image")
        plan, levels = self._controller.plan(), self._levels.next()
        try:
            encoded = self._encoder.encode(
                image, quality=plan.quality, levels=levels, max_bytes=plan.max_bytes
            )
            limit_bytes = self._controller.target.max_frame_bytes
            if limit_bytes is None or len(encoded.data) <= limit_bytes:
                return encoded
            # The image is richer than those before it. What was made of it is never sent, so
            # nothing may refer to it.
            self._request_refresh()
            return self._encoder.encode(image, levels=levels, max_bytes=limit_bytes)
        except InputError:
            if plan.max_bytes is None:
                raise
            # The budget may be below the smallest frame of these levels: that is sent then.
            return self._encoder.encode(image, quality=0.0, levels=levels)

    def _send(self, frame: CodedFrame) -> None:
        within_s = None
        # Half an inter frame is no use to anybody, and the end of the chain besides.
        if self._source.is_live and frame.captured_s is not None and not is_inter(frame.data):
            within_s = self._controller.answer_within_s(frame.captured_s)
        tried = replace(frame, attempts=frame.attempts + 1)
        try:
            frame_id = self._client.send(frame.data, answer_within_s=within_s)
        except FpcodecError as error:
            self._lose(tried, error)
            return
        if not is_inter(frame.data):
            self._refresh_id = frame_id
        self._controller.sent(frame_id, len(frame.data))
        self.accounts.sent(frame)
        self._flying[frame_id] = tried

    def _spool_one(self) -> bool:
        """Keep one image on disk while there is no connection."""
        offline_s = self._clock() - self._offline_since_s
        if not self._backlog.has_spool or offline_s < self._options.spool_after_s:
            return False
        captured = self._queue.take()
        if captured is None:
            return False
        self._request_refresh()  # What it would refer to may be lost by the time it is sent.
        frame = self._encode(captured)
        if frame is not None:
            self._backlog.spool(frame)
        return True

    def _take_outcomes(self) -> None:
        for outcome in self._client.poll():
            frame = self._flying.pop(outcome.frame_id, None)
            if frame is not None:
                self._settle(frame, outcome)

    def _settle(self, frame: CodedFrame, outcome: FrameOutcome) -> None:
        reply, link = outcome.reply, self._controller.link
        if reply is None:
            link.lost(outcome.frame_id, outcome.settled_s)
            # Of the frames behind a lost one each says so; one refresh frame helps them all.
            if outcome.error_name == NEEDS_REFRESH and outcome.frame_id > self._refresh_id:
                self._request_refresh()
            after_s = outcome.retry_after_s or 0.0
            if isinstance(outcome.error, Overloaded):
                self._held_until_s = self._clock() + after_s
            error = outcome.error or Unavailable("there is no answer")
            self._lose(frame, error, outcome.error_name, outcome.retry_after_s is not None)
            return
        server_s = sum(reply.timings_ms.values()) / 1000
        delivered = frame.delivered_bytes(reply.levels_used)
        link.answered(outcome.frame_id, outcome.settled_s, server_s, delivered)
        if frame.sequence is None:
            self._levels.observe(reply.detections)
        if self._backlog.settle(frame):
            self.accounts.answered(frame, reply, outcome.settled_s)

    def _lose(
        self, frame: CodedFrame, error: FpcodecError, name: str = "", again: bool = False
    ) -> None:
        """Send a frame again where that is of use, or count it as failed."""
        gone = isinstance(error, Unavailable | Timeout)
        # By the time it came again, the server would not have the frame that it leans on.
        again = (again or gone or isinstance(error, Overloaded)) and not is_inter(frame.data)
        kept = again and self._backlog.lose(
            frame,
            to_disk=gone,
            in_memory=not self._source.is_live,
            counts=not isinstance(error, Unavailable | Overloaded),
        )
        if not kept and self._backlog.settle(frame):
            self.accounts.failed(frame.facts, error, name)

    def _request_refresh(self) -> None:
        request_refresh = getattr(self._encoder, "request_refresh", None)
        if request_refresh is not None:
            request_refresh()

    def _finish(self) -> None:
        """Account for what is left: answers are waited for, images are not sent any more."""
        self.accounts.close()
        self._queue.close()
        while (captured := self._queue.take()) is not None:
            self.accounts.dropped(captured.facts, "stopped")
        end_s = self._clock() + self._options.drain_s
        while self._flying and self._clock() < end_s and self._client.fatal is None:
            self._take_outcomes()
            self._wake.wait(_WAIT_S)
            self._wake.clear()
        self._client.close()
        self._take_outcomes()
        closed = self._client.fatal or Unavailable("the camera was stopped before it was sent")
        self._backlog.give_up(closed)
