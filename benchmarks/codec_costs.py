"""What a codec costs beside its detector on the edge, and how many images a server core takes.

    python benchmarks/codec_costs.py --profile runs/learned_nano --quality 0.5 \\
        --images ../shared/data/coco/val --limit 20 --rounds 5 \\
        --out benchmarks/results/codec_costs_yolox_nano.json

    python benchmarks/codec_costs.py --untrained runs/r50_untrained --network-size 1088x800 \\
        --detector "torchvision:fasterrcnn_resnet50_fpn?weights=none&seed=0" --quality 0.5 \\
        --images ../shared/data/coco/val --limit 3 --rounds 2 \\
        --out benchmarks/results/codec_costs_r50.json

With ``--detector`` the learned network has the sizes that training starts from and untrained
weights: graphs, MACs and times are real, accuracy is none. Every image goes in turn through the
edge half (extract, analyse, quantise, code), the server half (decode, reconstruct, head) and the
rival's server (decode a JPEG, whole detector), timed by this process's CPU time on one thread;
ratios are taken within a turn, so that what slows the machine weighs on both sides alike.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from untrained_profile import untrained_profile

from fpcodec.cli.output import progress_callback
from fpcodec.codecs.base import quality_byte
from fpcodec.codecs.chunked import ChunkedCodec
from fpcodec.codecs.chunks import CODEC_NAMES
from fpcodec.detectors.base import Detector, Image
from fpcodec.errors import InputError
from fpcodec.evaluation.cost import analysis_macs, coded_symbols, synthesis_macs
from fpcodec.evaluation.environment import Environment
from fpcodec.evaluation.rivals.pictures import PictureFormat, decode_picture, detect_in_picture
from fpcodec.evaluation.ways.base import stopwatch
from fpcodec.files import replacing
from fpcodec.images import load_image
from fpcodec.profile import Profile
from fpcodec.pyramid import Pyramid

JPEG_QUALITY = 75
THREADS = 1
ENDINGS = {".jpg", ".jpeg", ".png"}

CODEC_STAGES = ("analyse", "quantise", "code")
SPLIT_STAGES = ("decode", "reconstruct", "head")
PICTURE_STAGES = ("picture decode", "picture detect")

Turn = Mapping[str, float]
"""Stage to milliseconds, of one image once."""


@dataclass(frozen=True)
class Bench:
    """A codec and its detector, both halves.

    Attributes:
        detector: Its networks on one thread.
        codec: On one thread too.
        quality: 0..255 as on the wire.
    """

    detector: Detector
    codec: ChunkedCodec
    quality: int

    @classmethod
    def open(cls, profile: Profile, quality: float) -> Bench:
        """Open a profile.

        Raises:
            InputError: The codec is of a kind that is not chunked.
        """
        codec = profile.open_codec(THREADS)
        if not isinstance(codec, ChunkedCodec):
            raise InputError(f"codec id {codec.codec_id} is not one this benchmark knows")
        return cls(profile.open_detector("both", threads=THREADS), codec, quality_byte(quality))

    def turn(self, image: Image, picture: bytes) -> tuple[Turn, bytes]:
        """Send one image both ways: milliseconds by stage, and the frame."""
        times: dict[str, float] = {}
        names = self.codec.spec.coded_names
        with stopwatch(times, "extract"):
            pyramid = self.detector.extract(image)
        with stopwatch(times, "analyse"):
            quantise = self.codec.prepare(pyramid, names)
        with stopwatch(times, "quantise"):
            integers = quantise(self.quality, names)
        with stopwatch(times, "code"):
            frame = self.codec.write(integers, self.quality, pyramid.geometry)
        with stopwatch(times, "decode"):
            decoded = self.codec.decode(frame)
        with stopwatch(times, "reconstruct"):
            received = self.codec.reconstruct([decoded], [pyramid.geometry])[0]
        with stopwatch(times, "head"):
            self.detector.detect(received)
        with stopwatch(times, "picture decode"):
            seen = decode_picture(picture)
        with stopwatch(times, "picture detect"):
            detect_in_picture(self.detector, seen, (image.shape[1], image.shape[0]))
        return times, frame

    def picture(self, image: Image) -> bytes:
        """The JPEG of an image at its own size or the network's, whichever has fewer pixels."""
        size = (image.shape[1], image.shape[0])
        geometry = self.detector.geometry(size)
        shrinks = np.prod(geometry.content_size) < np.prod(size)
        chosen = PictureFormat("jpeg", JPEG_QUALITY, size="network" if shrinks else "original")
        return chosen.encode(chosen.picture(image, geometry))


def measure(
    bench: Bench, images: Sequence[Image], rounds: int, progress: Callable[[int, int], None]
) -> dict[str, Any]:
    """All images once to warm up, then in rounds."""
    pictures = [bench.picture(image) for image in images]
    bench.turn(images[0], pictures[0])
    turns: list[Turn] = []
    frames: list[int] = []
    for _ in range(rounds):
        for image, picture in zip(images, pictures, strict=True):
            times, frame = bench.turn(image, picture)
            turns.append(times)
            frames.append(len(frame))
            progress(len(turns), rounds * len(images))
    pyramid = bench.detector.extract(images[0])
    return {
        "codec": CODEC_NAMES[bench.codec.codec_id],
        "images": len(images),
        "rounds": rounds,
        "network_size": list(pyramid.geometry.network_size),
        "mean_bytes": float(np.mean(frames)),
        "mean_picture_bytes": float(np.mean([len(x) for x in pictures])),
        "symbols": coded_symbols(bench.codec, pyramid, bench.quality / 255),
        **timings(turns),
        "macs": macs(bench, pyramid),
        "proposals": proposals(bench.detector, pyramid),
    }


