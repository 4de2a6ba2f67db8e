"""What it buys to answer with what has arrived: latency and agreement, by uplink and patience.

    python benchmarks/early_answers.py --profile runs/learned_nano --images photos \\
        --out benchmarks/results/early_answers.json

Frames go one after the other over a relay of a constant rate, in parts of a packet, to a server in
a process of its own. With each patience (``answer_within_ms``; 0 waits for the whole frame) the
same photographs are sent. Latency runs from the first byte to the answer: coding is left out.
Answers are compared with the unsplit detector's (F1 at IoU 0.5).
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from emulated_link import LinkPlan, LinkStep, ProxyLink
from rich.progress import track

from fpcodec.address import split_address
from fpcodec.cli.loopback import loopback_server
from fpcodec.detections import Detections
from fpcodec.evaluation.agreement import total_agreement
from fpcodec.evaluation.environment import Environment
from fpcodec.images import load_image
from fpcodec.profile import Profile
from fpcodec.split import EdgeHalf
from fpcodec_edge import FrameOutcome, StreamClient

RATES_BPS = (32e3, 64e3, 128e3, 256e3, 1e6)
PATIENCE_MS = (0, 50, 100, 200, 400)
EMPTY = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))


def send_all(
    client: StreamClient, frames: Sequence[bytes], patience_ms: float
) -> list[FrameOutcome]:
    """Send frames one after the other, each once its predecessor is answered."""
    within_s = patience_ms / 1000 or None
    found = []
    for frame in frames:
        client.send(frame, answer_within_s=within_s)
        while not (outcomes := client.poll()):
            time.sleep(0.001)
        found += outcomes
    return found


def tell(outcomes: Sequence[FrameOutcome], references: Sequence[Detections]) -> dict[str, Any]:
    """Latency, agreement and levels of one run; frames without an answer count as empty ones."""
    replies = [outcome.reply for outcome in outcomes]
    found = [EMPTY if reply is None else reply.detections for reply in replies]
    times_ms = [1000 * (x.settled_s - x.sent_s) for x in outcomes]
    p50, p95 = np.percentile(times_ms, [50, 95])
    levels = Counter("+".join(x.levels_used) for x in replies if x is not None)
    return {
        "latency_p50_ms": round(float(p50), 1),
        "latency_p95_ms": round(float(p95), 1),
        "f1": round(total_agreement(zip(references, found, strict=True)).f1, 4),
        "levels_used": dict(levels.most_common()),
        "errors": dict(Counter(x.error_name for x in outcomes if x.reply is None)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=40)
    parser.add_argument("--quality", type=float, default=0.4)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    profile = Profile.load(options.profile)
    edge, detector = EdgeHalf(profile, threads=1), profile.open_detector("both", 1)
    endings = {".jpg", ".jpeg", ".png"}
    paths = sorted(x for x in options.images.iterdir() if x.suffix.lower() in endings)
    frames, references = [], []
    for path in track(paths[: options.limit], "encoding"):
        encoded = edge.encode(load_image(path), quality=options.quality)
        frames.append(encoded.data)
        references.append(detector.detect(encoded.pyramid))
    rows = []
    with loopback_server(options.profile, 1) as address:
        for rate in RATES_BPS:
            link = ProxyLink(LinkPlan([LinkStep(1e9, rate)]))
            near = link.begin(split_address(address)[1])
            link.start_clock()
            try:
                for patience_ms in PATIENCE_MS:
                    with StreamClient(near, profile.stream_id) as client:
                        client.wait_tried(10)
                        outcomes = send_all(client, frames, patience_ms)
                    told = tell(outcomes, references)
                    rows.append({"bps": rate, "answer_within_ms": patience_ms, **told})
                    print(json.dumps(rows[-1]), flush=True)
            finally:
                link.close()
    result = {
        "profile": profile.name,
        "data": options.images.name,
        "images": len(frames),
        "quality": options.quality,
        "mean_frame_bytes": round(float(np.mean([len(x) for x in frames])), 1),
        "link": link.kind,
        "rows": rows,
        "environment": asdict(Environment.capture(shlex.join(["python", *sys.argv]), threads=1)),
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
