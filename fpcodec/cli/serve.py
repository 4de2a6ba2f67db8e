"""``fpcodec serve``: answer edge devices."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Annotated

import typer

from fpcodec.cli.options import ProfileFolder, Providers, Threads, open_profile

READY = "ready"
"""First word of the line that ``serve`` prints once it answers; the second is its address."""


def serve(
    profile: ProfileFolder = None,
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where to listen; port 0 takes a free one.")
    ] = "127.0.0.1:50051",
    threads: Threads = None,
    provider: Providers = None,
    workers: Annotated[
        int, typer.Option(metavar="N", min=1, help="Requests in work at the same time.")
    ] = 2,
    max_waiting: Annotated[
        int, typer.Option(metavar="N", min=0, help="Requests that may wait; more are refused.")
    ] = 8,
    stop_with_stdin: Annotated[
        bool, typer.Option("--stop-with-stdin", hidden=True, help="End when stdin is closed.")
    ] = False,
) -> None:
    """Serve a profile until SIGTERM or Ctrl-C.

    Prints one line when it answers: "ready HOST:PORT ..".

    Example:  fpcodec serve --profile my-profile --listen 0.0.0.0:50051
    """
    loaded = open_profile(profile)
    from fpcodec_server import CodecServer, QueueLimits
    from fpcodec_server import serve as run_server

    if stop_with_stdin:
        threading.Thread(target=_stop_at_end_of_stdin, daemon=True).start()

    def announce(address: str) -> None:
        print(
            f"{READY} {address} profile {loaded.name} stream {loaded.stream_id.hex()[:12]}",
            flush=True,
        )

    server = CodecServer(
        [loaded], listen=listen, threads=threads, providers=provider or (), workers=workers,
        queue=QueueLimits(max_waiting=max_waiting),
    )  # fmt: skip
    run_server(server, on_ready=announce, load_profiles=lambda: [open_profile(profile)])


def _stop_at_end_of_stdin() -> None:
    """A parent that dies, however it dies, closes the pipe: no server is left behind."""
    while sys.stdin.buffer.read(4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
