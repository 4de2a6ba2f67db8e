"""The server: listening, health, warm-up, graceful stop."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from fpcodec import __version__
from fpcodec.address import join_address, split_address
from fpcodec.codecs.base import Limits
from fpcodec.errors import InputError
from fpcodec.v1 import codec_pb2_grpc
from fpcodec_server.admission import WorkPool
from fpcodec_server.operations import Operations
from fpcodec_server.reflection import add_reflection
from fpcodec_server.service import SERVICE_NAME, CodecServicer, InferenceHalf, ServedProfile

if TYPE_CHECKING:
    from fpcodec.profile import Profile

DEFAULT_LISTEN = "127.0.0.1:50051"

_ENVELOPE_BYTES = 4096
"""Room for what surrounds a frame in a request, so that a frame of the full length fits."""

_HEALTH_CALLS = 64
"""Calls above the pool's capacity that may be open: health watchers, and refusals on their way."""

_log = logging.getLogger(__name__)


class CodecServer:
    """A gRPC server of one profile.

    Health (``grpc.health.v1``) says NOT_SERVING until the detector is loaded, and again from the
    beginning of a stop. Without ``operations`` that have TLS, transport is plain HTTP/2: expose it
    on trusted networks only.

    Args:
        profile: What to serve.
        listen: ``host:port``; port 0 takes a free one.
        limits: What a frame may ask for.
        threads: Threads of the inference runtime per worker; None for its own choice.
        workers: Requests in work at the same time.
        max_waiting: Requests that may wait for a worker; more are refused as Overloaded.
        providers: Execution providers of the inference runtime; empty for its own choice.
        grace_s: Seconds that requests in flight get at a stop.
        load_half: Makes the half that answers; None for ``ServerHalf`` of the profile. Called in
            a worker thread.
        operations: Who is let in, over what, and what is counted; None for everybody, in plain
            text, with metrics that nobody reads.

    Raises:
        InputError: An argument is out of range.
    """

    def __init__(
        self,
        profile: ServedProfile,
        *,
        listen: str = DEFAULT_LISTEN,
        limits: Limits | None = None,
        threads: int | None = None,
        workers: int = 2,
        max_waiting: int = 8,
        providers: Sequence[str] = (),
        grace_s: float = 10.0,
        load_half: Callable[[], InferenceHalf] | None = None,
        operations: Operations | None = None,
    ) -> None:
        if grace_s < 0:
            raise InputError(f"a grace of {grace_s} s is negative; use 0 or more")
        self._host, self._wanted_port = split_address(listen)
        self._limits = limits or Limits()
        self._grace_s = grace_s
        self._operations = operations or Operations()
        self._operations.metrics.set_profiles({profile.name: profile.stream_id.hex()})
        self._load_half = load_half or (
            lambda: _load_server_half(cast("Profile", profile), threads, providers, self._limits)
        )
        self._pool = WorkPool(workers, max_waiting)
        self._servicer = CodecServicer(profile, self._limits, self._pool, __version__)
        self._health = health.aio.HealthServicer()
        self._server: grpc.aio.Server | None = None
        self._port = 0

    @property
    def port(self) -> int:
        """The port that is listened on; 0 before ``start``."""
        return self._port

    @property
    def address(self) -> str:
        """``host:port`` that clients on this machine can use."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self._host, self._host)  # noqa: S104
        return join_address(host, self._port)

    async def start(self) -> None:
        """Listen, load the detector, then begin to serve.

        Raises:
            InputError: The address cannot be listened on.
            FpcodecError: The detector cannot be loaded.
        """
        try:
            await self._listen()
            half = await self._pool.run(lambda ticket: self._load_half())
        except BaseException:
            await self.stop(0)
            raise
        self._servicer.open(half)
        await self._set_health(health_pb2.HealthCheckResponse.SERVING)
        _log.info("serving on %s", self.address)

    async def wait(self) -> None:
        """Wait until the server has stopped."""
        if self._server is not None:
            await self._server.wait_for_termination()

    async def stop(self, grace_s: float | None = None) -> None:
        """Say NOT_SERVING, refuse new calls, let those in flight end, and close.

        Args:
            grace_s: Seconds for the calls in flight, then they are cancelled; None for the
                server's own.
        """
        await self._health.enter_graceful_shutdown()
        self._servicer.close()
        if self._server is not None:
            await self._server.stop(self._grace_s if grace_s is None else grace_s)
        self._pool.close()
        await asyncio.to_thread(self._operations.close)

    async def _listen(self) -> None:
        listen = join_address(self._host, self._wanted_port)
        _require_bindable(self._host, self._wanted_port)
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        self._operations.open()
        self._server = grpc.aio.server(
            interceptors=self._operations.interceptors(),
            options=_channel_options(self._limits.max_frame_bytes + _ENVELOPE_BYTES),
            maximum_concurrent_rpcs=self._pool.capacity + _HEALTH_CALLS,
            compression=grpc.Compression.NoCompression,
        )
        codec_pb2_grpc.add_CodecServiceServicer_to_server(self._servicer, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if self._operations.reflection:
            add_reflection((SERVICE_NAME, health.SERVICE_NAME), self._server)
        credentials = self._operations.credentials()
        try:
            self._port = (
                self._server.add_insecure_port(listen)
                if credentials is None
                else self._server.add_secure_port(listen, credentials)
            )
        except RuntimeError as error:
            raise _cannot_listen(listen, "refused by gRPC") from error
        await self._server.start()

    async def _set_health(self, state: int) -> None:
        for name in ("", SERVICE_NAME):
            await self._health.set(name, state)


def _load_server_half(
    profile: Profile, threads: int | None, providers: Sequence[str], limits: Limits
) -> InferenceHalf:
    from fpcodec.split import ServerHalf  # brings the inference runtime

    half = ServerHalf(profile, threads=threads, providers=providers, limits=limits)
    # A frame without features proves the profile, and pays for the first run's set-up.
    side = profile.spec.size_divisor
    half.infer(profile.codec.blank_frame(half.detector.geometry((side, side))))
    return half


def _channel_options(max_receive_bytes: int) -> list[tuple[str, int]]:
    return [
        # With port sharing, a second server on the same port starts without complaint and
        # takes half of the calls.
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", max_receive_bytes),
        # Devices behind NAT keep their mapping alive with a ping a minute; the default takes
        # that for abuse and closes the connection.
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 30_000),
    ]


def _require_bindable(host: str, port: int) -> None:
    """Bind and let go: gRPC itself says only that it failed, and writes to stderr besides."""
    listen = join_address(host, port)
    try:
        infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, target = infos[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(target)
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            raise InputError(
                f"cannot listen on {listen}: {host} is no address of this machine; use one that "
                "is, or 0.0.0.0 for all"
            ) from error
        raise _cannot_listen(listen, error.strerror or str(error)) from error


def _cannot_listen(listen: str, cause: str) -> InputError:
    return InputError(
        f"cannot listen on {listen} ({cause}); stop what uses the port or choose another, "
        "0 for any free one"
    )
