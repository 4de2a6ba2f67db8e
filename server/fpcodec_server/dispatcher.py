"""The dispatcher: batches from the queue to workers, and workers that die replaced."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

from fpcodec.errors import Timeout, Unavailable, WorkerLost
from fpcodec.v1 import codec_pb2
from fpcodec_server.admission import AdmissionQueue, Ticket
from fpcodec_server.jobs import Job, Outcome
from fpcodec_server.observer import Observer
from fpcodec_server.request_log import log_fields
from fpcodec_server.settings import Section, number, whole
from fpcodec_server.workers import Worker

MOST_ATTEMPTS = 2
"""Workers that one request may cost: a frame that kills whatever touches it must not go on."""

_RESTART_S = (0.0, 0.2, 1.0, 5.0, 15.0)
"""Pauses before the first, second, .. start in a row of a worker that does not come up."""

_MOST_START_S = 300.0
"""A worker that has not loaded by then is tried anew."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BatchLimits(Section, name="batch"):
    """How requests are put together.

    Attributes:
        most: Most requests of a batch; 1 never waits for a second.
        delay_ms: Longest that a batch is kept waiting to be filled.
    """

    most: Annotated[int, whole(1)] = 1
    delay_ms: Annotated[float, number(0)] = 0.0


class Dispatcher:
    """Feeds workers from a queue; belongs to one event loop's thread.

    Args:
        queue: Where requests come from.
        make_worker: Makes a worker; called again whenever one was lost.
        batch: How requests are put together.
        observer: Told what happens.
        on_ready: Told whether any worker is ready, whenever that changes.
        hang_s: Seconds after which a worker that does not answer counts as lost.
    """

    def __init__(
        self,
        queue: AdmissionQueue,
        make_worker: Callable[[], Worker],
        batch: BatchLimits,
        observer: Observer,
        on_ready: Callable[[bool], None],
        hang_s: float,
    ) -> None:
        self.queue, self._batch, self._observer = queue, batch, observer
        self._make, self._on_ready, self._hang_s = make_worker, on_ready, hang_s
        self._slots: list[_Slot] = []
        self._retiring: set[_Slot] = set()
        self._was_ready = False

    @property
    def ready_workers(self) -> int:
        """Workers that are up."""
        return sum(slot.ready for slot in self._slots)

    async def start(self) -> None:
        """Start the workers, all at once.

        Raises:
            FpcodecError: One cannot load; none is left behind.
        """
        self._slots = await self._started(self._make)
        for slot in self._slots:
            slot.begin()
        self._report()

    async def replace(
        self, make_worker: Callable[[], Worker], on_swap: Callable[[], None] = lambda: None
    ) -> None:
        """Put new workers in place of the present ones, which end after their present batch.

        Args:
            make_worker: Makes the new ones.
            on_swap: Called at the moment from which on only new ones take requests.

        Raises:
            FpcodecError: A new one cannot load; the present ones go on.
        """
        fresh = await self._started(make_worker)
        self._make = make_worker
        old, self._slots = self._slots, fresh
        self._retiring.update(old)
        for slot in old:
            slot.retired.set()
        for slot in fresh:
            slot.begin()
        on_swap()
        self._report()
        # Whoever gives up waiting leaves nobody behind: they end all the same.
        await asyncio.shield(asyncio.gather(*(self._retire(slot) for slot in old)))

    async def answer(
        self, job: Job, client: str, seconds_left: float | None
    ) -> codec_pb2.InferResponse:
        """Answer one job, when its turn comes.

        Raises:
            Overloaded: There is no room for it.
            Timeout: Its deadline passed.
            WorkerLost: It cost a second worker.
            FpcodecError: The frame cannot be used.
            UnexpectedFailure: A fault of the program.
        """
        ticket = self.queue.admit(job, client, seconds_left)
        try:
            found = await asyncio.wait_for(ticket.outcome, seconds_left)
        except asyncio.TimeoutError:
            # However long its worker hangs: the caller is answered, and its place is free.
            self.queue.forget(ticket)
            raise Timeout(
                "the request's deadline passed before it was answered; allow more time or send "
                "less often"
            ) from None
        except asyncio.CancelledError:
            self.queue.forget(ticket)
            raise
        queue_s, outcome = found
        self._observer.stage("queue", queue_s)
        if isinstance(outcome, Exception):
            raise outcome
        response = codec_pb2.InferResponse.FromString(outcome)
        times = response.timings
        times.queue_ms = 1e3 * queue_s
        for name, ms in (
            ("decode", times.decode_ms),
            ("reconstruct", times.reconstruct_ms),
            ("head", times.head_ms),
        ):
            self._observer.stage(name, ms / 1e3)
        return response

    async def close(self) -> None:
        """Drop what waits and what is in work: nobody wants it any more."""
        self.queue.fail_all(Unavailable("the server is shutting down; use another"))
        # The retiring ones, too: their batches may take longer than anybody waits for.
        slots, self._slots = [*self._slots, *self._retiring], []
        self._retiring.clear()
        await asyncio.gather(*(slot.abandon() for slot in slots))

    async def _retire(self, slot: _Slot) -> None:
        await slot.retire()
        self._retiring.discard(slot)

    async def _started(self, make_worker: Callable[[], Worker]) -> list[_Slot]:
        slots = [_Slot(self, make_worker) for _ in range(self.queue.workers)]
        starts = [asyncio.create_task(slot.start()) for slot in slots]
        try:
            await asyncio.gather(*starts)
        except BaseException:
            # Each start lets go of its worker before the worker is closed under it.
            for start in starts:
                start.cancel()
            await asyncio.wait(starts)
            await asyncio.gather(*(slot.abandon() for slot in slots))
            raise
        return slots

    def _report(self) -> None:
        ready = self.ready_workers > 0
        if ready != self._was_ready:
            self._was_ready = ready
            self._on_ready(ready)

    async def _run(self, worker: Worker, batch: Sequence[Ticket]) -> None:
        """Run one batch.

        Raises:
            WorkerLost: The worker died; the batch has been seen to.
        """
        queue = self.queue
        start_s = queue.clock()
        jobs = [replace(x.job, seconds_left=x.seconds_left(start_s)) for x in batch]
        took_s = None
        try:
            outcomes = await asyncio.wait_for(worker.answer(jobs), self._hang_s)
            took_s = queue.clock() - start_s
            self._observer.batch_run(len(batch), took_s)
        except (WorkerLost, asyncio.TimeoutError) as error:
            lost = error if isinstance(error, WorkerLost) else self._hung()
            for ticket in batch:
                self._survive(ticket, lost)
            raise lost from error
        except asyncio.CancelledError:
            for ticket in batch:
                ticket.fail(Unavailable("the server is shutting down; use another"))
            raise
        except Exception as error:  # what cannot be sent or read back
            outcomes = [error] * len(batch)
        finally:
            queue.done(list(batch), took_s)
        for ticket, outcome in zip(batch, outcomes, strict=True):
            self._deliver(ticket, start_s - ticket.admitted_s, outcome)

    def _hung(self) -> WorkerLost:
        return WorkerLost(
            f"a worker did not answer within {self._hang_s:g} s and was ended; allow more time, "
            "or send fewer levels"
        )

    def _survive(self, ticket: Ticket, error: WorkerLost) -> None:
        ticket.attempts += 1
        # Whoever looks for the frame that ends workers finds it by these.
        names = {**ticket.job.names, "client": ticket.client, "attempt": ticket.attempts}
        log_fields(_log, logging.WARNING, "a request was in hand when its worker was lost", names)
        if ticket.attempts < MOST_ATTEMPTS:
            self.queue.put_back(ticket)
        else:
            ticket.fail(error)

    @staticmethod
    def _deliver(ticket: Ticket, queue_s: float, outcome: Outcome) -> None:
        if not ticket.outcome.done():
            ticket.outcome.set_result((queue_s, outcome))


