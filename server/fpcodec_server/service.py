"""The calls of ``fpcodec.v1.CodecService``, answered."""

from __future__ import annotations

import asyncio
import functools
import logging
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any, TypeVar

import grpc

from fpcodec.bitstream import VERSION
from fpcodec.codecs.base import Limits
from fpcodec.errors import (
    FormatError,
    FpcodecError,
    InputError,
    LimitExceeded,
    NeedsRefresh,
    Overloaded,
    Unavailable,
)
from fpcodec.status import TIME_KEY, to_wire
from fpcodec.v1 import codec_pb2
from fpcodec.video import is_inter
from fpcodec_server.calls import current_call
from fpcodec_server.catalog import Catalog, ServedProfile
from fpcodec_server.dispatcher import Dispatcher
from fpcodec_server.jobs import Job
from fpcodec_server.observer import Observer
from fpcodec_server.stream_frames import stream_frame
from fpcodec_server.streams import MAX_REQUEST_ID_BYTES, ByteBudget, Stream, StreamLimits
from fpcodec_server.streams import Infer as InferFrame
from fpcodec_server.video import StreamVideo

SERVICE_NAME = "fpcodec.v1.CodecService"
FRAME_VERSIONS = (VERSION,)

_log = logging.getLogger(__name__)

Context = Any
"""``grpc.aio.ServicerContext``, whose type parameters only the stubs know."""

Refusal = tuple[grpc.StatusCode, str, tuple[tuple[str, str], ...]]
"""Status code, message and trailing metadata."""

RETRY_MS = 1000
"""What a client is asked to wait that wants one streaming call too many."""

T = TypeVar("T")
_Call = Callable[["CodecServicer", T, Context], Awaitable[Any]]


def _answering(call: _Call[T]) -> _Call[T]:
    """Turn what a call raises into a status: typed errors in the open, others opaque."""

    @functools.wraps(call)
    async def answer(self: CodecServicer, request: T, context: Context) -> Any:
        self._note(context)
        try:
            return await call(self, request, context)
        except Exception as error:
            refusal = self.refusal(error, call.__name__)
        await context.abort(*refusal)

    return answer


