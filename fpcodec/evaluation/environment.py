"""What a measurement ran on: code, packages, processor."""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from fpcodec import __version__

PACKAGES = ("numpy", "onnxruntime", "constriction", "pillow")
OPTIONAL = ("torch", "torchvision", "detectron2", "faster-coco-eval", "pyjpegxl", "av")
"""Named in a row where they are installed."""


@dataclass(frozen=True)
class Environment:
    """What a measurement ran on.

    Attributes:
        command: The command that made it, or None.
        git_sha: Commit of the checkout the package lies in, with ``+`` where files differ from
            it; None outside a checkout.
        packages: Package name to version; None for one that is not installed.
        cpu_model: The processor's name.
        threads: Threads given to the networks; None for the runtime's default.
    """

    command: str | None
    git_sha: str | None
    packages: Mapping[str, str | None]
    cpu_model: str
    threads: int | None

    @classmethod
    def capture(
        cls,
        command: str | None = None,
        threads: int | None = None,
        *,
        checkout: Path | None = None,
    ) -> Environment:
        """Look at this machine and installation.

        Args:
            command: What measures.
            threads: Given to the networks.
            checkout: That the package was installed from; None where it lies in it.
        """
        optional = {name: _version(name) for name in OPTIONAL}
        versions = {
            "fpcodec": __version__,
            **{name: _version(name) for name in PACKAGES},
            **{name: version for name, version in optional.items() if version is not None},
        }
        package = Path(__file__).parent if checkout is None else checkout / "fpcodec" / "evaluation"
        return cls(command, _git_sha(package), versions, _cpu_model(), threads)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git_sha(folder: Path) -> str | None:
    sha = _git(folder, "rev-parse", "HEAD")
    if not sha:
        return None
    # An installed package may lie inside some other project's checkout: then the commit says
    # nothing about this code.
    if not _git(folder, "ls-files", Path(__file__).name):
        return None
    return sha + ("+" if _git(folder, "status", "--porcelain", "--", str(folder.parent)) else "")


def _git(folder: Path, *arguments: str) -> str | None:
    """Output of a git command in a folder; None where git or the checkout is missing."""
    git = shutil.which("git")
    if git is None:
        return None
    command = [git, "-C", str(folder), *arguments]
    try:
        # Fixed arguments and git's absolute path: nothing here comes from outside.
        done = subprocess.run(  # noqa: S603
            command, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        lines = []
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()
