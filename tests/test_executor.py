"""Executors: results, exceptions, and workers that die."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from fpcodec.errors import InputError, MissingDependency, WorkerLost
from fpcodec.executor import Executor, open_executor, run_all
from fpcodec.executor.local import ProcessExecutor


def square(x: int) -> int:
    return x * x


def refuse(x: int) -> int:
    raise InputError(f"{x} is not wanted")


def die(x: int) -> int:
    os._exit(x)


@pytest.fixture(params=["inline", "processes", "ray"])
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    if request.param == "ray":
        pytest.importorskip("ray", reason="needs fpcodec[ray]")
        pool = open_executor(2, "ray")
    else:
        pool = open_executor(1 if request.param == "inline" else 2)
    yield pool
    pool.close()


def test_every_job_has_its_result(executor: Executor) -> None:
    found = dict(run_all(executor, square, ((x,) for x in range(7))))
    assert found == {x: x * x for x in range(7)}


def test_what_a_job_raises_arrives(executor: Executor) -> None:
    with pytest.raises(InputError, match="3 is not wanted"):
        list(run_all(executor, refuse, [(3,)]))


def test_a_worker_that_dies_is_told_as_such() -> None:
    pool = ProcessExecutor(2)
    try:
        with pytest.raises(WorkerLost, match="worker process died"):
            list(run_all(pool, die, [(3,)]))
        with pytest.raises(WorkerLost):
            pool.submit(square, 3).result(timeout=30)
    finally:
        pool.close()


def test_arguments_are_made_as_they_are_needed() -> None:
    made: list[int] = []

    def jobs() -> Iterator[tuple[int]]:
        for x in range(3):
            made.append(x)
            yield (x,)

    results = run_all(open_executor(1), square, jobs())
    assert next(results) == (0, 0)
    assert made == [0]


def test_closing_drops_what_has_not_begun() -> None:
    pool = ProcessExecutor(1)
    futures = [pool.submit(time.sleep, 0.2) for _ in range(20)]
    pool.close()
    assert all(future.done() for future in futures)
    assert isinstance(futures[-1].exception(), WorkerLost)


def test_unusable_choices_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="0 workers"):
        open_executor(0)
    with pytest.raises(InputError, match="not one of local, ray"):
        open_executor(1, "cloud")
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(MissingDependency, match=r"fpcodec\[ray\]"):
        open_executor(1, "ray")
