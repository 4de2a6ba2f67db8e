"""A real server process on this machine, for as long as a block runs."""

from __future__ import annotations

import queue
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from fpcodec.child_process import child_command, child_environment
from fpcodec.cli.serve import READY
from fpcodec.errors import Unavailable

START_S = 120.0
"""Longest wait for the ready line: loading a large detector from a cold disk takes a while."""

STOP_S = 15.0


@contextmanager
def loopback_server(profile: Path, threads: int | None = None) -> Iterator[str]:
    """Run ``fpcodec serve`` on a free port of the loopback interface.

    The process ends with the block, and also when this process dies without leaving it.

    Args:
        profile: The profile folder to serve.
        threads: Threads per network; None for the runtime's choice.

    Yields:
        The server's ``host:port``.

    Raises:
        Unavailable: The server did not come up; the message has its last line.
    """
    command = child_command(
        "serve", "--profile", str(profile.resolve()), "--listen", "127.0.0.1:0", "--workers", "1",
        "--stop-with-stdin",
    )  # fmt: skip
    if threads is not None:
        command += ["--threads", str(threads)]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(  # noqa: S603 (this interpreter and fixed arguments)
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
            env=child_environment(),
        )  # fmt: skip
        try:
            yield _ready_address(process, log)
        finally:
            _stop(process)


def _ready_address(process: subprocess.Popen[str], log: IO[str]) -> str:
    lines: queue.Queue[str] = queue.Queue()
    stdout = process.stdout
    if stdout is not None:
        threading.Thread(target=lambda: lines.put(stdout.readline()), daemon=True).start()
    try:
        words = lines.get(timeout=START_S).split()
    except queue.Empty:
        raise Unavailable(f"the demo's server was not ready within {START_S:g} s") from None
    if len(words) < 2 or words[0] != READY:
        process.wait(STOP_S)
        log.seek(0)
        last = (log.read().strip().splitlines() or ["no message"])[-1]
        raise Unavailable(f"the demo's server did not start: {last.removeprefix('error: ')}")
    return words[1]


def _stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()
