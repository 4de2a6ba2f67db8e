"""Which commit a copy of the package was built from."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from fpcodec import build


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package's folder with ``build.py`` alone."""
    folder = tmp_path / "fpcodec"
    folder.mkdir()
    (folder / "build.py").touch()
    monkeypatch.setattr(build, "__file__", str(folder / "build.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    return folder


def git(folder: Path, *arguments: str) -> None:
    name = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
    subprocess.run(["git", "-C", folder, *name, *arguments], check=True, capture_output=True)


def test_built_packages_say_what_was_written(package: Path) -> None:
    (package / build.COMMIT_FILE).write_text("0123abcd+\n")
    assert build.commit() == "0123abcd+"


def test_unknown_outside_of_a_checkout(package: Path) -> None:
    assert build.commit() is None


def test_a_checkout_knows_its_commit_and_changes(package: Path) -> None:
    git(package.parent, "init")
    (package.parent / "other").touch()
    git(package.parent, "add", "other")
    git(package.parent, "commit", "-m", "another project")
    assert build.commit() is None
    git(package.parent, "add", ".")
    git(package.parent, "commit", "-m", "ours")
    commit = build.commit() or ""
    assert re.fullmatch("[0-9a-f]{40}", commit)
    (package / "build.py").write_text("changed")
    assert build.commit() == f"{commit}+"
