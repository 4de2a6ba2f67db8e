"""Client and server over a bad network, in any order of mishaps: an answer or a typed error."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import grpc
import pytest
from flaky_kit import Relay, relay_to
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from wire_kit import (
    FakeAnswer,
    FakeHalf,
    FakeProfile,
    LoopThread,
    StartServer,
    detections,
    fake_server,
)

from fpcodec.errors import FpcodecError
from fpcodec.v1 import codec_pb2, codec_pb2_grpc
from fpcodec_edge import EdgeClient, RetryPolicy
from fpcodec_server import CodecServer, StreamLimits

DEADLINE_S = 1.0
LATE_S = 1.5
"""After its deadline a call is over: this much later at the latest, on a busy machine."""


_ENDINGS = {
    grpc.StatusCode.OK,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.INTERNAL,
}


class BadNetwork(RuleBasedStateMachine):
    """One server, one client and what lies between them."""

    thread: LoopThread

    def __init__(self) -> None:
        super().__init__()
        half = FakeHalf(lambda frame: FakeAnswer(detections(len(frame) % 5)))
        self.server = fake_server(
            FakeProfile(), lambda: half, listen="127.0.0.1:0", workers=1, max_waiting=4,
            streams=StreamLimits(credits=2, expires_s=DEADLINE_S),
        )  # fmt: skip
        self.thread.run(self.server.start())
        self.relay = Relay(self.thread, self.server.address)
        self.thread.run(self.relay.open())
        retry = RetryPolicy(max_attempts=3, initial_backoff_s=0.02, max_backoff_s=0.1)
        self.client = EdgeClient(self.relay.address, deadline_s=DEADLINE_S, retry=retry)
        self.calls = ThreadPoolExecutor(8)
        self.open: list[tuple[Future[None], float]] = []

    def teardown(self) -> None:
        self.relay.flow()
        for call, _ in self.open:
            call.result(10)
        self.client.close()
        self.calls.shutdown()
        # Whatever happened, a client with a good network is served.
        with EdgeClient(self.server.address, deadline_s=5) as good:
            assert len(good.infer(b"1234").detections) == 4
        self.thread.run(self.relay.shut())
        self.thread.run(self.server.stop(0))

    @rule(size=st.integers(0, 20_000))
    def ask(self, size: int) -> None:
        self.open.append((self.calls.submit(self._ask, bytes(size)), time.monotonic()))

    @rule(sizes=st.lists(st.integers(0, 3000), max_size=5), wait=st.booleans())
    def stream(self, sizes: list[int], wait: bool) -> None:
        call = self.calls.submit(self._stream, sizes)
        self.open.append((call, time.monotonic()))
        if wait:
            self._wait(call)

    @rule(reset=st.booleans())
    def cut(self, reset: bool) -> None:
        self.relay.cut(reset)

    @rule(count=st.integers(0, 3000))
    def truncate(self, count: int) -> None:
        self.relay.cut_after_bytes = count

    @rule(bytes_per_s=st.sampled_from([2e3, 2e4, 2e5]))
    def slow(self, bytes_per_s: float) -> None:
        self.relay.bytes_per_s = bytes_per_s

    @rule(delay_s=st.sampled_from([0.01, 0.1, 0.4]))
    def delay(self, delay_s: float) -> None:
        self.relay.delay_s = delay_s

    @rule()
    def stall(self) -> None:
        self.relay.stall()

    @rule()
    def recover(self) -> None:
        self.relay.flow()

    @rule()
    def pause(self) -> None:
        time.sleep(0.1)

    @invariant()
    def calls_end_in_time(self) -> None:
        for call, begun_s in list(self.open):
            if call.done():
                call.result()
                self.open.remove((call, begun_s))
            else:
                assert time.monotonic() - begun_s < 2 * DEADLINE_S + LATE_S

    def _ask(self, frame: bytes) -> None:
        try:
            reply = self.client.infer(frame)
        except FpcodecError:
            return
        assert len(reply.detections) == len(frame) % 5

    def _stream(self, sizes: list[int]) -> None:
        answered: dict[int, int] = {}
        with grpc.insecure_channel(self.relay.address) as channel:
            stub = codec_pb2_grpc.CodecServiceStub(channel)
            answers = stub.InferStream(_parts(sizes), timeout=DEADLINE_S)
            try:
                for answer in answers:
                    if answer.WhichOneof("outcome") == "answer":
                        assert answer.frame_id not in answered
                        answered[answer.frame_id] = len(answer.answer.detections)
            except grpc.RpcError as error:
                code = error.code()
            else:
                code = grpc.StatusCode.OK
        assert code in _ENDINGS
        for frame_id, count in answered.items():
            assert count == sizes[frame_id - 1] % 5

    @staticmethod
    def _wait(call: Future[None]) -> None:
        call.result(2 * DEADLINE_S + LATE_S)


def _parts(sizes: list[int]) -> Iterator[codec_pb2.InferStreamRequest]:
    """Frames in parts of at most 1,000 bytes."""
    for frame_id, size in enumerate(sizes, 1):
        cuts = list(range(0, size, 1000)) or [0]
        for cut in cuts:
            yield codec_pb2.InferStreamRequest(
                frame_id=frame_id,
                data=bytes(min(1000, size - cut)),
                last=cut == cuts[-1],
            )
        time.sleep(0.02)


# gRPC's own thread that polls a channel's state raises where the channel is closed meanwhile.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_any_order_of_mishaps_gives_answers_or_typed_errors(loop_thread: LoopThread) -> None:
    class Machine(BadNetwork):
        thread = loop_thread

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=8,
            stateful_step_count=14,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_a_reader_that_stops_reading_does_not_fill_the_server(
    start_server: StartServer, loop_thread: LoopThread
) -> None:
    half = FakeHalf(lambda frame: FakeAnswer(detections(3000)))
    server = start_server(half, streams=StreamLimits(credits=2))
    with (
        relay_to(loop_thread, server.address) as relay,
        grpc.insecure_channel(relay.address) as channel,
    ):
        begun = threading.Event()

        def requests() -> Iterator[codec_pb2.InferStreamRequest]:
            for frame_id in range(1, 200):
                yield codec_pb2.InferStreamRequest(frame_id=frame_id, data=b"frame", last=True)
                begun.set()

        call = codec_pb2_grpc.CodecServiceStub(channel).InferStream(requests(), timeout=20)
        assert begun.wait(10)
        time.sleep(0.5)
        # Nothing was read: only what credits allow was worked on, the rest refused.
        assert len(half.frames) < 40
        call.cancel()
    with EdgeClient(server.address, deadline_s=5) as client:
        assert len(client.infer(b"frame").detections) == 3000


def test_a_client_finds_its_server_again(loop_thread: LoopThread) -> None:
    server: CodecServer = fake_server(FakeProfile(), FakeHalf, listen="127.0.0.1:0")
    loop_thread.run(server.start())
    with (
        relay_to(loop_thread, server.address) as relay,
        EdgeClient(relay.address, deadline_s=5) as client,
    ):
        for reset in (False, True, False):
            assert len(client.infer(b"frame").detections) == 3
            relay.cut(reset)
    loop_thread.run(server.stop(0))
