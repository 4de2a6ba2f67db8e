"""The server: listening, health, warm-up, graceful stop."""

from __future__ import annotations

import asyncio
import errno
import functools
import logging
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from fpcodec import __version__
from fpcodec.address import join_address, split_address
from fpcodec.codecs.base import Limits
from fpcodec.errors import InputError
from fpcodec.v1 import codec_pb2_grpc
from fpcodec_server.admission import AdmissionQueue, QueueLimits
from fpcodec_server.calls import current_call
from fpcodec_server.catalog import Catalog, ServedProfile
from fpcodec_server.config import OdamConfig, ServerConfig
from fpcodec_server.dispatcher import BatchLimits, Dispatcher
from fpcodec_server.halves import LoadHalves
from fpcodec_server.health import LIVENESS, Health
from fpcodec_server.observer import Observer
from fpcodec_server.operations import Operations
from fpcodec_server.reflection import add_reflection
from fpcodec_server.service import SERVICE_NAME, CodecServicer, Context
from fpcodec_server.streams import StreamLimits
from fpcodec_server.workers import EXECUTORS, Load, ThreadWorker, Worker, make_worker

if TYPE_CHECKING:
    from fpcodec.profile import Profile

DEFAULT_LISTEN = ServerConfig.listen

PROFILE_HEALTH = "fpcodec.profile."
"""Before a profile's name: its health service."""

_ENVELOPE_BYTES = 4096
"""Room for what surrounds a frame in a request, so that a frame of the full length fits."""

_HEALTH_CALLS = 64
"""Calls above what waits and streams that may be open: of health, and refusals on their way."""

_LAST_WORD_S = 1.0
"""What calls of no frame, as health's, get at a stop to take what they were told."""

_log = logging.getLogger(__name__)


