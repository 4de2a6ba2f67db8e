"""A detector of the published studies' size through everything: calibrate, encode, gRPC, decode.

    python benchmarks/large_pyramid.py --images photos --out large.json \\
        --detector "torchvision:fasterrcnn_resnet50_fpn?weights=none&seed=0"

The server is a process of its own; memory is the peak resident set of each process, calibration
included on the edge.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fpcodec.calibration import calibrate
from fpcodec.cli.loopback import loopback_server
from fpcodec.detectors.factory import open_detector
from fpcodec.errors import FpcodecError
from fpcodec.evaluation.cost import analysis_macs
from fpcodec.evaluation.environment import Environment
from fpcodec.images import load_image
from fpcodec.profile import Profile
from fpcodec.split import EdgeHalf
from fpcodec_edge import EdgeClient

QUALITIES = (0.25, 0.5, 0.75, 1.0)
DEADLINE_S = 120.0


def peak_megabytes(process_id: int | str = "self") -> float:
    """Peak resident set of a process (``getrusage`` of a child counts its parent's pages too)."""
    for line in Path(f"/proc/{process_id}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return round(int(line.split()[1]) / 1024, 1)
    return float("nan")


def child_process_ids() -> list[str]:
    """Processes that any thread of this one started."""
    return [
        process_id
        for task in Path("/proc/self/task").iterdir()
        for process_id in (task / "children").read_text().split()
    ]


def send(profile: Profile, folder: Path, paths: list[Path], codec: str) -> list[dict[str, Any]]:
    """One row per quality: what went over a real connection, or the error that stopped it."""
    edge = EdgeHalf(profile, threads=1)
    # All of a large pyramid in bits per channel is above any sensible limit: the study's levels.
    levels = ("p3", "p5") if codec == "uniform" else profile.spec.coded_names
    rows = []
    with (
        loopback_server(folder, threads=1) as address,
        EdgeClient(address, deadline_s=DEADLINE_S) as client,
    ):
        for quality in QUALITIES:
            times: dict[str, list[float]] = {}
            sizes, problems = [], []
            for path in paths:
                try:
                    frame = edge.encode(load_image(path), quality=quality, levels=levels)
                    reply = client.infer(frame.data)
                except FpcodecError as error:
                    problems.append(f"{type(error).__name__}: {error}")
                    continue
                sizes.append(len(frame.data))
                for stage, value in {**frame.timings_ms, **reply.timings_ms}.items():
                    times.setdefault(stage, []).append(value)
            median = {stage: round(statistics.median(x), 1) for stage, x in times.items()}
            rows.append({
                "codec": codec,
                "levels": levels,
                "quality": quality,
                "network_size": frame.pyramid.geometry.network_size,
                "raw_fp32_bytes": frame.pyramid.raw_bytes,
                "mean_bytes": statistics.mean(sizes) if sizes else None,
                "median_ms": median,
                "encode_share_of_extract": (
                    round(median["encode"] / median["extract"], 4) if median else None
                ),
                "edge_macs": edge.detector.macs(levels),
                "codec_macs": analysis_macs(profile.codec, frame.pyramid),
                "errors": problems,
            })  # fmt: skip
            print(json.dumps(rows[-1]), flush=True)
        server_peak = max(peak_megabytes(child) for child in child_process_ids())
    return [{**row, "server_peak_megabytes": server_peak} for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--detector", required=True, metavar="SPEC")
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=6)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    endings = {".jpg", ".jpeg", ".png"}
    paths = sorted(x for x in options.images.iterdir() if x.suffix.lower() in endings)
    paths = paths[: options.limit]
    environment = Environment.capture(shlex.join(["python", *sys.argv]), threads=1)
    rows: list[dict[str, Any]] = []
    for codec in ("pca", "uniform"):
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "profile"
            detector = open_detector(options.detector, threads=1)
            start = time.perf_counter()
            profile = calibrate(detector, paths, folder, codec=codec, key_level_seconds=20)
            seconds = time.perf_counter() - start
            del detector
            rows += [
                {"detector": options.detector, "images": len(paths), "data": options.images.name,
                 "calibration_s": round(seconds, 1), **row}
                for row in send(profile, folder, paths, codec)
            ]  # fmt: skip
    for row in rows:
        row["edge_peak_megabytes"] = peak_megabytes()
        row["environment"] = asdict(environment)
    options.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
