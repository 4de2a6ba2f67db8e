"""One connection to a server, by ``InferStream`` or, where that is not known, by ``Infer``."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Protocol

import grpc

from fpcodec.errors import FpcodecError, Unavailable
from fpcodec.status import ERROR_KEY, from_rpc_error, status_of, to_wire
from fpcodec.v1 import codec_pb2, codec_pb2_grpc
from fpcodec_edge.outbox import Outbox, to_parts
from fpcodec_edge.outcomes import StreamOptions

OnResponse = Callable[[codec_pb2.InferStreamResponse], None]


class UnknownCall(FpcodecError):
    """The server does not know ``InferStream``: it is of an earlier release."""

    cause = "The server is of a release from before streams."
    remedy = "None is needed: the edge client sends frames one by one; update the server for more."


class Connection(Protocol):
    """Carries frames there and what becomes of them back."""

    def run(self) -> None:
        """Serve until the connection ends, which always raises.

        Raises:
            FpcodecError: Why it ended.
        """

    def send(
        self, frame_id: int, frame: bytes, answer_within_s: float | None, request_id: str
    ) -> None:
        """Send a frame; returns at once."""

    def give_up(self, why: FpcodecError) -> None:
        """Let ``run`` end, raising this."""


class StreamConnection:
    """One call of ``InferStream``.

    Args:
        stub: The server's.
        address: The server, for messages.
        options: How the stream behaves.
        is_pending: Whether a frame still awaits its outcome.
        on_unsent: Called for each frame of which nothing was sent: its credit is still there.
        on_response: Called with what the server says.
    """

    def __init__(
        self,
        stub: codec_pb2_grpc.CodecServiceStub,
        address: str,
        options: StreamOptions,
        is_pending: Callable[[int], bool],
        on_unsent: Callable[[], None],
        on_response: OnResponse,
    ) -> None:
        self._address, self._options, self._on_response = address, options, on_response
        self._outbox = Outbox(is_pending, on_unsent)
        self._why: FpcodecError | None = None
        self._call: Any = stub.InferStream(self._outbox)

    def run(self) -> None:
        """See ``Connection.run``."""
        try:
            for response in self._call:
                self._on_response(response)
        except grpc.RpcError as error:
            raise self._why or _typed(error, self._address) from error
        finally:
            self._outbox.close()
            self._call.cancel()
        raise self._why or Unavailable(f"{self._address} ended the call; it may be restarting")

    def send(
        self, frame_id: int, frame: bytes, answer_within_s: float | None, request_id: str
    ) -> None:
        """See ``Connection.send``."""
        self._outbox.put(to_parts(
            frame_id, frame, self._options.part_bytes,
            answer_within_ms=_to_ms(answer_within_s),
            expires_after_ms=_to_ms(self._options.expires_after_s),
            request_id=request_id,
        ))  # fmt: skip

    def give_up(self, why: FpcodecError) -> None:
        """See ``Connection.give_up``."""
        self._why = self._why or why
        self._call.cancel()


class UnaryConnection:
    """Calls of ``Infer``, with credits of the client's own making.

    Args:
        stub: The server's.
        address: The server, for messages.
        options: How the stream behaves.
        on_response: Called with answers in the form that a stream has.
    """

    def __init__(
        self,
        stub: codec_pb2_grpc.CodecServiceStub,
        address: str,
        options: StreamOptions,
        on_response: OnResponse,
    ) -> None:
        self._stub, self._address, self._options = stub, address, options
        self._on_response = on_response
        self._why: FpcodecError | None = None
        self._ended = threading.Event()

    def run(self) -> None:
        """See ``Connection.run``."""
        self._on_response(codec_pb2.InferStreamResponse(credits=self._options.unary_calls))
        self._ended.wait()
        raise self._why or Unavailable(f"the connection to {self._address} was lost")

    def send(
        self, frame_id: int, frame: bytes, answer_within_s: float | None, request_id: str
    ) -> None:
        """See ``Connection.send``; the answer always waits for the whole frame."""
        request = codec_pb2.InferRequest(request_id=request_id, frame=frame)
        call = self._stub.Infer.future(request, timeout=self._options.expires_after_s)
        call.add_done_callback(lambda done: self._finish(frame_id, done))

    def give_up(self, why: FpcodecError) -> None:
        """See ``Connection.give_up``."""
        self._why = self._why or why
        self._ended.set()

    def _finish(self, frame_id: int, call: Any) -> None:
        if self._ended.is_set():
            return  # Its frame was lost with the connection, and is known to be.
        response = codec_pb2.InferStreamResponse(frame_id=frame_id, credits=1)
        try:
            response.answer.CopyFrom(call.result())
        except grpc.FutureCancelledError:
            return
        except grpc.RpcError as error:
            typed = _typed(error, self._address)
            if isinstance(typed, Unavailable):
                self.give_up(typed)
                return
            _, response.error.message, metadata = to_wire(typed)
            response.error.name = dict(metadata)[ERROR_KEY]
            if status_of(typed).retryable:
                response.error.retry_after_ms = 0
        self._on_response(response)


def _typed(error: Any, address: str) -> FpcodecError:
    if error.code() is grpc.StatusCode.UNIMPLEMENTED:
        return UnknownCall(f"the server at {address} knows no streams")
    if error.code() is grpc.StatusCode.CANCELLED:
        return Unavailable(f"the connection to {address} was closed")
    return from_rpc_error(error, address)


def _to_ms(seconds: float | None) -> int:
    return 0 if seconds is None else max(1, round(seconds * 1000))
