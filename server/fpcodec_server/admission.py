"""Admission: a queue in front of the workers, bounded in items and bytes and fair to clients."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any

from fpcodec.errors import FpcodecError, InputError, Overloaded, Timeout
from fpcodec_server.jobs import Job
from fpcodec_server.settings import Section, whole

LEAST_RETRY_MS = 50
"""Shortest wait that a refused client is asked for."""

_MARGIN = 1.2
"""By how much a deadline must be farther off than the answer is expected: an answer that comes too
late was work for nothing."""

_SMOOTHING = 0.1
"""Weight of the newest measurement in the mean service time."""


@dataclass(frozen=True)
class QueueLimits(Section, name="queue"):
    """What the queue takes.

    Attributes:
        max_waiting: Requests that may wait for a worker.
        max_waiting_bytes: Frame bytes that may wait, in all requests together.
    """

    max_waiting: Annotated[int, whole(0)] = 64
    max_waiting_bytes: Annotated[int, whole(1)] = 64 * 1024 * 1024


@dataclass(eq=False)
class Ticket:
    """One admitted request.

    Attributes:
        job: The work.
        client: Who asked; clients take turns.
        admitted_s: When it was admitted, on the queue's clock.
        deadline_s: When nobody wants the answer any more, on the same clock; None for never.
        outcome: Where the answer goes; cancelled when the caller has gone.
        attempts: Workers that were lost over it.
    """

    job: Job
    client: str
    admitted_s: float
    deadline_s: float | None
    outcome: asyncio.Future[Any] = field(repr=False)
    attempts: int = 0

    def fail(self, error: FpcodecError) -> None:
        """Answer with an error, if anybody still waits."""
        if not self.outcome.done():
            self.outcome.set_exception(error)

    def seconds_left(self, now_s: float) -> float | None:
        """Until the deadline; None for no deadline."""
        return None if self.deadline_s is None else self.deadline_s - now_s


class AdmissionQueue:
    """Takes requests in and hands them out; belongs to one event loop's thread.

    A request is refused when the queue is full or its deadline would pass before its turn. Where
    the queue is full of one client's requests and another's comes, the newest of the former is
    refused in its place. Expired requests are never handed out.

    Args:
        limits: What it takes.
        workers: How many take from it.
        clock: Monotonic seconds.
        on_shed: Told why whenever a request is refused or dropped.
        on_waiting: Told how many requests and frame bytes wait, whenever that changes.
    """

    def __init__(
        self,
        limits: QueueLimits,
        workers: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        on_shed: Callable[[str], None] = lambda reason: None,
        on_waiting: Callable[[int, int], None] = lambda items, bytes: None,
    ) -> None:
        if workers < 1:
            raise InputError(f"{workers} workers can do nothing; use 1 or more")
        self.limits, self.workers, self.clock = limits, workers, clock
        self._on_shed, self._on_waiting = on_shed, on_waiting
        self._waiting: OrderedDict[str, deque[Ticket]] = OrderedDict()
        self._urgent: deque[Ticket] = deque()
        self._arrived = asyncio.Event()
        self._items = self._bytes = self._running = 0
        self._service_s = 0.0

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        return self._items

    @property
    def waiting_bytes(self) -> int:
        """Frame bytes that wait."""
        return self._bytes

    @property
    def busy(self) -> bool:
        """Whether anything waits or is in work."""
        return self._items + self._running > 0

    def expected_wait_s(self) -> float:
        """Seconds until a request admitted now would be answered, by recent ones."""
        ahead = self._items + self._running
        return self._service_s * (ahead // self.workers + 1)

    def admit(self, job: Job, client: str, seconds_left: float | None = None) -> Ticket:
        """Take a request in.

        Args:
            job: The work.
            client: Who asks.
            seconds_left: Until nobody wants the answer; None for no deadline.

        Raises:
            Overloaded: There is no room, or no time, for it.
            Timeout: Its deadline has passed.
        """
        if seconds_left is not None and seconds_left <= 0:
            self._on_shed("expired")
            raise Timeout(
                "the request's deadline passed before it was taken in; allow more time, or send "
                "less often"
            )
        self._require_time(seconds_left)
        size = job.frame_bytes
        while not self._has_room(size):
            self._make_room(client)
        now = self.clock()
        deadline_s = None if seconds_left is None else now + seconds_left
        outcome = asyncio.get_running_loop().create_future()
        ticket = Ticket(job, client, now, deadline_s, outcome)
        self._waiting.setdefault(client, deque()).append(ticket)
        self._count(ticket, 1)
        self._arrived.set()
        return ticket

    def forget(self, ticket: Ticket) -> None:
        """Drop a waiting request whose caller has gone; nothing happens where it runs."""
        ticket.outcome.cancel()
        line = self._waiting.get(ticket.client, deque())
        for place in (line, self._urgent):
            if ticket in place:
                place.remove(ticket)
                self._count(ticket, -1)
                self._on_shed("cancelled")
        if not line:
            self._waiting.pop(ticket.client, None)

    async def take(self, most: int, delay_s: float = 0.0) -> list[Ticket]:
        """Wait for requests and hand out some of one profile, the clients taking turns.

        A request that a worker was lost over comes alone, so that it can harm no other again.

        Args:
            most: Most requests.
            delay_s: Longest that a batch is kept waiting to be filled.
        """
        while True:
            await self._arrived.wait()
            if delay_s > 0 and self._items < most and not self._urgent:
                await asyncio.sleep(delay_s)
            batch = self._pop(most)
            if not self._items:
                self._arrived.clear()
            if batch:
                self._running += len(batch)
                return batch

    def put_back(self, ticket: Ticket) -> None:
        """Let a request whose worker was lost be tried again, before all others."""
        if ticket.outcome.done():
            return
        self._urgent.append(ticket)
        self._count(ticket, 1)
        self._arrived.set()

    def done(self, batch: list[Ticket], seconds: float | None) -> None:
        """Note that requests handed out are at their end.

        Args:
            batch: The requests.
            seconds: What they took together; None where that says nothing, as of a lost worker.
        """
        self._running -= len(batch)
        if seconds is not None:
            each_s = seconds / len(batch)
            weight = _SMOOTHING if self._service_s else 1.0
            self._service_s += weight * (each_s - self._service_s)

    def fail_all(self, error: FpcodecError) -> None:
        """Answer everything that waits with an error."""
        for line in [self._urgent, *self._waiting.values()]:
            for ticket in line:
                ticket.fail(error)
                self._count(ticket, -1)
            line.clear()
        self._waiting.clear()

    def _require_time(self, seconds_left: float | None) -> None:
        if seconds_left is None or self._items + self._running < self.workers:
            # A worker is free: however slow the last requests were, this one gets its chance.
            return
        wait_s = self.expected_wait_s()
        if _MARGIN * wait_s > seconds_left:
            self._on_shed("deadline")
            raise Overloaded(
                f"an answer would take {1e3 * wait_s:.0f} ms, the deadline is in "
                f"{1e3 * seconds_left:.0f} ms; try again later or allow more time",
                self._retry_ms(),
            )

    def _has_room(self, size: int) -> bool:
        # Requests for which a worker is free do not wait.
        free = max(0, self.workers - self._running)
        return (
            self._items < self.limits.max_waiting + free
            and self._bytes + size <= self.limits.max_waiting_bytes
        )

    def _make_room(self, client: str) -> None:
        """Refuse the newest request of the client that has most, or the newcomer."""
        longest = max(self._waiting, key=lambda name: len(self._waiting[name]), default=client)
        own = len(self._waiting.get(client, ()))
        if longest == client or len(self._waiting[longest]) <= own + 1:
            self._on_shed("full")
            raise self._full()
        victim = self._waiting[longest].pop()
        self._count(victim, -1)
        self._on_shed("unfair")
        victim.fail(self._full())

    def _full(self) -> Overloaded:
        return Overloaded(
            f"the server has {self._items + self._running} requests ({self._bytes} bytes) in "
            "hand, its limit; try again later or start it with more workers",
            self._retry_ms(),
        )

    def _retry_ms(self) -> int:
        return max(LEAST_RETRY_MS, round(500 * self.expected_wait_s()))

    def _pop(self, most: int) -> list[Ticket]:
        batch: list[Ticket] = []
        now = self.clock()
        if self._urgent:
            lone = self._urgent.popleft()
            self._count(lone, -1)
            return [lone] if self._wanted(lone, now) else []
        passed_over = 0
        while self._waiting and len(batch) < most and passed_over < len(self._waiting):
            client, line = next(iter(self._waiting.items()))
            self._waiting.move_to_end(client)
            if batch and not line[0].job.fits(batch[0].job):
                passed_over += 1
                continue
            ticket = line.popleft()
            self._count(ticket, -1)
            passed_over = 0
            if not line:
                del self._waiting[client]
            if self._wanted(ticket, now):
                batch.append(ticket)
        return batch

    def _wanted(self, ticket: Ticket, now_s: float) -> bool:
        if ticket.outcome.done():
            return False
        if ticket.deadline_s is not None and now_s >= ticket.deadline_s:
            self._on_shed("expired")
            ticket.fail(
                Timeout(
                    f"the request's deadline passed after {1e3 * (now_s - ticket.admitted_s):.0f} "
                    "ms in the queue; allow more time or send less often"
                )
            )
            return False
        return True

    def _count(self, ticket: Ticket, sign: int) -> None:
        self._items += sign
        self._bytes += sign * ticket.job.frame_bytes
        self._on_waiting(self._items, self._bytes)
