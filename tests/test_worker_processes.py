"""Workers in processes of their own: what dies there costs a request, not the server."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from wire_kit import STREAM_ID, FakeAnswer, FakeProfile, LoopThread, client_of, detections

from fpcodec import errors
from fpcodec.profile import Profile, embedded_profile_path
from fpcodec.split import EdgeHalf, ServerHalf
from fpcodec.v1 import codec_pb2, codec_pb2_grpc
from fpcodec_edge import EdgeClient, RetryPolicy
from fpcodec_server import BatchLimits, CodecServer, Halves, Observer

PATIENT = RetryPolicy(max_attempts=10)


class MortalHalf:
    """Dies, hangs or names its process, as frames say."""

    def infer_batch(self, frames: Sequence[bytes], *_: Any) -> list[FakeAnswer]:
        for frame in frames:
            if frame == b"die":
                os._exit(3)
            if frame == b"hang":
                time.sleep(60)
            if frame == b"long":
                time.sleep(1)
            if frame.startswith(b"wait"):
                time.sleep(0.05)
        names = {f"pid{os.getpid()}": "said"}
        return [FakeAnswer(detections(1), levels_ignored=names) for _ in frames]


def mortal_halves() -> Halves:
    return Halves({STREAM_ID: MortalHalf()})


class LoadsUntil:
    """Loads once in each folder that is not there yet, and fails in the others."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self) -> Halves:
        try:
            self._folder.mkdir()
        except FileExistsError:
            time.sleep(0.5)
            raise errors.ModelError("weights are damaged; fetch them again") from None
        return mortal_halves()


class Recorder(Observer):
    def __init__(self) -> None:
        self.lost = 0

    def worker_lost(self) -> None:
        self.lost += 1


Start = Callable[..., CodecServer]


@pytest.fixture
def start(loop_thread: LoopThread) -> Iterator[Start]:
    started: list[CodecServer] = []

    def start_one(profiles: Sequence[Any] = (FakeProfile(),), **options: Any) -> CodecServer:
        server = CodecServer(profiles, listen="127.0.0.1:0", **options)
        started.append(server)
        loop_thread.run(server.start(), 60)
        return server

    yield start_one
    for server in started:
        loop_thread.run(server.stop(0), 30)


def _pid(client: EdgeClient, frame: bytes = b"frame") -> int:
    (name,) = client.infer(frame).levels_ignored
    return int(name.removeprefix("pid"))


def test_the_answer_is_that_of_the_half_itself(start: Start, tmp_path: Path) -> None:
    from fpcodec.data import generate_scene

    profile = Profile.load(embedded_profile_path())
    frame = EdgeHalf(profile, threads=1).encode(generate_scene(5).image).data
    expected = ServerHalf(profile, threads=1).infer(frame)
    server = start([profile], workers=1, threads=1)
    with client_of(server, deadline_s=10) as client:
        reply = client.infer(frame)
        assert len(reply.detections) > 0
        np.testing.assert_allclose(
            reply.detections.boxes, expected.detections.boxes, rtol=1e-4, atol=1e-2
        )
        assert reply.levels_used == expected.levels_used
        assert all(reply.timings_ms[name] > 0 for name in ("decode", "reconstruct", "head"))
        with pytest.raises(errors.BadMagic):
            client.infer(b"no frame at all")


def test_a_crash_costs_the_request_that_caused_it_and_no_other(start: Start) -> None:
    recorder = Recorder()
    server = start(
        load=mortal_halves, workers=1, batch=BatchLimits(most=4, delay_ms=50), observer=recorder
    )
    with client_of(server, deadline_s=20) as client, ThreadPoolExecutor(4) as threads:
        before = _pid(client)
        good = [threads.submit(client.infer, b"wait") for _ in range(3)]
        bad = threads.submit(client.infer, b"die")
        assert [len(call.result(20).detections) for call in good] == [1, 1, 1]
        with pytest.raises(errors.WorkerLost):
            bad.result(20)
        assert _pid(client) != before
    assert recorder.lost == 2


