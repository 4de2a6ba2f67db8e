"""Twenty minutes of traffic of all sizes, errors and deaths: memory stays flat.

    pytest tests/test_soak.py -m slow -o faulthandler_timeout=0

``FPCODEC_SOAK_S`` makes it shorter or longer.
"""

from __future__ import annotations

import os
import random
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from flaky_kit import relay_to
from wire_kit import LoopThread, client_of

from fpcodec.data import generate_scene
from fpcodec.errors import FpcodecError
from fpcodec.profile import Profile, embedded_profile_path
from fpcodec.split import EdgeHalf
from fpcodec_edge import EdgeClient, RetryPolicy
from fpcodec_server import CodecServer

SECONDS = float(os.environ.get("FPCODEC_SOAK_S", "1200"))
GROWTH = 1.05
"""Largest median memory of the last quarter, of that of the second."""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads memory from /proc")
def test_memory_stays_flat(loop_thread: LoopThread) -> None:
    profile = Profile.load(embedded_profile_path())
    edge = EdgeHalf(profile, threads=1)
    rng = random.Random(0)
    frames = [edge.encode(generate_scene(n).image, quality=rng.random()).data for n in range(20)]
    server = CodecServer([profile], listen="127.0.0.1:0", workers=1, threads=1)
    loop_thread.run(server.start(), 60)
    stop = threading.Event()
    samples: list[int] = []
    counts = {"answered": 0, "refused": 0}

    with relay_to(loop_thread, server.address) as relay, ThreadPoolExecutor(4) as threads:

        def ask(seed: int) -> None:
            dice = random.Random(seed)
            retry = RetryPolicy(max_attempts=2)
            with EdgeClient(relay.address, deadline_s=5, retry=retry) as client:
                while not stop.is_set():
                    frame = dice.choice(frames)
                    if dice.random() < 0.2:
                        frame = frame[: dice.randrange(len(frame))] or b"?"
                    try:
                        client.infer(frame)
                        counts["answered"] += 1
                    except FpcodecError:
                        counts["refused"] += 1

        loads = [threads.submit(ask, seed) for seed in range(3)]
        with client_of(server, deadline_s=10) as client:
            end_s = time.monotonic() + SECONDS
            while time.monotonic() < end_s:
                time.sleep(SECONDS / 200)
                samples.append(_resident_bytes())
                if rng.random() < 0.1:
                    relay.cut(reset=rng.random() < 0.5)
            stop.set()
            for load in loads:
                load.result(30)
            assert len(client.infer(frames[0]).detections) >= 0
    loop_thread.run(server.stop(1), 30)
    quarter = len(samples) // 4
    before, after = samples[quarter : 2 * quarter], samples[-quarter:]
    print(f"{counts}, {statistics.median(before)} then {statistics.median(after)} bytes")
    assert counts["answered"] > 100
    assert counts["refused"] > 10
    assert statistics.median(after) < GROWTH * statistics.median(before)


def _resident_bytes() -> int:
    """Of this process, which holds server and clients; workers are children and count too."""
    pids = [os.getpid(), *_children(os.getpid())]
    return sum(_statm(pid) for pid in pids)


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def _statm(pid: int) -> int:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except FileNotFoundError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
