"""A handler's context that remembers what passed through it, and how the call ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc

from fpcodec.status import ERROR_KEY


class ObservedContext:
    """Stands between a handler and its ``grpc.aio.ServicerContext``.

    Attributes:
        received_bytes: Length of the messages that were read.
        sent_bytes: Length of the messages that were written.
        error: Name of the error class that ended the call; empty for none.

    Args:
        inner: gRPC's context.
        trailing: Metadata that every answer ends with, whatever the handler adds. Trailing,
            because initial metadata would cost a message of its own.
        on_abort: Called before a call that the handler gives up is answered.
    """

    def __init__(
        self, inner: Any, trailing: tuple[tuple[str, str], ...], on_abort: Callable[[], None]
    ) -> None:
        self.received_bytes = 0
        self.sent_bytes = 0
        self.error = ""
        self._code: grpc.StatusCode | None = None
        self._inner = inner
        self._trailing = trailing
        self._on_abort = on_abort
        inner.set_trailing_metadata(trailing)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def set_trailing_metadata(self, trailing_metadata: Any) -> None:
        """As gRPC's."""
        self._inner.set_trailing_metadata((*trailing_metadata, *self._trailing))

    def set_code(self, code: grpc.StatusCode) -> None:
        """As gRPC's."""
        self._code = code
        self._inner.set_code(code)

    async def abort(
        self, code: grpc.StatusCode, details: str = "", trailing_metadata: Any = ()
    ) -> None:
        """As gRPC's: raises."""
        self._code = code
        self.error = str(dict(trailing_metadata).get(ERROR_KEY, ""))
        self._on_abort()
        await self._inner.abort(code, details, (*trailing_metadata, *self._trailing))

    async def read(self) -> Any:
        """As gRPC's."""
        message = await self._inner.read()
        self.received_bytes += size_of(message)
        return message

    async def write(self, message: Any) -> None:
        """As gRPC's."""
        self.sent_bytes += size_of(message)
        await self._inner.write(message)

    async def counted(self, requests: Any) -> AsyncIterator[Any]:
        """The requests of a stream, counted as they are read."""
        async for request in requests:
            self.received_bytes += size_of(request)
            yield request

    def code_after(self, raised: type[BaseException] | None) -> str:
        """Name of the status code of a call that ended so.

        Args:
            raised: What its handler raised; None for nothing.
        """
        code = self._code or grpc.StatusCode.OK
        if self._code is None and raised is not None:
            code = grpc.StatusCode.UNKNOWN
            if issubclass(raised, (asyncio.CancelledError, GeneratorExit)):
                left_s = self._inner.time_remaining()
                late = left_s is not None and left_s <= 0
                code = grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED
        return str(code.name)


def size_of(message: Any) -> int:
    """Bytes of a message; 0 for gRPC's mark of a stream's end."""
    size = getattr(message, "ByteSize", None)
    return int(size()) if size is not None else 0


def stages_of(response: Any) -> dict[str, float]:
    """Milliseconds per stage that an answer tells of; none where it is no answer to a frame."""
    timings = getattr(response, "timings", None)
    if timings is None:
        return {}
    return {field.name.removesuffix("_ms"): ms for field, ms in timings.ListFields()}
