"""What feature frames reveal: pictures recovered from them, held against the originals.

    python scripts/train_inverter.py --profile runs/learned_nano --quality 0.3 --quality 0.6 \\
        --quality 0.85 --images ../shared/data/coco/train --out runs/inverter
    python benchmarks/privacy.py --profile runs/learned_nano --inverter runs/inverter \\
        --images ../shared/data/coco/val --work runs/privacy \\
        --out benchmarks/results/privacy/rows.json

Beside the frames at each quality: the pyramid before coding, which bounds them; WebP files of like
bytes; and the picture's mean colour, which shows nothing. Called again, a run goes on after the
last picture. What needs packages that are not installed is left out, with a note; see
``privacy_eyes.py``.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from kept_work import check_settings, read_lines
from privacy_eyes import FACE_LIKELY, FACE_SURE, FaceFinder, TextReader, faces_again, letters_kept
from privacy_words import HEIGHTS, word_scenes

from fpcodec.cli.output import note, progress_callback
from fpcodec.detections import Detections
from fpcodec.detectors.base import Detector, Image
from fpcodec.detectors.decoding import batched_nms
from fpcodec.evaluation.bootstrap import Interval, draw_weights
from fpcodec.evaluation.environment import Environment
from fpcodec.evaluation.matching import iou_matrix, to_xywh
from fpcodec.evaluation.privacy.inverter import Inverter, recover
from fpcodec.evaluation.privacy.inverter_files import read_inverter
from fpcodec.evaluation.privacy.received import ReceivedPyramids, content_of, content_picture
from fpcodec.evaluation.privacy.reidentification import (
    centred,
    descriptor,
    pyramid_descriptor,
    rank_of_original,
)
from fpcodec.evaluation.privacy.similarity import edge_correlation, psnr_db, ssim
from fpcodec.evaluation.rivals.pictures import PictureFormat, decode_picture
from fpcodec.files import replacing
from fpcodec.images import load_image
from fpcodec.profile import Profile

ORIGINAL, UNCODED, MEAN_COLOUR = "original", "pyramid before coding", "mean colour"

MIN_SCORE, MIN_IOU, NMS_IOU, MOST_BOXES = 0.3, 0.5, 0.5, 100
"""What counts as an object that the detector finds, and finds again."""

_WEBP = [
    PictureFormat("webp", quality, size=size)
    for size in (1.0, 0.75, 0.5, 0.35, 0.25) for quality in (60, 40, 20, 10, 0)
]  # fmt: skip
_WEBP_PICTURES = 24
_COPY = PictureFormat("webp", 40, size=0.5)
_PICTURES = "pictures.jsonl"
_THREADS = 1

Ways = Mapping[str, Callable[[Image], tuple[Image, int | None]]]
"""Name to what turns an image into the picture that is left of it, and the bytes that were sent."""


@dataclass(frozen=True)
class Eyes:
    """What looks at pictures.

    Attributes:
        detector: Both halves.
        faces: None where its package is not installed.
        text: None where its package is not installed.
    """

    detector: Detector
    faces: FaceFinder | None
    text: TextReader | None

    @classmethod
    def open(cls, detector: Detector) -> Eyes:
        """With all that is installed."""
        return cls(detector, _optional(FaceFinder, "faces"), _optional(TextReader, "text"))

    def objects(self, picture: Image) -> Detections:
        """What the detector finds in a picture at the network's size."""
        found = self.detector.detect(self.detector.extract(picture))
        kept = batched_nms(found.boxes, found.scores, found.labels, NMS_IOU, MOST_BOXES)
        kept = kept[found.scores[kept] >= MIN_SCORE]
        return Detections(found.boxes[kept], found.scores[kept], found.labels[kept])


def _optional(kind: Callable[[], Any], what: str) -> Any:
    try:
        return kind()
    except ImportError as error:
        note(f"{what} is not measured: {error}; see benchmarks/privacy_eyes.py")
        return None


def objects_again(known: Detections, found: Detections) -> npt.NDArray[np.bool_]:
    """Which known objects are found again: same class, IoU of 0.5 or more."""
    ious = iou_matrix(to_xywh(known.boxes), to_xywh(found.boxes))
    ious[known.labels[:, None] != found.labels[None]] = 0
    return np.asarray(ious.max(1, initial=0) >= MIN_IOU)


