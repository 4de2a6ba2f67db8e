"""Our range coder beside CompressAI's rANS and zstd on the same symbols, in one process.

    PYTHONPATH=.:edge:server peers/bin/python benchmarks/entropy_peers.py --profile runs/nano \\
        --images ../shared/data/coco/train --out benchmarks/results/entropy_peers.json

CompressAI holds numpy below 2, so it wants an environment of its own:

    python3 -m venv peers && peers/bin/pip install . "compressai==1.2.8" zstandard

Every coder gets the symbols of real frames, chunk by chunk, without headers. The range coder and
rANS have the same tables and contexts, and the contexts are handed to both decoders: in use they
come pass by pass from what was decoded before, which a decoder that takes a whole chunk at once
cannot do. zstd gets the coded symbols as bytes, and the planes of quantised values as bytes with
all their zeros, less those of groups that no position of the level reaches. Times are the
processor's, so that what else the machine does weighs on none.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from symbol_coders import OURS, ChunkSymbols, Peer, chunk_symbols, peers

from fpcodec.cli.output import progress_callback
from fpcodec.codecs.chunked import ChunkedCodec
from fpcodec.entropy import SymbolMeter
from fpcodec.errors import FpcodecError, InputError
from fpcodec.evaluation.environment import Environment
from fpcodec.files import replacing
from fpcodec.image_folder import choose_images
from fpcodec.images import load_image
from fpcodec.profile import Profile
from fpcodec.pyramid import Pyramid

QUALITIES = (0.25, 0.5, 0.75)


@dataclass
class Measured:
    """What one coder did, frame by frame: bytes, and the median of rounds in CPU milliseconds."""

    sizes: list[int] = field(default_factory=list)
    encode_ms: list[float] = field(default_factory=list)
    decode_ms: list[float] = field(default_factory=list)


def measure_frame(
    coders: Sequence[Peer], chunks: Sequence[ChunkSymbols], rounds: int
) -> dict[str, tuple[int, float, float]]:
    """Bytes, encode and decode CPU milliseconds of one frame per coder; rounds take turns.

    Raises:
        InputError: A coder decodes to something else.
    """
    for chunk in chunks:
        # What every coder starts from is made before the clock runs.
        _ = chunk.symbols, chunk.as_bytes, chunk.planes, chunk.joint
    times: dict[str, list[tuple[float, float]]] = {coder.name: [] for coder in coders}
    sizes: dict[str, int] = {}
    for number in range(rounds):
        for coder in coders:
            start = time.process_time()
            data = [coder.encode(chunk) for chunk in chunks]
            encoded = time.process_time()
            back = [coder.decode(part, chunk) for part, chunk in zip(data, chunks, strict=True)]
            done = time.process_time()
            times[coder.name].append((1e3 * (encoded - start), 1e3 * (done - encoded)))
            if not number:
                sizes[coder.name] = sum(len(part) for part in data)
                _require_same(coder, back, chunks)
    return {
        name: (sizes[name], *(statistics.median(x) for x in zip(*taken, strict=True)))
        for name, taken in times.items()
    }


def _require_same(coder: Peer, back: Sequence[Any], chunks: Sequence[ChunkSymbols]) -> None:
    for found, chunk in zip(back, chunks, strict=True):
        if not np.array_equal(found, coder.coded(chunk)):
            raise InputError(f"{coder.name} does not give back what it was given; its bytes "
                             "cannot be compared")  # fmt: skip


def ideal_bytes(chunks: Sequence[ChunkSymbols]) -> float:
    """The code length of the symbols under their own tables."""
    meter = SymbolMeter()
    for chunk in chunks:
        for one in chunk.passes:
            meter.code(*one)
    return meter.bits / 8


def summarise(measured: Mapping[str, Measured]) -> list[dict[str, Any]]:
    """One entry per coder; ratios to ours are medians of the frames' own ratios."""
    ours = measured[OURS]
    return [
        {
            "coder": name,
            "mean_bytes": statistics.fmean(one.sizes),
            "bytes_ratio": sum(one.sizes) / sum(ours.sizes),
            "median_encode_ms": round(statistics.median(one.encode_ms), 4),
            "median_decode_ms": round(statistics.median(one.decode_ms), 4),
            "encode_time_ratio": _median_ratio(one.encode_ms, ours.encode_ms),
            "decode_time_ratio": _median_ratio(one.decode_ms, ours.decode_ms),
        }
        for name, one in measured.items()
    ]


def _median_ratio(values: Sequence[float], others: Sequence[float]) -> float:
    return round(statistics.median(a / b for a, b in zip(values, others, strict=True)), 4)


def measure(
    codec: ChunkedCodec, pyramids: Sequence[Pyramid], quality: float, rounds: int,
    coders: Sequence[Peer], progress: Callable[[int, int], None],
) -> list[dict[str, Any]]:  # fmt: skip
    """Rows of one quality."""
    measured = {coder.name: Measured() for coder in coders}
    ideal, symbols = [], []
    for index, pyramid in enumerate(pyramids):
        chunks = chunk_symbols(codec, pyramid, quality)
        ideal.append(ideal_bytes(chunks))
        symbols.append(sum(len(chunk.symbols) for chunk in chunks))
        for name, (size, encode_ms, decode_ms) in measure_frame(coders, chunks, rounds).items():
            measured[name].sizes.append(size)
            measured[name].encode_ms.append(encode_ms)
            measured[name].decode_ms.append(decode_ms)
        progress(index + 1, len(pyramids))
    shared = {
        "quality": quality,
        "images": len(pyramids),
        "rounds": rounds,
        "mean_symbols": statistics.fmean(symbols),
        "ideal_bytes": statistics.fmean(ideal),
    }
    return [{"name": f"{row['coder']} q{quality:g}", **shared, **row} for row in
            summarise(measured)]  # fmt: skip


def _environment() -> dict[str, Any]:
    found = asdict(Environment.capture(shlex.join(["python", *sys.argv]), threads=1))
    found["packages"] |= {name: metadata.version(name) for name in ("compressai", "zstandard")}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--profile", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1, help="chooses which images")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quality", type=float, action="append")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    coders = peers()
    profile = Profile.load(options.profile)
    if not isinstance(profile.codec, ChunkedCodec):
        raise InputError(f"{options.profile}: only uniform and pca code symbols by tables")
    detector = profile.open_detector("edge", threads=1)
    paths = choose_images(options.images, options.limit, options.seed)
    pyramids = [detector.extract(load_image(path)) for path in paths]
    rows = []
    for quality in options.quality or QUALITIES:
        with progress_callback(f"Quality {quality:g}") as progress:
            found = measure(profile.codec, pyramids, quality, options.rounds, coders, progress)
        rows += [{**row, "data": options.images.name, "environment": _environment()}
                 for row in found]  # fmt: skip
        for row in found:
            print(f"{row['name']:22}{row['mean_bytes']:10,.0f} B  x{row['bytes_ratio']:.3f}"
                  f"  encode x{row['encode_time_ratio']:.2f}"
                  f"  decode x{row['decode_time_ratio']:.2f}")  # fmt: skip
    with replacing(options.out) as temporary:
        temporary.write_text(json.dumps(rows, indent=1, allow_nan=False) + "\n", "utf-8")


if __name__ == "__main__":
    try:
        main()
    except FpcodecError as error:
        sys.exit(f"error: {error}")
