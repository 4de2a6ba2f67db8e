"""From a folder of annotated pictures to a detector of your own, split and served.

    git clone https://github.com/Shenggan/BCCD_Dataset
    python scripts/own_detector.py BCCD_Dataset --quick --out runs/own-quick
    python scripts/own_detector.py BCCD_Dataset --out runs/own

Trains a small Faster R-CNN, calibrates and trains a codec for it, measures bytes against AP,
serves the profile and detects on a held-out picture. Each stage is a command that is printed before
it runs; docs/your-own-detector.md explains them. Called again, it goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from fpcodec.cli.calibrate import choose_images
from fpcodec.cli.serve import READY
from fpcodec.errors import FpcodecError, InputError
from fpcodec.files import replacing

ROOT = Path(__file__).resolve().parent.parent
GET_DATA = "git clone https://github.com/Shenggan/BCCD_Dataset"
STATE = "stages.json"
CHECKPOINT = "checkpoint.pt"
HELD_OUT = ("val", "test")
ADDRESS = "127.0.0.1:50051"


@dataclass(frozen=True)
class Setting:
    """How much of everything.

    Attributes:
        detector_steps: Steps of the detector's training, of four pictures each.
        variants: Of each picture, for the codec's training.
        codec_steps: Steps of the codec's training, of four variants each.
        qualities: Of our frames, to measure.
        pictures: Settings of pictures to measure beside them.
        limit: Held-out pictures to measure on, None for all.
    """

    detector_steps: int
    variants: int
    codec_steps: int
    qualities: tuple[str, ...]
    pictures: tuple[str, ...]
    limit: int | None


FULL = Setting(
    1200, 16, 4000, ("0", "0.2", "0.4", "0.6", "0.8", "1"),
    ("jpeg:25", "jpeg:40", "webp:5", "webp:30", "webp:60", "avif:25", "avif:35", "avif:45",
     "jxl:15", "jxl:30", "jxl:45", "jxl:60"), None,
)  # fmt: skip
QUICK = Setting(150, 1, 60, ("0.2", "0.8"), ("webp:5", "webp:30", "webp:60"), 16)


@dataclass(frozen=True)
class Stage:
    """Commands that belong together, as a user types them, and how long they may take.

    Attributes:
        name: What ``--until`` calls it.
        title: What it does.
        commands: The first word is ``python`` or ``fpcodec``.
        minutes: On two cores, in the full and in the quick setting.
    """

    name: str
    title: str
    commands: tuple[tuple[str, ...], ...]
    minutes: tuple[float, float]


def find_data(folder: Path) -> tuple[Path, tuple[Path, ...], tuple[str, ...]]:
    """Return the annotations to train on, the held-out ones, and what names their pictures.

    Raises:
        InputError: The folder is of neither layout.
    """
    for root in (folder, *sorted(x for x in folder.glob("*") if x.is_dir())):
        lists = root / "ImageSets" / "Main"
        images = ("--images", str(root / "images"))
        for places, ending, more in ((lists, "txt", ()), (root, "json", images)):
            files = {name: places / f"{name}.{ending}" for name in ("train", *HELD_OUT)}
            held_out = tuple(files[name] for name in HELD_OUT if files[name].is_file())
            if files["train"].is_file() and held_out:
                return files["train"], held_out, more
    raise InputError(
        f"{folder}: no data set; give a folder with ImageSets/Main/train.txt and val.txt or "
        f"test.txt (Pascal VOC's layout), or with train.json, val.json and images (COCO's). For "
        f"BCCD: {GET_DATA}"
    )


def plan(
    data: Path, out: Path, size: str, setting: Setting, threads: int, quick: bool
) -> list[Stage]:
    """The stages but the last, which needs a running server."""
    training, held_out, images = find_data(data)
    train, test, assets = out / "data" / "train", out / "data" / "heldout", out / "assets"
    spec = f"tiny:{quote(str(assets))}"
    measured_on = ("--images", f"{test}/images", "--annotations", f"{test}/annotations.json")
    pictures = [x for x in setting.pictures if "jxl" not in x or find_spec("pyjpegxl")]
    few = ("--limit", str(setting.limit)) if setting.limit else ()
    count = ("--threads", str(threads))
    resize = ("python", "scripts/resize_coco.py")
    measure_seldom = ("--held-out", "8", "--measure-steps", "0") if quick else ()
    return [
        Stage("data", "one size, PNG, boxes along", (
            (*resize, str(training), *images, "--size", size, "--out", str(train)),
            (*resize, *map(str, held_out), *images, "--size", size, "--out", str(test)),
        ), (0.5, 0.5)),
        Stage("detector", "train a small Faster R-CNN", ((
            "python", "scripts/train_detector.py", "--name", "own",
            "--data", f"{train}/annotations.json", "--images", f"{train}/images", "--size", size,
            "--start", "fpcodec/assets/tiny/weights.safetensors", "--batch", "4", "--workers", "0",
            "--steps", str(setting.detector_steps), "--minutes", "0", *count,
            "--out", f"{out}/detector",
        ),), (20, 2.5)),
        Stage("export", "cut it into two ONNX graphs, measure its AP", ((
            "python", "scripts/export_detector.py", f"{out}/detector", "--assets", str(assets),
            "--data", f"{test}/annotations.json", "--images", f"{test}/images", *count,
        ),), (1, 1)),
        Stage("calibrate", "fit the closed form, a profile that works already", ((
            "fpcodec", "calibrate", "--detector", spec, "--images", f"{train}/images",
            *few, *count, "--out", f"{out}/pca",
        ),), (3, 0.5)),
        Stage("vary", "more pictures of few, to train the codec on", ((
            "python", "scripts/vary_pictures.py", f"{train}/images",
            "--count", str(setting.variants), "--out", f"{out}/varied",
        ),), (4, 0.2)),
        Stage("train", "train the codec through the detector's head", ((
            "fpcodec", "train", "--detector", spec, "--start", f"{out}/pca",
            "--images", f"{out}/varied", "--steps", str(setting.codec_steps), *measure_seldom,
            *count, "--out", f"{out}/profile",
        ),), (90, 3)),
        Stage("measure", "bytes against AP, beside pictures and boxes", ((
            "fpcodec", "bench", "rd", *measured_on, *few,
            "--profile", f"learned={out}/profile", "--profile", f"pca={out}/pca",
            "--codecs", "fpc,boxes", "--no-parts",
            *(x for quality in setting.qualities for x in ("-q", quality)),
            "--pictures", ",".join(pictures), "--workers", str(threads), "--out", f"{out}/rd",
        ),), (10, 1)),
        Stage("report", "one page, curves, tables", ((
            "fpcodec", "bench", "report", f"{out}/rd", "--out", f"{out}/report",
        ),), (0.2, 0.2)),
    ]  # fmt: skip


def serving(out: Path, picture: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The server's command and the edge's."""
    profile, found = ("--profile", f"{out}/profile"), ("--draw", f"{out}/found")
    return (
        ("fpcodec", "serve", *profile, "--listen", ADDRESS),
        ("fpcodec", "detect", str(picture), *profile, "--server", ADDRESS, *found),
    )


