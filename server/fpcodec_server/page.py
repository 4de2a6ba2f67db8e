"""The live page beside a server: a process of its own that is told what happens, and asks nothing.

The pipe to it goes one way, so nothing on the page can reach the server. What does not fit into
the pipe is left out: a page that hangs delays nobody.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import subprocess
import threading
import time
from collections.abc import Sequence

from prometheus_client import CollectorRegistry

from fpcodec.address import split_address
from fpcodec.child_process import child_command, child_environment
from fpcodec.errors import MissingDependency
from fpcodec.ui.web import listening

EVERY_S = 2.0
_STOP_S = 5.0

_log = logging.getLogger(__name__)


class ServerPage:
    """Runs ``fpcodec ui`` beside a server.

    Args:
        listen: ``host:port`` of the page; port 0 takes a free one.
        profiles: What the server serves, as its operator named it; the page works with the first.
        registry: The server's metrics.

    Raises:
        MissingDependency: gradio is not installed.
    """

    def __init__(self, listen: str, profiles: Sequence[str], registry: CollectorRegistry) -> None:
        if importlib.util.find_spec("gradio") is None:
            raise MissingDependency(
                "the server's page needs gradio; install it with pip install 'fpcodec[ui]'"
            )
        self._address, self._profiles = split_address(listen), tuple(profiles)
        self._registry = registry
        self._process: subprocess.Popen[str] | None = None
        self._closed = threading.Event()

    def open(self) -> None:
        """Start the page; it answers some seconds later.

        Raises:
            InputError: Its address cannot be listened on.
        """
        host, port = self._address
        with listening(host, port):
            pass  # a taken port should end the start, not be found in the log later
        command = child_command(
            "ui", "--beside-server", "--no-open", "--threads", "1",
            "--host", host, "--port", str(port),
        )  # fmt: skip
        for name in self._profiles[:1]:
            command += ["--profile", name]
        self._process = subprocess.Popen(  # noqa: S603 (this interpreter and an operator's names)
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, env=child_environment(),
        )  # fmt: skip
        for work in (self._tell, self._listen):
            threading.Thread(target=work, args=(self._process,), daemon=True).start()

    def close(self) -> None:
        """End the page."""
        self._closed.set()
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _tell(self, process: subprocess.Popen[str]) -> None:
        if process.stdin is None:
            return
        pipe = process.stdin.fileno()
        os.set_blocking(pipe, False)
        begun = time.monotonic()
        while not self._closed.is_set() and process.poll() is None:
            line = json.dumps(status_of(self._registry, time.monotonic() - begun)) + "\n"
            try:
                os.write(pipe, line.encode())
            except BlockingIOError:
                _log.debug("the page does not read; a status was left out")
            except OSError:
                return
            self._closed.wait(EVERY_S)

    def _listen(self, process: subprocess.Popen[str]) -> None:
        for line in process.stdout or ():
            _log.info("page: %s", line.rstrip())
        code = process.wait()
        if not self._closed.is_set():
            _log.warning("the page has ended with code %d; serving goes on without it", code)


def status_of(registry: CollectorRegistry, uptime_s: float) -> dict[str, object]:
    """What the page is told of a server: no client's name, no picture, no box."""
    calls: dict[str, float] = {}
    profiles = {}
    for metric in registry.collect():
        for sample in metric.samples:
            if sample.name == "fpcodec_requests_total":
                key = f"{sample.labels['method']} {sample.labels['code']}"
                calls[key] = calls.get(key, 0) + sample.value
            elif sample.name == "fpcodec_profile_info":
                profiles[sample.labels["profile"]] = sample.labels["stream"]
    return {
        "serving": bool(registry.get_sample_value("fpcodec_serving")),
        "uptime_s": round(uptime_s),
        "profiles": profiles,
        "calls": calls,
        "open_streams": registry.get_sample_value("fpcodec_open_streams") or 0,
        "waiting": registry.get_sample_value("fpcodec_queue_frames") or 0,
    }
