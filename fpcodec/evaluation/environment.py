"""What a measurement ran on: code, packages, processor."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from fpcodec import __version__
from fpcodec.build import commit

PACKAGES = ("numpy", "onnxruntime", "constriction", "pillow")
OPTIONAL = ("torch", "torchvision", "detectron2", "faster-coco-eval", "pyjpegxl", "av")
"""Named in a row where they are installed."""


@dataclass(frozen=True)
class Environment:
    """What a measurement ran on.

    Attributes:
        command: The command that made it, or None.
        git_sha: The commit, with ``+`` where files differ from it; None where it is not known.
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
        return cls(command, commit(checkout), versions, _cpu_model(), threads)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


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
