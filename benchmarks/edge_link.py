"""A camera over a link whose rate steps: latency, stalls and agreement, beside sending WebP.

    python benchmarks/edge_link.py measure --video clip.mp4 --profile runs/learned_nano \\
        --out benchmarks/results/edge_link.json
    python benchmarks/edge_link_plot.py benchmarks/results/edge_link.json

Runs over the same link, one after the other: the parts of ``fpcodec edge`` sending frames, sending
of these the levels that recent answers ask for, sending frames that lean on the one before, and
sending WebP at the network's input size to a server that runs the whole detector. The clip is shown
at its own speed, again for every step, so that all steps see the same images. Answers are compared
with the unsplit detector's on the same image (F1 at IoU 0.5, boxes of 0.3 and more):
``answered_f1`` over the frames that were answered, ``live_f1`` over all images, with the answer
that is there one latency bound later, about it or else about the newest image before it.

In namespaces (root and /dev/net/tun) the link carries IP packets, delays and loses them; elsewhere
a TCP relay stands in. ``measure`` starts ``serve`` and ``camera`` by itself.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from edge_link_pictures import LoadPictureHalves, PictureEncoder
from emulated_link import LinkPlan, LinkStep, open_link
from rich.progress import track

from fpcodec.cli.edge_run import KeyLevels
from fpcodec.detections import Detections
from fpcodec.evaluation.agreement import agreement, total_agreement
from fpcodec.evaluation.environment import Environment
from fpcodec.profile import Profile
from fpcodec.split import EdgeHalf
from fpcodec.video import VideoEdgeHalf
from fpcodec_edge import Camera, RateController, RateTarget, StreamClient
from fpcodec_edge.recording import JsonLines
from fpcodec_edge.sources import Paced, SourceImage, open_source
from fpcodec_server import CodecServer, serve

STEPS = ((4e6, 0.0), (1e6, 0.0), (256e3, 0.0), (64e3, 0.0), (2e6, 0.02))
"""Bit/s and share of packets lost, one after the other."""

WAYS = ("features", "auto", "inter", "webp")
PORT = 50061
GO = "go"


class Repeated:
    """A clip from memory, again and again.

    Args:
        path: A video file.
        shown: Its first image that is shown, and the one behind the last.
        times: How often.
    """

    is_live = False

    def __init__(self, path: Path, shown: tuple[int, int], times: int) -> None:
        self.images = list(islice(open_source(str(path)), *shown))
        self._begin_s = self.images[0].time_s
        step_s = self.images[1].time_s - self._begin_s
        self.seconds = self.images[-1].time_s - self._begin_s + step_s
        self._times = times

    def __iter__(self) -> Iterator[SourceImage]:
        for turn in range(self._times):
            for index, item in enumerate(self.images):
                number = turn * len(self.images) + index
                time_s = turn * self.seconds + item.time_s - self._begin_s
                yield SourceImage(number, item.name, time_s, item.image)


def run_server(options: argparse.Namespace) -> None:
    """The server's process."""
    profile = Profile.load(options.profile)
    load = LoadPictureHalves(options.profile, options.threads) if options.way == "webp" else None
    server = CodecServer(
        [profile], listen=f"{options.listen}:{PORT}", threads=options.threads, workers=1, load=load
    )
    serve(server, on_ready=lambda address: print("ready", address, flush=True))


def run_camera(options: argparse.Namespace) -> None:
    """The edge's process: connects, says so, waits for the word, and runs."""
    profile = Profile.load(options.profile)
    source = Repeated(options.video, tuple(options.shown), options.turns)
    encoder: Any
    if options.way == "webp":
        encoder = PictureEncoder(profile.open_detector("edge", options.threads))
    else:
        half = VideoEdgeHalf if options.way == "inter" else EdgeHalf
        encoder = half(profile, threads=options.threads)
    encoder.encode(source.images[0].image, quality=0.5)  # pays for the first run's set-up
    levels = KeyLevels("auto" if options.way == "auto" else "all", profile)
    target = RateTarget(latency_s=options.latency_s, quality=options.quality)
    with (
        options.out.open("w") as lines,
        StreamClient(options.server, profile.stream_id) as client,
    ):
        client.wait_tried(10)
        camera = Camera(
            Paced(source), encoder, client, RateController(target, time.monotonic), levels,
            JsonLines(lines, profile.labels),
        )  # fmt: skip
        print("ready", flush=True)
        if sys.stdin.readline().strip() != GO:
            return
        camera.run(threading.Event())
        print(json.dumps({**camera.accounts.report(), "connections": client.connections}))