def frame_ways(profile: Profile, model: Inverter, qualities: Sequence[float | None]) -> Ways:
    """Frames and uncoded pyramids, turned back."""

    def way(rate: int, quality: float | None) -> Callable[[Image], tuple[Image, int | None]]:
        source = ReceivedPyramids(profile, quality, _THREADS)

        def run(image: Image) -> tuple[Image, int | None]:
            pyramid, sent_bytes = source.receive(image)
            picture = recover(model, pyramid, rate)
            return content_of(picture, pyramid.geometry), sent_bytes

        return run

    return {_name(quality): way(rate, quality) for rate, quality in enumerate(qualities)}


def webp_ways(originals: Sequence[Image], sizes_bytes: Mapping[str, float]) -> Ways:
    """WebP at the setting whose files are nearest to each frame's bytes, and the mean colour.

    Args:
        originals: Some pictures at the network's size, to choose settings by.
        sizes_bytes: Name of a frame's way to its mean bytes.
    """
    means = {x: float(np.mean([len(_webp(x, y)[1]) for y in originals])) for x in _WEBP}
    ways: dict[str, Any] = {}
    for size in sorted(sizes_bytes.values()):
        chosen = min(_WEBP, key=lambda x: abs(np.log(means[x] / size)))
        ways[chosen.name] = lambda image, chosen=chosen: _through_webp(chosen, image)
    ways[MEAN_COLOUR] = _mean_colour
    return ways


def _webp(chosen: PictureFormat, picture: Image) -> tuple[Image, bytes]:
    from PIL import Image as PillowImage

    factor = 1.0 if isinstance(chosen.size, str) else chosen.size
    size = [max(1, round(x * factor)) for x in picture.shape[1::-1]]
    small = PillowImage.fromarray(picture).resize(size, PillowImage.Resampling.BILINEAR)
    return np.asarray(small), chosen.encode(np.asarray(small))


def _through_webp(chosen: PictureFormat, picture: Image) -> tuple[Image, int]:
    from PIL import Image as PillowImage

    data = _webp(chosen, picture)[1]
    whole = PillowImage.fromarray(decode_picture(data)).resize(
        picture.shape[1::-1], PillowImage.Resampling.BICUBIC
    )
    return np.asarray(whole), len(data)


def _mean_colour(picture: Image) -> tuple[Image, int]:
    mean = picture.reshape(-1, 3).mean(0).round().astype(np.uint8)
    return np.broadcast_to(mean, picture.shape).copy(), 3


def measure_picture(
    eyes: Eyes, ways: Ways, picture: Image, own: int, originals: npt.NDArray[np.float32]
) -> dict[str, Any]:
    """All measures of one picture, way by way.

    Args:
        eyes: What looks.
        ways: What turns it into others.
        picture: The original at the network's size, without padding.
        own: Which of the originals it is.
        originals: Shape (N, D): descriptors of all pictures.
    """
    known = eyes.objects(picture)
    persons = known.labels == list(eyes.detector.labels).index("person") if (
        "person" in eyes.detector.labels
    ) else np.zeros(len(known.labels), bool)  # fmt: skip
    faces = eyes.faces.find(picture, FACE_SURE) if eyes.faces else None
    likely = (
        eyes.faces.find(picture, 0.0) if eyes.faces and faces is not None and len(faces) else faces
    )
    lines = eyes.text.lines(picture) if eyes.text else None
    row: dict[str, Any] = {}
    for name, way in ways.items():
        left, sent_bytes = way(picture)
        again = objects_again(known, eyes.objects(left))
        entry: dict[str, Any] = {
            "bytes": sent_bytes, "psnr_db": psnr_db(left, picture), "ssim": ssim(left, picture),
            "edges": edge_correlation(left, picture),
            "rank": rank_of_original(descriptor(left), originals, own),
            "objects": [int(again.sum()), len(again)],
            "persons": [int(again[persons].sum()), int(persons.sum())],
        }  # fmt: skip
        if eyes.faces and faces is not None:
            found = eyes.faces.find(left, FACE_LIKELY) if len(faces) else np.zeros((0, 4))
            entry["faces"] = [faces_again(faces, found)[0], len(faces)]
            entry["other_faces"] = [faces_again(likely, found)[1], int(len(faces) > 0)]
        if eyes.text and lines is not None:
            read = [eyes.text.read(left, line.box) for line in lines]
            pairs = list(zip(read, lines, strict=True))
            entry["lines"] = [sum(x == line.text for x, line in pairs), len(lines)]
            entry["letters"] = [
                sum(letters_kept(x, line.text) * len(line.text) for x, line in pairs),
                sum(len(line.text) for line in lines),
            ]
        row[name] = entry
    return row