def test_workers_killed_under_load_cost_no_client_an_error(start: Start) -> None:
    server = start(load=mortal_halves, workers=2)
    stop = threading.Event()
    answered: list[float] = []

    def ask() -> None:
        with client_of(server, deadline_s=20, retry=PATIENT) as client:
            while not stop.is_set():
                start_s = time.monotonic()
                assert len(client.infer(b"wait").detections) == 1
                answered.append(time.monotonic() - start_s)

    with ThreadPoolExecutor(4) as threads, client_of(server, deadline_s=20) as client:
        loads = [threads.submit(ask) for _ in range(4)]
        for _ in range(3):
            time.sleep(0.4)
            os.kill(_pid(client), signal.SIGKILL)
        time.sleep(0.5)
        stop.set()
        for load in loads:
            load.result(30)
    assert len(answered) > 10


def test_a_worker_that_hangs_is_ended(start: Start) -> None:
    server = start(load=mortal_halves, workers=1, hang_s=0.5)
    with client_of(server, deadline_s=30) as client:
        before = _pid(client)
        with pytest.raises(errors.WorkerLost, match="did not answer within"):
            client.infer(b"hang")
        assert _pid(client) != before
        with pytest.raises(ProcessLookupError):
            os.kill(before, 0)


def test_health_tells_that_no_worker_is_up(start: Start) -> None:
    server = start(load=mortal_halves, workers=1)
    with client_of(server) as client, grpc.insecure_channel(server.address) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(
            health_pb2.HealthCheckRequest(service="fpcodec.profile.fake"), timeout=20
        )
        states = health_pb2.HealthCheckResponse
        assert next(watch).status == states.SERVING
        os.kill(_pid(client), signal.SIGKILL)
        assert next(watch).status == states.NOT_SERVING
        assert next(watch).status == states.SERVING
        watch.cancel()


def test_health_follows_the_workers_through_a_reload(
    start: Start, loop_thread: LoopThread, tmp_path: Path
) -> None:
    """The new worker dies, for good, while the old one is still at work."""
    server = start(load=mortal_halves, workers=1)
    states = health_pb2.HealthCheckResponse
    with (
        client_of(server, deadline_s=5) as client,
        grpc.insecure_channel(server.address) as channel,
        ThreadPoolExecutor(1) as threads,
    ):
        check = health_pb2_grpc.HealthStub(channel).Check

        def until(name: str, state: int) -> None:
            request = health_pb2.HealthCheckRequest(service=name)
            end_s, found = time.monotonic() + 10, None
            while found != state:
                assert time.monotonic() < end_s, found
                time.sleep(0.05)
                with contextlib.suppress(grpc.RpcError):
                    found = check(request, timeout=5).status

        old = _pid(client)
        threads.submit(client.infer, b"hang")
        time.sleep(0.3)
        server._load = LoadsUntil(tmp_path / "once")
        reload = asyncio.run_coroutine_threadsafe(
            server.reload([FakeProfile(name="new")]), loop_thread.loop
        )
        until("fpcodec.profile.new", states.SERVING)
        until("fpcodec.profile.fake", states.SERVICE_UNKNOWN)
        assert not reload.done()
        os.kill(_pid(client), signal.SIGKILL)
        until("fpcodec.profile.new", states.NOT_SERVING)
        os.kill(old, signal.SIGKILL)
        reload.result(20)
        for name in ("", "fpcodec.profile.new"):
            found = check(health_pb2.HealthCheckRequest(service=name), timeout=5).status
            assert found == states.NOT_SERVING


def test_profiles_are_changed_without_dropping_a_request(
    start: Start, loop_thread: LoopThread
) -> None:
    other = FakeProfile(stream_id=bytes(32), name="other")
    server = start([FakeProfile(), other], load=mortal_halves, workers=2)
    stop = threading.Event()

    def ask() -> int:
        count = 0
        with client_of(server, deadline_s=20) as client:
            while not stop.is_set():
                client.infer(b"wait")
                count += 1
        return count

    with ThreadPoolExecutor(3) as threads, client_of(server) as client:
        loads = [threads.submit(ask) for _ in range(3)]
        assert client.negotiate(bytes(32)).profile_name == "other"
        loop_thread.run(server.reload([FakeProfile()]), 60)
        with pytest.raises(errors.ProfileMismatch):
            client.negotiate(bytes(32))
        assert client.negotiate(STREAM_ID).profile_name == "fake"
        stop.set()
        assert all(load.result(30) > 0 for load in loads)


