"""What the server counts, for Prometheus, on a port of its own."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    start_http_server,
)

from fpcodec import errors
from fpcodec.address import join_address, split_address
from fpcodec.errors import InputError
from fpcodec.status import STATUSES
from fpcodec_server.observer import Observer

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)

# Label values come from fixed sets: what a client makes up must not become a time series.
_ERROR_KINDS = frozenset(
    row.reason for row in STATUSES if issubclass(row.error, (errors.FormatError, errors.ModelError))
) | {errors.ProfileMismatch.__name__, "NeedsRefresh"}


class ServerMetrics(Observer):
    """Counters of one server, in a registry of their own.

    Counting costs microseconds and is always on; ``serve`` makes it readable from outside.
    Methods may be called from any thread.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        ProcessCollector(registry=self.registry)
        self._http: tuple[Any, threading.Thread] | None = None
        self._port = 0
        self._make_request_metrics(self.registry)
        self._make_work_metrics(self.registry)

    def _make_request_metrics(self, to: CollectorRegistry) -> None:
        self._requests = Counter(
            "fpcodec_requests", "Calls that ended, by gRPC status code.", ("method", "code"),
            registry=to,
        )  # fmt: skip
        self._seconds = Histogram(
            "fpcodec_request_seconds", "From a call's arrival to its end.", ("method",),
            buckets=_SECONDS, registry=to,
        )  # fmt: skip
        self._received = Counter(
            "fpcodec_received_bytes", "Messages received, before TLS and HTTP/2.", ("method",),
            registry=to,
        )  # fmt: skip
        self._sent = Counter(
            "fpcodec_sent_bytes", "Messages sent, before TLS and HTTP/2.", ("method",), registry=to
        )
        self._open_streams = Gauge(
            "fpcodec_open_streams", "Streaming calls that are open.", registry=to
        )
        self._shed = Counter(
            "fpcodec_shed_requests", "Requests refused to keep the rest in time.", ("reason",),
            registry=to,
        )  # fmt: skip

    def _make_work_metrics(self, to: CollectorRegistry) -> None:
        self._queue_items = Gauge("fpcodec_queue_frames", "Frames that wait.", registry=to)
        self._queue_bytes = Gauge("fpcodec_queue_bytes", "Their bytes.", registry=to)
        self._batch_size = Histogram(
            "fpcodec_batch_frames", "Frames per batch.", buckets=_BATCH_SIZES, registry=to
        )
        self._batch_seconds = Histogram(
            "fpcodec_batch_seconds", "A batch's time in a worker.", buckets=_SECONDS, registry=to
        )
        self._stages = Histogram(
            "fpcodec_stage_seconds", "A frame's time in one stage.", ("stage",), buckets=_SECONDS,
            registry=to,
        )  # fmt: skip
        self._frame_errors = Counter(
            "fpcodec_decode_errors", "Frames that could not be used, by error class.", ("kind",),
            registry=to,
        )  # fmt: skip
        self._workers_lost = Counter(
            "fpcodec_workers_lost", "Worker processes that died at work.", registry=to
        )
        self._serving = Gauge(
            "fpcodec_serving", "1 while requests are answered, as health says.", registry=to
        )
        self._profiles = Gauge(
            "fpcodec_profile_info", "1 for each served profile.", ("profile", "stream"), registry=to
        )

    def request_ended(
        self, method: str, code: str, seconds: float, received_bytes: int, sent_bytes: int
    ) -> None:
        """Count one call, or one frame of a stream under a method name of its own.

        Args:
            method: A short name out of a fixed set, as ``Infer``.
            code: Name of the gRPC status code.
            seconds: Its duration.
            received_bytes: Length of its request messages.
            sent_bytes: Length of its answers.
        """
        self._requests.labels(method, code).inc()
        self._seconds.labels(method).observe(seconds)
        self._received.labels(method).inc(received_bytes)
        self._sent.labels(method).inc(sent_bytes)

    def stream_opened(self) -> None:
        """A streaming call began."""
        self._open_streams.inc()

    def stream_closed(self) -> None:
        """A streaming call ended."""
        self._open_streams.dec()

    def shed(self, reason: str) -> None:
        """Count a request that was refused, by a reason out of a fixed set."""
        self._shed.labels(reason).inc()

    def batch_run(self, size: int, seconds: float) -> None:
        """Count a batch of so many frames."""
        self._batch_size.observe(size)
        self._batch_seconds.observe(seconds)

    def stage(self, name: str, seconds: float) -> None:
        """Record a frame's time in ``queue``, ``decode``, ``reconstruct`` or ``head``."""
        self._stages.labels(name).observe(seconds)

    def decode_error(self, kind: str) -> None:
        """Count a frame that could not be used, by the name of its error class."""
        self._frame_errors.labels(kind if kind in _ERROR_KINDS else "other").inc()

    def worker_lost(self) -> None:
        """Count a worker process that died at work."""
        self._workers_lost.inc()

    def set_queue(self, items: int, bytes: int) -> None:
        """Say how many frames wait, and their bytes."""
        self._queue_items.set(items)
        self._queue_bytes.set(bytes)

    def set_serving(self, serving: bool) -> None:
        """Say whether requests are answered."""
        self._serving.set(serving)

    def set_profiles(self, streams: Mapping[str, str]) -> None:
        """Say what is served: profile name to stream id in hex."""
        self._profiles.clear()
        for name, stream in streams.items():
            self._profiles.labels(name, stream).set(1)

    @property
    def port(self) -> int:
        """The port that ``serve`` listens on; 0 while it does not."""
        return self._port

    def serve(self, listen: str) -> None:
        """Answer scrapes at ``http://HOST:PORT/metrics`` until ``close``, in threads.

        Args:
            listen: ``host:port``; port 0 takes a free one.

        Raises:
            InputError: The address cannot be listened on.
        """
        host, port = split_address(listen)
        try:
            self._http = start_http_server(port, addr=host, registry=self.registry)
        except OSError as error:
            raise InputError(
                f"cannot serve metrics on {join_address(host, port)} "
                f"({error.strerror or error}); choose another address"
            ) from error
        self._port = self._http[0].server_port

    def close(self) -> None:
        """End ``serve``; counting goes on."""
        if self._http is not None:
            server, thread = self._http
            self._http, self._port = None, 0
            server.shutdown()
            server.server_close()
            thread.join()
