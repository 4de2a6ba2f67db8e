"""Admission: a bounded queue in front of a bounded pool of worker threads."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from fpcodec.errors import InputError, Overloaded, Timeout

T = TypeVar("T")


@dataclass
class Ticket:
    """One admitted piece of work.

    Attributes:
        admitted_s: When it was admitted, on the monotonic clock.
        deadline_s: When nobody wants the result any more, on the same clock; None for never.
        abandoned: Whether the caller has gone.
    """

    admitted_s: float
    deadline_s: float | None
    abandoned: bool = False

    @property
    def age_ms(self) -> float:
        """Milliseconds since admission."""
        return (time.monotonic() - self.admitted_s) * 1000

    def require_wanted(self) -> None:
        """Check, before a stage of work, that somebody waits for the result.

        Raises:
            Timeout: The deadline has passed or the caller has gone.
        """
        late = self.deadline_s is not None and time.monotonic() >= self.deadline_s
        if late or self.abandoned:
            raise Timeout(
                f"the request's deadline passed after {self.age_ms:.0f} ms on the server; "
                "allow more time or send less often"
            )


class WorkPool:
    """Runs blocking work in threads; refuses what would wait too long.

    All methods belong to one event loop's thread. Work that runs cannot be interrupted, so an
    abandoned piece keeps its place until it ends; one that still waits gives it up at once.
    """

    def __init__(self, workers: int, max_waiting: int) -> None:
        if workers < 1 or max_waiting < 0:
            raise InputError(
                f"{workers} workers with {max_waiting} waiting is not a pool; "
                "use at least 1 worker and 0 waiting"
            )
        self.capacity = workers + max_waiting
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="fpcodec-worker")
        self._admitted = 0

    async def run(self, work: Callable[[Ticket], T], seconds_left: float | None = None) -> T:
        """Run one piece of work.

        Args:
            work: Called in a worker thread, never after its deadline.
            seconds_left: Time until the deadline; None for no deadline.

        Raises:
            Overloaded: Every worker is busy and the queue is full.
            Timeout: The deadline passed before the work was started.
        """
        if self._admitted >= self.capacity:
            raise Overloaded(
                f"the server has {self._admitted} requests in hand, its limit; try again later "
                "or start it with more workers"
            )
        now = time.monotonic()
        ticket = Ticket(now, None if seconds_left is None else now + seconds_left)
        self._admitted += 1
        future = self._threads.submit(_start, work, ticket)
        loop = asyncio.get_running_loop()
        future.add_done_callback(lambda done: self._end_soon(loop))
        try:
            return await asyncio.wrap_future(future)
        finally:
            ticket.abandoned = True

    def close(self) -> None:
        """Refuse new work and drop what waits; what runs comes to its end."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _end_soon(self, loop: asyncio.AbstractEventLoop) -> None:
        # The loop is closed when work outlives the server: nobody counts then.
        if not loop.is_closed():
            loop.call_soon_threadsafe(self._end)

    def _end(self) -> None:
        self._admitted -= 1


def _start(work: Callable[[Ticket], T], ticket: Ticket) -> T:
    ticket.require_wanted()
    return work(ticket)
