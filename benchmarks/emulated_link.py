"""A slow link on one machine: rate steps, delay, loss and a router's bounded buffer.

``NamespaceLink`` joins two network namespaces by a pair of TUN devices and carries their IP
packets: TCP meets real queues and real losses. It needs root and ``/dev/net/tun``; tc's netem would
do the same where the kernel has it. ``ProxyLink`` is for other machines: a TCP relay, in which
losses appear as the delays that TCP would make of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import heapq
import os
import random
import secrets
import select
import socket
import struct
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
_MTU_BYTES = 1500
_TICK_S = 0.05
_RETRANSMISSION_S = 0.2


@dataclass(frozen=True)
class LinkStep:
    """A link for some time.

    Attributes:
        seconds: How long.
        bps: Rate in bit/s, from the edge to the server.
        loss: Share of packets lost, each way.
    """

    seconds: float
    bps: float
    loss: float = 0.0


@dataclass(frozen=True)
class LinkPlan:
    """Steps one after the other; the last one stays.

    Attributes:
        steps: In order.
        down_factor: The other way is so many times as fast, as most access links are.
        delay_s: One way.
        buffer_bytes: What waits at most, each way; what comes on top is dropped.
        seed: Of the losses.
    """

    steps: Sequence[LinkStep]
    down_factor: float = 4.0
    delay_s: float = 0.02
    buffer_bytes: int = 32_000
    seed: int = 0

    def at(self, seconds: float) -> LinkStep:
        """The step at a time since the beginning; before it, the first."""
        for step in self.steps:
            if seconds < step.seconds:
                return step
            seconds -= step.seconds
        return self.steps[-1]


class Shaper:
    """One direction: a buffer, a rate, a delay, losses.

    Args:
        plan: The link's.
        factor: On its rates.
        seed: Of the losses.
    """

    def __init__(self, plan: LinkPlan, factor: float, seed: int) -> None:
        self._plan, self._factor = plan, factor
        self._rng = random.Random(seed)  # noqa: S311
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes, self._free_s = 0, 0.0
        self._flying: list[tuple[float, int, bytes]] = []
        self._number = 0
        self.dropped = 0

    def put(self, packet: bytes) -> None:
        """Take a packet in, or drop it where the buffer is full."""
        if self._waiting_bytes + len(packet) > self._plan.buffer_bytes:
            self.dropped += 1
            return
        self._waiting.append(packet)
        self._waiting_bytes += len(packet)

    def take(self, now_s: float, since_s: float) -> tuple[list[bytes], float]:
        """Packets that arrive by now, and when to ask again.

        Args:
            now_s: The time.
            since_s: When the plan began.
        """
        while self._waiting and self._free_s <= now_s:
            packet = self._waiting.popleft()
            self._waiting_bytes -= len(packet)
            step = self._plan.at(now_s - since_s)
            self._free_s = max(self._free_s, now_s - 0.005) + 8 * len(packet) / (
                step.bps * self._factor
            )
            if self._rng.random() >= step.loss:
                self._number += 1
                due = (self._free_s + self._plan.delay_s, self._number, packet)
                heapq.heappush(self._flying, due)
        arrived = []
        while self._flying and self._flying[0][0] <= now_s:
            arrived.append(heapq.heappop(self._flying)[2])
        next_s = now_s + _TICK_S
        if self._flying:
            next_s = min(next_s, self._flying[0][0])
        if self._waiting:
            next_s = min(next_s, self._free_s)
        return arrived, next_s


class NamespaceLink:
    """Two network namespaces and the link between them.

    Args:
        plan: How the link behaves.

    Raises:
        OSError: This machine does not allow it.
    """

    SERVER = "10.77.0.2"

    def __init__(self, plan: LinkPlan) -> None:
        tag = secrets.token_hex(3)
        self.edge, self.server = f"fpc{tag}e", f"fpc{tag}s"
        self._plan, self._since_s = plan, float("inf")
        self._stop = threading.Event()
        self._files: list[int] = []
        try:
            for name, own, other in (
                (self.edge, "10.77.0.1", self.SERVER), (self.server, self.SERVER, "10.77.0.1"),
            ):  # fmt: skip
                self._files.append(_open_namespace(name, own, other))
        except BaseException:
            self._remove()
            raise
        self._thread = threading.Thread(target=self._carry, daemon=True)
        self._thread.start()

    @property
    def kind(self) -> str:
        """What carries the bytes, for records."""
        return "network namespaces"

    @property
    def target(self) -> str:
        """Host that the server listens on."""
        return self.SERVER

    def inside(self, name: str, command: Sequence[str]) -> list[str]:
        """The command that runs another in a namespace."""
        return ["ip", "netns", "exec", name, *command]

    def edge_command(self, command: Sequence[str]) -> list[str]:
        """A command for the edge's side."""
        return self.inside(self.edge, command)

    def server_command(self, command: Sequence[str]) -> list[str]:
        """A command for the server's side."""
        return self.inside(self.server, command)

    def begin(self, server_port: int) -> str:
        """The edge's address of a server on a port; the plan's time does not run yet."""
        return f"{self.SERVER}:{server_port}"

    def start_clock(self) -> float:
        """Let the plan begin; the monotonic time at which it does."""
        self._since_s = time.monotonic()
        return self._since_s

    def close(self) -> None:
        """Remove everything."""
        self._stop.set()
        self._thread.join()
        self._remove()

    def _carry(self) -> None:
        edge, server = self._files
        plan = self._plan
        up = Shaper(plan, 1.0, plan.seed)
        down = Shaper(plan, plan.down_factor, plan.seed + 1)
        ways = ((edge, up, server), (server, down, edge))
        next_s = 0.0
        while not self._stop.is_set():
            wait_s = min(max(next_s - time.monotonic(), 0.0), _TICK_S)
            ready, _, _ = select.select([edge, server], [], [], wait_s)
            for source, shaper, _target in ways:
                if source in ready:
                    with contextlib.suppress(BlockingIOError):
                        while True:
                            shaper.put(os.read(source, 2 * _MTU_BYTES))
            now_s, times = time.monotonic(), []
            for _source, shaper, target in ways:
                packets, at_s = shaper.take(now_s, self._since_s)
                times.append(at_s)
                for packet in packets:
                    os.write(target, packet)
            next_s = min(times)

    def _remove(self) -> None:
        for file in self._files:
            os.close(file)
        for name in (self.edge, self.server):
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