def run_way(way: str, options: argparse.Namespace, plan: LinkPlan, folder: Path) -> dict[str, Any]:
    """One run: its report and its lines."""
    lines = folder / f"{way}.jsonl"
    base = [sys.executable, __file__]
    common = [
        "--way", way, "--profile", str(options.profile), "--threads", str(options.threads),
    ]  # fmt: skip
    with open_link(plan, options.link) as link:
        serving = link.server_command([*base, "serve", "--listen", link.target, *common])
        with subprocess.Popen(serving, stdout=subprocess.PIPE, text=True) as server:
            try:
                _await_ready(server)
                address = link.begin(PORT)
                filming = link.edge_command([
                    *base, "camera", "--server", address, "--out", str(lines),
                    "--video", str(options.video), "--turns", str(len(plan.steps)),
                    "--shown", *map(str, options.shown),
                    "--latency-s", str(options.latency_s), "--quality", str(options.quality),
                    *common,
                ])  # fmt: skip
                with subprocess.Popen(
                    filming, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
                ) as camera:
                    _await_ready(camera)
                    link.start_clock()
                    report, _ = camera.communicate(GO + "\n")
            finally:
                server.terminate()
        kind = link.kind
    found = [json.loads(line) for line in lines.read_text().splitlines()]
    return {"link": kind, "report": json.loads(report.splitlines()[-1]), "lines": found}


def _await_ready(process: subprocess.Popen[str]) -> None:
    if process.stdout is None or not process.stdout.readline().startswith("ready"):
        raise SystemExit("a process did not start; its message is above")


def to_detections(found: Sequence[dict[str, Any]], labels: Sequence[str]) -> Detections:
    """A line's detections as they were."""
    return Detections(
        np.array([x["box"] for x in found], np.float32).reshape(-1, 4),
        np.array([x["score"] for x in found], np.float32),
        np.array([labels.index(x["label"]) for x in found], np.int64),
    )


def tell_step(
    step: LinkStep, begin_s: float, lines: list[dict[str, Any]],
    live: list[tuple[Detections, Detections]],
    references: Sequence[Detections], labels: Sequence[str], latency_s: float,
) -> dict[str, Any]:  # fmt: skip
    """What happened in one step.

    Args:
        step: The link's.
        begin_s: When it began, in the source's time.
        lines: Of the images that were captured in it.
        live: For each of these images the reference and what was known in time.
        references: The unsplit detector's, by image of the clip.
        labels: Class names.
        latency_s: The bound.
    """
    answered = [x for x in lines if "detections" in x]
    times_ms = np.array([x["latency_ms"] for x in answered] or [np.nan])
    ends_s = sorted(x["time_s"] + x["latency_ms"] / 1000 for x in answered)
    gaps_s = np.diff(ends_s) if len(ends_s) > 1 else np.array([np.nan])
    pairs = [
        (references[x["frame"] % len(references)], to_detections(x["detections"], labels))
        for x in answered
    ]
    return {
        "bps": step.bps, "loss": step.loss, "seconds": round(step.seconds, 2),
        "captured": len(lines), "answered": len(answered),
        "dropped": sum("dropped" in x for x in lines),
        "failed": sum("error" in x for x in lines),
        "latency_p50_ms": round(float(np.percentile(times_ms, 50)), 1),
        "latency_p95_ms": round(float(np.percentile(times_ms, 95)), 1),
        "latency_max_ms": round(float(times_ms.max()), 1),
        "late": sum(x["latency_ms"] > 1000 * latency_s for x in answered),
        "late_in_first_second": sum(
            x["latency_ms"] > 1000 * latency_s and x["time_s"] < begin_s + 1 for x in answered
        ),
        "longest_gap_s": round(float(gaps_s.max()), 3),
        "mean_bytes": round(float(np.mean([x["bytes"] for x in answered] or [np.nan])), 1),
        "mean_quality": round(float(np.mean([x["quality"] for x in answered] or [np.nan])), 3),
        "sent_bps": round(8 * sum(x.get("bytes", 0) for x in lines) / step.seconds),
        "answered_f1": round(total_agreement(pairs).f1, 4),
        "live_f1": round(total_agreement(live).f1, 4),
    }  # fmt: skip