def executed(command: Sequence[str]) -> list[str]:
    """The words that run a command with this interpreter and this tree's code."""
    program, *rest = command
    return [sys.executable, *(["-m", "fpcodec.cli"] if program == "fpcodec" else []), *rest]


def run(command: Sequence[str]) -> None:
    """Show a command and run it.

    Raises:
        InputError: It failed.
    """
    again = command
    if Path(command[1]).stem == "train_detector":
        checkpoint = Path(command[-1]) / CHECKPOINT
        again = (*command, "--resume", str(checkpoint)) if checkpoint.is_file() else command
    print(f"$ {shlex.join(again)}", flush=True)
    status = subprocess.run(executed(again), env=environment(), check=False).returncode  # noqa: S603
    if status:
        raise InputError(f"{shlex.join(command[:3])} .. ended with exit code {status}, see above; "
                         "once mended, call this script again: it goes on there")  # fmt: skip


def environment() -> dict[str, str]:
    """This process's, with this tree's packages first."""
    own = [str(ROOT / x) for x in ("", "edge", "server")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join([*own, os.environ.get("PYTHONPATH", "")])}


def detect_once(out: Path) -> None:
    """Serve the profile, detect on the first held-out picture, end the server."""
    picture = choose_images(out / "data" / "heldout" / "images", None, 0)[0]
    serve, detect = serving(out, picture)
    free = [x.replace(ADDRESS, "127.0.0.1:0") for x in serve]
    print(f"$ {shlex.join(serve)} &", flush=True)
    server = subprocess.Popen(  # noqa: S603
        [*executed(free), "--stop-with-stdin"], env=environment(), text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        words = (server.stdout.readline() if server.stdout else "").split()
        if words[:1] != [READY]:
            raise InputError("the server did not start; see above")
        run([x.replace(ADDRESS, words[1]) for x in detect])
    finally:
        server.terminate()
        server.wait()
    print(f"{out / 'found' / picture.name}: look at this", flush=True)


def read_state(path: Path, asked: dict[str, object]) -> dict[str, float]:
    """Minutes of the stages done.

    Raises:
        InputError: The folder is of another run.
    """
    if not path.is_file():
        return {}
    state = json.loads(path.read_text())
    other = [name for name, value in state["asked"].items() if asked.get(name) != value]
    if other:
        raise InputError(f"{path.parent} holds a run with other {', '.join(other)}; name another "
                         "--out, or remove it")  # fmt: skip
    return dict(state["minutes"])


def work(flags: argparse.Namespace) -> None:
    """Run the stages that are still to do."""
    setting = choose_setting(flags)
    stages = plan(flags.data, flags.out, flags.size, setting, flags.threads, flags.quick)
    if flags.show:
        for stage in stages:
            print("\n".join(shlex.join(command) for command in stage.commands))
        print("\n".join(map(shlex.join, serving(flags.out, Path("PICTURE")))))
        return
    os.chdir(ROOT)
    asked = {"data": str(flags.data), "size": flags.size, "quick": flags.quick,
             "detector steps": setting.detector_steps, "codec steps": setting.codec_steps,
             "limit": setting.limit}  # fmt: skip
    state = flags.out / STATE
    done = read_state(state, asked)
    left = [stage for stage in stages if stage.name not in done]
    minutes = sum(stage.minutes[flags.quick] for stage in left)
    print(f"{len(left)} of {len(stages)} stages to do, about {minutes:.0f} minutes on two cores")
    for number, stage in enumerate(stages, 1):
        head = f"\n== {number}/{len(stages)} {stage.name}: {stage.title}"
        if stage.name in done:
            print(f"{head}: done before, in {done[stage.name]:.1f} min", flush=True)
        else:
            expected = stage.minutes[flags.quick]
            print(f"{head}; about {expected:g} min on two cores", flush=True)
            begun = time.monotonic()
            for command in stage.commands:
                run(command)
            done[stage.name] = (time.monotonic() - begun) / 60
            with replacing(state) as temporary:
                temporary.write_text(json.dumps({"asked": asked, "minutes": done}, indent=1))
        if stage.name == flags.until:
            return
    print("\n== serve it, detect on a held-out picture", flush=True)
    detect_once(flags.out)
    print(f"{flags.out}/report/report.html: the curves and tables\n"
          f"{flags.out}/profile: deploy this folder on both sides")  # fmt: skip


def choose_setting(flags: argparse.Namespace) -> Setting:
    """The full or the quick setting, with what was asked for otherwise."""
    base = QUICK if flags.quick else FULL
    return Setting(
        flags.detector_steps or base.detector_steps, base.variants,
        flags.codec_steps or base.codec_steps, base.qualities, base.pictures,
        flags.limit or base.limit,
    )  # fmt: skip


def main() -> None:
    """Read the flags and work."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="VOC's layout, or train.json, val.json, images/")
    parser.add_argument("--out", type=Path, default=Path("runs/own"), help="folder of the run")
    parser.add_argument("--size", default="384x288", help="of the network's input")
    parser.add_argument("--quick", action="store_true", help="minutes, to see that it works")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--until", metavar="STAGE", help="end after this stage")
    parser.add_argument("--show", action="store_true", help="print the commands, run nothing")
    parser.add_argument("--detector-steps", type=int, help=f"instead of {FULL.detector_steps}")
    parser.add_argument("--codec-steps", type=int, help=f"instead of {FULL.codec_steps}")
    parser.add_argument("--limit", type=int, help="fit to and measure on so many pictures")
    flags = parser.parse_args()
    flags.data, flags.out = (
        x if flags.show else Path(os.path.relpath(x, ROOT)) for x in (flags.data, flags.out)
    )
    try:
        work(flags)
    except KeyboardInterrupt:
        sys.exit("stopped; call it again to go on")
    except (FpcodecError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