def test_a_reload_that_fails_costs_nothing_and_another_can_follow(
    start: Start, loop_thread: LoopThread, tmp_path: Path
) -> None:
    """One of the new workers loads, the other does not: the old ones go on."""
    server = start(load=mortal_halves, workers=2)
    stop = threading.Event()

    def ask() -> int:
        count = 0
        with client_of(server, deadline_s=20) as client:
            while not stop.is_set():
                client.infer(b"wait")
                count += 1
        return count

    with ThreadPoolExecutor(3) as threads:
        loads = [threads.submit(ask) for _ in range(3)]
        for number in range(2):
            server._load = LoadsUntil(tmp_path / str(number))
            with pytest.raises(errors.ModelError, match="damaged"):
                loop_thread.run(server.reload([FakeProfile()]), 60)
        server._load = mortal_halves
        loop_thread.run(server.reload([FakeProfile(name="new")]), 60)
        with client_of(server) as client:
            assert client.negotiate(STREAM_ID).profile_name == "new"
        stop.set()
        assert all(load.result(30) > 0 for load in loads)


def test_a_caller_is_answered_at_its_deadline_however_long_a_worker_hangs(start: Start) -> None:
    server = start(load=mortal_halves, workers=1, hang_s=30, deadline_s=0.5)
    with grpc.insecure_channel(server.address) as channel:
        infer = codec_pb2_grpc.CodecServiceStub(channel).Infer
        start_s = time.monotonic()
        with pytest.raises(grpc.RpcError) as caught:
            infer(codec_pb2.InferRequest(frame=b"hang"))
        assert time.monotonic() - start_s < 5
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


CHILD = """
from wire_kit import FakeProfile
from test_worker_processes import mortal_halves
from fpcodec_server import CodecServer, serve

if __name__ == "__main__":
    serve(
        CodecServer([FakeProfile()], listen="127.0.0.1:0", load=mortal_halves, workers=1),
        on_ready=lambda address: print(address, flush=True),
    )
"""


def test_workers_do_not_outlive_a_server_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "child.py"
    script.write_text(CHILD)
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    with subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": paths},
    ) as server:  # fmt: skip
        assert server.stdout is not None
        with EdgeClient(server.stdout.readline().strip(), deadline_s=20) as client:
            worker = _pid(client)
            server.kill()
    end_s = time.monotonic() + 5
    while Path(f"/proc/{worker}").exists() and _state(worker) != "Z":
        assert time.monotonic() < end_s
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_whole_group_fails_no_call_in_flight(
    tmp_path: Path, number: signal.Signals
) -> None:
    """As Ctrl-C sends one, and a service manager that ends a unit."""
    script = tmp_path / "child.py"
    script.write_text(CHILD)
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    with subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": paths}, start_new_session=True,
    ) as server:  # fmt: skip
        assert server.stdout is not None
        assert server.stderr is not None
        address = server.stdout.readline().strip()
        with EdgeClient(address, deadline_s=20) as client, ThreadPoolExecutor(1) as threads:
            client.infer(b"frame")
            call = threads.submit(client.infer, b"long")
            time.sleep(0.3)
            os.killpg(server.pid, number)
            assert len(call.result(20).detections) == 1
        assert server.wait(20) == 0
        assert server.stderr.read() == ""


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "Z"


def test_the_log_names_the_request_that_a_worker_was_lost_over(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    server = start(load=mortal_halves, workers=1)
    with (
        caplog.at_level("WARNING", "fpcodec_server.dispatcher"),
        grpc.insecure_channel(server.address) as channel,
    ):
        request = codec_pb2.InferRequest(frame=b"die", request_id="r7")
        header = (("traceparent", f"00-{trace_id}-00f067aa0ba902b7-01"),)
        with pytest.raises(grpc.RpcError):
            codec_pb2_grpc.CodecServiceStub(channel).Infer(request, metadata=header, timeout=20)
    lines = [x.fpcodec_fields for x in caplog.records if hasattr(x, "fpcodec_fields")]
    names = {"request_id": "r7", "trace_id": trace_id, "client": "ipv4:127.0.0.1"}
    assert lines == [{**names, "attempt": 1}, {**names, "attempt": 2}]