def tell_way(
    run: dict[str, Any], plan: LinkPlan, references: Sequence[Detections], labels: Sequence[str],
    latency_s: float,
) -> dict[str, Any]:  # fmt: skip
    """A run by steps, and over time."""
    lines = sorted((x for x in run["lines"] if "frame" in x), key=lambda x: x["frame"])
    known = _known_in_time(lines, labels, latency_s)
    live = [
        (references[x["frame"] % len(references)], found)
        for x, found in zip(lines, known, strict=True)
    ]
    steps, begin_s = [], 0.0
    for step in plan.steps:
        # The clip's last image and the step's end may differ by rounding.
        end_s = begin_s + step.seconds - 1e-3
        inside = [i for i, x in enumerate(lines) if begin_s - 1e-3 <= x["time_s"] < end_s]
        steps.append(tell_step(
            step, begin_s, [lines[i] for i in inside], [live[i] for i in inside], references,
            labels, latency_s,
        ))  # fmt: skip
        begin_s += step.seconds
    return {
        "report": run["report"],
        "steps": steps,
        "over_time": {
            "time_s": [round(x["time_s"], 2) for x in lines],
            "latency_ms": [x.get("latency_ms") for x in lines],
            "bytes": [x.get("bytes") for x in lines],
            "goodput_kbps": [_thousandth(x.get("goodput_bps")) for x in lines],
            "live_f1": [round(agreement(a, b).f1, 3) for a, b in live],
        },
    }


def _known_in_time(
    lines: Sequence[dict[str, Any]], labels: Sequence[str], latency_s: float
) -> list[Detections]:
    """For each image, in order, what is known of it one bound later.

    That is the answer about it, or about the newest image before it that is there by then: an
    answer about a later image says what came after it.
    """
    arrivals_s = [
        x["time_s"] + x["latency_ms"] / 1000 if "detections" in x else float("inf") for x in lines
    ]
    known = []
    for index, line in enumerate(lines):
        due_s = line["time_s"] + latency_s
        there = (k for k in range(index, -1, -1) if arrivals_s[k] <= due_s)
        newest = next(there, None)
        known.append(to_detections([] if newest is None else lines[newest]["detections"], labels))
    return known


def _thousandth(value: float | None) -> float | None:
    return None if value is None else round(value / 1000, 1)


def measure(options: argparse.Namespace) -> None:
    """All ways over the link, and a file of what happened."""
    # What was started ends with this process, however it is told to end.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))
    profile = Profile.load(options.profile)
    clip = Repeated(options.video, tuple(options.shown), 1)
    detector = profile.open_detector("both", options.threads)
    references = [
        detector.detect(detector.extract(x.image))
        for x in track(clip.images, "unsplit")
        if x.image is not None
    ]
    steps = [LinkStep(clip.seconds, bps, loss) for bps, loss in STEPS]
    plan = LinkPlan(
        steps, options.down_factor, options.delay_ms / 1000, options.buffer_bytes, options.seed
    )
    ways: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for way in WAYS:
            run = run_way(way, options, plan, Path(folder))
            ways[way] = tell_way(run, plan, references, profile.labels, options.latency_s)
            # Whatever else the machine does makes every way slower.
            ways[way]["load_average"] = round(os.getloadavg()[1], 2)
            kind = run["link"]
            for row in ways[way]["steps"]:
                print(way, json.dumps(row), flush=True)
    result = {
        "video": options.video.name, "images": len(references), "seconds": round(clip.seconds, 2),
        "profile": profile.name, "link": kind, "tcp": _congestion_control(),
        "delay_ms": options.delay_ms,
        "down_factor": options.down_factor,
        "buffer_bytes": options.buffer_bytes, "latency_bound_s": options.latency_s,
        "quality": options.quality, "seed": options.seed, "ways": ways,
        "environment": asdict(Environment.capture(
            shlex.join(["python", *sys.argv]), threads=options.threads
        )),
    }  # fmt: skip
    options.out.write_text(json.dumps(result) + "\n")


def _congestion_control() -> str | None:
    path = Path("/proc/sys/net/ipv4/tcp_congestion_control")
    return path.read_text().strip() if path.is_file() else None


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("role", choices=("measure", "serve", "camera"))
    parser.add_argument("--video", type=Path)
    parser.add_argument("--profile", type=Path, required=True)
    parser.add_argument("--shown", type=int, nargs=2, default=(0, 300),
                        help="first image of the clip, and the one behind the last")  # fmt: skip
    parser.add_argument("--out", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quality", type=float, default=0.85)
    parser.add_argument("--latency-s", type=float, default=0.5)
    parser.add_argument("--link", choices=("auto", "namespaces", "proxy"), default="auto")
    parser.add_argument("--delay-ms", type=float, default=20.0, help="one way")
    parser.add_argument("--down-factor", type=float, default=4.0, help="rate to the edge")
    parser.add_argument("--buffer-bytes", type=int, default=32_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--way", choices=WAYS, help="(of the other roles)")
    parser.add_argument("--listen", help="(of serve)")
    parser.add_argument("--server", help="(of camera)")
    parser.add_argument("--turns", type=int, help="(of camera)")
    options = parser.parse_args()
    {"measure": measure, "serve": run_server, "camera": run_camera}[options.role](options)


if __name__ == "__main__":
    main()
