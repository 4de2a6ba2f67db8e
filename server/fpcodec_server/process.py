"""A server as a process: runs until a signal tells it to stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable, Sequence

from fpcodec.errors import FpcodecError
from fpcodec_server.catalog import ServedProfile
from fpcodec_server.server import CodecServer

_log = logging.getLogger(__name__)


def serve(
    server: CodecServer,
    *,
    on_ready: Callable[[str], None] | None = None,
    load_profiles: Callable[[], Sequence[ServedProfile]] | None = None,
) -> None:
    """Run a server until SIGTERM or SIGINT; a second signal ends the process at once.

    Args:
        server: A server that has not been started.
        on_ready: Called with the address once the server answers.
        load_profiles: Called at SIGHUP; what it gives is served from then on. Without it SIGHUP
            has its default meaning.

    Raises:
        InputError: The address cannot be listened on.
        FpcodecError: A profile cannot be loaded.
    """
    asyncio.run(_run(server, on_ready, load_profiles))


async def _run(
    server: CodecServer,
    on_ready: Callable[[str], None] | None,
    load_profiles: Callable[[], Sequence[ServedProfile]] | None,
) -> None:
    told_to_stop = asyncio.create_task(_signal())
    start = asyncio.create_task(server.start())
    tasks: set[asyncio.Task[None]] = {start, told_to_stop}
    try:
        # A signal must end a slow start too.
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if start.done():
            await start
            if load_profiles is not None:
                tasks.add(asyncio.create_task(_reload_at_hangup(server, load_profiles)))
            if on_ready is not None:
                on_ready(server.address)
            await told_to_stop
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await server.stop()


async def _reload_at_hangup(
    server: CodecServer, load_profiles: Callable[[], Sequence[ServedProfile]]
) -> None:
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
        loop.add_signal_handler(signal.SIGHUP, told.set)
    while True:
        await told.wait()
        told.clear()
        try:
            profiles = await asyncio.to_thread(load_profiles)
            await server.reload(profiles)
        except FpcodecError as error:
            _log.error("the profiles were not reloaded: %s", error)
        except Exception:
            _log.exception("the profiles were not reloaded")
        else:
            _log.info("reloaded: %s", ", ".join(profile.name for profile in profiles))


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
