"""What slower settings of picture codecs buy: bytes at equal PSNR, and time, per photograph.

    python benchmarks/picture_speed.py --images ../shared/data/coco/train --limit 20 \\
        --out benchmarks/results/picture_speed.json

Photographs are resized, so that no codec finds the block grid of the JPEG files they come from. For
each setting the logarithm of the bytes is interpolated over PSNR (of RGB) between the qualities
measured; its mean difference from the codec's last setting over the PSNRs that both reach says how
many more or fewer bytes it needs. Times are the processor's, so that other work does not count.
"""

from __future__ import annotations

import argparse
import io
import json
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PillowImage
from rich.progress import track

from fpcodec.detectors.base import Image
from fpcodec.evaluation.environment import Environment
from fpcodec.evaluation.rivals import jpeg_xl
from fpcodec.evaluation.rivals.pictures import PictureFormat, decode_picture
from fpcodec.images import load_image

SIDE = 320
"""Longest side in pixels."""

QUALITIES = {"jpeg": (40, 80), "webp": (40, 80), "avif": (40, 70), "jxl": (45, 80)}
SETTINGS: dict[str, tuple[dict[str, Any], ...]] = {
    "jpeg": (
        {"optimize": False, "progressive": False},
        {"optimize": True, "progressive": False},
        {"optimize": True, "progressive": True},
    ),
    "webp": ({"method": 4}, {"method": 5}, {"method": 6}),
    "avif": tuple({"speed": speed} for speed in (8, 7, 6, 4, 2)),
    "jxl": tuple({"effort": effort} for effort in (7, 8, 9)),
}
"""The slowest last: the others are compared with it."""

Encode = Callable[[Image], bytes]


def encoder(codec: str, quality: int, setting: dict[str, Any]) -> Encode:
    """The codec at a quality, with some of its options replaced."""
    if codec == "jxl":
        return partial(jpeg_xl.encode, quality=quality, effort=setting["effort"])
    options = {**PictureFormat(codec, quality).pillow_options, **setting}

    def encode(picture: Image) -> bytes:
        buffer = io.BytesIO()
        PillowImage.fromarray(picture).save(buffer, codec.upper(), **options)
        return buffer.getvalue()

    return encode


def psnr(sent: Image, received: Image) -> float:
    """Decibels over all three channels."""
    error = np.square(sent.astype(np.float64) - received).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def more_bytes(curve: np.ndarray, reference: np.ndarray) -> float:
    """Mean of log bytes of a curve (bytes, PSNR) minus the reference's, where both reach."""
    low = max(curve[:, 1].min(), reference[:, 1].min())
    high = min(curve[:, 1].max(), reference[:, 1].max())
    at = np.linspace(low, high, 50)
    first, second = (np.interp(at, x[:, 1], np.log(x[:, 0])) for x in (curve, reference))
    return float(np.mean(first - second))


def measure(pictures: Sequence[Image], codec: str) -> list[dict[str, Any]]:
    """One row per setting of a codec."""
    curves: list[list[np.ndarray]] = []
    times_ms: list[list[float]] = []
    for setting in SETTINGS[codec]:
        per_picture, times = [], []
        for picture in track(pictures, f"{codec} {setting}"):
            points = []
            for quality in QUALITIES[codec]:
                encode = encoder(codec, quality, setting)
                start = time.process_time()
                data = encode(picture)
                times.append(1000 * (time.process_time() - start))
                points.append((len(data), psnr(picture, decode_picture(data))))
            per_picture.append(np.array(points))
        curves.append(per_picture)
        times_ms.append(times)
    rows = []
    for setting, curve, times in zip(SETTINGS[codec], curves, times_ms, strict=True):
        gains = [more_bytes(x, y) for x, y in zip(curve, curves[-1], strict=True)]
        rows.append({
            "codec": codec,
            "setting": setting,
            "qualities": QUALITIES[codec],
            "mean_bytes": np.mean([x[:, 0] for x in curve], axis=0).round(1).tolist(),
            "mean_psnr_db": np.mean([x[:, 1] for x in curve], axis=0).round(3).tolist(),
            "bytes_over_slowest_percent": round(100 * (float(np.exp(np.mean(gains))) - 1), 2),
            "median_encode_cpu_ms": round(float(np.median(times)), 1),
            "mean_encode_cpu_ms": round(float(np.mean(times)), 1),
        })  # fmt: skip
        print(json.dumps(rows[-1]), flush=True)
    return rows


def resized(path: Path) -> Image:
    """A photograph with its longest side at SIDE pixels."""
    picture = PillowImage.fromarray(load_image(path))
    scale = SIDE / max(picture.size)
    width, height = (round(side * scale) for side in picture.size)
    return np.array(picture.resize((width, height), PillowImage.Resampling.BILINEAR))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=20)
    parser.add_argument("--codec", action="append", choices=sorted(SETTINGS))
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    endings = {".jpg", ".jpeg", ".png"}
    paths = sorted(x for x in options.images.iterdir() if x.suffix.lower() in endings)
    pictures = [resized(path) for path in paths[: options.limit]]
    environment = Environment.capture(shlex.join(["python", *sys.argv]), threads=1)
    rows: list[dict[str, Any]] = []
    for codec in options.codec or SETTINGS:
        rows += measure(pictures, codec)
    done = [
        {"data": options.images.name, "images": len(pictures), "longest_side": SIDE, **row,
         "environment": asdict(environment)}
        for row in rows
    ]  # fmt: skip
    options.out.write_text(json.dumps(done, indent=1) + "\n")


if __name__ == "__main__":
    main()
