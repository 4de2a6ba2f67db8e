"""Workers: where jobs are answered, in a thread, in a process of its own, or as a Ray actor."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import connection, parent_process
from typing import Protocol

from fpcodec.errors import WorkerLost
from fpcodec.executor import Executor
from fpcodec.executor.local import ProcessExecutor
from fpcodec_server.halves import Halves
from fpcodec_server.jobs import Job, Outcome

Load = Callable[[], Halves]


EXECUTORS = ("processes", "threads", "ray")


def open_worker(executor: str) -> Executor:
    """An executor of one worker that keeps its process: on this machine, or on Ray.

    Raises:
        MissingDependency: Ray is asked for and not installed.
    """
    if executor == "ray":
        from fpcodec.executor.ray_cluster import RayActorExecutor

        return RayActorExecutor()
    return ProcessExecutor(1)


class Worker(Protocol):
    """Answers jobs, one batch at a time."""

    async def start(self) -> None:
        """Load the profiles; the worker is ready when this returns.

        Raises:
            FpcodecError: They cannot be loaded.
        """

    async def answer(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Answer jobs of one profile.

        Raises:
            WorkerLost: The worker died; it is of no more use.
        """

    async def lost(self) -> None:
        """Wait until the worker has died; for ever where that is not known."""

    async def close(self, *, kill: bool = False) -> None:
        """Let go of everything, after the present work or, with ``kill``, in the midst of it."""


class ThreadWorker:
    """Works in a thread of this process: for tests and embedding, without isolation.

    Args:
        load: Makes what answers; workers may share it.
    """

    def __init__(self, load: Load) -> None:
        self._load = load
        self._halves: Halves | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="fpcodec-worker")

    async def start(self) -> None:
        """Load in the thread; see ``Worker.start``."""
        loop = asyncio.get_running_loop()
        self._halves = await loop.run_in_executor(self._thread, self._load)

    async def answer(self, jobs: Sequence[Job]) -> list[Outcome]:
        """See ``Worker.answer``."""
        if self._halves is None:
            raise WorkerLost("this worker was not started")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._halves.answer, jobs)

    async def lost(self) -> None:
        """Threads do not die."""
        await asyncio.Event().wait()

    async def close(self, *, kill: bool = False) -> None:
        """Drop what has not begun; what runs comes to its end by itself, as threads do."""
        self._thread.shutdown(wait=False, cancel_futures=True)


class RemoteWorker:
    """Works in another process: a crash there, also in native code, costs no more than its batch.

    Args:
        load: Makes what answers; is sent to the process.
        open_executor: Makes the executor of one worker, new for each start.
    """

    def __init__(self, load: Load, open_executor: Callable[[], Executor]) -> None:
        self._load, self._open = load, open_executor
        self._executor: Executor | None = None
        self._pid: int | None = None

    async def start(self) -> None:
        """Start the process and load there; see ``Worker.start``."""
        self._executor = self._open()
        self._pid = await asyncio.wrap_future(self._executor.submit(_begin, self._load))

    async def answer(self, jobs: Sequence[Job]) -> list[Outcome]:
        """See ``Worker.answer``."""
        if self._executor is None:
            raise WorkerLost("this worker was not started")
        return await asyncio.wrap_future(self._executor.submit(_answer, jobs))

    async def lost(self) -> None:
        """See ``Worker.lost``: known of processes on this machine."""
        died = asyncio.Event()
        try:
            watch = os.pidfd_open(self._pid or 0)
        except (AttributeError, OSError):
            # Not Linux, or Ray's: the next batch will tell.
            watch = None
        if watch is None:
            await died.wait()
            return
        loop = asyncio.get_running_loop()
        loop.add_reader(watch, died.set)
        try:
            await died.wait()
        finally:
            loop.remove_reader(watch)
            os.close(watch)

    async def close(self, *, kill: bool = False) -> None:
        """End the process; see ``Worker.close``."""
        executor, self._executor = self._executor, None
        if kill and self._pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
        self._pid = None
        if executor is not None:
            await asyncio.get_running_loop().run_in_executor(None, executor.close)


class _Here:
    """What this process answers with, where it is a worker."""

    halves: Halves | None = None


def _begin(load: Load) -> int | None:
    """Load in a worker's process; its id, where it is a child of the server's."""
    parent = parent_process()
    if parent is not None:
        # A server that is killed cannot tell its workers; they would wait for work for ever.
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    _Here.halves = load()
    return os.getpid() if parent is not None else None


def _end_with(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)


def _answer(jobs: Sequence[Job]) -> list[Outcome]:
    if _Here.halves is None:
        raise WorkerLost("this worker has lost its profiles")
    return _Here.halves.answer(jobs)
