"""A server of ``InferStream`` on the loopback that does what a test tells it to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from wire_kit import STREAM_ID, LoopThread

from fpcodec.v1 import codec_pb2, codec_pb2_grpc
from fpcodec_edge import RetryPolicy, StreamClient, StreamOptions

Outcome = codec_pb2.InferResponse | codec_pb2.FrameError | None
QUICK = RetryPolicy(initial_backoff_s=0.02, max_backoff_s=0.1)


@dataclass
class ArrivedFrame:
    """A frame as it arrived: all of it, or what there was when an answer was due."""

    frame_id: int
    first: codec_pb2.InferStreamRequest
    data: bytes = b""
    parts: int = 0
    whole: bool = False
    answered: bool = False


Answer = Callable[[ArrivedFrame], Awaitable[Outcome]]


async def answer_one_box(frame: ArrivedFrame) -> Outcome:
    """One box, and the number of bytes as its label."""
    box = codec_pb2.Detection(x2=40, y2=40, score=0.9, label=len(frame.data))
    return codec_pb2.InferResponse(
        request_id=frame.first.request_id, detections=[box], levels_used=["p5"]
    )


@dataclass
class StreamServicer(codec_pb2_grpc.CodecServiceServicer):
    """Speaks credits, parts and errors as codec.proto's comments say.

    Attributes:
        answer: What becomes of a frame; None says nothing of it, ever.
        credits: Granted at the beginning of a call.
        outcome: Of negotiations.
        frames: Every frame that was begun, of all calls.
        calls: Calls of ``InferStream`` so far.
        uncredited: Frames that were begun without a credit.
        most_pending: Most frames that awaited their answer at the same time.
        unary: Frames that came by ``Infer``.
        tokens: Of every call that had one.
    """

    answer: Answer = answer_one_box
    credits: int = 4
    outcome: int = codec_pb2.NEGOTIATION_OUTCOME_ACCEPTED
    streams: bool = True
    frames: list[ArrivedFrame] = field(default_factory=list)
    calls: int = 0
    uncredited: int = 0
    most_pending: int = 0
    unary: list[bytes] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)

    async def Negotiate(
        self, request: codec_pb2.NegotiateRequest, context: Any
    ) -> codec_pb2.NegotiateResponse:
        self._note_token(context)
        limits = codec_pb2.FrameLimits(
            max_frame_bytes=100_000, max_image_pixels=10**7, max_network_pixels=10**7,
            max_elements=10**7,
        )  # fmt: skip
        return codec_pb2.NegotiateResponse(
            outcome=self.outcome, stream_id=request.stream_ids[0], frame_version=1,
            served_stream_ids=request.stream_ids, served_frame_versions=[1], limits=limits,
            labels=["cat", "dog"], profile_name="fake", server_version="test",
        )  # fmt: skip

    def _note_token(self, context: Any) -> None:
        self.tokens += [x for key, x in context.invocation_metadata() if key == "authorization"]

    async def Infer(self, request: codec_pb2.InferRequest, context: Any) -> codec_pb2.InferResponse:
        self.unary.append(request.frame)
        self._note_token(context)
        first = codec_pb2.InferStreamRequest(request_id=request.request_id)
        made = await self.answer(ArrivedFrame(0, first, request.frame, 1, True))
        if isinstance(made, codec_pb2.FrameError):
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED, made.message,
                (("fpcodec-error", made.name),),
            )  # fmt: skip
        return made

    async def InferStream(
        self, requests: AsyncIterator[codec_pb2.InferStreamRequest], context: Any
    ) -> None:
        if not self.streams:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "no such call")
        self.calls += 1
        self._note_token(context)
        call = _Call(self, context)
        await context.write(codec_pb2.InferStreamResponse(credits=self.credits))
        try:
            async for request in requests:
                call.take(request)
            await asyncio.gather(*call.tasks)
        finally:
            for task in call.tasks:
                task.cancel()


class _Call:
    def __init__(self, servicer: StreamServicer, context: Any) -> None:
        self._servicer, self._context = servicer, context
        self._open: dict[int, ArrivedFrame] = {}
        self._highest, self._credits, self._pending = 0, servicer.credits, 0
        self._writing = asyncio.Lock()
        self.tasks: list[asyncio.Task[None]] = []

    def take(self, request: codec_pb2.InferStreamRequest) -> None:
        number = request.frame_id
        if number > self._highest:
            self._highest = number
            self._begin(ArrivedFrame(number, request))
        frame = self._open.get(number)
        if frame is None:
            return  # Of a frame that was answered before its end had arrived.
        frame.data += request.data
        frame.parts += 1
        if request.last:
            frame.whole = True
            self._start(frame)

    def _begin(self, frame: ArrivedFrame) -> None:
        servicer = self._servicer
        servicer.frames.append(frame)
        self._open[frame.frame_id] = frame
        self._credits -= 1
        self._pending += 1
        servicer.most_pending = max(servicer.most_pending, self._pending)
        if self._credits < 0:
            servicer.uncredited += 1
        if frame.first.answer_within_ms:
            self.tasks.append(asyncio.create_task(self._later(frame)))

    async def _later(self, frame: ArrivedFrame) -> None:
        await asyncio.sleep(frame.first.answer_within_ms / 1000)
        self._start(frame)

    def _start(self, frame: ArrivedFrame) -> None:
        if not frame.answered:
            frame.answered = True
            self._open.pop(frame.frame_id)
            self.tasks.append(asyncio.create_task(self._finish(frame)))

    async def _finish(self, frame: ArrivedFrame) -> None:
        outcome = await self._servicer.answer(frame)
        if outcome is None:
            return
        response = codec_pb2.InferStreamResponse(frame_id=frame.frame_id, credits=1)
        if isinstance(outcome, codec_pb2.FrameError):
            response.error.CopyFrom(outcome)
        else:
            response.answer.CopyFrom(outcome)
        self._credits += 1
        self._pending -= 1
        async with self._writing:
            await self._context.write(response)


class StreamServer:
    """A servicer on a port, in the loop of a ``LoopThread``."""

    def __init__(self, thread: LoopThread, servicer: StreamServicer, port: int = 0) -> None:
        self._thread, self.servicer = thread, servicer
        self._server: Any = None
        self.port = port
        thread.run(self._start())

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def _start(self) -> None:
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        codec_pb2_grpc.add_CodecServiceServicer_to_server(self.servicer, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self._server.start()

    def stop(self) -> None:
        """End all calls at once."""
        if self._server is not None:
            self._thread.run(self._server.stop(0))
            self._server = None


@contextmanager
def stream_server(
    thread: LoopThread, servicer: StreamServicer | None = None, port: int = 0
) -> Iterator[StreamServer]:
    """A server for as long as a block runs."""
    server = StreamServer(thread, servicer or StreamServicer(), port)
    try:
        yield server
    finally:
        server.stop()


def stream_client(server: StreamServer, **options: Any) -> StreamClient:
    """A client of it that reconnects quickly; options are those of ``StreamOptions``."""
    keep = {key: options.pop(key) for key in ("security", "clock") if key in options}
    return StreamClient(
        server.address, STREAM_ID, options=StreamOptions(**{"reconnect": QUICK, **options}), **keep
    )
