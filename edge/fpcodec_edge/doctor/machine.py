"""The machine itself: Python, packages, inference runtime, coder, folders, memory, clock."""

from __future__ import annotations

import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

import onnxruntime

from fpcodec.detectors.providers import available_text, choose_providers
from fpcodec.entropy import ConstrictionBackend, default_backend
from fpcodec.errors import ModelError
from fpcodec_edge.doctor.check import Check, State

OLDEST_PYTHON = (3, 10)
EARLIEST_S = datetime(2026, 1, 1, tzinfo=timezone.utc).timestamp()
"""This release is younger: a clock before it is wrong."""

LEAST_MEMORY_BYTES, ENOUGH_MEMORY_BYTES = 128 * 2**20, 512 * 2**20
LEAST_DISK_BYTES, ENOUGH_DISK_BYTES = 16 * 2**20, 256 * 2**20


@dataclass(frozen=True)
class Machine:
    """What is asked of a machine.

    Attributes:
        providers: Execution providers that the networks are to run on.
        folders: What each is for, as ``spool``, to the folder; the temporary one comes besides.
        clock: Seconds since 1970.
    """

    providers: Sequence[str] = ()
    folders: Mapping[str, Path] = field(default_factory=dict)
    clock: Callable[[], float] = time.time


def check_machine(machine: Machine) -> Iterator[Check]:
    """Look at this machine, a line per finding."""
    yield python_check(sys.version_info[:3])
    yield packages_check("fpcodec")
    yield providers_check(machine.providers, onnxruntime.get_available_providers())
    yield coder_check(isinstance(default_backend(), ConstrictionBackend))
    yield memory_check(available_memory())
    for use, folder in {"temporary files": Path(tempfile.gettempdir()), **machine.folders}.items():
        yield folder_check(use, folder)
    yield clock_check(machine.clock())


def python_check(version: tuple[int, ...]) -> Check:
    """Whether this release runs on a Python."""
    text = f"{'.'.join(map(str, version))} on {platform.system()} {platform.machine()}"
    if version[:2] >= OLDEST_PYTHON:
        return Check("python", State.ok, text)
    return Check("python", State.fail, text, "install Python 3.10 or later")


def packages_check(package: str) -> Check:
    """Whether what a package requires is installed in the versions it wants."""
    from packaging.requirements import Requirement

    try:
        found = metadata.distribution(package)
    except metadata.PackageNotFoundError:
        return Check("packages", State.warn, f"{package} runs from a folder, so the versions of "
                     "what it requires are not known to fit", "pip install it")  # fmt: skip
    wrong, fitting = [], 0
    for text in found.requires or ():
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} {version} is not {requirement.specifier}")
        fitting += 1
    if wrong:
        fix = f'pip install --upgrade "{package}"'
        return Check("packages", State.fail, "; ".join(wrong), fix)
    return Check("packages", State.ok, f"{package} {found.version} and the {fitting} it requires")


def providers_check(wanted: Sequence[str], available: Sequence[str]) -> Check:
    """Whether onnxruntime has what the networks are to run on; ``frame`` shows that it works."""
    try:
        chosen = choose_providers(wanted, available)
    except ModelError as error:
        return Check("onnxruntime", State.fail, str(error), "or leave --provider out")
    return Check(
        "onnxruntime", State.ok,
        f"{onnxruntime.__version__} has {available_text(available)}; used: {', '.join(chosen)}",
    )  # fmt: skip


def coder_check(native: bool) -> Check:
    """Which entropy coder there is; both write the same bytes."""
    if native:
        return Check("coder", State.ok, "native")
    arm = platform.system() == "Linux" and platform.machine() in ("aarch64", "arm64")
    fix = "there is no wheel for Linux arm64: choose a lower quality or fewer levels where it is "\
          "too slow" if arm else "pip install constriction"  # fmt: skip
    return Check("coder", State.warn, "Python: the same bytes, but slower", fix)


def memory_check(available_bytes: int | None) -> Check:
    """Whether there is memory for a frame; what one takes depends on the detector."""
    if available_bytes is None:
        return Check("memory", State.warn, "free memory is not known on this system")
    text = f"{available_bytes / 2**20:,.0f} MiB free"
    if available_bytes < LEAST_MEMORY_BYTES:
        return Check("memory", State.fail, text, "end other programs, or take a smaller detector")
    if available_bytes < ENOUGH_MEMORY_BYTES:
        return Check("memory", State.warn, text, "larger detectors may not fit")
    return Check("memory", State.ok, text)


def available_memory(
    meminfo: Path = Path("/proc/meminfo"), groups: Path = Path("/sys/fs/cgroup")
) -> int | None:
    """Bytes that a process may still take: of the machine, and of its container; None if unknown.

    Args:
        meminfo: Of Linux.
        groups: The container's control group, version 2.
    """
    try:
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        free = int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, ValueError, KeyError, IndexError):
        return None
    try:
        limit = int((groups / "memory.max").read_text())
        free = min(free, limit - int((groups / "memory.current").read_text()))
    except (OSError, ValueError):
        pass  # No container, or none with a limit ("max").
    return max(free, 0)


def folder_check(use: str, folder: Path) -> Check:
    """Whether a folder can be written to and has room; one that is absent counts as its parent."""
    place = folder.resolve()
    while not place.exists():
        place = place.parent
    name = f"{use} in {folder}"
    try:
        with tempfile.NamedTemporaryFile(dir=place, prefix=".fpcodec-doctor-") as file:
            file.write(b"fpcodec")
            file.flush()
        free = shutil.disk_usage(place).free
    except OSError as error:
        return Check("write", State.fail, f"{name}: {error.strerror or error}",
                     "give this user the folder (chown), or name another")  # fmt: skip
    text = f"{name}: {free / 1e6:,.0f} MB free"
    if free < LEAST_DISK_BYTES:
        return Check("write", State.fail, text, "make room, or name another folder")
    if free < ENOUGH_DISK_BYTES:
        return Check(
            "write", State.warn, text, "a spool gives up its oldest frames when it is full"
        )
    return Check("write", State.ok, text)


def clock_check(now_s: float) -> Check:
    """Whether the clock can be right; certificates are judged by it."""
    text = datetime.fromtimestamp(now_s, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
    if now_s < EARLIEST_S:
        return Check("clock", State.fail, f"{text}, before this release was made",
                     "set it, and turn on NTP (timedatectl set-ntp true)")  # fmt: skip
    return Check("clock", State.ok, text)
