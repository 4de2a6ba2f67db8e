"""A camera's frames and their answers over one call, made again whenever it is lost."""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType

import grpc

from fpcodec import __version__
from fpcodec.address import split_address
from fpcodec.codecs.base import Limits
from fpcodec.errors import (
    FormatError,
    FpcodecError,
    InputError,
    ProfileError,
    Timeout,
    TransportError,
    Unauthenticated,
    Unavailable,
)
from fpcodec.status import from_rpc_error, status_of
from fpcodec.v1 import codec_pb2, codec_pb2_grpc
from fpcodec_edge.channel import CHANNEL_OPTIONS, ChannelSecurity, open_channel
from fpcodec_edge.client import FRAME_VERSIONS
from fpcodec_edge.connections import Connection, StreamConnection, UnaryConnection, UnknownCall
from fpcodec_edge.ledger import FrameLedger, PendingFrame
from fpcodec_edge.outcomes import FrameOutcome, StreamOptions, read_outcome
from fpcodec_edge.replies import Agreement, require_fits, to_agreement

_OPTIONS = (
    *CHANNEL_OPTIONS,
    # A new channel must mean a new connection: a lost one may look alive for long.
    ("grpc.use_local_subchannel_pool", 1),
)

_HOPELESS = (ProfileError, FormatError, Unauthenticated, InputError)
"""What a new connection does not mend."""