MEANS = ("bytes", "psnr_db", "ssim", "edges")
SHARES = ("objects", "persons", "faces", "other_faces", "lines", "letters")


def summarise(
    rows: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    matches: Mapping[str, Sequence[float]],
    draws: int,
    seed: int,
) -> list[dict[str, Any]]:
    """Per way every measure with its interval, by drawing pictures."""
    weights = draw_weights(len(rows), draws, seed)
    summary = []
    for name in names:
        mine = [row[name] for row in rows]
        entry: dict[str, Any] = {"way": name, "pictures": len(rows)}
        for measure in MEANS:
            values = [x[measure] for x in mine]
            entry[measure] = None if None in values else _share(
                np.asarray(values, np.float64), np.ones(len(values)), weights
            )  # fmt: skip
        ranks = [x["rank"] for x in mine]
        for most in (1, 10):
            entry[f"top_{most}"] = _found(ranks, most, weights)
        entry["matched"] = _found(matches[name], 1, weights) if name in matches else None
        for measure in SHARES:
            if any(measure not in x for x in mine):
                entry[measure] = None
                continue
            pairs = np.asarray([x[measure] for x in mine], np.float64)
            entry[measure] = _share(pairs[:, 0], pairs[:, 1], weights)
        summary.append(entry)
    return summary


def _found(
    ranks: Sequence[float], most: int, weights: npt.NDArray[np.int32]
) -> dict[str, Any] | None:
    """How often the original is among so many."""
    # Of equals one is guessed, so a rank of a half is found half the time.
    hits = np.clip(most - np.asarray(ranks), 0, 1)
    return _share(hits, np.ones(len(hits)), weights)


def _share(
    some: npt.NDArray[np.float64], of: npt.NDArray[np.float64], weights: npt.NDArray[np.int32]
) -> dict[str, Any] | None:
    """Sum of some by the sum of all, of how many, and its interval; None of nothing."""
    if not of.sum():
        return None
    with np.errstate(invalid="ignore"):
        draws = (weights @ some) / (weights @ of)
    return {**asdict(Interval.of(float(some.sum() / of.sum()), draws)), "of": int(of.sum())}


def pictures_of(options: argparse.Namespace) -> list[Path]:
    """The pictures that are measured, by name."""
    paths = sorted(x for x in options.images.iterdir() if not x.name.startswith("."))
    return paths[: options.limit]


