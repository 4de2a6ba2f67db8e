"""The queue in front of the workers: bounds, turns, deadlines, hints, batches."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fpcodec.errors import InputError, Overloaded, Timeout, Unavailable
from fpcodec_server.admission import LEAST_RETRY_MS, AdmissionQueue, QueueLimits, Ticket
from fpcodec_server.jobs import Job


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def _job(size: int = 10, stream: bytes = b"a") -> Job:
    return Job(stream, bytes(size))


def _run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


def _clients(batch: list[Ticket]) -> list[str]:
    return [ticket.client for ticket in batch]


def test_clients_take_turns_however_much_one_asks() -> None:
    async def work() -> list[str]:
        queue = AdmissionQueue(QueueLimits(), 1)
        for client in "aaaabbc":
            queue.admit(_job(), client)
        return [(await queue.take(1))[0].client for _ in range(7)]

    assert "".join(_run(work())) == "abcabaa"


def test_a_full_queue_refuses_with_a_hint() -> None:
    async def work() -> None:
        shed: list[str] = []
        queue = AdmissionQueue(QueueLimits(max_waiting=2), 1, on_shed=shed.append)
        await _begin_work(queue)
        for _ in range(2):
            queue.admit(_job(), "a")
        with pytest.raises(Overloaded, match="limit") as caught:
            queue.admit(_job(), "a")
        assert caught.value.retry_after_ms >= LEAST_RETRY_MS
        assert shed == ["full"]

    _run(work())


def test_a_greedy_client_gives_way_to_one_that_comes_later() -> None:
    async def work() -> None:
        queue = AdmissionQueue(QueueLimits(max_waiting=3), 1)
        await _begin_work(queue)
        greedy = [queue.admit(_job(), "greedy") for _ in range(3)]
        queue.admit(_job(), "late")
        with pytest.raises(Overloaded):
            await greedy[-1].outcome
        assert queue.waiting == 3
        # Now both have their share: nobody is put out any more.
        with pytest.raises(Overloaded):
            queue.admit(_job(), "late")

    _run(work())


def test_bytes_are_bounded_too() -> None:
    async def work() -> None:
        queue = AdmissionQueue(QueueLimits(max_waiting_bytes=100), 1)
        queue.admit(_job(90), "a")
        with pytest.raises(Overloaded):
            queue.admit(_job(20), "a")
        await queue.take(1)
        queue.admit(_job(20), "a")

    _run(work())


def test_expired_requests_are_never_handed_out() -> None:
    async def work() -> None:
        clock, shed = Clock(), []
        queue = AdmissionQueue(QueueLimits(), 1, clock=clock, on_shed=shed.append)
        first = queue.admit(_job(), "a", 1.0)
        second = queue.admit(_job(), "a", 9.0)
        clock.now_s += 2
        assert await queue.take(4) == [second]
        with pytest.raises(Timeout, match="2000 ms"):
            await first.outcome
        with pytest.raises(Timeout):
            queue.admit(_job(), "a", 0.0)
        assert shed == ["expired", "expired"]

    _run(work())


def test_a_request_without_time_for_its_turn_is_refused_at_once() -> None:
    async def work() -> None:
        queue = AdmissionQueue(QueueLimits(), 2)
        await _begin_work(queue, seconds=0.5)
        await _begin_work(queue, count=2)
        for _ in range(2):
            queue.admit(_job(), "a")
        assert queue.expected_wait_s() == pytest.approx(1.5)
        with pytest.raises(Overloaded, match="1500 ms") as caught:
            queue.admit(_job(), "b", 1.0)
        assert caught.value.retry_after_ms == pytest.approx(750)
        queue.admit(_job(), "b", 2.0)

    _run(work())


def test_a_free_worker_is_tried_however_slow_the_last_request_was() -> None:
    async def work() -> None:
        queue = AdmissionQueue(QueueLimits(max_waiting=0), 1)
        await _begin_work(queue, seconds=60)
        queue.admit(_job(), "a", 0.1)
        with pytest.raises(Overloaded):
            queue.admit(_job(), "a", 0.1)

    _run(work())


def test_a_batch_is_of_one_profile_and_waits_no_longer_than_told() -> None:
    async def work() -> None:
        queue = AdmissionQueue(QueueLimits(), 1)
        for stream, client in [(b"x", "a"), (b"y", "b"), (b"x", "c"), (b"x", "a")]:
            queue.admit(_job(stream=stream), client)
        assert _clients(await queue.take(8)) == ["a", "c", "a"]
        assert _clients(await queue.take(8)) == ["b"]
        queue.admit(_job(), "a")
        asyncio.get_running_loop().call_later(0.05, queue.admit, _job(), "b")
        assert _clients(await asyncio.wait_for(queue.take(2, 0.2), 1)) == ["a", "b"]

    _run(work())


def test_who_goes_gives_up_its_place() -> None:
    async def work() -> None:
        queue = AdmissionQueue(QueueLimits(), 1)
        gone, stays = queue.admit(_job(), "a"), queue.admit(_job(), "a")
        queue.forget(gone)
        assert (queue.waiting, queue.waiting_bytes) == (1, 10)
        assert await queue.take(2) == [stays]

    _run(work())


def test_what_a_worker_was_lost_over_comes_first_and_alone() -> None:
    async def work() -> None:
        queue = AdmissionQueue(QueueLimits(), 1)
        queue.admit(_job(), "a")
        (lost,) = await queue.take(4)
        queue.admit(_job(), "b")
        queue.put_back(lost)
        assert await queue.take(4) == [lost]
        assert _clients(await queue.take(4)) == ["b"]

    _run(work())


def test_who_goes_while_its_request_waits_for_a_second_worker_gives_up_its_place_too() -> None:
    async def work() -> None:
        told: list[tuple[int, int]] = []
        queue = AdmissionQueue(QueueLimits(), 1, on_waiting=lambda *x: told.append(x))
        queue.admit(_job(), "a")
        (lost,) = await queue.take(1)
        queue.put_back(lost)
        assert told == [(1, 10), (0, 0), (1, 10)]
        queue.forget(lost)
        assert told[-1] == (queue.waiting, queue.waiting_bytes) == (0, 0)
        # Its worker may be lost just after it went.
        queue.admit(_job(), "a")
        (gone,) = await queue.take(1)
        queue.forget(gone)
        queue.put_back(gone)
        assert told[-1] == (queue.waiting, queue.waiting_bytes) == (0, 0)

    _run(work())


def test_every_change_of_what_waits_is_told() -> None:
    async def work() -> None:
        told: list[tuple[int, int]] = []
        clock = Clock()
        queue = AdmissionQueue(
            QueueLimits(max_waiting=3), 1, clock=clock, on_waiting=lambda *x: told.append(x)
        )
        await _begin_work(queue)
        late, *_ = [queue.admit(_job(), "a", 1.0) for _ in range(3)]
        queue.admit(_job(20), "b")
        assert told[-1] == (3, 40), "the newest of a's gave way"
        clock.now_s += 2
        assert _clients(await queue.take(4)) == ["b"]
        assert told[-1] == (0, 0), "a's had expired"
        assert isinstance(late.outcome.exception(), Timeout)
        queue.admit(_job(), "c")
        queue.fail_all(Unavailable("the server is shutting down; use another"))
        assert told[-1] == (0, 0)

    _run(work())


def test_the_end_answers_everything() -> None:
    async def work() -> None:
        queue = AdmissionQueue(QueueLimits(), 1)
        tickets = [queue.admit(_job(), client) for client in "ab"]
        queue.fail_all(Unavailable("the server is shutting down; use another"))
        assert queue.waiting == queue.waiting_bytes == 0
        for ticket in tickets:
            with pytest.raises(Unavailable):
                await ticket.outcome

    _run(work())


@pytest.mark.parametrize(("waiting", "size"), [(-1, 1), (1, 0)])
def test_limits_without_sense_are_refused(waiting: int, size: int) -> None:
    with pytest.raises(InputError):
        QueueLimits(waiting, size)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["admit", "take", "forget", "done"]), st.integers(0, 3))))
def test_nothing_is_lost_or_counted_twice(steps: list[tuple[str, int]]) -> None:
    async def work() -> None:
        queue = AdmissionQueue(QueueLimits(max_waiting=5, max_waiting_bytes=60), 2)
        admitted, taken, running = [], [], []
        for name, value in steps:
            if name == "admit":
                try:
                    admitted.append(queue.admit(_job(5 + value), f"client{value}"))
                except Overloaded:
                    continue
            elif name == "forget" and admitted:
                queue.forget(admitted[value % len(admitted)])
            elif name == "take" and queue.waiting:
                running.append(await queue.take(1 + value))
                taken += running[-1]
            elif name == "done" and running:
                queue.done(running.pop(0), 0.1)
            waiting = [x for x in admitted if x not in taken and not x.outcome.done()]
            assert queue.waiting == len(waiting) <= 5 + 2
            assert queue.waiting_bytes == sum(x.job.frame_bytes for x in waiting) <= 60
        assert len(set(map(id, taken))) == len(taken)
        for ticket in admitted:
            if ticket.outcome.done() and not ticket.outcome.cancelled():
                ticket.outcome.exception()

    _run(work())


async def _begin_work(queue: AdmissionQueue, count: int = 1, seconds: float | None = None) -> None:
    """Have workers take requests; they end at once where they are given seconds."""
    for _ in range(count):
        queue.admit(_job(), "before")
        batch = await queue.take(1)
        if seconds is not None:
            queue.done(batch, seconds)
