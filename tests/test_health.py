"""Health needs no token: what strangers may do with it must cost the others nothing."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from wire_kit import FakeHalf, FakeProfile, Gate, LoopThread, StartServer, client_of, fake_server

from fpcodec_server.health import MOST_WATCHES

STATES = health_pb2.HealthCheckResponse
REQUEST = health_pb2.HealthCheckRequest()


def _check(channel: grpc.Channel, service: str = "") -> Any:
    request = health_pb2.HealthCheckRequest(service=service)
    return health_pb2_grpc.HealthStub(channel).Check(request, timeout=5).status


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _header(name: bytes, value: bytes) -> bytes:
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


@contextmanager
def watcher_that_takes_nothing(port: int) -> Iterator[None]:
    """A watch over HTTP/2 by hand, whose flow control never lets the server write a byte."""
    headers = [
        (b":method", b"POST"), (b":scheme", b"http"), (b":authority", b"here"),
        (b":path", b"/grpc.health.v1.Health/Watch"), (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
    ]  # fmt: skip
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
            + _frame(4, 0, 0, struct.pack(">HI", 4, 0))
            + _frame(1, 4, 1, b"".join(_header(*x) for x in headers))
            + _frame(0, 1, 1, bytes(5))
        )
        time.sleep(0.3)
        yield


def test_a_watcher_that_takes_nothing_holds_up_neither_health_nor_the_stop(
    loop_thread: LoopThread,
) -> None:
    server = fake_server(FakeProfile(), FakeHalf, listen="127.0.0.1:0", notice_s=0.3)
    loop_thread.run(server.start())
    with watcher_that_takes_nothing(server.port), grpc.insecure_channel(server.address) as channel:
        assert _check(channel) == STATES.SERVING
        loop_thread.run(server.reload([FakeProfile(name="other")]), 5)
        stop = asyncio.run_coroutine_threadsafe(server.stop(), loop_thread.loop)
        time.sleep(0.1)
        assert _check(channel) == STATES.NOT_SERVING
        # While the watcher's connection stands; the grace is ten seconds.
        stop.result(5)


def test_a_call_in_flight_keeps_its_grace_beside_a_watcher_that_takes_nothing(
    loop_thread: LoopThread,
) -> None:
    gate = Gate()
    server = fake_server(FakeProfile(), lambda: FakeHalf(gate), listen="127.0.0.1:0", grace_s=15)
    loop_thread.run(server.start())
    with (
        watcher_that_takes_nothing(server.port),
        client_of(server, deadline_s=10) as client,
        ThreadPoolExecutor(1) as threads,
    ):
        call = threads.submit(client.infer, b"frame")
        assert gate.begun.acquire(timeout=5)
        stop = asyncio.run_coroutine_threadsafe(server.stop(), loop_thread.loop)
        time.sleep(2)
        assert not stop.done()
        gate.release.set()
        assert len(call.result(5).detections) == 1
        stop.result(5)


def test_liveness_stays_through_a_stop(loop_thread: LoopThread) -> None:
    """Who restarts what is not live must not cut off the answers on their way."""
    server = fake_server(FakeProfile(), FakeHalf, listen="127.0.0.1:0", notice_s=1)
    loop_thread.run(server.start())
    with grpc.insecure_channel(server.address) as channel:
        assert _check(channel) == _check(channel, "liveness") == STATES.SERVING
        stop = asyncio.run_coroutine_threadsafe(server.stop(), loop_thread.loop)
        time.sleep(0.2)
        assert _check(channel) == STATES.NOT_SERVING
        assert _check(channel, "liveness") == STATES.SERVING
        stop.result(10)


def test_watches_are_bounded_and_a_place_is_given_back(
    start_server: StartServer, loop_thread: LoopThread
) -> None:
    server = start_server(FakeHalf())
    with grpc.insecure_channel(server.address) as channel, client_of(server) as client:
        watch = health_pb2_grpc.HealthStub(channel).Watch
        watches = [watch(REQUEST, timeout=20) for _ in range(MOST_WATCHES)]
        assert {next(x).status for x in watches} == {STATES.SERVING}
        late = watch(REQUEST, timeout=20)
        with pytest.raises(grpc.RpcError):
            next(late)
        assert late.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        trailers = dict(late.trailing_metadata())
        assert trailers["fpcodec-error"] == "Overloaded"
        assert int(trailers["grpc-retry-pushback-ms"]) > 0
        assert _check(channel) == STATES.SERVING
        assert len(client.infer(b"frame").detections) == 3
        watches[0].cancel()
        loop_thread.run(asyncio.sleep(0.2))
        assert next(watch(REQUEST, timeout=20)).status == STATES.SERVING


def test_watchers_hear_of_a_stop_and_do_not_delay_it(loop_thread: LoopThread) -> None:
    server = fake_server(FakeProfile(), FakeHalf, listen="127.0.0.1:0", grace_s=30)
    loop_thread.run(server.start())
    with grpc.insecure_channel(server.address) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(REQUEST, timeout=20)
        assert next(watch).status == STATES.SERVING
        begun_s = time.monotonic()
        loop_thread.run(server.stop())
        assert time.monotonic() - begun_s < 10
        assert [x.status for x in watch] == [STATES.NOT_SERVING]


def test_what_nobody_serves_is_unknown(start_server: StartServer) -> None:
    server = start_server(FakeHalf())
    request = health_pb2.HealthCheckRequest(service="nothing")
    with grpc.insecure_channel(server.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.Check(request, timeout=5)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND  # type: ignore[attr-defined]
        watch = stub.Watch(request, timeout=5)
        assert next(watch).status == STATES.SERVICE_UNKNOWN
        watch.cancel()