class CodecServer:
    """A gRPC server of one or more profiles.

    Health (``grpc.health.v1``) says NOT_SERVING until the profiles are loaded, whenever no worker
    is up, and again from the beginning of a stop; the service ``liveness`` is SERVING as long as
    the process answers. Without ``operations`` that have TLS, transport is plain HTTP/2: expose it
    on trusted networks only.

    Args:
        profiles: What to serve.
        listen: ``host:port``; port 0 takes a free one.
        limits: What a frame may ask for.
        threads: Threads of the inference runtime per worker; None for its own choice.
        workers: Batches in work at the same time.
        queue: What may wait for a worker.
        batch: How requests are put together.
        streams: What a streaming call may ask for.
        providers: Execution providers of the inference runtime; empty for its own choice.
        executor: Where workers are: ``processes``, ``ray``, or ``threads`` of this process, which
            a crash in native code takes along.
        deadline_s: Seconds for a call whose client names no deadline.
        notice_s: Seconds between saying NOT_SERVING and refusing calls at a stop: what load
            balancers take to notice.
        grace_s: Seconds that requests in flight get at a stop.
        load: Makes what answers, in place of the profiles' own halves; must travel to where
            workers are.
        operations: Who is let in, over what, and what is counted; None for everybody, in plain
            text, with metrics that nobody reads.
        observer: Told what happens; None for the metrics of ``operations``.
        hang_s: Seconds after which a worker that does not answer is ended and replaced.
        odam: Whether Odam-NMS may select boxes; None for not.

    Raises:
        InputError: An argument is out of range.
    """

    def __init__(
        self,
        profiles: Sequence[ServedProfile],
        *,
        listen: str = DEFAULT_LISTEN,
        limits: Limits | None = None,
        threads: int | None = None,
        workers: int = ServerConfig.workers,
        queue: QueueLimits | None = None,
        batch: BatchLimits | None = None,
        streams: StreamLimits | None = None,
        providers: Sequence[str] = (),
        executor: str = ServerConfig.executor,
        deadline_s: float = ServerConfig.deadline_s,
        notice_s: float = ServerConfig.notice_s,
        grace_s: float = ServerConfig.grace_s,
        load: Load | None = None,
        operations: Operations | None = None,
        observer: Observer | None = None,
        hang_s: float = ServerConfig.hang_s,
        odam: OdamConfig | None = None,
    ) -> None:
        if min(grace_s, notice_s) < 0:
            raise InputError(f"a notice of {notice_s} s or a grace of {grace_s} s is negative; "
                             "use 0 or more")  # fmt: skip
        if executor not in EXECUTORS:
            raise InputError(f"executor {executor!r} is not one of {', '.join(EXECUTORS)}")
        self._host, self._wanted_port = split_address(listen)
        self._limits, self._notice_s, self._grace_s = limits or Limits(), notice_s, grace_s
        self._threads, self._providers, self._executor = threads, tuple(providers), executor
        self._load, self._operations = load, operations or Operations()
        self._odam = odam or OdamConfig()
        self._observer = observer or self._operations.metrics
        self._catalog = Catalog(profiles)
        self._tell_profiles()
        self._streams = streams or StreamLimits()
        self._queue = AdmissionQueue(
            queue or QueueLimits(), workers, on_shed=self._observer.shed,
            on_waiting=self._observer.set_queue,
        )  # fmt: skip
        self._health = Health()
        self._dispatcher = Dispatcher(
            self._queue, self._maker(self._catalog), batch or BatchLimits(), self._observer,
            self._set_health, hang_s,
        )  # fmt: skip
        self._servicer = CodecServicer(
            self._limits,
            self._streams,
            __version__,
            self._observer,
            client_of,
            deadline_s,
            self._odam.mode,
        )
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
        """Listen, load the profiles, then begin to serve.

        Raises:
            InputError: The address cannot be listened on.
            FpcodecError: A profile cannot be loaded.
        """
        try:
            await self._listen()
            await self._dispatcher.start()
        except BaseException:
            await self.stop(0)
            raise
        self._servicer.open(self._catalog, self._dispatcher)
        self._set_health(True)
        _log.info("serving on %s", self.address)

    async def reload(self, profiles: Sequence[ServedProfile]) -> None:
        """Serve these profiles from now on; requests go on meanwhile, and none is dropped.

        Raises:
            InputError: There is none, or two read the same streams.
            FpcodecError: One cannot be loaded; the present ones go on.
        """
        catalog = Catalog(profiles)

        def swap() -> None:
            gone = {profile.name for profile in self._catalog} - {x.name for x in catalog}
            self._catalog = catalog
            self._tell_profiles()
            self._servicer.open(catalog, self._dispatcher)
            unknown = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
            for name in gone:
                self._health.set(PROFILE_HEALTH + name, unknown)
            # From here on the dispatcher tells of its workers: what became of them while the old
            # ones came to their end must stand.
            self._set_health(self._dispatcher.ready_workers > 0)

        await self._dispatcher.replace(self._maker(catalog), swap)

    async def wait(self) -> None:
        """Wait until the server has stopped."""
        if self._server is not None:
            await self._server.wait_for_termination()

    async def stop(self, grace_s: float | None = None) -> None:
        """Say NOT_SERVING, give notice, refuse new calls, let those in flight end, and close.

        Args:
            grace_s: Seconds for the calls in flight, then they are cancelled, and no notice is
                given; None for the server's own.
        """
        self._health.stopping()
        if grace_s is None:
            await asyncio.sleep(self._notice_s)
        self._servicer.close()
        self._health.close()
        if self._server is not None:
            await self._end_calls(self._server, self._grace_s if grace_s is None else grace_s)
        await self._dispatcher.close()
        await asyncio.to_thread(self._operations.close)

    async def _end_calls(self, server: grpc.aio.Server, grace_s: float) -> None:
        """Wait until calls have ended, those of the service for so long at most."""
        ending = asyncio.create_task(server.stop(grace_s))
        try:
            await asyncio.wait({ending}, timeout=_LAST_WORD_S)
            # Health needs no token: a stranger who takes no answer of it must not hold up a stop,
            # and gRPC ends calls all together or not at all.
            while not ending.done() and self._servicer.calls:
                await asyncio.wait({ending}, timeout=0.1)
            await server.stop(None)
            await ending
        finally:
            ending.cancel()

    def _tell_profiles(self) -> None:
        streams = {profile.name: profile.stream_id.hex() for profile in self._catalog}
        self._operations.metrics.set_profiles(streams)

    def _maker(self, catalog: Catalog) -> Callable[[], Worker]:
        load = self._load
        if load is None:
            # A profile in a folder can be sent to a process by its path.
            folders = tuple(cast("Profile", profile).path or Path() for profile in catalog)
            load = LoadHalves(
                folders, self._threads, self._providers, self._limits, self._odam.rule
            )
        if self._executor == "threads":
            shared = functools.cache(load)
            return lambda: ThreadWorker(shared)
        return lambda: make_worker(self._executor, load)

    async def _listen(self) -> None:
        listen = join_address(self._host, self._wanted_port)
        _require_bindable(self._host, self._wanted_port)
        self._set_health(False)
        self._health.set(LIVENESS, health_pb2.HealthCheckResponse.SERVING)
        self._operations.open()
        self._server = grpc.aio.server(
            interceptors=self._operations.interceptors(),
            options=_channel_options(self._limits.max_frame_bytes + _ENVELOPE_BYTES),
            maximum_concurrent_rpcs=self._most_calls(),
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

    def _most_calls(self) -> int:
        waiting = self._queue.limits.max_waiting + self._queue.workers
        return waiting + self._streams.most + _HEALTH_CALLS

    def _set_health(self, serving: bool) -> None:
        self._operations.metrics.set_serving(serving)
        states = health_pb2.HealthCheckResponse
        for name in ("", SERVICE_NAME, *(PROFILE_HEALTH + x.name for x in self._catalog)):
            self._health.set(name, states.SERVING if serving else states.NOT_SERVING)


def client_of(context: Context) -> str:
    """The client of a call, for taking turns."""
    call = current_call()
    return str(context.peer()) if call is None else call.client


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
