"""A server as a process: runs until a signal tells it to stop."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Sequence

from fpcodec.codecs.base import Limits
from fpcodec_server.operations import Operations
from fpcodec_server.server import DEFAULT_LISTEN, CodecServer
from fpcodec_server.service import InferenceHalf, ServedProfile


def serve(
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
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Serve a profile until SIGTERM or SIGINT; a second signal ends the process at once.

    Args:
        profile: As for ``CodecServer``, as are the other arguments.
        listen: ``host:port``.
        limits: What a frame may ask for.
        threads: Threads of the inference runtime per worker.
        workers: Requests in work at the same time.
        max_waiting: Requests that may wait for a worker.
        providers: Execution providers of the inference runtime.
        grace_s: Seconds that requests in flight get at a stop.
        load_half: Makes the half that answers.
        operations: Who is let in, over what, and what is counted.
        on_ready: Called with the address once the server answers.

    Raises:
        InputError: The address cannot be listened on.
        FpcodecError: The detector cannot be loaded.
    """
    server = CodecServer(
        profile, listen=listen, limits=limits, threads=threads, workers=workers,
        max_waiting=max_waiting, providers=providers, grace_s=grace_s, load_half=load_half,
        operations=operations,
    )  # fmt: skip
    asyncio.run(_run(server, on_ready))


async def _run(server: CodecServer, on_ready: Callable[[str], None] | None) -> None:
    told_to_stop = asyncio.create_task(_signal())
    start = asyncio.create_task(server.start())
    try:
        # A signal must end a slow start too.
        await asyncio.wait({start, told_to_stop}, return_when=asyncio.FIRST_COMPLETED)
        if start.done():
            await start
            if on_ready is not None:
                on_ready(server.address)
            await told_to_stop
    finally:
        for task in (start, told_to_stop):
            task.cancel()
        await asyncio.wait({start, told_to_stop})
        await server.stop()


async def _signal() -> None:
    """Wait for SIGTERM or SIGINT, then give both their default meaning back."""
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    handled = []
    for number in (signal.SIGTERM, signal.SIGINT):
        # Outside the main thread, and on Windows, there are no handlers to set: there the
        # process ends as Python ends it.
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
            loop.add_signal_handler(number, told.set)
            handled.append(number)
    try:
        await told.wait()
    finally:
        for number in handled:
            loop.remove_signal_handler(number)
