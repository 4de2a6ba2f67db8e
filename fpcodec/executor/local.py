"""Executors on this machine: this very process, or processes beside it."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, TypeVar

from fpcodec.errors import WorkerLost

T = TypeVar("T")


class InlineExecutor:
    """Runs each function at once, in this process."""

    workers = 1

    def submit(self, function: Callable[..., T], *arguments: Any) -> Future[T]:
        """Run the function; the future is done when this returns."""
        future: Future[T] = Future()
        try:
            future.set_result(function(*arguments))
        except Exception as error:
            future.set_exception(error)
        return future

    def close(self) -> None:
        """Nothing is left to do."""


class ProcessExecutor:
    """Runs functions in a pool of processes.

    Args:
        workers: Processes.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        # A forked child would inherit onnxruntime's and gRPC's threads in an unusable state.
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(workers, context, initializer=_expect_interrupts)

    def submit(self, function: Callable[..., T], *arguments: Any) -> Future[T]:
        """Start a function in the next free process."""
        promised: Future[T] = Future()
        promised.set_running_or_notify_cancel()
        try:
            with _interrupts_held_back():
                inner = self._pool.submit(_work, function, arguments)
        except BrokenProcessPool as error:
            promised.set_exception(_lost(error))
            return promised
        inner.add_done_callback(lambda done: _hand_over(done, promised))
        return promised

    def close(self) -> None:
        """Drop what has not begun, wait for what has."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def _hand_over(done: Future[T], promised: Future[T]) -> None:
    if done.cancelled():
        promised.set_exception(WorkerLost("the work was dropped before it began; run it again"))
        return
    error = done.exception()
    if isinstance(error, BrokenProcessPool):
        promised.set_exception(_lost(error))
    elif error is not None:
        promised.set_exception(error)
    else:
        promised.set_result(done.result())


def _lost(error: BaseException) -> WorkerLost:
    return WorkerLost(
        f"a worker process died ({error}), perhaps for want of memory; use fewer workers and "
        "run the command again: finished work is kept"
    )


class _Worker:
    """What a worker process knows of itself."""

    busy = False
    interrupted = False


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """A process started meanwhile gets no Ctrl-C before it can take one."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _expect_interrupts() -> None:
    """In a new worker: Ctrl-C ends the work at hand, tidily, and lets no other begin."""
    signal.signal(signal.SIGINT, _interrupt)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _interrupt(*_: object) -> None:
    _Worker.interrupted = True
    if _Worker.busy:
        raise KeyboardInterrupt


def _work(function: Callable[..., T], arguments: tuple[Any, ...]) -> T:
    if _Worker.interrupted:
        raise KeyboardInterrupt
    _Worker.busy = True
    try:
        return function(*arguments)
    finally:
        _Worker.busy = False
