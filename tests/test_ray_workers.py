"""Ray actors as workers: the same answers as local processes, and deaths that cost nobody."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_worker_processes import mortal_halves
from wire_kit import FakeProfile, LoopThread, client_of

from fpcodec.data import generate_scene
from fpcodec.profile import Profile, embedded_profile_path
from fpcodec.split import EdgeHalf
from fpcodec_edge import EdgeClient, RetryPolicy
from fpcodec_server import CodecServer

ray = pytest.importorskip("ray", reason="needs fpcodec[ray]")
pytestmark = pytest.mark.filterwarnings("default")
"""Ray warns of itself."""


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """One cluster for the module: starting it takes seconds."""
    paths = os.pathsep.join(
        [str(Path(__file__).parent), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    )
    ray.init(
        num_cpus=2, include_dashboard=False, log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": paths}},
    )  # fmt: skip
    yield
    ray.shutdown()


def _served(thread: LoopThread, profiles: list[Any], **options: Any) -> CodecServer:
    server = CodecServer(profiles, listen="127.0.0.1:0", threads=1, **options)
    thread.run(server.start(), 120)
    return server


def test_detections_are_those_of_local_workers(loop_thread: LoopThread) -> None:
    profile = Profile.load(embedded_profile_path())
    edge = EdgeHalf(profile, threads=1)
    frames = [edge.encode(generate_scene(seed).image).data for seed in range(3)]
    found = []
    for executor in ("processes", "ray"):
        server = _served(loop_thread, [profile], executor=executor, workers=1)
        with client_of(server, deadline_s=20) as client:
            found.append([client.infer(frame).detections for frame in frames])
        loop_thread.run(server.stop(1), 60)
    for local, remote in zip(*found, strict=True):
        assert len(local) == len(remote) > 0
        np.testing.assert_allclose(remote.boxes, local.boxes, rtol=1e-4, atol=1e-2)
        np.testing.assert_allclose(remote.scores, local.scores, rtol=1e-4, atol=1e-5)
        assert (local.labels == remote.labels).all()


def test_an_actor_killed_under_load_costs_no_client_an_error(loop_thread: LoopThread) -> None:
    server = _served(loop_thread, [FakeProfile()], executor="ray", workers=2, load=mortal_halves)
    stop = threading.Event()
    pids: set[str] = set()

    def ask() -> None:
        retry = RetryPolicy(max_attempts=20)
        with EdgeClient(server.address, deadline_s=30, retry=retry) as client:
            while not stop.is_set():
                pids.update(client.infer(b"wait").levels_ignored)

    with ThreadPoolExecutor(3) as threads, client_of(server, deadline_s=20) as client:
        loads = [threads.submit(ask) for _ in range(3)]
        time.sleep(0.5)
        (name,) = client.infer(b"frame").levels_ignored
        os.kill(int(name.removeprefix("pid")), signal.SIGKILL)
        end_s = time.monotonic() + 40
        while len(pids) < 3 and time.monotonic() < end_s:
            time.sleep(0.1)
        stop.set()
        for load in loads:
            load.result(40)
    assert len(pids) >= 3
    loop_thread.run(server.stop(1), 60)