class CodecServicer:
    """Answers negotiations and inferences.

    Args:
        limits: What a frame may ask for.
        streams: What a streaming call may ask for.
        version: This server's release.
        observer: Told what happens.
        client_of: Names the client of a call, for taking turns.
        deadline_s: Seconds for a call whose client names no deadline.
        odam_mode: One of ``config.ODAM_MODES``.
    """

    def __init__(
        self,
        limits: Limits,
        streams: StreamLimits,
        version: str,
        observer: Observer,
        client_of: Callable[[Context], str],
        deadline_s: float,
        odam_mode: str = "off",
    ) -> None:
        self._limits, self._streams, self._version = limits, streams, version
        self._observer, self._client_of, self._deadline_s = observer, client_of, deadline_s
        self._odam_mode = odam_mode
        self._catalog: Catalog | None = None
        self._dispatcher: Dispatcher | None = None
        self._open_streams: set[Stream] = set()
        self._calls = 0
        self._budget = ByteBudget(streams.max_arriving_bytes)
        self._refusal = "the server is still loading; try again in a moment"

    @property
    def calls(self) -> int:
        """Calls that are open: until the client's side has their last byte."""
        return self._calls

    def open(self, catalog: Catalog, dispatcher: Dispatcher) -> None:
        """Begin to serve, or go on with other profiles: calls are refused until the first time."""
        self._catalog, self._dispatcher = catalog, dispatcher

    def close(self) -> None:
        """Refuse further calls and frames; those in flight go on."""
        self._catalog = None
        self._refusal = "the server is shutting down; use another or wait for its return"
        for stream in self._open_streams:
            stream.close()

    def refusal(self, error: Exception, where: str) -> Refusal:
        """What a client may read of an error; a fault of the program goes to the log alone."""
        if isinstance(error, FormatError):
            self._observer.decode_error(type(error).__name__)
        if isinstance(error, FpcodecError):
            return to_wire(error)
        incident = secrets.token_hex(4)
        _log.error("incident %s: %s failed", incident, where, exc_info=error)
        message = f"internal error, incident {incident}; the server's log has the cause"
        return grpc.StatusCode.INTERNAL, message, ()

    @_answering
    async def Negotiate(
        self, request: codec_pb2.NegotiateRequest, context: Context
    ) -> codec_pb2.NegotiateResponse:
        """Say whether the client's streams are served; see codec.proto."""
        catalog, _ = self._require_open()
        chosen = catalog.choose(request.stream_ids)
        told = chosen or catalog.first
        context.set_trailing_metadata(((TIME_KEY, str(round(1000 * time.time()))),))
        response = codec_pb2.NegotiateResponse(
            served_stream_ids=[profile.stream_id for profile in catalog],
            served_frame_versions=FRAME_VERSIONS,
            limits=codec_pb2.FrameLimits(
                max_frame_bytes=self._limits.max_frame_bytes,
                max_image_pixels=self._limits.max_image_pixels,
                max_network_pixels=self._limits.max_network_pixels,
                max_elements=self._limits.max_elements,
            ),
            labels=told.labels,
            profile_name=told.name,
            server_version=self._version,
        )
        versions = set(request.frame_versions) & set(FRAME_VERSIONS)
        if chosen is None:
            response.outcome = codec_pb2.NEGOTIATION_OUTCOME_UNKNOWN_STREAM
        elif not versions:
            response.outcome = codec_pb2.NEGOTIATION_OUTCOME_UNSUPPORTED_VERSION
        else:
            response.outcome = codec_pb2.NEGOTIATION_OUTCOME_ACCEPTED
            response.stream_id = chosen.stream_id
            response.frame_version = max(versions)
        return response

    @_answering
    async def Infer(
        self, request: codec_pb2.InferRequest, context: Context
    ) -> codec_pb2.InferResponse:
        """Detect objects behind one frame; see codec.proto."""
        left_s = context.time_remaining()
        catalog, _ = self._require_open()
        frame = request.frame
        if is_inter(frame):
            raise NeedsRefresh(
                "an inter frame leans on the one before, and a call of its own has none; send it "
                "in an InferStream call, or send a frame that stands for itself"
            )
        profile = catalog.of_frame(frame)
        odam_nms = self._odam_mode == "always"
        if request.odam_nms and self._odam_mode == "off":
            raise InputError(
                "this server does not offer Odam-NMS; ask without it, or have its operator set "
                "odam.mode to offered"
            )
        job = Job(profile.stream_id, frame, request.partial, odam_nms=odam_nms or request.odam_nms)
        seconds_left = self._deadline_s if left_s is None else left_s
        return await self._infer(
            job, profile, request.request_id, self._client_of(context), seconds_left
        )

    async def InferStream(
        self, requests: AsyncIterator[codec_pb2.InferStreamRequest], context: Context
    ) -> AsyncIterator[codec_pb2.InferStreamResponse]:
        """Detect objects behind many frames; see codec.proto."""
        self._note(context)
        client = self._client_of(context)
        video = StreamVideo(lambda frame: self._require_open()[0].of_frame(frame), self._limits)

        async def infer(
            frame: bytes, partial: bool, request_id: str, expires_at_s: float
        ) -> codec_pb2.InferResponse:
            with stream_frame(request_id, len(frame)) as note:
                profile, decoded = await video.read(frame, partial)
                odam_nms = self._odam_mode == "always"
                job = Job(profile.stream_id, frame, partial, decoded, odam_nms=odam_nms)
                # Only now: an inter frame waits for those before it, and reading takes its time.
                left_s = expires_at_s - asyncio.get_running_loop().time()
                response = await self._infer(job, profile, request_id, client, left_s)
                note.response = response
                return response

        try:
            async for response in self._stream(requests, infer, client):
                yield response
            self._require_open()
        except Exception as error:
            refusal = self.refusal(error, "InferStream")
        else:
            return
        await context.abort(*refusal)

    async def _stream(
        self,
        requests: AsyncIterator[codec_pb2.InferStreamRequest],
        infer: InferFrame,
        client: str,
    ) -> AsyncIterator[codec_pb2.InferStreamResponse]:
        self._require_open()
        own = sum(stream.client == client for stream in self._open_streams)
        if len(self._open_streams) >= self._streams.most or own >= self._streams.most_of_a_client:
            raise Overloaded(
                f"{len(self._open_streams)} streaming calls are open, {own} of them this "
                f"client's, the server's limits are {self._streams.most} and "
                f"{self._streams.most_of_a_client}; try again later or use another server",
                RETRY_MS,
            )
        stream = Stream(
            requests, infer, self._streams, self._limits.max_frame_bytes, client, self._budget,
            lambda error: self.refusal(error, "InferStream"),
        )  # fmt: skip
        self._open_streams.add(stream)
        self._observer.stream_opened()
        try:
            async for response in stream.responses():
                yield response
        finally:
            self._open_streams.discard(stream)
            self._observer.stream_closed()
            await stream.end()

    async def _infer(
        self,
        job: Job,
        profile: ServedProfile,
        request_id: str,
        client: str,
        seconds_left: float | None,
    ) -> codec_pb2.InferResponse:
        _, dispatcher = self._require_open()
        if len(request_id.encode()) > MAX_REQUEST_ID_BYTES:
            raise InputError(
                f"the request id is longer than {MAX_REQUEST_ID_BYTES} bytes; use a shorter one"
            )
        if len(job.frame) > self._limits.max_frame_bytes:
            raise LimitExceeded(
                f"the frame has {len(job.frame)} bytes, the server's limit is "
                f"{self._limits.max_frame_bytes}; send fewer levels or a lower quality"
            )
        call = current_call()
        job = replace(job, request_id=request_id)
        if call is not None:
            call.profile = profile.name
            job = replace(job, traceparent=call.trace.traceparent)
        response = await dispatcher.answer(job, client, seconds_left)
        response.request_id = request_id
        return response

    def _note(self, context: Context) -> None:
        self._calls += 1
        context.add_done_callback(self._forget)

    def _forget(self, context: Context) -> None:
        self._calls -= 1

    def _require_open(self) -> tuple[Catalog, Dispatcher]:
        if self._catalog is None or self._dispatcher is None:
            raise Unavailable(self._refusal)
        return self._catalog, self._dispatcher
