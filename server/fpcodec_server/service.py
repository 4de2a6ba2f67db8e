"""The calls of ``fpcodec.v1.CodecService``, answered."""

from __future__ import annotations

import functools
import logging
import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeVar

import grpc

from fpcodec.bitstream import VERSION
from fpcodec.codecs.base import Limits
from fpcodec.errors import FpcodecError, InputError, LimitExceeded, Unavailable
from fpcodec.status import to_wire
from fpcodec.v1 import codec_pb2, codec_pb2_grpc
from fpcodec_server.admission import Ticket, WorkPool
from fpcodec_server.answers import Answer, to_response

SERVICE_NAME = "fpcodec.v1.CodecService"
FRAME_VERSIONS = (VERSION,)
MAX_REQUEST_ID_BYTES = 128

_log = logging.getLogger(__name__)

Context = Any
"""``grpc.aio.ServicerContext``, whose type parameters only the stubs know."""


class InferenceHalf(Protocol):
    """The server's half of a detector; ``fpcodec.split.ServerHalf`` is one.

    Several threads call ``infer`` at the same time.
    """

    def infer(self, frame: bytes, checkpoint: Callable[[], None]) -> Answer:
        """Decode one frame, recover what is missing, run the head.

        ``checkpoint`` is called between the stages; what it raises ends the work.

        Raises:
            FpcodecError: The frame cannot be used; the class says why.
        """


class ServedProfile(Protocol):
    """What the service tells clients about its profile; ``fpcodec.profile.Profile`` is one."""

    @property
    def stream_id(self) -> bytes:
        """Identity of the streams it reads, 32 bytes."""

    @property
    def labels(self) -> Sequence[str]:
        """Class names."""

    @property
    def name(self) -> str:
        """The profile's name."""


T = TypeVar("T")
_Call = Callable[["CodecServicer", T, Context], Awaitable[Any]]


def _answering(call: _Call[T]) -> _Call[T]:
    """Turn what a call raises into a status: typed errors in the open, others opaque."""

    @functools.wraps(call)
    async def answer(self: CodecServicer, request: T, context: Context) -> Any:
        try:
            return await call(self, request, context)
        except FpcodecError as error:
            code, message, metadata = to_wire(error)
        except Exception:
            incident = secrets.token_hex(4)
            _log.exception("incident %s: %s failed", incident, call.__name__)
            code, metadata = grpc.StatusCode.INTERNAL, ()
            message = f"internal error, incident {incident}; the server's log has the cause"
        await context.abort(code, message, metadata)

    return answer


class CodecServicer(codec_pb2_grpc.CodecServiceServicer):
    """Answers negotiations and inferences.

    Args:
        profile: What is served.
        limits: What a frame may ask for.
        pool: Where inference runs.
        version: This server's release.
    """

    def __init__(
        self, profile: ServedProfile, limits: Limits, pool: WorkPool, version: str
    ) -> None:
        self._profile = profile
        self._limits = limits
        self._pool = pool
        self._version = version
        self._half: InferenceHalf | None = None
        self._refusal = "the server is still loading; try again in a moment"

    def open(self, half: InferenceHalf) -> None:
        """Begin to serve: calls are refused until now."""
        self._half = half

    def close(self) -> None:
        """Refuse further calls; those in flight go on."""
        self._half = None
        self._refusal = "the server is shutting down; use another or wait for its return"

    @_answering
    async def Negotiate(
        self, request: codec_pb2.NegotiateRequest, context: Context
    ) -> codec_pb2.NegotiateResponse:
        """Say whether the client's streams are served; see codec.proto."""
        self._require_open()
        response = codec_pb2.NegotiateResponse(
            served_stream_ids=[self._profile.stream_id],
            served_frame_versions=FRAME_VERSIONS,
            limits=codec_pb2.FrameLimits(
                max_frame_bytes=self._limits.max_frame_bytes,
                max_image_pixels=self._limits.max_image_pixels,
                max_network_pixels=self._limits.max_network_pixels,
                max_elements=self._limits.max_elements,
            ),
            labels=self._profile.labels,
            profile_name=self._profile.name,
            server_version=self._version,
        )
        versions = set(request.frame_versions) & set(FRAME_VERSIONS)
        if self._profile.stream_id not in request.stream_ids:
            response.outcome = codec_pb2.NEGOTIATION_OUTCOME_UNKNOWN_STREAM
        elif not versions:
            response.outcome = codec_pb2.NEGOTIATION_OUTCOME_UNSUPPORTED_VERSION
        else:
            response.outcome = codec_pb2.NEGOTIATION_OUTCOME_ACCEPTED
            response.stream_id = self._profile.stream_id
            response.frame_version = max(versions)
        return response

    @_answering
    async def Infer(
        self, request: codec_pb2.InferRequest, context: Context
    ) -> codec_pb2.InferResponse:
        """Detect objects behind one frame; see codec.proto."""
        half = self._require_open()
        request_id, frame = request.request_id, request.frame
        if len(request_id.encode()) > MAX_REQUEST_ID_BYTES:
            raise InputError(
                f"the request id is longer than {MAX_REQUEST_ID_BYTES} bytes; use a shorter one"
            )
        if len(frame) > self._limits.max_frame_bytes:
            raise LimitExceeded(
                f"the frame has {len(frame)} bytes, the server's limit is "
                f"{self._limits.max_frame_bytes}; send fewer levels or a lower quality"
            )

        def infer(ticket: Ticket) -> codec_pb2.InferResponse:
            queue_ms = ticket.age_ms
            answer = half.infer(frame, ticket.require_wanted)
            ticket.require_wanted()
            return to_response(request_id, answer, queue_ms)

        return await self._pool.run(infer, context.time_remaining())

    def _require_open(self) -> InferenceHalf:
        if self._half is None:
            raise Unavailable(self._refusal)
        return self._half
