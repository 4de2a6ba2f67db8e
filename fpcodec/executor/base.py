"""The contract of an executor, and how one is chosen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any, Protocol, TypeVar

from fpcodec.errors import InputError

T = TypeVar("T")

BACKENDS = ("local", "ray")


class Executor(Protocol):
    """Runs functions somewhere; functions, arguments and results travel by pickling."""

    @property
    def workers(self) -> int:
        """How many functions run at once."""

    def submit(self, function: Callable[..., T], *arguments: Any) -> Future[T]:
        """Start a function; its result or exception arrives in the future.

        A worker that dies gives its futures a ``WorkerLost``.
        """

    def close(self) -> None:
        """Drop what has not begun and end the workers."""


def open_executor(workers: int = 1, backend: str = "local") -> Executor:
    """An executor with a number of workers.

    One local worker is this process itself.

    Args:
        workers: At least one.
        backend: ``local`` processes, or ``ray`` workers of the cluster that Ray finds, started
            on this machine where there is none.

    Raises:
        InputError: The number or the backend cannot be used.
        MissingDependency: Ray is asked for and not installed.
    """
    if workers < 1:
        raise InputError(f"{workers} workers can do nothing; use 1 or more")
    if backend == "ray":
        from fpcodec.executor.ray_cluster import RayExecutor

        return RayExecutor(workers)
    if backend != "local":
        raise InputError(f"executor {backend!r} is not one of {', '.join(BACKENDS)}")
    from fpcodec.executor.local import InlineExecutor, ProcessExecutor

    return InlineExecutor() if workers == 1 else ProcessExecutor(workers)


def run_all(
    executor: Executor, function: Callable[..., T], jobs: Iterable[tuple[Any, ...]]
) -> Iterator[tuple[int, T]]:
    """Run one function over many tuples of arguments; yields ``(index, result)`` as they end.

    Only a few jobs are in flight at once, so arguments need not all be in memory.

    Raises:
        WorkerLost: A worker died.
    """
    waiting = enumerate(jobs)
    running: dict[Future[T], int] = {}
    room = executor.workers + 1 if executor.workers > 1 else 1
    while True:
        for index, arguments in waiting:
            running[executor.submit(function, *arguments)] = index
            if len(running) >= room:
                break
        if not running:
            return
        done, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            yield running.pop(future), future.result()
