"""What surrounds calls of every shape: admission, counting, and what a handler learns."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tls_kit import OTHER_TOKEN, TOKEN, Authority, infer, with_tokens
from wire_kit import FakeHalf, LoopThread, StartServer

from fpcodec import errors
from fpcodec.v1 import codec_pb2, codec_pb2_grpc
from fpcodec_edge import ChannelSecurity
from fpcodec_edge.channel import open_channel
from fpcodec_server.calls import current_call
from fpcodec_server.client_limits import ClientRates
from fpcodec_server.operations import Operations
from fpcodec_server.stream_frames import charge_part, frame_refused, stream_frame

Requests = AsyncIterator[codec_pb2.InferStreamRequest]


class Handlers(codec_pb2_grpc.CodecServiceServicer):
    """A unary call and a stream that does what a test wants."""

    def __init__(self, stream: Callable[..., Any]) -> None:
        self.InferStream = stream
        self.calls: list[Any] = []

    async def Infer(self, request: codec_pb2.InferRequest, context: Any) -> codec_pb2.InferResponse:
        call = current_call()
        self.calls.append(call)
        assert call is not None
        # Tasks and threads that a handler starts belong to the call too.
        assert await asyncio.create_task(_current()) is call
        assert await asyncio.to_thread(current_call) is call
        if request.request_id == "code":
            context.set_code(grpc.StatusCode.NOT_FOUND)
        if request.request_id == "bug":
            raise RuntimeError("bug")
        if request.request_id == "slow":
            await asyncio.sleep(10)
        return codec_pb2.InferResponse(request_id="x" * 50)


async def _current() -> Any:
    return current_call()


async def echo(requests: Requests, context: Any) -> AsyncIterator[codec_pb2.InferStreamResponse]:
    yield codec_pb2.InferStreamResponse(credits=2)
    async for request in requests:
        yield codec_pb2.InferStreamResponse(frame_id=request.frame_id, credits=1)


async def echo_by_hand(requests: Requests, context: Any) -> None:
    await context.write(codec_pb2.InferStreamResponse(credits=2))
    while (request := await context.read()) is not grpc.aio.EOF:
        await context.write(codec_pb2.InferStreamResponse(frame_id=request.frame_id, credits=1))


@contextmanager
def bare_server(
    thread: LoopThread, handlers: Handlers, operations: Operations
) -> Iterator[Callable[..., Any]]:
    """A server of these handlers alone; gives a function that opens stubs to it."""

    async def start() -> tuple[Any, int]:
        server = grpc.aio.server(interceptors=operations.interceptors())
        codec_pb2_grpc.add_CodecServiceServicer_to_server(handlers, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        return server, port

    server, port = thread.run(start())
    channels = []

    def stub(token: str | None = None) -> Any:
        channels.append(open_channel(f"127.0.0.1:{port}", ChannelSecurity(token=token)))
        return codec_pb2_grpc.CodecServiceStub(channels[-1])

    try:
        yield stub
    finally:
        for channel in channels:
            channel.close()
        thread.run(server.stop(0))


def frames(count: int, length_bytes: int = 100) -> list[codec_pb2.InferStreamRequest]:
    return [
        codec_pb2.InferStreamRequest(
            frame_id=n + 1, data=bytes(length_bytes), last=True, request_id=f"frame-{n + 1}"
        )
        for n in range(count)
    ]


def code_of(call: Callable[[], Any]) -> str:
    try:
        call()
    except grpc.RpcError as error:
        return str(error.code().name)
    return "OK"


def count(operations: Operations, name: str, **labels: str) -> float:
    return operations.metrics.registry.get_sample_value(name, labels) or 0.0


@pytest.mark.parametrize("handler", [echo, echo_by_hand])
def test_streams_are_counted_whichever_way_they_are_written(
    loop_thread: LoopThread, handler: Callable[..., Any]
) -> None:
    operations = Operations()
    with bare_server(loop_thread, Handlers(handler), operations) as stub:
        sent = frames(3)
        answers = list(stub().InferStream(iter(sent), timeout=5))
        assert [x.frame_id for x in answers] == [0, 1, 2, 3]
    received = sum(x.ByteSize() for x in sent)
    assert count(operations, "fpcodec_requests_total", method="InferStream", code="OK") == 1
    assert count(operations, "fpcodec_received_bytes_total", method="InferStream") == received
    out = sum(x.ByteSize() for x in answers)
    assert count(operations, "fpcodec_sent_bytes_total", method="InferStream") == out


@pytest.mark.parametrize("handler", [echo, echo_by_hand])
def test_streams_need_a_token(
    loop_thread: LoopThread, tmp_path: Path, handler: Callable[..., Any]
) -> None:
    operations = with_tokens(tmp_path)
    with bare_server(loop_thread, Handlers(handler), operations) as stub:
        assert len(list(stub(TOKEN).InferStream(iter(frames(2)), timeout=5))) == 3
        for token in (None, OTHER_TOKEN):
            call = stub(token).InferStream(iter(frames(2)), timeout=5)
            assert code_of(lambda call=call: list(call)) == "UNAUTHENTICATED"
            assert dict(call.trailing_metadata())["fpcodec-error"] == "Unauthenticated"
    name = "fpcodec_requests_total"
    assert count(operations, name, method="InferStream", code="UNAUTHENTICATED") == 2


async def frame_by_frame(requests: Requests, context: Any) -> AsyncIterator[Any]:
    """Answers frames in tasks of their own, as the service does; odd ones with an error."""

    async def answer(request: codec_pb2.InferStreamRequest) -> codec_pb2.InferStreamResponse:
        name = ""
        try:
            with stream_frame(request.request_id, len(request.data)) as note:
                call = current_call()
                assert call is not None
                assert call.request_id == request.request_id
                call.profile = "tiny"
                if request.frame_id == 3:
                    raise errors.Truncated("short")
                timings = codec_pb2.ServerTimings(head_ms=2.0)
                note.response = codec_pb2.InferResponse(timings=timings)
        except errors.FpcodecError as error:
            name = type(error).__name__
        error_or_none = codec_pb2.FrameError(name=name)
        return codec_pb2.InferStreamResponse(frame_id=request.frame_id, error=error_or_none)

    async for request in requests:
        try:
            charge_part(len(request.data), None, last=True)
        except errors.Overloaded as error:
            frame_refused(request.request_id, len(request.data), 0.0, error)
            found = codec_pb2.FrameError(name="Overloaded")
            yield codec_pb2.InferStreamResponse(frame_id=request.frame_id, error=found)
        else:
            yield await asyncio.create_task(answer(request))


def test_frames_of_a_stream_are_charged_counted_and_logged(
    loop_thread: LoopThread, caplog: pytest.LogCaptureFixture
) -> None:
    # The call itself is a request too.
    operations = Operations(rates=ClientRates(requests_per_s=0.001, burst_requests=4))
    with (
        caplog.at_level("INFO", "fpcodec_server.requests"),
        bare_server(loop_thread, Handlers(frame_by_frame), operations) as stub,
    ):
        answers = list(stub().InferStream(iter(frames(4)), timeout=5))
        assert code_of(lambda: list(stub().InferStream(iter(frames(1))))) == "RESOURCE_EXHAUSTED"
    assert [x.error.name for x in answers] == ["", "", "Truncated", "Overloaded"]
    name, method = "fpcodec_requests_total", "InferStream/frame"
    for code, many in (("OK", 2), ("INVALID_ARGUMENT", 1), ("RESOURCE_EXHAUSTED", 1)):
        assert count(operations, name, method=method, code=code) == many
    assert count(operations, "fpcodec_received_bytes_total", method=method) == 400
    assert count(operations, "fpcodec_shed_requests_total", reason="client_limit") == 2
    records = [record.fpcodec_fields for record in caplog.records]
    frame_lines, call_lines = records[:4], records[4:]
    assert [x["method"] for x in call_lines] == ["InferStream"] * 2
    assert [x.get("error") for x in frame_lines] == [None, None, "Truncated", "Overloaded"]
    first = frame_lines[0]
    assert (first["profile"], first["stages_ms"]) == ("tiny", {"head": 2.0})
    assert first["request_id"] == "frame-1"
    assert {x["trace_id"] for x in frame_lines} == {call_lines[0]["trace_id"]}
    assert len({x["span_id"] for x in [*frame_lines, call_lines[0]]}) == 5


def test_a_frame_outside_of_a_call_is_let_through() -> None:
    with stream_frame("r", 10) as note:
        assert note.response is None


def test_every_end_of_a_call_has_its_code(loop_thread: LoopThread) -> None:
    operations = Operations()
    with bare_server(loop_thread, Handlers(echo), operations) as stub:
        request = codec_pb2.InferRequest
        assert code_of(lambda: stub().Infer(request(), timeout=5)) == "OK"
        assert code_of(lambda: stub().Infer(request(request_id="bug"), timeout=5)) == "UNKNOWN"
        assert code_of(lambda: stub().Infer(request(request_id="code"), timeout=5)) == "NOT_FOUND"
        late = request(request_id="slow")
        assert code_of(lambda: stub().Infer(late, timeout=0.2)) == "DEADLINE_EXCEEDED"
        call = stub().Infer.future(late, timeout=5)
        loop_thread.run(asyncio.sleep(0.2))
        call.cancel()
        loop_thread.run(asyncio.sleep(0.2))
    for code in ("OK", "UNKNOWN", "NOT_FOUND", "DEADLINE_EXCEEDED", "CANCELLED"):
        assert count(operations, "fpcodec_requests_total", method="Infer", code=code) == 1, code


def test_a_handler_knows_its_caller(loop_thread: LoopThread, tmp_path: Path) -> None:
    handlers = Handlers(echo)
    with bare_server(loop_thread, handlers, with_tokens(tmp_path)) as stub:
        stub(TOKEN).Infer(codec_pb2.InferRequest(request_id="r7" * 200), timeout=5)
    (call,) = handlers.calls
    assert (call.method, call.client) == ("Infer", "token:camera")
    assert call.request_id == "r7" * 64
    assert len(call.trace.trace_id) == 32
    assert current_call() is None


def test_a_client_certificate_is_a_name(start_server: StartServer, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    rates = ClientRates(requests_per_s=0.001, burst_requests=1)
    operations = Operations(tls=authority.server_tls(mutual=True), rates=rates)
    server = start_server(FakeHalf(), operations=operations)
    for name in ("camera-1", "camera-2"):
        certificate, key = authority.issue(name, "camera.example", common_name=name)
        security = ChannelSecurity(ca=authority.ca, certificate=certificate, key=key)
        assert infer(server, security) == 3
        with pytest.raises(errors.Overloaded, match=f"cert:{name}"):
            infer(server, security)


def test_health_needs_no_token_and_is_not_counted(
    start_server: StartServer, tmp_path: Path
) -> None:
    operations = with_tokens(tmp_path, rates=ClientRates(requests_per_s=0.001, burst_requests=1))
    server = start_server(FakeHalf(), operations=operations)
    with grpc.insecure_channel(server.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for _ in range(3):
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=5)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=5)
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        watch.cancel()
    assert count(operations, "fpcodec_requests_total", method="Check", code="OK") == 0


def test_reflection_is_off_unless_wanted(start_server: StartServer, tmp_path: Path) -> None:
    reflection = pytest.importorskip("grpc_reflection.v1alpha.proto_reflection_descriptor_database")
    database = reflection.ProtoReflectionDescriptorDatabase
    off = start_server(FakeHalf())
    on = start_server(FakeHalf(), operations=Operations(reflection=True))
    guarded = start_server(FakeHalf(), operations=with_tokens(tmp_path, reflection=True))
    with grpc.insecure_channel(on.address) as channel:
        assert "fpcodec.v1.CodecService" in database(channel).get_services()
    for server, code in ((off, "UNIMPLEMENTED"), (guarded, "UNAUTHENTICATED")):
        with grpc.insecure_channel(server.address) as channel:
            found = database(channel)
            assert code_of(found.get_services) == code


def test_reflection_without_its_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "grpc_reflection.v1alpha.reflection", None)
    with pytest.raises(errors.MissingDependency, match=r"fpcodec\[reflection\]"):
        Operations(reflection=True)