def _open_namespace(name: str, own: str, other: str) -> int:
    device = f"{name[3:]}tun"
    file = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    try:
        fcntl.ioctl(file, _TUNSETIFF, struct.pack("16sH", device.encode(), _IFF_TUN | _IFF_NO_PI))
        within = ["ip", "netns", "exec", name]
        for command in (
            ["ip", "netns", "add", name],
            ["ip", "link", "set", device, "netns", name],
            [*within, "ip", "link", "set", "lo", "up"],
            [*within, "ip", "addr", "add", own, "peer", other, "dev", device],
            [*within, "ip", "link", "set", device, "up", "mtu", str(_MTU_BYTES)],
        ):
            _run(command)
    except BaseException:
        os.close(file)
        raise
    return file


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")


class ProxyLink:
    """A TCP relay on the loopback with the same plan.

    Args:
        plan: How the link behaves.
    """

    def __init__(self, plan: LinkPlan) -> None:
        self._plan, self._since_s = plan, float("inf")
        self._rng = random.Random(plan.seed)  # noqa: S311
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server_port = 0

    def edge_command(self, command: Sequence[str]) -> list[str]:
        """A command for the edge's side."""
        return list(command)

    def server_command(self, command: Sequence[str]) -> list[str]:
        """A command for the server's side."""
        return list(command)

    @property
    def kind(self) -> str:
        """What carries the bytes, for records."""
        return "TCP relay"

    @property
    def target(self) -> str:
        """Host that the server listens on."""
        return "127.0.0.1"

    def begin(self, server_port: int) -> str:
        """The edge's address of a server on a port; the plan's time does not run yet."""
        self._server_port = server_port
        opening = asyncio.run_coroutine_threadsafe(self._open(), self._loop)
        return f"127.0.0.1:{opening.result(10)}"

    def start_clock(self) -> float:
        """Let the plan begin; the monotonic time at which it does."""
        self._since_s = time.monotonic()
        return self._since_s

    def close(self) -> None:
        """End all connections."""
        asyncio.run_coroutine_threadsafe(self._shut(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _open(self) -> int:
        listener = socket.socket()
        # Large buffers on this machine would hide the link from who writes.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._plan.buffer_bytes)
        listener.bind(("127.0.0.1", 0))
        self._server = await asyncio.start_server(
            self._accept, sock=listener, limit=self._plan.buffer_bytes
        )
        return int(self._server.sockets[0].getsockname()[1])

    async def _shut(self) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection("127.0.0.1", self._server_port)
        for source, target, factor in (
            (reader, there[1], 1.0), (there[0], writer, self._plan.down_factor),
        ):  # fmt: skip
            task = asyncio.create_task(self._pass_on(source, target, factor))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass_on(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, factor: float
    ) -> None:
        flying: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        deliver = asyncio.create_task(self._deliver(flying, target))
        try:
            # A full buffer stops the reading: TCP then waits, as it would after a dropped packet.
            while data := await source.read(_MTU_BYTES):
                step = self._plan.at(time.monotonic() - self._since_s)
                await asyncio.sleep(8 * len(data) / (step.bps * factor))
                late_s = _RETRANSMISSION_S if self._rng.random() < step.loss else 0.0
                await asyncio.sleep(late_s)
                flying.put_nowait((time.monotonic() + self._plan.delay_s, data))
            flying.put_nowait((0.0, b""))
            await deliver
        except OSError:
            pass
        finally:
            deliver.cancel()
            target.close()

    async def _deliver(
        self, flying: asyncio.Queue[tuple[float, bytes]], target: asyncio.StreamWriter
    ) -> None:
        while True:
            due_s, data = await flying.get()
            if not data:
                return
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            target.write(data)
            await target.drain()


Link = NamespaceLink | ProxyLink


@contextlib.contextmanager
def open_link(plan: LinkPlan, kind: str = "auto") -> Iterator[Link]:
    """A link of the best kind that this machine allows.

    Args:
        plan: How it behaves.
        kind: ``namespaces``, ``proxy``, or ``auto``.
    """
    link: Link
    if kind == "proxy":
        link = ProxyLink(plan)
    else:
        try:
            link = NamespaceLink(plan)
        except OSError:
            if kind == "namespaces":
                raise
            link = ProxyLink(plan)
    try:
        yield link
    finally:
        link.close()
