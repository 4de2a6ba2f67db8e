"""Show that the base install resolves to wheels alone on Linux arm64, for every Python we support.

    python scripts/check_arm64.py
    python scripts/check_arm64.py --python 3.11 --out benchmarks/results/device/arm64.json

Asks pip to resolve for the other machine, as `pip download --platform` does, without fetching the
wheels. pip evaluates markers of the machine that it runs on, so our own requirements are given to
it as arm64 reads them, and those of every package that it found are read again in the same way.
Exit code 1 where a package has no wheel or is missing, 3 where the package index is not reachable.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
GLIBC = ("2_17", "2_24", "2_26", "2_27", "2_28")
"""Of manylinux, up to what Debian 10, Ubuntu 20.04 and JetPack 5 have."""

PLATFORMS = ("manylinux2014_aarch64", *(f"manylinux_{x}_aarch64" for x in GLIBC))
CODER = "constriction"
"""Where it is left out, the Python coder serves."""

NO_WHEEL, UNREACHABLE = 1, 3
_UNREACHABLE_SIGNS = ("Failed to establish", "Temporary failure in name", "Connection", "timed out")


@dataclass(frozen=True)
class Resolved:
    """What the base install would be on one Python.

    Attributes:
        python: Its version.
        packages: Name to version and wheel's tags.
        coder: ``native`` or ``python``.
        problem: Why it cannot be installed; None where it can.
    """

    python: str
    packages: Mapping[str, str]
    coder: str
    problem: str | None = None


def environment(python: str) -> dict[str, str]:
    """What markers mean on the other machine."""
    return {
        "python_version": python, "python_full_version": f"{python}.0", "os_name": "posix",
        "sys_platform": "linux", "platform_machine": "aarch64", "platform_system": "Linux",
        "implementation_name": "cpython", "platform_python_implementation": "CPython", "extra": "",
    }  # fmt: skip


def wanted(requirements: Sequence[str], python: str) -> list[Requirement]:
    """Requirements that hold on the other machine, without their markers."""
    found = []
    for text in requirements:
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate(environment(python)):
            requirement.marker = None
            found.append(requirement)
    return found


def resolve(requirements: Sequence[str], python: str) -> Resolved:
    """Ask pip; nothing is installed.

    Raises:
        ConnectionError: The package index cannot be reached.
    """
    ours = wanted(requirements, python)
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [
            sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--ignore-installed",
            "--disable-pip-version-check", "--report", str(report), "--target", folder,
            "--only-binary=:all:", "--implementation=cp", f"--python-version={python}",
            *(f"--platform={x}" for x in PLATFORMS), *map(str, ours),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True)  # noqa: S603
        names = {canonicalize_name(x.name) for x in ours}
        coder = "native" if CODER in names else "python"
        if done.returncode != 0:
            return Resolved(python, {}, coder, _cause(done.stderr))
        items = json.loads(report.read_text("utf-8"))["install"]
    packages = {canonicalize_name(x["metadata"]["name"]): _described(x) for x in items}
    missing = sorted({
        f"{canonicalize_name(need.name)} (of {x['metadata']['name']})"
        for x in items
        for need in wanted(x["metadata"].get("requires_dist", ()), python)
        if canonicalize_name(need.name) not in packages
    })  # fmt: skip
    problem = f"pip left out {', '.join(missing)}" if missing else None
    return Resolved(python, dict(sorted(packages.items())), coder, problem)


def _described(item: Mapping[str, Mapping[str, str]]) -> str:
    """A package's version and for what its wheel was built."""
    wheel = item["download_info"]["url"].rsplit("/", 1)[-1].partition("#")[0].removesuffix(".whl")
    return f"{item['metadata']['version']}  {wheel.rsplit('-', 1)[-1]}"


def _cause(stderr: str) -> str:
    lines = [line for line in stderr.splitlines() if line.startswith("ERROR:")]
    if any(sign in stderr for sign in _UNREACHABLE_SIGNS):
        raise ConnectionError("the package index cannot be reached from here")
    return lines[-1].removeprefix("ERROR: ") if lines else "pip failed without a word"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--python", action="append", help="one version; may be given again")
    parser.add_argument("--out", type=Path, help="also write JSON here")
    options = parser.parse_args(argv)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    try:
        found = [resolve(project["dependencies"], x) for x in options.python or PYTHONS]
    except ConnectionError as error:
        print(f"error: {error}", file=sys.stderr)
        return UNREACHABLE
    if options.out is not None:
        command = shlex.join(["python", "scripts/check_arm64.py", *(argv or sys.argv[1:])])
        row = {"pythons": [asdict(x) for x in found], "platforms": PLATFORMS, "command": command,
               "date": date.today().isoformat()}  # fmt: skip
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(row, indent=1) + "\n", "utf-8")
    for one in found:
        state = one.problem or f"{len(one.packages)} wheels, {one.coder} coder"
        print(f"Python {one.python}, Linux arm64: {state}")
        print("".join(f"  {name} {text}\n" for name, text in one.packages.items()), end="")
    return NO_WHEEL if any(one.problem for one in found) else 0


if __name__ == "__main__":
    sys.exit(main())