class StreamClient:
    """Sends frames to one server and collects what became of them; reconnects by itself.

    ``start`` it, ``send`` while ``can_send``, and ``poll`` often: every frame that was sent has
    exactly one outcome, whatever happens to the connection. Any thread may call any method. To a
    server of an earlier release, which knows no streams, the same frames go by ``Infer``.

    Args:
        address: ``host:port`` of the server.
        stream_id: The profile's.
        options: How the stream behaves.
        security: TLS, client certificate, token; None for plain HTTP/2 without a token.
        on_change: Called, from any thread, when ``poll`` or ``can_send`` may have news.
        clock: Monotonic seconds.
        rng: Source of jitter; None for a fresh one.

    Raises:
        InputError: The address has no use.
    """

    def __init__(
        self,
        address: str,
        stream_id: bytes,
        *,
        options: StreamOptions | None = None,
        security: ChannelSecurity | None = None,
        on_change: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        split_address(address)
        self.address = address
        self.options = options or StreamOptions()
        self.on_change = on_change
        self._security, self._clock = security, clock
        self._negotiation = codec_pb2.NegotiateRequest(
            stream_ids=[stream_id], frame_versions=FRAME_VERSIONS, client_version=__version__
        )
        self._rng = rng or random.Random()  # noqa: S311 (jitter is no secret)
        self._lock = threading.RLock()
        self._ledger = FrameLedger(self.options.max_pending, clock)
        self._outcomes: deque[FrameOutcome] = deque()
        self._connection: Connection | None = None
        self._agreement: Agreement | None = None
        self._max_frame_bytes = Limits().max_frame_bytes
        self._connections = 0
        self._serving = False
        self._measured_s: float | None = None
        self._stub: codec_pb2_grpc.CodecServiceStub | None = None
        self._channel: grpc.Channel | None = None
        self._owed_since_s: float | None = None
        self._last_error: FpcodecError | None = None
        self._fatal: FpcodecError | None = None
        self._tried, self._closed = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="fpcodec-stream", daemon=True)

    @property
    def agreement(self) -> Agreement | None:
        """What the last negotiation came to; None before the first."""
        return self._agreement

    @property
    def connected(self) -> bool:
        """Whether a server takes frames now."""
        return self._serving

    @property
    def tried(self) -> bool:
        """Whether the first connection was made, or could not be."""
        return self._tried.is_set()

    @property
    def connections(self) -> int:
        """Connections that took frames so far."""
        return self._connections

    def take_round_trip_s(self) -> float | None:
        """Seconds of a bare round trip, where one was measured since the last call.

        The first word of a connection is one; ``ping`` makes more.
        """
        with self._lock:
            measured_s, self._measured_s = self._measured_s, None
        return measured_s

    @property
    def last_error(self) -> FpcodecError | None:
        """Why the last connection was lost or not made."""
        return self._last_error

    @property
    def fatal(self) -> FpcodecError | None:
        """Why no further connection is tried; None while they are."""
        return self._fatal

    @property
    def can_send(self) -> bool:
        """Whether ``send`` takes a frame now."""
        with self._lock:
            return self._connection is not None and self._ledger.may_begin

    @property
    def pending(self) -> int:
        """Frames that await their outcome."""
        with self._lock:
            return self._ledger.pending

    def start(self) -> None:
        """Begin to connect, in the background."""
        self._thread.start()

    def wait_tried(self, timeout_s: float) -> None:
        """Wait until the first connection stands.

        Raises:
            FpcodecError: It could not be made; the class says why.
        """
        self._tried.wait(timeout_s)
        if not self.connected:
            raise (
                self._fatal
                or self._last_error
                or Unavailable(
                    f"no server answered at {self.address} within {timeout_s:g} s; start one there "
                    f"with `fpcodec serve --listen {self.address}`, or correct the address"
                )
            )

    def send(
        self, frame: bytes, *, answer_within_s: float | None = None, request_id: str = ""
    ) -> int:
        """Begin to send a frame.

        Args:
            frame: One ``.fpc`` frame.
            answer_within_s: After so long, on the server, it answers with what has arrived.
            request_id: For the server's log; comes back in the reply.

        Returns:
            The frame's number, which its outcome has; they count up.

        Raises:
            LimitExceeded: The frame is longer than the server takes.
            Unavailable: There is no connection now.
            Overloaded: The server has not granted another frame yet.
        """
        require_fits(frame, self._max_frame_bytes, self.address)
        with self._lock:
            if self._connection is None:
                raise Unavailable(f"there is no connection to {self.address} now; wait for it")
            frame_id = self._ledger.begin(len(frame), self.options.expires_after_s).frame_id
            if self._owed_since_s is None:
                self._owed_since_s = self._clock()
            self._connection.send(frame_id, frame, answer_within_s, request_id)
        return frame_id

    def ping(self) -> None:
        """Measure a bare round trip, in the background; of use while no frame is on its way."""
        with self._lock:
            if self._stub is None:
                return
            call = self._stub.Negotiate.future(self._negotiation, timeout=self.options.connect_s)
        start_s = self._clock()

        def measured(done: grpc.Future) -> None:
            if not done.cancelled() and done.exception() is None:
                self._measured_s = self._clock() - start_s
                self.on_change()

        call.add_done_callback(measured)

    def poll(self) -> list[FrameOutcome]:
        """Outcomes since the last call, in the order in which they became known."""
        with self._lock:
            for frame in self._ledger.take_expired():
                self._fail(frame, Timeout(
                    f"no answer from {self.address} within {self.options.expires_after_s:g} s; "
                    "allow more time or send less"
                ))  # fmt: skip
            if self._owed_since_s is not None:
                silent_s = self._clock() - self._owed_since_s
                if silent_s > self.options.silence_s:
                    self._give_up(Unavailable(f"{self.address} said nothing for {silent_s:.1f} s"))
            outcomes = list(self._outcomes)
            self._outcomes.clear()
        return outcomes

    def close(self) -> None:
        """End the connection; frames without an outcome fail, which ``poll`` still tells."""
        self._closed.set()
        self._give_up(Unavailable(f"this client of {self.address} was closed"))
        with self._lock:
            self._stub = None
            if self._channel is not None:
                self._channel.close()  # Ends a negotiation too.
        if self._thread.is_alive():
            self._thread.join()

    def __enter__(self) -> StreamClient:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _run(self) -> None:
        failures, streams = 0, True
        while not self._closed.is_set():
            connections = self._connections
            try:
                self._serve_once(streams)
            except UnknownCall:
                streams = False
                continue
            except FpcodecError as error:
                streams = True  # The server that comes back may be a newer one.
                self._lose(error)
            except Exception as error:
                if self._closed.is_set():  # gRPC's word for a closed channel is a ValueError.
                    self._lose(Unavailable(f"this client of {self.address} was closed"))
                    return
                # A fault of this program: to go on without a word would lose every frame.
                self._fatal = TransportError(f"the stream to {self.address} failed: {error!r}")
                self._lose(self._fatal)
            failures = failures + 1 if self._connections == connections else 1
            self._tried.set()
            self.on_change()
            if self._fatal is not None:
                return
            self._closed.wait(self.options.reconnect.backoff_s(failures, self._rng))

    def _serve_once(self, streams: bool) -> None:
        """Connect, negotiate and serve; always raises."""
        channel = open_channel(self.address, self._security, _OPTIONS)
        with self._lock:
            self._channel = channel
        try:
            if self._closed.is_set():
                raise Unavailable(f"this client of {self.address} was closed")
            stub = codec_pb2_grpc.CodecServiceStub(channel)
            self._negotiate(stub)
            start_s = self._clock()

            def hear(response: codec_pb2.InferStreamResponse) -> None:
                self._hear(response, start_s)

            connection: Connection
            if streams:
                connection = StreamConnection(
                    stub, self.address, self.options,
                    self._is_pending, self._take_credit_back, hear,
                )  # fmt: skip
            else:
                connection = UnaryConnection(stub, self.address, self.options, hear)
            self._connection = connection
            if self._closed.is_set():
                # Closed while the connection was made: `close` found none to give up.
                connection.give_up(Unavailable(f"this client of {self.address} was closed"))
            self._stub = stub
            connection.run()
        finally:
            with self._lock:
                self._connection, self._stub, self._channel = None, None, None
                self._owed_since_s = None
                self._serving = False
            channel.close()

    def _negotiate(self, stub: codec_pb2_grpc.CodecServiceStub) -> None:
        try:
            response = stub.Negotiate(self._negotiation, timeout=self.options.connect_s)
        except grpc.RpcError as error:
            raise from_rpc_error(error, self.address) from error
        self._agreement = to_agreement(response, self.address)
        self._max_frame_bytes = self._agreement.limits.max_frame_bytes

    def _hear(self, response: codec_pb2.InferStreamResponse, start_s: float) -> None:
        with self._lock:
            heard_s = self._clock()
            if not self._serving:
                self._serving, self._measured_s = True, heard_s - start_s
                self._connections += 1
                self._tried.set()
            self._ledger.grant(response.credits)
            frame = self._ledger.settle(response.frame_id)
            self._owed_since_s = heard_s if self._ledger.pending else None
            if frame is not None:
                self._outcomes.append(read_outcome(frame, response, heard_s, self.address))
        self.on_change()

    def _fail(
        self, frame: PendingFrame, error: FpcodecError, retry_after_s: float | None = None
    ) -> None:
        self._outcomes.append(FrameOutcome(
            frame.frame_id, frame.frame_bytes, None, error, status_of(error).reason,
            retry_after_s, frame.sent_s, self._clock(),
        ))  # fmt: skip

    def _lose(self, error: FpcodecError) -> None:
        with self._lock:
            self._last_error = error
            if isinstance(error, _HOPELESS):
                self._fatal = error
            lost = error if isinstance(error, Unavailable) else Unavailable(str(error))
            for frame in self._ledger.take_all():
                self._fail(frame, lost, retry_after_s=0.0)

    def _give_up(self, why: FpcodecError) -> None:
        connection = self._connection
        if connection is not None:
            connection.give_up(why)

    def _is_pending(self, frame_id: int) -> bool:
        with self._lock:
            return self._ledger.is_pending(frame_id)

    def _take_credit_back(self) -> None:
        with self._lock:
            self._ledger.grant(1)
