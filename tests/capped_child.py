"""Hostile bytes in a process whose memory is capped: what it said, and what that cost."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

_BEFORE = """
import json, resource, sys, time
sys.path.insert(0, sys.argv[1])
from fpcodec.errors import FormatError

limit = int(1.5 * 2**30)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
"""
_AFTER = """
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
out = {}
for name, data in cases.items():
    before, started = peak(), time.monotonic()
    try:
        read(name, data)
        said = "decoded"
    except FormatError as error:
        said = type(error).__name__
    out[name] = [said, peak() - before, time.monotonic() - started]
print(json.dumps(out))
"""


def read_capped(repository: Path, body: str) -> dict[str, tuple[str, int, float]]:
    """Run a child that reads hostile bytes.

    Args:
        repository: Whose ``tests`` the child may import from.
        body: Python that defines ``cases``, name to bytes, and ``read(name, data)``.

    Returns:
        Name to the error's class, or ``decoded``; bytes that the peak grew by; seconds.
    """
    pytest.importorskip("resource", reason="needs a POSIX system to cap a process's memory")
    run = subprocess.run(
        [sys.executable, "-c", _BEFORE + body + _AFTER, str(repository / "tests")],
        capture_output=True, text=True, check=False, timeout=120, cwd=repository,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return {name: tuple(found) for name, found in json.loads(run.stdout).items()}
