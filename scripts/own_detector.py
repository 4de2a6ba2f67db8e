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
from dataclasses import replace
from pathlib import Path

from own_stages import ADDRESS, FULL, QUICK, Command, Setting, Stage, serving, stages

from fpcodec.cli.serve import READY
from fpcodec.errors import FpcodecError, InputError
from fpcodec.files import replacing
from fpcodec.image_folder import choose_images

ROOT = Path(__file__).resolve().parent.parent
STATE = "stages.json"


def words(command: Command) -> list[str]:
    """What runs a command with this interpreter and this tree's code."""
    program, *rest = command
    return [sys.executable, *(["-m", "fpcodec.cli"] if program == "fpcodec" else []), *rest]


def environment() -> dict[str, str]:
    """This process's, with this tree's packages first."""
    paths = [str(ROOT / x) for x in ("", "edge", "server")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")])}


def run(command: Command) -> None:
    """Show a command and run it; a detector's training goes on from its checkpoint.

    Raises:
        InputError: It failed.
    """
    checkpoint = Path(command[-1]) / "checkpoint.pt"
    if "train_detector" in command[1] and checkpoint.is_file():
        command = (*command, "--resume", str(checkpoint))
    print(f"$ {shlex.join(command)}", flush=True)
    status = subprocess.run(words(command), env=environment(), check=False).returncode  # noqa: S603
    if status:
        raise InputError(f"{shlex.join(command[:3])} .. ended with exit code {status}, see above; "
                         "once mended, call this script again: it goes on there")  # fmt: skip


def run_stage(stage: Stage) -> float:
    """Run a stage's commands; return the minutes they took."""
    begun = time.monotonic()
    for command in stage.commands:
        run(command)
    return (time.monotonic() - begun) / 60


def detect_once(out: Path) -> None:
    """Serve the profile, detect on the first held-out picture, end the server.

    Raises:
        InputError: The server did not start.
    """
    picture = choose_images(out / "data" / "heldout" / "images", None, 0)[0]
    serve, detect = serving(out, picture)
    serve = [x.replace(ADDRESS, "127.0.0.1:0") for x in serve]  # the usual port may be taken
    print(f"$ {shlex.join(serve)} &", flush=True)
    server = subprocess.Popen(  # noqa: S603
        [*words(serve), "--log-level", "warning", "--stop-with-stdin"], env=environment(),
        text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        said = (server.stdout.readline() if server.stdout else "").split()
        if said[:1] != [READY]:
            raise InputError("the server did not start; see above")
        run([x.replace(ADDRESS, said[1]) for x in detect])
    finally:
        server.terminate()
        server.communicate()
    print(f"{out / 'found' / picture.name}: look at this", flush=True)


def read_minutes(path: Path, asked: dict[str, object]) -> dict[str, float]:
    """Minutes that each finished stage took.

    Raises:
        InputError: The folder is of another run.
    """
    if not path.is_file():
        return {}
    state = json.loads(path.read_text())
    other = [name for name, value in asked.items() if state["asked"].get(name) != value]
    if other:
        raise InputError(f"{path.parent} holds a run with other {', '.join(other)}; name another "
                         "--out, or remove it")  # fmt: skip
    return dict(state["minutes"])


def work(flags: argparse.Namespace, setting: Setting) -> None:
    """Run the stages that are still to do, then serve and detect."""
    planned = stages(flags.data, flags.out, flags.size, setting, flags.threads)
    names = [stage.name for stage in planned]
    if flags.until and flags.until not in names:
        raise InputError(f"--until {flags.until}: the stages are {', '.join(names)}")
    if flags.show:
        shown = [command for stage in planned for command in stage.commands]
        print("\n".join(map(shlex.join, [*shown, *serving(flags.out, Path("PICTURE"))])))
        return
    asked: dict[str, object] = {
        "data": str(flags.data), "size": flags.size, "quick": flags.quick,
        "detector steps": setting.detector_steps, "codec steps": setting.codec_steps,
        "limit": setting.limit,
    }  # fmt: skip
    done = read_minutes(flags.out / STATE, asked)
    left = sum(stage.minutes[flags.quick] for stage in planned if stage.name not in done)
    print(f"{len(planned) - len(done)} of {len(planned)} stages to do, about {left:.0f} minutes on "
          "two idle cores")  # fmt: skip
    for number, stage in enumerate(planned, 1):
        head = f"\n== {number}/{len(planned)} {stage.name}: {stage.title}"
        if stage.name in done:
            print(f"{head}: done before, in {done[stage.name]:.1f} min", flush=True)
        else:
            print(f"{head}, about {stage.minutes[flags.quick]:g} min", flush=True)
            done[stage.name] = run_stage(stage)
            with replacing(flags.out / STATE) as temporary:
                temporary.write_text(json.dumps({"asked": asked, "minutes": done}, indent=1))
        if stage.name == flags.until:
            return
    print("\n== serve it, detect on a held-out picture", flush=True)
    detect_once(flags.out)
    print(f"{flags.out}/report/report.html: the curves and tables\n"
          f"{flags.out}/profile: deploy this folder on both sides")  # fmt: skip


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
    parser.add_argument("--limit", type=int, help="calibrate and measure on so many pictures")
    flags = parser.parse_args()
    if not flags.show:  # the commands are run at the root of this tree
        flags.data, flags.out = (Path(os.path.relpath(x, ROOT)) for x in (flags.data, flags.out))
        os.chdir(ROOT)
    base = QUICK if flags.quick else FULL
    setting = replace(
        base, limit=flags.limit or base.limit, codec_steps=flags.codec_steps or base.codec_steps,
        detector_steps=flags.detector_steps or base.detector_steps,
    )  # fmt: skip
    try:
        work(flags, setting)
    except KeyboardInterrupt:
        sys.exit("stopped; call it again to go on")
    except (FpcodecError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