def timings(turns: Sequence[Turn]) -> dict[str, Any]:
    """Milliseconds by stage, ratios within turns, and images per second of a core."""
    stages = defaultdict(list)
    for times in turns:
        for stage, value in times.items():
            stages[stage].append(value)
    split, picture, codec = (
        np.array([sum(times[x] for x in part) for times in turns])
        for part in (SPLIT_STAGES, PICTURE_STAGES, CODEC_STAGES)
    )
    return {
        "cpu_ms": {stage: spread(values) for stage, values in stages.items()},
        "edge_codec_share_of_extract": spread(codec / np.array(stages["extract"])),
        "server_split_images_per_s": spread(1e3 / split),
        "server_picture_images_per_s": spread(1e3 / picture),
        "server_split_over_picture": spread(picture / split),
    }


def spread(values: Any) -> dict[str, float]:
    """Median, 5th and 95th percentile over turns."""
    low, middle, high = (float(x) for x in np.percentile(np.asarray(values), [5, 50, 95]))
    return {"median": middle, "p5": low, "p95": high}


def macs(bench: Bench, pyramid: Pyramid) -> dict[str, Any]:
    """Multiply-accumulates of one image by part; None where the detector does not know its own."""
    whole = Pyramid(pyramid.spec, dict(pyramid.levels), pyramid.geometry)
    bench.detector.detect(whole)
    edge, analysis = bench.detector.macs(), analysis_macs(bench.codec, pyramid)
    return {
        "edge_network": edge,
        "edge_analysis": analysis,
        "edge_analysis_share": None if edge is None else analysis / edge,
        "server_synthesis": synthesis_macs(bench.codec, pyramid),
        "server_head": bench.detector.server_macs,
    }


def proposals(detector: Any, pyramid: Pyramid) -> int | None:
    """Regions that a two-stage detector's second stage looks at; None of a one-stage detector."""
    rpn = getattr(getattr(detector, "model", None), "rpn", None)
    if rpn is None:
        return None
    counts: list[int] = []
    hook = rpn.register_forward_hook(lambda _, __, found: counts.append(len(found[0][0])))
    with _removed(hook):
        detector.detect(pyramid)
    return counts[-1]


@contextmanager
def _removed(hook: Any) -> Iterator[None]:
    try:
        yield
    finally:
        hook.remove()


def chosen_images(folder: Path, limit: int, detector: Detector | None, size: str) -> list[Path]:
    """The first pictures of a folder, or the first that fill a network input of some size.

    Raises:
        InputError: There are too few.
    """
    wanted = tuple(int(side) for side in size.split("x")) if size else ()
    found: list[Path] = []
    for path in sorted(x for x in folder.iterdir() if x.suffix.lower() in ENDINGS):
        if wanted and detector is not None:
            height, width = load_image(path).shape[:2]
            if detector.geometry((width, height)).network_size != wanted:
                continue
        found.append(path)
        if len(found) == limit:
            return found
    raise InputError(f"{folder}: {len(found)} pictures of {limit} fit; lower --limit")


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--profile", type=Path, action="append", metavar="DIR")
    parser.add_argument("--detector", metavar="SPEC", help="in place of profiles")
    parser.add_argument("--untrained", type=Path, metavar="DIR", help="for its untrained profile")
    parser.add_argument("--network-size", default="", metavar="WxH", help="only such pictures")
    parser.add_argument("--images", type=Path, metavar="DIR", required=True)
    parser.add_argument("--limit", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quality", type=float, action="append")
    parser.add_argument("--out", type=Path, metavar="JSON", required=True)
    options = parser.parse_args()
    if (options.detector is None) == (options.profile is None):
        parser.error("give profiles, or a detector for an untrained one")
    if options.detector is not None and options.untrained is None:
        parser.error("--detector needs --untrained, a folder for its untrained profile")
    return options


def main() -> None:
    from fpcodec.detectors.factory import open_detector

    options = parse_options()
    environment = Environment.capture(shlex.join(["python", *sys.argv]), threads=THREADS)
    if options.detector is None:
        profiles = [Profile.load(folder) for folder in options.profile]
        sized: Detector = profiles[0].open_detector("both", threads=THREADS)
    else:
        sized = open_detector(options.detector, threads=THREADS)
    paths = chosen_images(options.images, options.limit, sized, options.network_size)
    del sized
    if options.detector is not None:
        profiles = [untrained_profile(options.detector, paths, options.untrained)]
    images, rows = [load_image(path) for path in paths], []
    for profile in profiles:
        for quality in options.quality or [0.5]:
            with progress_callback(f"{profile.name} q{quality:g}") as progress:
                row = measure(Bench.open(profile, quality), images, options.rounds, progress)
            named = {"name": profile.name, "quality": quality, "data": options.images.name,
                     "trained": options.detector is None, "detector": options.detector}  # fmt: skip
            rows.append({**named, **row, "environment": asdict(environment)})
            print(json.dumps(rows[-1]), flush=True)
    with replacing(options.out) as temporary:
        temporary.write_text(json.dumps(rows, indent=1, allow_nan=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
