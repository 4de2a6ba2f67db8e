"""README's commands, extras, example and figures fit the code; its links: ``test_documents.py``."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
from document_kit import blocks, commands_in
from typer.main import get_command

import fpcodec
from fpcodec.cli.app import app


@pytest.fixture(scope="module")
def readme(repository: Path) -> str:
    return (repository / "README.md").read_text("utf-8")


def test_two_setup_commands_near_the_top(readme: str) -> None:
    demo, test = blocks(readme, "bash")
    assert demo.count("\n") == test.count("\n") == 1
    assert "fpcodec demo" in demo
    assert demo.startswith("python3 -m venv .venv && .venv/bin/pip install . && ")
    assert re.search(r'pip install -e "\.\[[a-z,]+\]" && \.venv/bin/pytest$', test.strip())
    assert readme.index(test) < 2000


def test_ci_takes_its_commands_from_the_readme(repository: Path) -> None:
    ci = (repository / ".ci" / "run").read_text("utf-8")
    assert "readme_command 1" in ci
    assert "readme_command 2" in ci


def test_named_extras_exist(readme: str, repository: Path) -> None:
    declared = re.findall(r"^([a-z]+) = \[", (repository / "pyproject.toml").read_text(), re.M)
    named = re.findall(r"fpcodec\[([a-z,]+)\]|\"\.\[([a-z,]+)\]\"", readme)
    extras = {extra for pair in named for group in pair for extra in group.split(",") if extra}
    assert extras
    assert extras <= set(declared)


def test_every_command_is_shown(readme: str) -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    assert {words[0] for words in commands_in(readme)} == set(commands)


def test_python_example_runs(
    readme: str, photo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (example,) = blocks(readme, "python")
    monkeypatch.chdir(photo.parent)
    (photo.parent / "photos").mkdir()
    photo.rename("photos/photo.png")
    exec(compile(example.replace("photo.jpg", "photos/photo.png"), "README.md", "exec"), {})
    size, _, detections = capsys.readouterr().out.partition(" ")
    assert int(size) > 20
    assert detections.startswith("[")


def test_documents_show_what_was_measured(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("scipy", reason="needs fpcodec[bench]")
    monkeypatch.syspath_prepend(repository / "benchmarks")
    tables = importlib.import_module("tables")
    shown: set[str] = set()
    for path in tables.DOCUMENTS:
        text = path.read_text("utf-8")
        assert tables.rendered(text) == text, f"run python benchmarks/tables.py: {path.name}"
        shown |= set(re.findall(r"<!-- measured: ([^>]+) -->", text))
    assert shown == set(tables.SECTIONS)


def test_changelog_has_the_release_or_an_open_section(repository: Path) -> None:
    text = (repository / "CHANGELOG.md").read_text("utf-8")
    assert "## [Unreleased]" in text or f"## [{fpcodec.__version__}]" in text
    assert "### Bitstream" in text
    assert "### Wire API" in text
