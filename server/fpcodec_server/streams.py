"""One streaming call: frames put together from their parts, answered as they are ready."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated

from fpcodec.errors import FpcodecError, InputError, LimitExceeded, Overloaded, Timeout, Truncated
from fpcodec.status import ERROR_KEY
from fpcodec.v1 import codec_pb2
from fpcodec_server.admission import LEAST_RETRY_MS
from fpcodec_server.settings import Section, number, whole
from fpcodec_server.stream_frames import charge_late_part, charge_part, frame_refused

Infer = Callable[[bytes, bool, str, float], Awaitable[codec_pb2.InferResponse]]
"""Answers a frame: its bytes, whether they may be partial, the request id, when nobody wants the
answer any more on the event loop's clock. What it raises goes through ``Refuse`` before the client
reads it."""

Refuse = Callable[[Exception], "tuple[object, str, tuple[tuple[str, str], ...]]"]
"""Status code, message and trailing metadata that a client may read of an error."""


MAX_REQUEST_ID_BYTES = 128

SHARE = 0.25
"""Of what all streaming calls share, the part that one client may have."""

MOST_EXPIRES_S = 60.0
"""Longest time that a client may ask for one frame."""


@dataclass(frozen=True)
class StreamLimits(Section, name="streams"):
    """What one streaming call may ask for.

    Attributes:
        credits: Frames begun and not yet answered.
        most: Streaming calls that may be open at a time.
        max_arriving_bytes: Of frames that have not arrived whole, in all calls together.
        idle_s: Seconds without a message and without a frame in hand, after which it is ended.
        expires_s: Seconds that a frame gets whose client names no time.
    """

    credits: Annotated[int, whole(1)] = 4
    most: Annotated[int, whole(1)] = 1000
    max_arriving_bytes: Annotated[int, whole(1)] = 64 * 1024 * 1024
    idle_s: Annotated[float, number(0, above=True)] = 600.0
    expires_s: Annotated[float, number(0, above=True)] = 10.0

    @property
    def most_of_a_client(self) -> int:
        """Streaming calls that one client may have open."""
        return max(1, round(SHARE * self.most))


class ByteBudget:
    """Bytes that all streaming calls share; one client may hold a part of them.

    Args:
        most: So many.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._held: Counter[str] = Counter()

    def hold(self, client: str, count: int) -> None:
        """Take some.

        Raises:
            Overloaded: So many are not left, or not left to this client.
        """
        for held, most, whose in (
            (self._held.total(), self._most, "are held"),
            (self._held[client], SHARE * self._most, "of this client's are held"),
        ):
            if held + count > most:
                raise Overloaded(
                    f"{held} bytes of unfinished frames {whose}, the server's limit is "
                    f"{most:g}; send the frame again later",
                    LEAST_RETRY_MS,
                )
        self._held[client] += count

    def release(self, client: str, count: int) -> None:
        """Give back what was taken."""
        self._held[client] -= count
        if not self._held[client]:
            del self._held[client]


class _Arriving:
    """A frame of which not all has been answered."""

    def __init__(self, frame_id: int, request_id: str, begun_s: float, expires_at_s: float) -> None:
        self.frame_id, self.request_id = frame_id, request_id
        self.begun_s, self.expires_at_s = begun_s, expires_at_s
        self.data = bytearray()
        self.received_bytes = self.charged_bytes = 0
        self.timer: asyncio.TimerHandle | None = None


