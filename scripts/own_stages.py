"""The stages of ``own_detector.py``: which commands, on which files, and how much of everything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from fpcodec.errors import InputError

GET_DATA = "git clone https://github.com/Shenggan/BCCD_Dataset"
HELD_OUT = ("val", "test")
ADDRESS = "127.0.0.1:50051"

Command = Sequence[str]
"""Words as a user types them; the first is ``python`` or ``fpcodec``."""


@dataclass(frozen=True)
class Setting:
    """How much of everything.

    Attributes:
        detector_steps: Steps of the detector's training, of four pictures each.
        variants: Of each picture, for the codec's training.
        codec_steps: Steps of the codec's training, of four variants each.
        qualities: Of our frames, to measure.
        pictures: Settings of pictures to measure beside them.
        limit: Pictures to calibrate on, and held-out ones to measure on; None for all.
        measure: Options of the codec's training that say what is measured on the way.
    """

    detector_steps: int
    variants: int
    codec_steps: int
    qualities: tuple[str, ...]
    pictures: tuple[str, ...]
    limit: int | None = None
    measure: tuple[str, ...] = ()


FULL = Setting(
    1200, 16, 4000, ("0", "0.2", "0.4", "0.6", "0.8", "1"),
    ("jpeg:25", "jpeg:40", "webp:5", "webp:30", "webp:60", "avif:25", "avif:35", "avif:45",
     "jxl:15", "jxl:30", "jxl:45", "jxl:60"),
)  # fmt: skip
QUICK = Setting(
    150, 1, 60, ("0.2", "0.6", "1"), ("webp:5", "webp:30", "webp:60"), 16,
    ("--held-out", "4", "--measure-steps", "0"),
)  # fmt: skip


@dataclass(frozen=True)
class Stage:
    """Commands that belong together, and how long they may take.

    Attributes:
        name: What ``--until`` calls it.
        title: What it does.
        commands: In order.
        minutes: On two cores, in the full and in the quick setting.
    """

    name: str
    title: str
    commands: tuple[Command, ...]
    minutes: tuple[float, float]


def find_data(folder: Path) -> tuple[Path, tuple[Path, ...], Command]:
    """Return the annotations to train on, the held-out ones, and the option for their pictures.

    Raises:
        InputError: Neither the folder nor one in it is of a known layout.
    """
    for root in (folder, *sorted(x for x in folder.glob("*") if x.is_dir())):
        images = ("--images", str(root / "images"))
        for place, ending, option in ((root / "ImageSets" / "Main", "txt", ()),
                                      (root, "json", images)):  # fmt: skip
            training, *others = (place / f"{name}.{ending}" for name in ("train", *HELD_OUT))
            held_out = tuple(file for file in others if file.is_file())
            if training.is_file() and held_out:
                return training, held_out, option
    raise InputError(
        f"{folder}: no data set; give a folder with ImageSets/Main/train.txt and val.txt or "
        "test.txt (Pascal VOC's layout), or with train.json, val.json and images (COCO's). For "
        f"BCCD: {GET_DATA}"
    )


def stages(data: Path, out: Path, size: str, setting: Setting, threads: int) -> list[Stage]:
    """The stages but the last, ``serving``."""
    training, held_out, images = find_data(data)
    train, test, assets = out / "data" / "train", out / "data" / "heldout", out / "assets"
    detector = ("--detector", f"tiny:{quote(str(assets))}")
    trained_on = ("--data", f"{train}/annotations.json", "--images", f"{train}/images")
    pictures = [x for x in setting.pictures if "jxl" not in x or find_spec("pyjpegxl")]
    few = ("--limit", str(setting.limit)) if setting.limit else ()
    count = ("--threads", str(threads))
    resize = ("python", "scripts/resize_coco.py")
    return [
        Stage("data", "one size, PNG, boxes along", (
            (*resize, str(training), *images, "--size", size, "--out", str(train)),
            (*resize, *map(str, held_out), *images, "--size", size, "--out", str(test)),
        ), (0.5, 0.5)),
        Stage("detector", "train a small Faster R-CNN", ((
            "python", "scripts/train_detector.py", "--name", "own", *trained_on, "--size", size,
            "--start", "fpcodec/assets/tiny/weights.safetensors", "--batch", "4", "--workers", "0",
            "--steps", str(setting.detector_steps), "--minutes", "0", *count,
            "--out", f"{out}/detector",
        ),), (20, 2.5)),
        Stage("export", "cut it into two ONNX graphs, measure its AP", ((
            "python", "scripts/export_detector.py", f"{out}/detector", "--assets", str(assets),
            "--data", f"{test}/annotations.json", "--images", f"{test}/images", *count,
        ),), (0.5, 0.5)),
        Stage("calibrate", "fit the closed form, a profile that works already", ((
            "fpcodec", "calibrate", *detector, "--images", f"{train}/images", *few, *count,
            "--out", f"{out}/pca",
        ),), (3, 0.5)),
        Stage("vary", "more pictures of few, to train the codec on", ((
            "python", "scripts/vary_pictures.py", f"{train}/images",
            "--count", str(setting.variants), "--out", f"{out}/varied",
        ),), (3, 0.1)),
        Stage("train", "train the codec through the detector's head", ((
            "fpcodec", "train", *detector, "--start", f"{out}/pca", "--images", f"{out}/varied",
            "--steps", str(setting.codec_steps), *setting.measure, *count,
            "--out", f"{out}/profile",
        ),), (80, 2.5)),
        Stage("measure", "bytes against AP, beside pictures and boxes", ((
            "fpcodec", "bench", "rd", "--images", f"{test}/images",
            "--annotations", f"{test}/annotations.json", *few,
            "--profile", f"learned={out}/profile", "--profile", f"pca={out}/pca",
            "--codecs", "fpc,boxes", "--no-parts",
            *(word for quality in setting.qualities for word in ("-q", quality)),
            "--pictures", ",".join(pictures), "--workers", str(threads), "--out", f"{out}/rd",
        ),), (10, 1)),
        Stage("report", "one page, curves, tables", ((
            "fpcodec", "bench", "report", f"{out}/rd", "--out", f"{out}/report",
        ),), (0.2, 0.2)),
    ]  # fmt: skip


def serving(out: Path, picture: Path) -> tuple[Command, Command]:
    """The server's command and the edge's."""
    profile = ("--profile", f"{out}/profile")
    return (
        ("fpcodec", "serve", *profile, "--listen", ADDRESS),
        ("fpcodec", "detect", str(picture), *profile, "--server", ADDRESS,
         "--draw", f"{out}/found"),
    )  # fmt: skip
