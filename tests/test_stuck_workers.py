"""Worker processes that have stopped reading: the server's loop goes on, and so do its clients."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from test_worker_processes import mortal_halves
from wire_kit import STREAM_ID, FakeProfile, LoopThread, client_of

from fpcodec import errors
from fpcodec_edge import EdgeClient
from fpcodec_server import CodecServer
from fpcodec_server.jobs import Job
from fpcodec_server.workers import ProcessWorker

LONG = bytes(3 * 1024 * 1024)
"""More than any pipe takes while nobody reads."""


async def _stuck_worker() -> ProcessWorker:
    worker = ProcessWorker(mortal_halves)
    await worker.start()
    os.kill(worker._process.pid, signal.SIGSTOP)
    return worker


async def _longest_pause_s(seconds: float) -> float:
    """For how long the loop did not come round, at most."""
    loop, longest_s = asyncio.get_running_loop(), 0.0
    end_s = loop.time() + seconds
    while (before_s := loop.time()) < end_s:
        await asyncio.sleep(0.01)
        longest_s = max(longest_s, loop.time() - before_s)
    return longest_s


def _run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 60))


@pytest.mark.parametrize("kill", [True, False])
def test_a_job_that_nobody_reads_stalls_neither_the_loop_nor_the_end(kill: bool) -> None:
    async def work() -> None:
        worker = await _stuck_worker()
        process = worker._process
        answer = asyncio.create_task(worker.answer([Job(STREAM_ID, LONG)]))
        assert await _longest_pause_s(0.5) < 0.4
        assert not answer.done()
        answer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await answer
        # Even in peace: it will never come to the end of its present work.
        closing = asyncio.create_task(worker.close(kill=kill))
        assert await _longest_pause_s(0.2) < 0.4
        await asyncio.wait_for(closing, 10)
        with pytest.raises(ValueError, match="closed"):
            process.is_alive()

    _run(work())


def test_a_worker_whose_answer_nobody_awaited_takes_no_other_job() -> None:
    """Its pipe holds half a job, or the answer to another one."""

    async def work() -> None:
        worker = ProcessWorker(mortal_halves)
        await worker.start()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(worker.answer([Job(STREAM_ID, b"long")]), 0.2)
        with pytest.raises(errors.WorkerLost, match="given up"):
            await worker.answer([Job(STREAM_ID, b"frame")])
        await asyncio.wait_for(worker.close(), 10)

    _run(work())


def test_a_job_that_cannot_be_sent_costs_itself_alone() -> None:
    async def work() -> None:
        worker = ProcessWorker(mortal_halves)
        await worker.start()
        with pytest.raises(Exception, match="pickle"):
            await worker.answer([Job(STREAM_ID, lambda: None)])  # type: ignore[arg-type]
        (outcome,) = await worker.answer([Job(STREAM_ID, b"frame")])
        assert isinstance(outcome, bytes)
        await worker.close()

    _run(work())


def test_a_worker_that_dies_over_a_long_job_is_lost() -> None:
    async def work() -> None:
        worker = await _stuck_worker()
        answer = asyncio.create_task(worker.answer([Job(STREAM_ID, LONG)]))
        await asyncio.sleep(0.2)
        worker._process.kill()
        with pytest.raises(errors.WorkerLost, match="died"):
            await answer
        await worker.close(kill=True)

    _run(work())


@pytest.mark.parametrize("way", ["peace", "then_kill", "cancelled_then_kill"])
def test_an_idle_worker_that_has_stopped_is_closed_all_the_same(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that hangs in its teardown: it never comes to its end by itself."""
    monkeypatch.setattr("fpcodec_server.workers._PEACE_S", 0.5 if way == "peace" else 1000)

    async def work() -> None:
        worker = await _stuck_worker()
        process = worker._process
        closing = asyncio.create_task(worker.close())
        if way != "peace":
            await asyncio.sleep(0.2)
            assert not closing.done()
            if way == "cancelled_then_kill":
                closing.cancel()
                await asyncio.wait({closing})
            await asyncio.wait_for(worker.close(kill=True), 10)
        await asyncio.wait({closing}, timeout=10)
        assert closing.done()
        with pytest.raises(ValueError, match="closed"):
            process.is_alive()

    _run(work())