def measure_pictures(
    options: argparse.Namespace, eyes: Eyes, profile: Profile, frames: Ways, work: Path
) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows of all pictures, those already in ``work`` first."""
    paths = pictures_of(options)
    done = {x["picture"]: x["ways"] for x in read_lines(work / _PICTURES)}

    def original(path: Path) -> Image:
        image = load_image(path)
        geometry = eyes.detector.geometry((image.shape[1], image.shape[0]))
        return content_picture(image, geometry)

    descriptors, some = [], []
    with progress_callback("Originals") as progress:
        for index, path in enumerate(paths):
            picture = original(path)
            descriptors.append(descriptor(picture))
            some += [picture] if len(some) < _WEBP_PICTURES else []
            progress(index + 1, len(paths))
    sizes = {
        name: float(np.mean([way(x)[1] for x in some]))
        for name, way in frames.items() if name != UNCODED
    }  # fmt: skip
    ways = {**frames, **webp_ways(some, sizes)}
    with (
        (work / _PICTURES).open("a", encoding="utf-8") as file,
        progress_callback("Pictures") as progress,
    ):
        for index, path in enumerate(paths):
            if path.name not in done:
                found = measure_picture(eyes, ways, original(path), index, np.stack(descriptors))
                done[path.name] = found
                line = json.dumps({"picture": path.name, "ways": found}, allow_nan=False)
                file.write(line + "\n")
                file.flush()
            progress(index + 1, len(paths))
    return [done[path.name] for path in paths], list(ways)


def measure_matches(
    profile: Profile, qualities: Sequence[float | None], paths: Sequence[Path]
) -> dict[str, list[float]]:
    """Which of the pictures a pyramid is of, told by features alone: ranks, way by way.

    The pictures are known as copies at half the network's size, through WebP: an attacker has
    found them somewhere else. No inverter is needed.
    """
    sources = {_name(x): ReceivedPyramids(profile, x, _THREADS) for x in qualities}
    known = []
    asked: dict[str, list[npt.NDArray[np.float32]]] = {name: [] for name in sources}
    with progress_callback("Matches") as progress:
        for index, path in enumerate(paths):
            image = load_image(path)
            for name, source in sources.items():
                pyramid = source.extract(image)
                asked[name].append(pyramid_descriptor(pyramid))
            copy = _COPY.picture(image, pyramid.geometry)
            copied = sources[UNCODED].extract(decode_picture(_COPY.encode(copy)))
            known.append(pyramid_descriptor(copied))
            progress(index + 1, len(paths))
    gallery = np.stack(known)
    mean = gallery.mean(0)
    gallery = centred(gallery, mean)
    return {
        name: [
            rank_of_original(x, gallery, own) for own, x in enumerate(centred(np.stack(some), mean))
        ]
        for name, some in asked.items()
    }


def _name(quality: float | None) -> str:
    return UNCODED if quality is None else f"frame q{quality:g}"


def measure_words(reader: TextReader, frames: Ways, scenes: int, seed: int) -> list[dict[str, Any]]:
    """Of words drawn into generated scenes, by their height: which are read again, way by way."""
    counts: dict[tuple[str, int], list[float]] = {}
    with progress_callback("Words") as progress:
        for index, scene in enumerate(word_scenes(scenes, seed)):
            pictures = {
                ORIGINAL: scene.picture,
                **{x: way(scene.picture)[0] for x, way in frames.items()},
            }
            for name, picture in pictures.items():
                for word in scene.words:
                    read = reader.read(picture, word.box)
                    entry = counts.setdefault((name, word.height), [0, 0, 0])
                    entry[0] += read == word.text
                    entry[1] += letters_kept(read, word.text)
                    entry[2] += 1
            progress(index + 1, scenes)
    return [
        {"way": name, "height": height, "words": int(of), "read": read / of, "letters": kept / of}
        for (name, height), (read, kept, of) in counts.items()
    ]


def parse_options(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--profile", type=Path, metavar="DIR", required=True)
    parser.add_argument("--inverter", type=Path, metavar="DIR", required=True)
    parser.add_argument("--images", type=Path, metavar="DIR", required=True)
    parser.add_argument("--limit", type=int, metavar="N", help="so many pictures")
    parser.add_argument("--scenes", type=int, default=40, metavar="N", help="with drawn words")
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, metavar="DIR", required=True)
    parser.add_argument("--out", type=Path, metavar="JSON", required=True)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Read the flags, measure, write."""
    options = parse_options(argv)
    torch.set_num_threads(_THREADS)
    command = shlex.join(["python", "benchmarks/privacy.py", *(argv or sys.argv[1:])])
    environment = Environment.capture(command, _THREADS)
    profile = Profile.load(options.profile)
    model, qualities = read_inverter(options.inverter)
    training = json.loads((options.inverter / "training.json").read_text("utf-8"))
    eyes = Eyes.open(profile.open_detector("both", _THREADS))
    settings = {
        "stream_id": profile.stream_id.hex(), "training": training, "limit": options.limit,
        "faces": eyes.faces is not None, "text": eyes.text is not None,
    }  # fmt: skip
    check_settings(options.work, settings)
    frames = frame_ways(profile, model, qualities)
    rows, names = measure_pictures(options, eyes, profile, frames, options.work)
    matches = measure_matches(profile, qualities, pictures_of(options))
    words = measure_words(eyes.text, frames, options.scenes, options.seed) if eyes.text else []
    shared = {
        "data": options.images.name, "seed": options.seed, "training": training,
        "min_score": MIN_SCORE, "min_iou": MIN_IOU, "heights": HEIGHTS,
        "environment": asdict(environment),
    }  # fmt: skip
    summary = summarise(rows, names, matches, options.draws, options.seed)
    for entry in summary:
        entry["words"] = [x for x in words if x["way"] == entry["way"]]
        shown = [x for x in (*MEANS, "top_1", "matched", *SHARES) if entry[x]]
        print(entry["way"], *(f"{x} {entry[x]['value']:.3f}" for x in shown))
    drawn = {"original_words": [x for x in words if x["way"] == ORIGINAL]}
    with replacing(options.out) as temporary:
        text = json.dumps([{**x, **drawn, **shared} for x in summary], indent=1, allow_nan=False)
        temporary.write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
