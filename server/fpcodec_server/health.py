"""Health (``grpc.health.v1``): states that no watcher can hold up."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from fpcodec.errors import Overloaded
from fpcodec.status import to_wire

LIVENESS = "liveness"
"""Service that is SERVING as long as the process answers."""

MOST_WATCHES = 32
"""``Watch`` calls that may be open: they need no token, and each takes a call's place."""

_RETRY_MS = 1000

_STATES = health_pb2.HealthCheckResponse


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # gRPC has no types
    """Says what is served.

    gRPC's own servicer writes to its watchers under the lock that a change of state needs: one
    that takes nothing would hold up readiness, reloads and the stop. Here a change waits for
    nobody, and a watcher that was away hears of the latest state alone.

    Args:
        most_watches: ``Watch`` calls that may be open.
    """

    def __init__(self, most_watches: int = MOST_WATCHES) -> None:
        self._most = most_watches
        self._states: dict[str, Any] = {}
        self._changed = asyncio.Event()
        self._watches = 0
        self._stopping = self._closed = False

    def set(self, service: str, state: Any) -> None:
        """Change a service's state; nothing changes once a stop has begun."""
        if not self._stopping:
            self._states[service] = state
            self._tell()

    def stopping(self) -> None:
        """Say NOT_SERVING of everything that is served, for good; ``LIVENESS`` stays."""
        self._stopping = True
        # Whoever restarts what is not live must not cut off the answers that are on their way.
        for service in self._states.keys() - {LIVENESS}:
            self._states[service] = _STATES.NOT_SERVING
        self._tell()

    def close(self) -> None:
        """End what watches once it has heard the last state, so that no stop waits for it."""
        self._closed = True
        self._tell()

    async def Check(
        self, request: health_pb2.HealthCheckRequest, context: Any
    ) -> health_pb2.HealthCheckResponse:
        """A service's state; name and arguments are gRPC's."""
        state = self._states.get(request.service)
        if state is None:
            await context.abort(grpc.StatusCode.NOT_FOUND)
        return _STATES(status=state)

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Any) -> None:
        """A service's state whenever it changes; name and arguments are gRPC's."""
        if self._watches >= self._most:
            error = Overloaded(
                f"{self._watches} Watch calls of health are open, the server's limit; use Check, "
                "or try again later",
                _RETRY_MS,
            )
            await context.abort(*to_wire(error))
        self._watches += 1
        try:
            await self._watch(request.service, context)
        finally:
            self._watches -= 1

    async def _watch(self, service: str, context: Any) -> None:
        told = None
        while True:
            changed = self._changed
            state = self._states.get(service, _STATES.SERVICE_UNKNOWN)
            if state != told:
                await context.write(_STATES(status=state))
                told = state
            elif self._closed:
                return
            else:
                await changed.wait()

    def _tell(self) -> None:
        # Whoever waits has the old event; the next change is told by a new one.
        self._changed.set()
        self._changed = asyncio.Event()
