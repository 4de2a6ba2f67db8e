"""The device's connection to a server."""

from __future__ import annotations

import random
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, TypeVar

import grpc

from fpcodec import __version__
from fpcodec.address import split_address
from fpcodec.bitstream import VERSION
from fpcodec.codecs.base import Limits
from fpcodec.errors import FpcodecError, InputError, Timeout, Unavailable
from fpcodec.status import from_rpc_error
from fpcodec.v1 import codec_pb2, codec_pb2_grpc
from fpcodec_edge.channel import CHANNEL_OPTIONS, ChannelSecurity, open_channel
from fpcodec_edge.replies import Agreement, InferReply, require_fits, to_agreement, to_reply
from fpcodec_edge.retry import RetryPolicy, call_with_retry

FRAME_VERSIONS = (VERSION,)

_PROBE_S = 0.05

T = TypeVar("T")
_Metadata = tuple[tuple[str, str], ...]


class EdgeClient:
    """Calls one server; safe to share between threads.

    The connection is made by the first call and made again after a loss. Create the client
    after any fork: a channel does not survive one.

    Args:
        address: ``host:port`` of the server.
        deadline_s: Seconds for each call, retries included.
        security: TLS, client certificate, token; None for plain HTTP/2 without a token.
        retry: When to try again; inference has no side effects, so repeating it is safe.
        clock: Monotonic seconds.
        sleep: Waits so many seconds.
        rng: Source of jitter; None for a fresh one.

    Raises:
        InputError: The address, the deadline or a file of ``security`` has no use.
    """

    def __init__(
        self,
        address: str,
        *,
        deadline_s: float = 2.0,
        security: ChannelSecurity | None = None,
        retry: RetryPolicy | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        rng: random.Random | None = None,
    ) -> None:
        split_address(address)
        if not deadline_s > 0:
            raise InputError(f"a deadline of {deadline_s} s leaves no time; use more than 0")
        self.address = address
        self._deadline_s = deadline_s
        self._retry = retry or RetryPolicy()
        self._clock, self._sleep = clock, sleep
        self._rng = rng or random.Random()  # noqa: S311 (jitter is no secret)
        self._max_frame_bytes = Limits().max_frame_bytes
        self._closed = threading.Event()
        self._channel = open_channel(address, security, CHANNEL_OPTIONS)
        self._stub = codec_pb2_grpc.CodecServiceStub(self._channel)

    def negotiate(
        self, stream_id: bytes, frame_versions: Sequence[int] = FRAME_VERSIONS
    ) -> Agreement:
        """Ask whether the server reads a stream; keeps its frame limit for later calls.

        Args:
            stream_id: The profile's, 32 bytes.
            frame_versions: Versions that can be sent.

        Raises:
            ProfileMismatch: The server has another profile.
            UnsupportedVersion: The server reads other frame versions.
            TransportError: No answer; the class says why.
        """
        request = codec_pb2.NegotiateRequest(
            stream_ids=[stream_id], frame_versions=frame_versions, client_version=__version__
        )
        agreement = to_agreement(self._call(self._stub.Negotiate, request), self.address)
        self._max_frame_bytes = agreement.limits.max_frame_bytes
        return agreement

    def infer(
        self,
        frame: bytes,
        request_id: str | None = None,
        *,
        traceparent: str | None = None,
        odam_nms: bool = False,
    ) -> InferReply:
        """Send one frame and wait for what was found.

        Args:
            frame: One ``.fpc`` frame.
            request_id: Comes back in the reply; None for a random one.
            traceparent: W3C trace context of the caller; the server goes on with it.
            odam_nms: Have the boxes selected by Odam-NMS, where the server offers it.

        Raises:
            InputError: The server offers no Odam-NMS.
            LimitExceeded: The frame is longer than the server takes.
            FormatError: The server cannot read the frame.
            TransportError: No answer; the class says why.
        """
        require_fits(frame, self._max_frame_bytes, self.address)
        request = codec_pb2.InferRequest(
            request_id=secrets.token_hex(8) if request_id is None else request_id, frame=frame,
            odam_nms=odam_nms,
        )  # fmt: skip
        start_s = self._clock()
        metadata = () if traceparent is None else (("traceparent", traceparent),)
        response = self._call(self._stub.Infer, request, metadata)
        if odam_nms and not response.odam_nms:
            # One from before the field existed passes over it.
            raise InputError(
                f"the server at {self.address} knows no Odam-NMS; upgrade it or ask without it"
            )
        return to_reply(response, (self._clock() - start_s) * 1000)

    def close(self) -> None:
        """Close the connection; calls in flight fail."""
        self._closed.set()
        self._channel.close()

    def __enter__(self) -> EdgeClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _call(self, method: Callable[..., Any], request: Any, metadata: _Metadata = ()) -> Any:
        if self._closed.is_set():
            raise InputError(f"this client of {self.address} is closed; make a new one")
        return call_with_retry(
            lambda seconds_left: self._attempt(method, request, metadata, seconds_left),
            self._retry,
            self._deadline_s,
            rng=self._rng,
            clock=self._clock,
            sleep=self._sleep,
        )

    def _attempt(
        self, method: Callable[..., Any], request: Any, metadata: _Metadata, seconds_left: float
    ) -> Any:
        try:
            return method(request, timeout=seconds_left, metadata=metadata)
        except grpc.RpcError as error:
            raise self._typed(error) from error
        except ValueError as error:
            # gRPC's word for a channel that another thread closed during a pause.
            if not self._closed.is_set():
                raise
            raise Unavailable(f"this client of {self.address} was closed meanwhile") from error

    def _typed(self, error: Any) -> FpcodecError:
        typed = from_rpc_error(error, self.address)
        if isinstance(typed, Timeout) and not self._is_connected():
            return Unavailable(
                f"no server answered at {self.address} within {self._deadline_s:g} s; start one "
                f"there with `fpcodec serve --listen {self.address}`, or correct the address"
            )
        return typed

    def _is_connected(self) -> bool:
        """Whether the connection stands: tells a silent address from a slow server."""
        ready = grpc.channel_ready_future(self._channel)
        try:
            ready.result(timeout=_PROBE_S)
        except grpc.FutureTimeoutError:
            return False
        finally:
            ready.cancel()
        return True
