"""Workers: where jobs are answered, in a thread, in a process of its own, or as a Ray actor."""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import Any, Protocol

from fpcodec.errors import WorkerLost
from fpcodec.executor import Executor
from fpcodec_server.halves import Halves
from fpcodec_server.jobs import Job, Outcome

Load = Callable[[], Halves]


EXECUTORS = ("processes", "threads", "ray")

_PEACE_S = 5.0
"""What an idle worker gets to come to its end by itself; one that has stopped never would."""


def make_worker(executor: str, load: Load) -> Worker:
    """A worker in a process of its own, on this machine or on Ray.

    Raises:
        MissingDependency: Ray is asked for and not installed.
    """
    if executor == "ray":
        from fpcodec.executor.ray_cluster import RayActorExecutor

        return ActorWorker(load, RayActorExecutor)
    return ProcessWorker(load)


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
        """Let go of everything; with ``kill`` in the midst of the present work, too.

        It may be called again, while an earlier call goes on or after it was cancelled.
        """


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


class ProcessWorker:
    """Works in a process of this machine: a crash there, also in native code, costs its batch.

    A pipe joins both ends. The process ends when it is closed, and so with the server, however
    that ends; signals to the whole process group, as Ctrl-C sends one, are left to the server.

    Args:
        load: Makes what answers; is sent to the process.
    """

    def __init__(self, load: Load) -> None:
        self._load = load
        self._pipe: Connection[Any, Any] | None = None
        self._process: Any = None
        # A process that has stopped, or that is very busy, neither reads nor writes: whoever is
        # at the pipe waits, and that must not be the loop.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="fpcodec-pipe")
        self._given_up = False
        self._waiting: set[asyncio.Event] = set()
        self._end: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the process and load there; see ``Worker.start``."""
        # A forked child would inherit onnxruntime's and gRPC's threads in an unusable state.
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs, self._load), daemon=True)
        await asyncio.get_running_loop().run_in_executor(None, self._process.start)
        theirs.close()
        problem = await self._receive()
        if problem is not None:
            raise problem

    async def answer(self, jobs: Sequence[Job]) -> list[Outcome]:
        """See ``Worker.answer``; where it is cancelled, the worker is of no more use."""
        if self._given_up:
            raise WorkerLost("this worker was given up in the midst of a batch; use another")
        try:
            await self._at_pipe(self._opened().send, jobs)
            outcomes: list[Outcome] = await self._receive()
        except (WorkerLost, asyncio.CancelledError):
            # The pipe may hold half a job, or will hold an answer that nobody waits for.
            self._given_up = True
            raise
        return outcomes

    async def lost(self) -> None:
        """See ``Worker.lost``: the pipe has nothing to say while there is no job, but its end."""
        await self._readable()

    async def close(self, *, kill: bool = False) -> None:
        """End the process; see ``Worker.close``. Whoever awaits an answer hears ``WorkerLost``."""
        # Given up in the midst of its work, it may never come to the end of it.
        if kill or self._given_up:
            self._kill()
        # Once for all callers, and to its end though they be cancelled.
        if self._end is None:
            self._end = asyncio.create_task(self._ended())
        await asyncio.shield(self._end)

    async def _ended(self) -> None:
        for ready in self._waiting:
            ready.set()
        loop = asyncio.get_running_loop()
        # Whoever still is at the pipe wakes when the process ends. Before that the pipe must not
        # be closed: its file number would be another's, and the bytes go there.
        await loop.run_in_executor(None, self._thread.shutdown)
        pipe, self._pipe = self._pipe, None
        if pipe is not None:
            # What waits for this file number must not hear of another either.
            loop.remove_reader(pipe.fileno())
            pipe.close()
        if self._process is not None and self._process.pid is not None:
            await loop.run_in_executor(None, _join, self._process)
            # Only now: until then another call may want it killed.
            process, self._process = self._process, None
            process.close()

    def _kill(self) -> None:
        if self._process is not None and self._process.pid is not None:
            self._process.kill()

    def _opened(self) -> Connection[Any, Any]:
        if self._end is not None:
            raise WorkerLost("this worker was closed; use another")
        if self._pipe is None:
            raise WorkerLost("this worker was not started")
        return self._pipe

    async def _receive(self) -> Any:
        await self._readable()
        return await self._at_pipe(self._opened().recv)

    async def _at_pipe(self, do: Callable[..., Any], *values: Any) -> Any:
        """Send or receive, in the thread for that.

        Raises:
            WorkerLost: The process died.
        """
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, do, *values)
        except (EOFError, OSError) as error:
            raise _died(error) from error

    async def _readable(self) -> None:
        """Wait for something to read, or for the process's end.

        Raises:
            WorkerLost: The worker was closed.
        """
        loop, file = asyncio.get_running_loop(), self._opened().fileno()
        ready = asyncio.Event()
        self._waiting.add(ready)
        loop.add_reader(file, ready.set)
        try:
            await ready.wait()
        finally:
            self._waiting.discard(ready)
            # Without a pipe, its file number may be another's.
            if self._pipe is not None:
                loop.remove_reader(file)
        self._opened()


def _join(process: Any) -> None:
    """Wait for a process's end, in peace for a while."""
    process.join(_PEACE_S)
    if process.is_alive():
        process.kill()
        process.join()


def _died(error: Exception) -> WorkerLost:
    return WorkerLost(
        f"the worker process died ({type(error).__name__}), perhaps for want of memory or of a "
        "frame that it could not bear; send the frame again"
    )


def _work(pipe: Connection[Any, Any], load: Load) -> None:
    """What a worker's process does until the pipe is closed."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    try:
        halves = load()
    except Exception as error:
        pipe.send(error)
        return
    pipe.send(None)
    while True:
        try:
            jobs = pipe.recv()
        except (EOFError, OSError):
            return
        pipe.send(halves.answer(jobs))


class ActorWorker:
    """Works in an actor of Ray's, anywhere in its cluster.

    Args:
        load: Makes what answers; is sent to the actor.
        open_executor: Makes the executor of one actor, new for each start.
    """

    def __init__(self, load: Load, open_executor: Callable[[], Executor]) -> None:
        self._load, self._open = load, open_executor
        self._executor: Executor | None = None

    async def start(self) -> None:
        """Start the actor and load there; see ``Worker.start``."""
        self._executor = self._open()
        await asyncio.wrap_future(self._executor.submit(_begin, self._load))

    async def answer(self, jobs: Sequence[Job]) -> list[Outcome]:
        """See ``Worker.answer``."""
        if self._executor is None:
            raise WorkerLost("this worker was not started")
        return await asyncio.wrap_future(self._executor.submit(_answer, jobs))

    async def lost(self) -> None:
        """The next batch will tell."""
        await asyncio.Event().wait()

    async def close(self, *, kill: bool = False) -> None:
        """End the actor, in the midst of its work in either case."""
        executor, self._executor = self._executor, None
        if executor is not None:
            await asyncio.get_running_loop().run_in_executor(None, executor.close)


class _Actor:
    """What this process answers with, where it is an actor's."""

    halves: Halves | None = None


def _begin(load: Load) -> None:
    _Actor.halves = load()


def _answer(jobs: Sequence[Job]) -> list[Outcome]:
    if _Actor.halves is None:
        raise WorkerLost("this worker has lost its profiles")
    return _Actor.halves.answer(jobs)