class _Slot:
    """A worker's place: whoever holds it is replaced when it dies."""

    def __init__(self, dispatcher: Dispatcher, make_worker: Callable[[], Worker]) -> None:
        self._dispatcher, self._make = dispatcher, make_worker
        self._worker = make_worker()
        self._task: asyncio.Task[None] | None = None
        self.retired = asyncio.Event()
        self.ready = False

    async def start(self) -> None:
        """Load; requests are taken from ``begin`` on."""
        await self._worker.start()

    def begin(self) -> None:
        self.ready = True
        self._task = asyncio.create_task(self._serve())

    async def retire(self) -> None:
        """End after the present batch."""
        self.retired.set()
        if self._task is not None:
            await asyncio.wait({self._task})
        self.ready = False
        await self._worker.close()

    async def abandon(self) -> None:
        """End at once."""
        self.retired.set()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        self.ready = False
        await self._worker.close(kill=True)

    async def _serve(self) -> None:
        while not self.retired.is_set():
            if not await self._served_one():
                await self._replace()

    async def _served_one(self) -> bool:
        """Answer one batch; whether the worker still lives."""
        try:
            batch = await self._next()
            if batch:
                await self._dispatcher._run(self._worker, batch)
        except WorkerLost as error:
            _log.warning("a worker was lost: %s", error)
            self._dispatcher._observer.worker_lost()
            return False
        return True

    async def _next(self) -> list[Ticket]:
        """The next batch; empty at retirement.

        Raises:
            WorkerLost: The worker died meanwhile.
        """
        limits = self._dispatcher._batch
        take = asyncio.create_task(self._dispatcher.queue.take(limits.most, limits.delay_ms / 1e3))
        others = [asyncio.create_task(x) for x in (self.retired.wait(), self._worker.lost())]
        try:
            await asyncio.wait({take, *others}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            # A batch that was taken at that very moment is still worked on.
            for task in (take, *others):
                task.cancel()
            await asyncio.wait({take, *others})
        if not take.cancelled():
            return take.result()
        if others[1].done() and not others[1].cancelled():
            raise WorkerLost("it died while it had nothing to do")
        return []

    async def _replace(self) -> None:
        self.ready = False
        self._dispatcher._report()
        failures = 0
        while not self.retired.is_set():
            with contextlib.suppress(Exception):
                await self._worker.close(kill=True)
            pause_s = _RESTART_S[min(failures, len(_RESTART_S) - 1)]
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self.retired.wait(), pause_s)
            if self.retired.is_set():
                return
            self._worker = self._make()
            started_s = time.monotonic()
            try:
                await asyncio.wait_for(self._worker.start(), _MOST_START_S)
            except Exception as error:
                failures += 1
                _log.error("a worker could not be replaced: %s", error)
                continue
            self.ready = True
            self._dispatcher._report()
            _log.info("worker replaced after %.1f s", time.monotonic() - started_s)
            return