def test_whoever_awaits_a_worker_that_is_closed_hears_that_it_is_lost() -> None:
    async def work() -> None:
        for wait in ("answer", "lost"):
            worker = ProcessWorker(mortal_halves)
            await worker.start()
            waiting: asyncio.Task[Any] = asyncio.create_task(
                worker.answer([Job(STREAM_ID, b"long")]) if wait == "answer" else worker.lost()
            )
            await asyncio.sleep(0.3)
            await worker.close(kill=True)
            with pytest.raises(errors.WorkerLost):
                await asyncio.wait_for(waiting, 5)

    _run(work())


SERVER = """
from wire_kit import FakeProfile
from test_worker_processes import mortal_halves
from fpcodec_server import CodecServer, serve

if __name__ == "__main__":
    serve(
        CodecServer(
            [FakeProfile()], listen="127.0.0.1:0", load=mortal_halves, workers=1, grace_s=0.5
        ),
        on_ready=lambda address: print(address, flush=True),
        load_profiles=lambda: [FakeProfile(name="new")],
    )
"""


def _workers_of(pid: int) -> list[int]:
    """Of a server's process, the child processes that are workers."""
    threads = Path(f"/proc/{pid}/task").glob("*/children")
    children = [int(x) for thread in threads for x in thread.read_text().split()]
    return [x for x in children if b"spawn_main" in Path(f"/proc/{x}/cmdline").read_bytes()]


@pytest.mark.parametrize("state", ["at_work", "stopped"])
def test_a_server_that_waits_for_an_old_worker_ends_when_told(tmp_path: Path, state: str) -> None:
    """SIGHUP, then SIGTERM before the worker from before has come to its end."""
    script = tmp_path / "child.py"
    script.write_text(SERVER)
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    with subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": paths},
    ) as server:  # fmt: skip
        old = server.pid
        try:
            assert server.stdout is not None
            address = server.stdout.readline().strip()
            (old,) = _workers_of(server.pid)
            with EdgeClient(address, deadline_s=5) as client, ThreadPoolExecutor(1) as threads:
                client.negotiate(STREAM_ID)
                if state == "stopped":
                    os.kill(old, signal.SIGSTOP)
                else:
                    threads.submit(client.infer, b"hang")
                    time.sleep(0.3)
                server.send_signal(signal.SIGHUP)
                while client.negotiate(STREAM_ID).profile_name != "new":
                    time.sleep(0.05)
                assert old in _workers_of(server.pid)
                server.terminate()
                assert server.wait(20) == 0
        finally:
            for pid in (server.pid, old):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


@contextmanager
def _server(loop_thread: LoopThread, **options: Any) -> Iterator[CodecServer]:
    server = CodecServer(
        [FakeProfile()], listen="127.0.0.1:0", load=mortal_halves, workers=1, **options
    )  # fmt: skip
    loop_thread.run(server.start(), 60)
    try:
        yield server
    finally:
        loop_thread.run(server.stop(0), 30)


def _stop_worker(server: CodecServer) -> None:
    (slot,) = server._dispatcher._slots
    os.kill(slot._worker._process.pid, signal.SIGSTOP)  # type: ignore[attr-defined]


def test_a_worker_that_reads_no_more_is_replaced_and_the_request_answered(
    loop_thread: LoopThread,
) -> None:
    with (
        _server(loop_thread, hang_s=0.5) as server,
        client_of(server, deadline_s=20) as client,
    ):
        _stop_worker(server)
        assert len(client.infer(LONG).detections) == 1


def test_a_deadline_passes_and_a_reload_ends_though_a_worker_reads_no_more(
    loop_thread: LoopThread,
) -> None:
    with (
        _server(loop_thread, hang_s=3) as server,
        client_of(server, deadline_s=0.5) as client,
    ):
        _stop_worker(server)
        begun_s = time.monotonic()
        with pytest.raises(errors.Timeout):
            client.infer(LONG)
        assert time.monotonic() - begun_s < 2
        loop_thread.run(server.reload([FakeProfile(name="new")]), 20)
        with client_of(server, deadline_s=20) as patient:
            assert len(patient.infer(b"frame").detections) == 1
