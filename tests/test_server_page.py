"""The read-only page beside a server."""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser_kit import require_page

from fpcodec.child_process import child_command, child_environment
from fpcodec.errors import InputError
from fpcodec.ui.server_status import ServerStatus, status_html
from fpcodec_server.config import ServerConfig, UiConfig
from fpcodec_server.metrics import ServerMetrics
from fpcodec_server.operations import Operations
from fpcodec_server.page import ServerPage, status_of

STREAM = bytes(range(32))


def metrics_of_a_server() -> ServerMetrics:
    metrics = ServerMetrics()
    metrics.set_profiles({"mine<b>": STREAM.hex()})
    metrics.set_serving(True)
    metrics.request_ended("Infer", "OK", 0.1, 100, 10)
    metrics.request_ended("Infer", "OK", 0.1, 100, 10)
    return metrics


def test_a_status_has_counts_and_nothing_of_clients() -> None:
    status = status_of(metrics_of_a_server().registry, 12.3)
    assert status == {
        "serving": True, "uptime_s": 12, "profiles": {"mine<b>": STREAM.hex()},
        "calls": {"Infer OK": 2.0}, "open_streams": 0, "waiting": 0,
    }  # fmt: skip
    line, tables = status_html(status, 0.0, STREAM)
    assert "is serving" in line
    assert "mine&lt;b&gt;" in tables
    assert "Infer OK" in tables
    assert "silent for 60 s" in status_html(status, 60.0, STREAM)[0]
    assert "changed its profiles" in status_html(status, 0.0, bytes(32))[0]
    assert "not said anything" in status_html(None, 60.0, STREAM)[0]


def test_the_end_of_the_lines_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda *told: ended.append(told))
    status = ServerStatus(io.StringIO('no json\n{"serving": false}\n'), STREAM)
    status._read()
    assert ended == [(os.getpid(), signal.SIGTERM)]
    assert status._last == {"serving": False}


def test_a_taken_address_is_an_error_before_anything_starts() -> None:
    require_page()
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        page = ServerPage(listen, (), ServerMetrics().registry)
        with pytest.raises(InputError, match="cannot listen"):
            page.open()
        page.close()


def test_a_page_is_there_only_where_it_is_wanted() -> None:
    require_page()
    assert Operations.of(ServerConfig()).page is None
    assert Operations.of(ServerConfig(ui=UiConfig("127.0.0.1:0"))).page is not None


@pytest.fixture
def server() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server with a page, and the page's address."""
    require_page()
    command = child_command(
        "serve", "--listen", "127.0.0.1:0", "--workers", "1", "--threads", "1",
        "--ui", "127.0.0.1:0",
    )  # fmt: skip
    environment = {**child_environment(), "FPCODEC_TOKEN": "t" * 20}
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            assert process.stderr is not None
            ready = next(line for line in process.stderr if "page: ready" in line)
            yield process, ready.split()[-1]
        finally:
            process.kill()


def test_the_page_takes_no_files_knows_no_secrets_and_ends_with_its_server(
    server: tuple[subprocess.Popen[str], str],
) -> None:
    process, address = server
    with urllib.request.urlopen(address) as answer:
        assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
        text = answer.read().decode()
    assert "This server is" in text
    upload = urllib.request.Request(f"{address}gradio_api/upload", b"x", method="POST")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(upload)
    refused.value.close()
    assert refused.value.code == 403
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if children.exists():
        told = [Path(f"/proc/{pid}/environ").read_text() for pid in children.read_text().split()]
        assert not any("FPCODEC_TOKEN" in environment for environment in told[-1:])
    process.kill()  # not even a server that dies leaves its page behind
    end = time.monotonic() + 30
    while answers(address):
        assert time.monotonic() < end, "the page is still there"
        time.sleep(0.1)


def answers(address: str) -> bool:
    """Whether somebody listens there."""
    host, _, port = address.removeprefix("http://").rstrip("/").rpartition(":")
    try:
        socket.create_connection((host, int(port)), 2).close()
    except OSError:
        return False
    return True
