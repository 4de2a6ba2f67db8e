"""Servers on the loopback for tests: fake halves, one event loop in a thread."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from fpcodec.detections import Detections
from fpcodec.errors import FpcodecError
from fpcodec_edge import EdgeClient, RetryPolicy
from fpcodec_server import CodecServer, Halves, QueueLimits

T = TypeVar("T")

ONCE = RetryPolicy(max_attempts=1)
STREAM_ID = bytes(range(32))


@dataclass(frozen=True)
class FakeProfile:
    stream_id: bytes = STREAM_ID
    labels: tuple[str, ...] = ("cat", "dog")
    name: str = "fake"
    codec: Any = None


@dataclass(frozen=True)
class FakeAnswer:
    detections: Detections
    levels_used: tuple[str, ...] = ("p3", "p5")
    levels_recovered: tuple[str, ...] = ("p4",)
    levels_ignored: dict[str, str] = field(default_factory=dict)
    timings_ms: dict[str, float] = field(
        default_factory=lambda: {"decode": 1.5, "reconstruct": 2.25, "head": 3.0}
    )


def detections(count: int, masks: np.ndarray | None = None) -> Detections:
    rng = np.random.default_rng(count)
    return Detections(
        rng.uniform(0, 640, (count, 4)).astype(np.float32),
        rng.uniform(0, 1, count).astype(np.float32),
        rng.integers(0, 80, count),
        masks,
    )


class FakeHalf:
    """Answers through a function, and remembers the frames it was given."""

    def __init__(self, answer: Callable[[bytes], Any] | None = None) -> None:
        self.frames: list[bytes] = []
        self.partial: list[bool] = []
        self._answer = answer or (lambda frame: FakeAnswer(detections(3)))

    def infer_batch(self, frames: Any, partial: Any, checkpoints: Any) -> list[Any]:
        self.frames += frames
        self.partial += partial
        return [self._one(frame, check) for frame, check in zip(frames, checkpoints, strict=True)]

    def _one(self, frame: bytes, check: Callable[[], None]) -> Any:
        try:
            answer = self._answer(frame)
            check()
        except FpcodecError as error:
            return error
        return answer


def fake_or_error(error: Exception, on: bytes) -> Callable[[bytes], Any]:
    """Answers, but raises the error for one frame."""

    def answer(frame: bytes) -> FakeAnswer:
        if frame == on:
            raise error
        return FakeAnswer(detections(3))

    return answer


class Gate:
    """A half that says when it has begun and waits until it may end."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.release = threading.Event()

    def __call__(self, frame: bytes) -> FakeAnswer:
        self.begun.release()
        assert self.release.wait(10)
        return FakeAnswer(detections(1))


class LoopThread:
    """One event loop for all servers: gRPC does not like several in a process."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T], timeout_s: float = 20) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout_s)

    def __enter__(self) -> LoopThread:
        return self

    def __exit__(self, *error: object) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()


StartServer = Callable[..., CodecServer]


def fake_server(profile: Any, load_half: Callable[[], Any], **options: Any) -> CodecServer:
    """A server whose workers are threads that answer with a half of the test's own."""
    queue = QueueLimits(max_waiting=options.pop("max_waiting", 8))
    return CodecServer(
        [profile],
        load=lambda: Halves({profile.stream_id: load_half()}),
        executor="threads",
        queue=queue,
        **options,
    )


@contextmanager
def servers(thread: LoopThread) -> Iterator[StartServer]:
    """A function that starts a server for a half on a free port; all are stopped at the end."""
    started = []

    def start(half: Any = None, **options: Any) -> CodecServer:
        options = {"listen": "127.0.0.1:0", "profile": FakeProfile(), **options}
        server = fake_server(options.pop("profile"), lambda: half, **options)
        started.append(server)
        thread.run(server.start())
        return server

    try:
        yield start
    finally:
        for server in started:
            thread.run(server.stop(0))


def client_of(server: CodecServer, **options: Any) -> EdgeClient:
    return EdgeClient(server.address, **{"retry": ONCE, "deadline_s": 5.0, **options})


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
