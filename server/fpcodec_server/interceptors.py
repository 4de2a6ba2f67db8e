"""What surrounds every call: authentication, limits, trace, log and metrics."""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import grpc
from grpc_health.v1 import health

from fpcodec.errors import FpcodecError, Overloaded
from fpcodec.status import to_wire
from fpcodec_server.callers import client_name
from fpcodec_server.calls import Call, enter_call
from fpcodec_server.client_limits import ClientLimits
from fpcodec_server.metrics import ServerMetrics
from fpcodec_server.observed import ObservedContext, size_of, stages_of
from fpcodec_server.request_log import RequestRecord, log_request
from fpcodec_server.tokens import OneToken, Tokens, authenticate
from fpcodec_server.trace import TRACEPARENT, continue_trace

MAX_LOGGED_CHARS = 128
"""Of a request id, which is a client's choice; the service refuses longer ones."""

_EXEMPT = f"/{health.SERVICE_NAME}/"
"""Load balancers have no tokens, and what they ask every second belongs in no log."""

# By (request streams, response streams), as a handler says it.
_KINDS = {
    (False, False): ("unary_unary", grpc.unary_unary_rpc_method_handler),
    (False, True): ("unary_stream", grpc.unary_stream_rpc_method_handler),
    (True, False): ("stream_unary", grpc.stream_unary_rpc_method_handler),
    (True, True): ("stream_stream", grpc.stream_stream_rpc_method_handler),
}


@dataclass(frozen=True)
class CallRules:
    """What holds for every call.

    Attributes:
        metrics: What counts.
        tokens: Who is let in; None for everybody.
        limits: What each client may use; None for anything.
        clock: Seconds for durations.
    """

    metrics: ServerMetrics
    tokens: Tokens | OneToken | None = None
    limits: ClientLimits | None = None
    clock: Callable[[], float] = time.perf_counter

    def client_of(self, details: Any, context: Any) -> str:
        """The caller's name.

        Raises:
            Unauthenticated: It has no valid token.
        """
        token_name = None
        if self.tokens is not None:
            token_name = authenticate(details.invocation_metadata or (), self.tokens)
        return client_name(token_name, context.auth_context(), context.peer())

    def charge(
        self, client: str, size_bytes: int, before_bytes: int | None = None, *, whole: bool = True
    ) -> None:
        """Count one request, or a further part of one, against its client's limits.

        Raises:
            Overloaded: The client is above them.
        """
        if self.limits is None:
            return
        try:
            self.limits.charge(client, size_bytes, before_bytes, whole=whole)
        except Overloaded:
            self.metrics.shed("client_limit")
            raise

    def owe(self, client: str, size_bytes: int) -> None:
        """Count bytes that come too late to be refused."""
        if self.limits is not None:
            self.limits.owe(client, size_bytes)

    def ended(self, record: RequestRecord) -> None:
        """Count and log what became of a call, or of one frame of a stream."""
        self.metrics.request_ended(
            record.method, record.code, record.seconds, record.received_bytes, record.sent_bytes
        )
        log_request(record)


class CallInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # gRPC has no types
    """Admits, counts and logs every call but health's.

    A call without a valid token, or above its client's limits, never reaches its handler. The
    handler finds the call with ``calls.current_call``.
    """

    def __init__(self, rules: CallRules) -> None:
        self._rules = rules

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        """Wrap the handler of a call; name and arguments are gRPC's."""
        handler = await continuation(details)
        if handler is None or details.method.startswith(_EXEMPT):
            return handler
        attribute, make = _KINDS[handler.request_streaming, handler.response_streaming]
        behaviour = getattr(handler, attribute)
        surround = _around_iterator if inspect.isasyncgenfunction(behaviour) else _around
        enter = functools.partial(_ObservedCall, self._rules, details)
        return make(
            surround(behaviour, enter),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )


def _around(behaviour: Any, enter: Callable[[Any], _ObservedCall]) -> Any:
    async def answer(request: Any, context: Any) -> Any:
        with enter(context) as call:
            response = await behaviour(await call.admit(request), call.context)
            call.note_response(response)
            return response

    return answer


def _around_iterator(behaviour: Any, enter: Callable[[Any], _ObservedCall]) -> Any:
    async def answer(request: Any, context: Any) -> AsyncIterator[Any]:
        with enter(context) as call:
            async for response in behaviour(await call.admit(request), call.context):
                call.note_response(response)
                yield response

    return answer


class _ObservedCall:
    """One call, from its first message to its end, however it ends."""

    def __init__(self, rules: CallRules, details: Any, context: Any) -> None:
        trace = continue_trace(details.invocation_metadata or ())
        self.context = ObservedContext(
            context, ((TRACEPARENT, trace.traceparent),), on_abort=self._end
        )
        self._ended = False
        self._rules, self._details = rules, details
        self._begun_s = rules.clock()
        # Until it is admitted, a caller is no more than where it calls from.
        address = client_name(None, {}, context.peer())
        method = details.method.rpartition("/")[2]
        self._call = Call(method, address, trace, ended=rules.ended)

    def __enter__(self) -> _ObservedCall:
        enter_call(self._call)
        return self

    async def admit(self, request: Any) -> Any:
        """The request to hand on to the handler; a refused call ends here."""
        call = self._call
        try:
            call.client = self._rules.client_of(self._details, self.context)
            call.charge = functools.partial(self._rules.charge, call.client)
            call.owe = functools.partial(self._rules.owe, call.client)
            if hasattr(request, "__aiter__"):
                call.charge(0)
                return self.context.counted(request)
            self.context.received_bytes += size_of(request)
            call.request_id = getattr(request, "request_id", "")[:MAX_LOGGED_CHARS]
            call.charge(self.context.received_bytes)
        except FpcodecError as error:
            await self.context.abort(*to_wire(error))
        return request

    def note_response(self, response: Any) -> None:
        """Count an answer; None is that of a handler which wrote its answers itself."""
        self.context.sent_bytes += size_of(response)
        self._call.stages_ms.update(stages_of(response))

    def __exit__(self, kind: type[BaseException] | None, *more: object) -> None:
        self._end(kind)

    def _end(self, kind: type[BaseException] | None = None) -> None:
        """Count and log the call, once, before its client has the answer."""
        if self._ended:
            return
        self._ended = True
        context, call = self.context, self._call
        call.ended(
            RequestRecord.of(
                call, context.code_after(kind), self._rules.clock() - self._begun_s,
                received_bytes=context.received_bytes, sent_bytes=context.sent_bytes,
                error=context.error,
            )
        )  # fmt: skip
