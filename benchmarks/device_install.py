"""What the base install takes of a machine: disk, packages, time to import, memory, first answer.

    python benchmarks/device_install.py --fresh --out benchmarks/results/device/install.json
    .venv/bin/python benchmarks/device_install.py --out install.json   # the environment it runs in

With ``--fresh`` a copy of the tree is installed into a new environment in an empty folder, as the
README does it. ``gates.py --install`` holds what was written to its limits.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("torch", "onnx", "ray")
"""What the base install must not bring."""

ROUNDS = 7
PROFILES = ("tiny", "bccd")
_PEAK = "print([x.split()[1] for x in open('/proc/self/status') if x.startswith('VmHWM')][0])"
"""Peak memory of a process itself in KiB; ``getrusage`` counts its parent's from before."""

_IMPORT = "import fpcodec"
_LIBRARIES = "import numpy, onnxruntime, grpc, PIL.Image"
_FRAME = """
from fpcodec import EdgeHalf, Profile, embedded_profile_path
from fpcodec.data import generate_scene
half = EdgeHalf(Profile.load(embedded_profile_path({name!r})), threads=1)
half.encode(generate_scene(11).image)
"""


def measure(command: str) -> dict[str, Any]:
    """Measure the environment that this runs in."""
    from fpcodec.evaluation.environment import Environment

    packages = {x.metadata["Name"]: x.version for x in metadata.distributions()}
    own = replace(
        Environment.capture(command, threads=1, checkout=ROOT),
        packages=dict(sorted(packages.items())),
    )
    seconds = _start_seconds()
    return {
        "disk_mb": round(_disk_bytes(Path(sys.prefix)) / 2**20, 1),
        "largest_mb": _largest(Path(sys.prefix)),
        "packages": len(packages),
        "heavy": [name for name in HEAVY if importlib.util.find_spec(name)],
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "import_by_start": round(seconds["import"] / seconds["start"], 2),
        "answer_by_libraries": round(seconds["answer"] / seconds["libraries"], 2),
        "peak_mb": {
            "python": _peak_mb(""),
            "import": _peak_mb(_IMPORT),
            "libraries": _peak_mb(_LIBRARIES),
            **{f"frame {name}": _peak_mb(_FRAME.format(name=name)) for name in PROFILES},
        },
        "python": sys.version.split()[0],
        "environment": asdict(own),
    }


def _start_seconds() -> dict[str, float]:
    """Medians of processes from their start to their end, in interleaved rounds.

    ``start`` is Python alone, ``import`` with fpcodec, ``libraries`` with what it stands on,
    ``answer`` a whole ``fpcodec detect`` against a server that runs: network loaded, one picture
    sent, detections printed.
    """
    from PIL import Image

    from fpcodec import embedded_profile_path
    from fpcodec.cli.loopback import loopback_server
    from fpcodec.data import generate_scene

    profile = embedded_profile_path()
    with tempfile.TemporaryDirectory() as folder, loopback_server(profile, threads=1) as address:
        picture = Path(folder) / "scene.png"
        Image.fromarray(generate_scene(11).image).save(picture)
        detect = ["-m", "fpcodec.cli", "detect", str(picture), "--server", address,
                  "--threads=1", "--deadline=30"]  # fmt: skip
        runs = {"start": ["-c", ""], "import": ["-c", _IMPORT], "libraries": ["-c", _LIBRARIES],
                "answer": detect}  # fmt: skip
        times: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(ROUNDS):
            for name, arguments in runs.items():
                begun = time.perf_counter()
                _python(arguments)
                times[name].append(time.perf_counter() - begun)
    return {name: statistics.median(found[1:]) for name, found in times.items()}


def _peak_mb(code: str) -> float:
    return round(int(_python(["-c", f"{code}\n{_PEAK}"])) / 1024, 1)


def _python(arguments: Sequence[str]) -> str:
    # What is installed, not a source tree that the caller stands in or points to.
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=True,
        env={**_environment(), "OMP_NUM_THREADS": "1"}, cwd=tempfile.gettempdir(),
    )  # fmt: skip
    return done.stdout


def _environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}


def _disk_bytes(folder: Path) -> int:
    """What a folder takes of a disk, as ``du`` counts it."""
    inodes = {(x.st_dev, x.st_ino): x.st_blocks * 512
              for path in folder.rglob("*") if (x := path.lstat())}  # fmt: skip
    return sum(inodes.values())


def _largest(prefix: Path) -> Mapping[str, float]:
    """Packages of more than 5 MB, the largest first."""
    folders = next(prefix.glob("lib/python*/site-packages")).iterdir()
    sizes = {x.name: round(_disk_bytes(x) / 2**20, 1) for x in folders if x.is_dir()}
    ranked = sorted(sizes.items(), key=lambda item: -item[1])
    return {name: size for name, size in ranked if size > 5}


def install_fresh(folder: Path) -> Path:
    """Install a copy of the tree into a new environment; return its Python."""
    source, environment = folder / "source", folder / "venv"
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard", "-z"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, source / name)
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    python = environment / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "-q", str(source)]
    subprocess.run(install, env=_environment(), check=True)
    return python


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--fresh", action="store_true", help="install into a new environment")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--command", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    command = options.command or shlex.join(
        ["python", "benchmarks/device_install.py", *sys.argv[1:]]
    )
    if options.fresh:
        with tempfile.TemporaryDirectory() as folder:
            python = install_fresh(Path(folder))
            again = [str(python), __file__, "--out", str(options.out.resolve()),
                     "--command", command]  # fmt: skip
            subprocess.run(again, env=_environment(), cwd=folder, check=True)
        return
    row = measure(command)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(row, indent=1) + "\n", "utf-8")
    frame = row["peak_mb"][f"frame {PROFILES[0]}"]
    print(f"{row['disk_mb']} MB on disk, {row['packages']} packages, {frame} MB for a frame")


if __name__ == "__main__":
    main()
