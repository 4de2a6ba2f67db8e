"""What the codec costs beside its detector: symbols, milliseconds and MACs, in one run.

    python benchmarks/codec_speed.py --profile nano --images photos --out speed.json

Stages are timed in turn on every image, so that what else the machine does weighs on all alike;
the ratios are of medians.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from fpcodec.codecs.chunked import ChunkedCodec
from fpcodec.errors import InputError
from fpcodec.evaluation.cost import analysis_macs, meter_frame
from fpcodec.evaluation.environment import Environment
from fpcodec.images import load_image
from fpcodec.profile import Profile
from fpcodec.split import EdgeHalf, ServerHalf


def measure(profile: Profile, paths: list[Path], quality: float, rounds: int) -> dict[str, Any]:
    """One row: medians over all images and rounds."""
    codec = profile.codec
    if not isinstance(codec, ChunkedCodec):
        raise InputError(f"codec id {codec.codec_id} is not one this benchmark knows")
    edge, server = EdgeHalf(profile, threads=1), ServerHalf(profile, threads=1)
    # ``extract`` prepares the image and runs the network; timed again, the first tells them apart.
    prepare = getattr(edge.detector, "preprocess", lambda image: None)
    images = [load_image(path) for path in paths]
    times: dict[str, list[float]] = {}
    sizes, symbols, ideal = [], [], []
    for _ in track(range(rounds), "timing"):
        for image in images:
            start = time.perf_counter()
            prepare(image)
            prepared = {"prepare": 1e3 * (time.perf_counter() - start)}
            frame = edge.encode(image, quality=quality)
            answer = server.infer(frame.data)
            for stage, value in {**prepared, **frame.timings_ms, **answer.timings_ms}.items():
                times.setdefault(stage, []).append(value)
    for image in images:
        frame = edge.encode(image, quality=quality)
        counted = meter_frame(codec, frame.pyramid, quality)
        sizes.append(len(frame.data))
        symbols.append(counted.symbols)
        ideal.append(counted.bits / 8)
    median = {stage: statistics.median(values) for stage, values in times.items()}
    network = median["extract"] - median["prepare"]
    return {
        "quality": quality,
        "images": len(images),
        "rounds": rounds,
        "mean_bytes": float(np.mean(sizes)),
        "ideal_bytes": float(np.mean(ideal)),
        "mean_symbols": float(np.mean(symbols)),
        "median_ms": {stage: round(value, 3) for stage, value in median.items()},
        "least_ms": {stage: round(min(values), 3) for stage, values in times.items()},
        "encode_share_of_extract": round(median["encode"] / median["extract"], 4),
        "decode_share_of_extract": round(median["decode"] / median["extract"], 4),
        "encode_share_of_network": round(median["encode"] / network, 4),
        "decode_share_of_network": round(median["decode"] / network, 4),
        "edge_macs": edge.detector.macs(),
        "codec_macs": analysis_macs(codec, frame.pyramid),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quality", type=float, action="append")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    profile = Profile.load(options.profile)
    endings = {".jpg", ".jpeg", ".png"}
    paths = sorted(x for x in options.images.iterdir() if x.suffix.lower() in endings)
    environment = Environment.capture(shlex.join(["python", *sys.argv]), threads=1)
    rows = []
    for quality in options.quality or [0.25, 0.5, 0.75, 1.0]:
        row = measure(profile, paths[: options.limit], quality, options.rounds)
        print(json.dumps(row))
        rows.append({"name": f"{profile.name} q{quality:g}", "data": options.images.name,
                     **row, "environment": asdict(environment)})  # fmt: skip
    options.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
