"""Which commit this copy of the package was built from."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

COMMIT_FILE = "COMMIT"
"""Beside this file, in packages that were built from a clone; see ``setup.py``."""


def commit(checkout: Path | None = None) -> str | None:
    """The commit, with ``+`` where files differ from it; None where it is not known.

    Args:
        checkout: That this copy was installed from; None where the copy itself should know.
    """
    if checkout is not None:
        return _checkout_commit(checkout / Path(__file__).parent.name)
    folder = Path(__file__).parent
    written = folder / COMMIT_FILE
    if written.is_file():
        return written.read_text("utf-8").strip()
    return _checkout_commit(folder)


def _checkout_commit(folder: Path) -> str | None:
    """Commit of the checkout that a folder of this package lies in; None outside of one."""
    sha = _git(folder, "rev-parse", "HEAD")
    # An installed package may lie inside some other project's checkout: then the commit says
    # nothing about this code.
    if not sha or not _git(folder, "ls-files", Path(__file__).name):
        return None
    return sha + ("+" if _git(folder, "status", "--porcelain", "--", str(folder)) else "")


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