class Stream:
    """One streaming call; belongs to one event loop's thread.

    Args:
        requests: What the client sends.
        infer: Answers a frame.
        limits: What the call may ask for.
        max_frame_bytes: Longest frame.
        client: Whose call it is.
        budget: Bytes of unfinished frames, shared with other calls.
        refuse: What the client may read of an error.
    """

    def __init__(
        self,
        requests: AsyncIterator[codec_pb2.InferStreamRequest],
        infer: Infer,
        limits: StreamLimits,
        max_frame_bytes: int,
        client: str,
        budget: ByteBudget,
        refuse: Refuse,
    ) -> None:
        self._requests, self._infer, self._limits = requests, infer, limits
        self.client = client
        self._max_frame_bytes, self._budget, self._refuse = max_frame_bytes, budget, refuse
        self._arriving: dict[int, _Arriving] = {}
        self._answers: asyncio.Queue[codec_pb2.InferStreamResponse | None] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._newest_id, self._unanswered, self._writing = 0, 0, 0
        self._closed, self._written = asyncio.Event(), asyncio.Event()
        self._fault: Exception | None = None
        self._heard_s = asyncio.get_running_loop().time()

    def close(self) -> None:
        """Read no more; what has been begun is still answered."""
        self._closed.set()
        self._written.set()

    async def end(self) -> None:
        """Drop everything: the caller has gone."""
        self.close()
        for frame in list(self._arriving.values()):
            self._forget(frame)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def responses(self) -> AsyncIterator[codec_pb2.InferStreamResponse]:
        """Everything to tell the client, until it has no more and all is answered.

        Raises:
            InputError: The client broke the rules of the call.
        """
        yield codec_pb2.InferStreamResponse(credits=self._limits.credits)
        reader = asyncio.create_task(self._read())
        self._keep(reader)
        while True:
            response = await self._answers.get()
            if response is None:
                break
            # The client may have read it, and begun a frame with its credit, before this goes on.
            self._writing = 1
            yield response
            # Only now: a client that does not read its answers gets no more frames in.
            self._writing = 0
            self._unanswered -= 1
            self._written.set()
        if self._fault is not None:
            raise self._fault

    async def _read(self) -> None:
        """Take in what the client sends; when that is at its end, wait until all is answered."""
        feed, closed = asyncio.create_task(self._feed()), asyncio.create_task(self._closed.wait())
        self._keep(feed)
        try:
            while not (feed.done() or closed.done()):
                await asyncio.wait(
                    {feed, closed},
                    timeout=self._limits.idle_s,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                self._require_lively()
            if feed.done():
                feed.result()
        except Exception as error:
            self._fault = error
        finally:
            for task in (feed, closed):
                task.cancel()
        for frame in list(self._arriving.values()):
            self._give_up(
                frame,
                Truncated(
                    f"the call ended after {len(frame.data)} bytes of frame {frame.frame_id}; "
                    "send it again"
                ),
            )
        others = self._tasks - {asyncio.current_task()}
        if others:
            await asyncio.wait(others)
        self._answers.put_nowait(None)

    async def _feed(self) -> None:
        async for request in self._requests:
            self._heard_s = asyncio.get_running_loop().time()
            self._receive(request)
            await self._answers_are_read()

    def _require_lively(self) -> None:
        idle_s = asyncio.get_running_loop().time() - self._heard_s
        if not self._unanswered and idle_s >= self._limits.idle_s and not self._closed.is_set():
            raise Timeout(f"nothing came for {self._limits.idle_s:g} s; open another call to go on")

    async def _answers_are_read(self) -> None:
        """Wait while refusals heap up: their number has no bound but the client's reading."""
        while self._answers.qsize() > 2 * self._limits.credits and not self._closed.is_set():
            self._written.clear()
            await self._written.wait()

    def _receive(self, request: codec_pb2.InferStreamRequest) -> None:
        frame, size_bytes = self._arriving.get(request.frame_id), request.ByteSize()
        begins = frame is None
        if frame is None:
            if request.frame_id <= self._newest_id:
                charge_late_part(size_bytes)
                if request.frame_id:
                    return  # the rest of a frame that has been answered already
                raise InputError("frame id 0 is no frame's; count from 1")
            frame = self._begin(request)
        before_bytes = None if begins else frame.charged_bytes
        frame.received_bytes += len(request.data)
        frame.charged_bytes += size_bytes
        try:
            # Before all else: what is refused has cost the server its reading too.
            charge_part(size_bytes, before_bytes, last=request.last)
            if begins:
                self._require_credit(frame)
            _require_short(request.request_id)
            self._add(frame, request.data)
        except FpcodecError as error:
            self._give_up(frame, error)
            return
        if request.last:
            self._complete(frame, partial=False)

    def _begin(self, request: codec_pb2.InferStreamRequest) -> _Arriving:
        self._newest_id = request.frame_id
        loop = asyncio.get_running_loop()
        # A client that never finishes its frames must not hold what they take for ever.
        expires_s = request.expires_after_ms / 1e3 or self._limits.expires_s
        expires_s = min(expires_s, MOST_EXPIRES_S)
        # Short enough for the log, where the frame is refused for it.
        name = request.request_id[:MAX_REQUEST_ID_BYTES]
        frame = _Arriving(request.frame_id, name, loop.time(), loop.time() + expires_s)
        self._unanswered += 1
        self._arriving[frame.frame_id] = frame
        early_s = request.answer_within_ms / 1e3
        if early_s and early_s < expires_s:
            frame.timer = loop.call_later(early_s, self._complete, frame, True)
        else:
            frame.timer = loop.call_later(expires_s, self._expire, frame, expires_s)
        return frame

    def _require_credit(self, frame: _Arriving) -> None:
        if self._unanswered - self._writing > self._limits.credits:
            raise Overloaded(
                f"frame {frame.frame_id} was begun without a credit, {self._limits.credits} "
                "are unanswered; wait for an answer first"
            )

    def _add(self, frame: _Arriving, data: bytes) -> None:
        if len(frame.data) + len(data) > self._max_frame_bytes:
            raise LimitExceeded(
                f"frame {frame.frame_id} is longer than the server's limit of "
                f"{self._max_frame_bytes} bytes; send fewer levels or a lower quality"
            )
        self._budget.hold(self.client, len(data))
        frame.data += data

    def _expire(self, frame: _Arriving, after_s: float) -> None:
        self._give_up(
            frame,
            Timeout(
                f"frame {frame.frame_id} had not arrived whole after {1e3 * after_s:.0f} ms; send "
                "fewer bytes, or ask for an answer within less"
            ),
        )

    def _give_up(self, frame: _Arriving, error: FpcodecError) -> None:
        """Refuse a frame that has not arrived whole."""
        self._forget(frame)
        seconds = asyncio.get_running_loop().time() - frame.begun_s
        frame_refused(frame.request_id, frame.received_bytes, seconds, error)
        self._answer_error(frame, error)

    def _complete(self, frame: _Arriving, partial: bool) -> None:
        self._forget(frame)
        self._keep(asyncio.create_task(self._answer(frame, partial)))

    async def _answer(self, frame: _Arriving, partial: bool) -> None:
        data, expires_at_s = bytes(frame.data), frame.expires_at_s
        try:
            answer = await self._infer(data, partial, frame.request_id, expires_at_s)
        except Exception as error:
            self._answer_error(frame, error)
            return
        self._answers.put_nowait(
            codec_pb2.InferStreamResponse(frame_id=frame.frame_id, answer=answer, credits=1)
        )

    def _answer_error(self, frame: _Arriving, error: Exception) -> None:
        _, message, metadata = self._refuse(error)
        found = codec_pb2.FrameError(name=dict(metadata).get(ERROR_KEY, ""), message=message)
        if isinstance(error, Overloaded) and error.retry_after_ms is not None:
            found.retry_after_ms = error.retry_after_ms
        self._answers.put_nowait(
            codec_pb2.InferStreamResponse(frame_id=frame.frame_id, error=found, credits=1)
        )

    def _forget(self, frame: _Arriving) -> None:
        """Take a frame out of those that arrive."""
        if self._arriving.pop(frame.frame_id, None) is None:
            return
        self._budget.release(self.client, len(frame.data))
        if frame.timer is not None:
            frame.timer.cancel()

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _require_short(request_id: str) -> None:
    if len(request_id.encode()) > MAX_REQUEST_ID_BYTES:
        raise InputError(
            f"the request id is longer than {MAX_REQUEST_ID_BYTES} bytes; use a shorter one"
        )
