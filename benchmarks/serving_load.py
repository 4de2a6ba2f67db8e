"""How a server behaves under load: throughput, latency, goodput beyond capacity, RPC overhead.

    python benchmarks/serving_load.py --profile runs/learned_nano --images photos --workers 1 \\
        --workers 2 --batch 1 --batch 4 --out benchmarks/results/serving_yolox_nano.json

For each number of workers and each batch size a server is started in a process of its own. Its
capacity is what it answers to clients that ask again at once; then requests arrive as a Poisson
process, whether or not earlier ones were answered (an open loop: a slow server does not slow its
clients), at shares of that capacity, each with the same deadline. Client, server and workers share
this machine. The overhead of a request is its time less the worker's stages, beside a bare
grpc.aio echo of the same bytes; requests and echoes take turns.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shlex
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from fpcodec.cli.options import open_profile
from fpcodec.data import generate_scene
from fpcodec.evaluation.environment import Environment
from fpcodec.images import load_image
from fpcodec.split import EdgeHalf
from fpcodec.v1 import codec_pb2, codec_pb2_grpc
from fpcodec_server import BatchLimits, CodecServer, serve

SHARES = (0.25, 0.5, 0.75, 0.9, 1.0, 1.5, 2.0)
"""Of the capacity measured: the loads that are offered."""

QUALITY = 0.4
ECHO = "/echo/Echo"


@dataclass(frozen=True)
class Setting:
    """How a server is started."""

    profile: str | None
    workers: int
    batch: int
    executor: str


async def closed_loop(stub: Any, frames: Sequence[bytes], seconds: float, callers: int) -> float:
    """Answers per second to callers that ask again at once."""
    end_s = time.perf_counter() + seconds
    count = 0

    async def ask(rng: random.Random) -> None:
        nonlocal count
        while time.perf_counter() < end_s:
            await stub.Infer(codec_pb2.InferRequest(frame=rng.choice(frames)), timeout=20)
            count += 1

    started = time.perf_counter()
    dice = [random.Random(number) for number in range(callers)]  # noqa: S311
    await asyncio.gather(*(ask(rng) for rng in dice))
    return count / (time.perf_counter() - started)


async def front_only(stub: Any, seconds: float, callers: int = 16) -> float:
    """Calls per second whose frame is refused at its first byte: what front and hop can carry."""
    end_s = time.perf_counter() + seconds
    count = 0

    async def ask() -> None:
        nonlocal count
        while time.perf_counter() < end_s:
            with suppress(grpc.aio.AioRpcError):
                await stub.Infer(codec_pb2.InferRequest(frame=b"?"), timeout=20)
            count += 1

    await asyncio.gather(*(ask() for _ in range(callers)))
    return count / seconds


async def open_loop(
    stub: Any, frames: Sequence[bytes], rate: float, seconds: float, deadline_s: float, seed: int
) -> dict[str, Any]:
    """Poisson arrivals at a rate: latencies of answers in milliseconds, and how calls ended."""
    rng = random.Random(seed)  # noqa: S311
    codes: Counter[str] = Counter()
    answered_ms: list[float] = []
    refused_ms: list[float] = []

    async def ask(frame: bytes) -> None:
        start = time.perf_counter()
        try:
            await stub.Infer(codec_pb2.InferRequest(frame=frame), timeout=deadline_s)
            code = "OK"
        except grpc.aio.AioRpcError as error:
            code = error.code().name
        took_ms = 1e3 * (time.perf_counter() - start)
        codes[code] += 1
        if code == "OK":
            answered_ms.append(took_ms)
        elif code == "RESOURCE_EXHAUSTED":
            refused_ms.append(took_ms)

    tasks = set()
    started = time.perf_counter()
    arrival = started
    while (arrival := arrival + rng.expovariate(rate)) < started + seconds:
        await asyncio.sleep(max(0.0, arrival - time.perf_counter()))
        tasks.add(asyncio.create_task(ask(rng.choice(frames))))
    await asyncio.gather(*tasks)
    return {
        "offered_per_s": round(len(tasks) / seconds, 2),
        "goodput_per_s": round(codes["OK"] / seconds, 2),
        "latency_ms": percentiles(answered_ms),
        "refusal_ms": percentiles(refused_ms),
        "codes": dict(codes),
    }


async def overhead(stub: Any, echo: Any, frames: Sequence[bytes], rounds: int) -> dict[str, float]:
    """Mean milliseconds of requests one after the other, of their stages, and of echoes."""
    request_ms, stages_ms, echo_ms = [], [], []
    for index in range(rounds):
        frame = frames[index % len(frames)]
        start = time.perf_counter()
        response = await stub.Infer(codec_pb2.InferRequest(frame=frame), timeout=20)
        request_ms.append(1e3 * (time.perf_counter() - start))
        times = response.timings
        stages_ms.append(times.decode_ms + times.reconstruct_ms + times.head_ms)
        start = time.perf_counter()
        await echo(frame, timeout=20)
        echo_ms.append(1e3 * (time.perf_counter() - start))
    request, stages, bare = (float(np.mean(x)) for x in (request_ms, stages_ms, echo_ms))
    return {
        "request_ms": round(request, 3),
        "stages_ms": round(stages, 3),
        "overhead_ms": round(request - stages, 3),
        "overhead_percent": round(100 * (request - stages) / request, 2),
        "bare_echo_ms": round(bare, 3),
        "above_bare_echo_percent": round(100 * (request - stages - bare) / request, 2),
        "rounds": rounds,
    }


def percentiles(values_ms: Sequence[float]) -> dict[str, float] | None:
    """p50, p95, p99 and the largest."""
    if not values_ms:
        return None
    found = np.percentile(values_ms, [50, 95, 99, 100])
    return dict(zip(("p50", "p95", "p99", "max"), found.round(2).tolist(), strict=True))


async def measure(setting: Setting, frames: Sequence[bytes], options: Any) -> dict[str, Any]:
    """Everything about one server."""
    with started(setting) as (address, echo_address):
        async with channel(address) as calls, channel(echo_address) as echoes:
            stub = codec_pb2_grpc.CodecServiceStub(calls)
            await closed_loop(stub, frames, 1.0, setting.workers)  # warm
            alone = await overhead(stub, echoes.unary_unary(ECHO), frames, options.rounds)
            front = await front_only(stub, options.seconds / 2)
            callers = 2 * setting.workers * setting.batch
            capacity = await closed_loop(stub, frames, options.seconds, callers)
            loads = []
            for seed, share in enumerate(options.share or SHARES):
                found = await open_loop(
                    stub, frames, share * capacity, options.seconds, options.deadline_ms / 1e3, seed
                )
                loads.append({"share_of_capacity": share, **found})
                print(json.dumps(loads[-1]), flush=True)
                await asyncio.sleep(0.5)
    return {
        **asdict(setting),
        "capacity_per_s": round(capacity, 2),
        "front_per_s": round(front, 1),
        "deadline_ms": options.deadline_ms,
        "seconds_per_load": options.seconds,
        "overhead": alone,
        "loads": loads,
    }


@asynccontextmanager
async def channel(address: str) -> AsyncIterator[grpc.aio.Channel]:
    """A connection of its own."""
    async with grpc.aio.insecure_channel(address) as opened:
        yield opened


@contextmanager
def started(setting: Setting) -> Iterator[tuple[str, str]]:
    """A server, and an echo beside it, for as long as the block runs: their addresses."""
    children = [
        subprocess.Popen(
            [sys.executable, __file__, "--child", json.dumps(job)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for job in (asdict(setting), None)
    ]
    try:
        addresses = [child.stdout.readline().strip() for child in children if child.stdout]
        yield addresses[0], addresses[1]
    finally:
        for child in children:
            child.terminate()
            child.wait(20)


def child(job: dict[str, Any] | None) -> None:
    """What a started process does: the server of a setting, or an echo."""
    if job is None:
        asyncio.run(echo_server())
        return
    setting = Setting(**job)
    profile = open_profile(Path(setting.profile) if setting.profile else None)
    server = CodecServer(
        [profile], listen="127.0.0.1:0", threads=1, workers=setting.workers,
        executor=setting.executor,
        batch=BatchLimits(setting.batch, 2.0 if setting.batch > 1 else 0.0),
    )  # fmt: skip
    serve(server, on_ready=lambda address: print(address, flush=True))


async def echo_server() -> None:
    """Gives every request's bytes back."""

    async def echo(request: bytes, context: Any) -> bytes:
        return request

    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(echo)
    service, method = ECHO.strip("/").split("/")
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(service, {method: handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


def coded_frames(profile: Any, folder: Path | None, count: int) -> list[bytes]:
    """Frames of photographs, or of generated scenes."""
    edge = EdgeHalf(profile, threads=1)
    if folder is None:
        images: Iterator[Any] = (generate_scene(7_000_000 + n).image for n in range(count))
    else:
        endings = {".jpg", ".jpeg", ".png"}
        paths = sorted(x for x in folder.iterdir() if x.suffix.lower() in endings)[:count]
        images = (load_image(path) for path in paths)
    return [edge.encode(image, quality=QUALITY).data for image in images]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", type=Path)
    parser.add_argument("--images", type=Path, help="photographs; generated scenes without")
    parser.add_argument("--frames", type=int, default=32)
    parser.add_argument("--workers", type=int, action="append")
    parser.add_argument("--batch", type=int, action="append")
    parser.add_argument("--executor", action="append", choices=("processes", "threads", "ray"))
    parser.add_argument("--share", type=float, action="append", help=f"default {SHARES}")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each load")
    parser.add_argument("--deadline-ms", type=float, default=1000.0)
    parser.add_argument("--rounds", type=int, default=200, help="requests and echoes in turn")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--child", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if "--child" in sys.argv:
        child(options.child)
        return
    if options.out is None:
        parser.error("--out is missing")
    profile = open_profile(options.profile)
    frames = coded_frames(profile, options.images, options.frames)
    environment = Environment.capture(shlex.join(["python", *sys.argv]), threads=1)
    rows = []
    for executor in options.executor or ["processes"]:
        for workers in options.workers or [1, 2]:
            for batch in options.batch or [1]:
                folder = str(options.profile) if options.profile else None
                setting = Setting(folder, workers, batch, executor)
                print(setting, flush=True)
                rows.append({
                    "profile_name": profile.name,
                    "data": options.images.name if options.images else "generated scenes",
                    "frames": len(frames),
                    "mean_frame_bytes": round(float(np.mean([len(x) for x in frames])), 1),
                    "quality": QUALITY,
                    **asyncio.run(measure(setting, frames, options)),
                    "environment": asdict(environment),
                })  # fmt: skip
                options.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
