"""The server's life: loading, health, ports, graceful stop, signals."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from wire_kit import (
    FakeHalf,
    FakeProfile,
    Gate,
    LoopThread,
    StartServer,
    client_of,
    fake_server,
    free_port,
)

from fpcodec import errors
from fpcodec_edge import EdgeClient, RetryPolicy

NAMES = ("", "fpcodec.v1.CodecService")


def _health(address: str) -> set[str]:
    with grpc.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        answers = [stub.Check(health_pb2.HealthCheckRequest(service=n), timeout=5) for n in NAMES]
    return {health_pb2.HealthCheckResponse.ServingStatus.Name(x.status) for x in answers}


def test_health_follows_loading(loop_thread: LoopThread) -> None:
    loaded = threading.Event()

    def load() -> FakeHalf:
        assert loaded.wait(10)
        return FakeHalf()

    server = fake_server(FakeProfile(), load, listen="127.0.0.1:0")
    start = asyncio.run_coroutine_threadsafe(server.start(), loop_thread.loop)
    _wait_until(lambda: server.port > 0)
    with client_of(server) as client:
        assert _health(server.address) == {"NOT_SERVING"}
        for call in (lambda: client.infer(b"frame"), lambda: client.negotiate(bytes(32))):
            with pytest.raises(errors.Unavailable, match="still loading"):
                call()
        loaded.set()
        start.result(10)
        assert _health(server.address) == {"SERVING"}
        client.infer(b"frame")
    loop_thread.run(server.stop(0))


def test_a_detector_that_cannot_be_loaded_frees_the_port(loop_thread: LoopThread) -> None:
    def load() -> Any:
        raise errors.ModelError("weights are damaged; fetch them again")

    listen = f"127.0.0.1:{free_port()}"
    broken = fake_server(FakeProfile(), load, listen=listen)
    with pytest.raises(errors.ModelError, match="weights"):
        loop_thread.run(broken.start())
    whole = fake_server(FakeProfile(), FakeHalf, listen=listen)
    loop_thread.run(whole.start())
    loop_thread.run(whole.stop(0))


def test_a_port_is_not_shared(start_server: StartServer) -> None:
    first = start_server(FakeHalf())
    with pytest.raises(errors.InputError) as caught:
        start_server(FakeHalf(), listen=first.address)
    assert first.address in str(caught.value)
    assert "\n" not in str(caught.value)
    with client_of(first) as client:
        client.infer(b"frame")


@pytest.mark.parametrize(
    "options",
    [
        {"listen": "nowhere"},
        {"listen": "host.invalid:0"},
        {"workers": 0},
        {"max_waiting": -1},
        {"grace_s": -1},
        {"notice_s": -1},
    ],
)
def test_options_without_sense_are_refused(
    start_server: StartServer, options: dict[str, Any]
) -> None:
    with pytest.raises(errors.InputError):
        start_server(FakeHalf(), **options)


def test_a_stop_lets_calls_in_flight_end(loop_thread: LoopThread) -> None:
    gate = Gate()
    server = fake_server(FakeProfile(), lambda: FakeHalf(gate), listen="127.0.0.1:0", workers=2)
    loop_thread.run(server.start())
    with client_of(server, deadline_s=10) as client, ThreadPoolExecutor(4) as threads:
        calls = [threads.submit(client.infer, b"frame") for _ in range(4)]
        for _ in range(2):
            assert gate.begun.acquire(timeout=5)
        time.sleep(0.2)
        stop = asyncio.run_coroutine_threadsafe(server.stop(grace_s=10), loop_thread.loop)
        time.sleep(0.2)
        with pytest.raises(errors.Unavailable):
            client.infer(b"too late")
        gate.release.set()
        assert [len(call.result(5).detections) for call in calls] == [1] * 4
    stop.result(5)
    loop_thread.run(server.wait())


def test_balancers_are_given_notice_before_calls_are_refused(loop_thread: LoopThread) -> None:
    server = fake_server(FakeProfile(), FakeHalf, listen="127.0.0.1:0", notice_s=0.5)
    loop_thread.run(server.start())
    with client_of(server) as client:
        stop = asyncio.run_coroutine_threadsafe(server.stop(), loop_thread.loop)
        _wait_until(lambda: _health(server.address) == {"NOT_SERVING"})
        assert len(client.infer(b"frame").detections) == 3
        stop.result(10)
        with pytest.raises(errors.Unavailable):
            client.infer(b"frame")


def test_a_stop_waits_no_longer_than_its_grace(loop_thread: LoopThread) -> None:
    gate = Gate()
    server = fake_server(FakeProfile(), lambda: FakeHalf(gate), listen="127.0.0.1:0")
    loop_thread.run(server.start())
    with client_of(server, deadline_s=10) as client, ThreadPoolExecutor(1) as threads:
        call = threads.submit(client.infer, b"frame")
        assert gate.begun.acquire(timeout=5)
        start_s = time.monotonic()
        loop_thread.run(server.stop(grace_s=0.3))
        assert time.monotonic() - start_s < 2
        with pytest.raises(errors.TransportError):
            call.result(5)
    gate.release.set()


CHILD = """
import sys, time
from wire_kit import FakeAnswer, FakeHalf, FakeProfile, detections, fake_server
from fpcodec_server import serve

def slow(frame):
    print("begun", flush=True)
    time.sleep(1)
    return FakeAnswer(detections(2))

serve(
    fake_server(FakeProfile(), lambda: FakeHalf(slow), listen="127.0.0.1:0"),
    on_ready=lambda address: print(address, flush=True),
)
print("stopped", flush=True)
"""


@pytest.fixture
def child() -> Iterator[subprocess.Popen[str]]:
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", CHILD],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        yield process
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_process_after_its_work(
    child: subprocess.Popen[str], number: signal.Signals
) -> None:
    assert child.stdout is not None
    assert child.stderr is not None
    address = child.stdout.readline().strip()
    with (
        EdgeClient(address, deadline_s=10, retry=RetryPolicy(max_attempts=1)) as client,
        ThreadPoolExecutor(1) as threads,
    ):
        call = threads.submit(client.infer, b"frame")
        assert child.stdout.readline() == "begun\n"
        child.send_signal(number)
        assert len(call.result(5).detections) == 2
    assert child.wait(10) == 0
    assert child.stdout.read() == "stopped\n"
    assert child.stderr.read() == ""


def _wait_until(condition: Any) -> None:
    end_s = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.01)
