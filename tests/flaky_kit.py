"""A bad network on the loopback: a relay that stalls, slows, cuts and resets connections."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from wire_kit import LoopThread

from fpcodec.address import split_address


class Relay:
    """Passes bytes between clients and a server, and does harm when told to.

    All methods may be called from any thread.
    """

    def __init__(self, thread: LoopThread, target: str) -> None:
        self._thread, self._target = thread, split_address(target)
        self._writers: set[asyncio.StreamWriter] = set()
        self._flows = asyncio.Event()
        self._flows.set()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.bytes_per_s: float | None = None
        self.delay_s = 0.0
        self.cut_after_bytes: int | None = None
        self.address = ""

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def shut(self) -> None:
        if self._server is not None:
            self._server.close()
        await self._cut(reset=False)
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def cut(self, reset: bool = False) -> None:
        """End all connections: in good order, or with a reset."""
        self._thread.run(self._cut(reset))

    def stall(self) -> None:
        """Pass nothing on until ``flow``."""
        self._thread.loop.call_soon_threadsafe(self._flows.clear)

    def flow(self) -> None:
        """Pass everything on again, at once."""
        self.bytes_per_s, self.delay_s, self.cut_after_bytes = None, 0.0, None
        self._thread.loop.call_soon_threadsafe(self._flows.set)

    async def _cut(self, reset: bool) -> None:
        for writer in list(self._writers):
            if reset:
                linger = struct.pack("ii", 1, 0)
                with contextlib.suppress(OSError):
                    writer.get_extra_info("socket").setsockopt(
                        socket.SOL_SOCKET, socket.SO_LINGER, linger
                    )
            writer.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.close()
            return
        for one in (writer, far_writer):
            self._writers.add(one)
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            task = asyncio.get_running_loop().create_task(self._pass(source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(1024):
                await self._flows.wait()
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                if self.bytes_per_s:
                    await asyncio.sleep(len(data) / self.bytes_per_s)
                if self.cut_after_bytes is not None:
                    data = data[: self.cut_after_bytes]
                    self.cut_after_bytes -= len(data)
                sink.write(data)
                await sink.drain()
                if self.cut_after_bytes == 0:
                    break
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._writers.discard(sink)
            sink.close()


@contextmanager
def relay_to(thread: LoopThread, address: str) -> Iterator[Relay]:
    """A relay to an address, for as long as the block runs."""
    relay = Relay(thread, address)
    thread.run(relay.open())
    try:
        yield relay
    finally:
        thread.run(relay.shut())
