"""Links, code, commands and navigation of every document, and the site that is built of them."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from document_kit import (
    DOCS,
    DOCUMENTS,
    PAGES,
    anchors,
    blocks,
    code_spans,
    commands_in,
    links,
    name_of,
)
from typer.main import get_command

import fpcodec
import fpcodec_edge
import fpcodec_server
from fpcodec.cli.app import app
from fpcodec.data.shapes import CLASS_NAMES

if not DOCS.is_dir():
    pytest.skip("docs/ is not part of an installed package", allow_module_level=True)

documents = pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)


@documents
def test_links_lead_somewhere(path: Path) -> None:
    for link in links(path.read_text("utf-8")):
        if re.match(r"[a-z]+:", link):
            assert re.fullmatch(r"https://[\w.-]+\.[a-z]{2,}(/\S*)?", link), link
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text("utf-8")), link


@documents
def test_python_is_python(path: Path) -> None:
    for block in blocks(path.read_text("utf-8"), "python"):
        ast.parse(block)


@documents
def test_commands_can_be_parsed(path: Path) -> None:
    for words in commands_in(path.read_text("utf-8")):
        parse(words)


def parse(words: list[str]) -> Any:
    """What the app makes of a command's words, before it does anything.

    Raises:
        Exception: Click's, where a command, an option or a value is not known.
    """
    if ".." in words:  # more options are left out
        words = words[: words.index("..")]
    command, context = get_command(app), None
    name = "fpcodec"
    while True:
        group = hasattr(command, "commands")
        made = command.make_context(name, list(words), parent=context, resilient_parsing=group)
        if not group or not made._protected_args + made.args:
            return made
        name, *words = made._protected_args + made.args
        command, context = command.commands[name], made  # type: ignore[attr-defined]


def options_of(command: Any) -> Iterator[str]:
    """Every option of a command and of those below it."""
    for parameter in command.params:
        yield from (*parameter.opts, *parameter.secondary_opts)
    for below in getattr(command, "commands", {}).values():
        yield from options_of(below)


@pytest.fixture(scope="module")
def known_options(repository: Path) -> set[str]:
    """Of our commands, and of the scripts that documents name."""
    scripts = [*repository.glob("scripts/*.py"), *repository.glob("benchmarks/*.py")]
    of_scripts = {x for path in scripts for x in re.findall(r'"(--[a-z-]+)"', path.read_text())}
    return {*options_of(get_command(app)), "--help", *of_scripts}


@documents
def test_options_in_the_text_exist(path: Path, known_options: set[str]) -> None:
    for span in code_spans(path.read_text("utf-8")):
        if span.startswith(("--", "fpcodec ")):
            named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", span))
            assert named <= known_options, span


@pytest.mark.parametrize(
    "line", ["fly", "encode", "encode a.png --speed 3", "encode a.png -q high"]
)
def test_commands_that_are_wrong_cannot_be_parsed(line: str) -> None:
    with pytest.raises(Exception, match=r"(?i)fly|missing|no such option|be a valid") as found:
        parse(shlex.split(line))
    assert found.type is KeyError or hasattr(found.value, "format_message")


def test_start_works_as_it_says(
    photo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The page's Python runs, with the detector, a folder and a picture it names."""
    (code,) = blocks((DOCS / "start.md").read_text("utf-8"), "python")
    monkeypatch.chdir(photo.parent)
    (photo.parent / "photos").mkdir()
    photo.rename("photos/photo.png")
    exec(compile(code.replace("photo.jpg", "photos/photo.png"), "start.md", "exec"), {})
    assert "'label'" in capsys.readouterr().out
    assert Path("my-profile/profile.json").is_file()


def test_questions_link_to_pages_that_answer() -> None:
    text = (DOCS / "faq.md").read_text("utf-8")
    for asked in ("When should I not", "just send boxes", "private", '"quality" mean', "do when"):
        assert asked in text
    assert {"fairness.md", "privacy.md", "messages.md"} <= {
        x.partition("#")[0] for x in links(text)
    }


def test_citations_have_their_entries(repository: Path) -> None:
    text = (DOCS / "citing.md").read_text("utf-8")
    entries = set(re.findall(r"^@\w+\{(\w+),$", text, re.MULTILINE))
    assert entries == set(re.findall(r"\(`(\w+)`\)", text))
    for block in blocks(text, "bibtex"):
        assert block.count("{") == block.count("}")
    cff = (repository / "CITATION.cff").read_text("utf-8")
    assert f"version: {fpcodec.__version__}\n" in cff


@pytest.fixture(scope="module")
def conf() -> Iterator[Any]:
    """The site's configuration, as a module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(DOCS / "site")
        patch.setattr(sys, "path", list(sys.path))
        import conf

        yield conf


def test_every_page_can_be_reached(conf: Any) -> None:
    placed = [page for pages in conf.sections().values() for page in pages]
    assert len(placed) == len(set(placed))
    assert {x.stem for x in PAGES} - {"index"} <= set(placed)
    assert {"site/api", "site/commands", "site/readme"} <= set(placed)
    assert "notebooks/split_any_detector" in placed


def test_a_new_page_becomes_a_guide(conf: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conf, "SECTIONS", {"Guides": ["start"]})
    assert "operations" in conf.sections()["Guides"]


def test_links_out_of_the_site_name_files(conf: Any) -> None:
    text = (
        "[`fpcodec/errors.py`](../fpcodec/errors.py), [ours](../SECURITY.md), [s](../README.md#x)"
    )
    assert conf.within_site("robustness", text) == (
        "`fpcodec/errors.py`, ours (`SECURITY.md` in the source tree), [s](/site/readme.md#x)"
    )
    assert conf.within_site("site/commands", "[e](../errors.md)") == "[e](../errors.md)"


@pytest.mark.skipif(
    not all(map(find_spec, ("sphinx", "myst_nb", "furo"))), reason="needs fpcodec[docs]"
)
def test_the_site_builds_without_a_warning(repository: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [repository / "scripts" / "docs", tmp_path / "site"], capture_output=True, text=True,
        env={"PYTHON": sys.executable, "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    for page in ("index", "site/api", "site/commands", "notebooks/split_any_detector", "errors"):
        assert (tmp_path / "site" / f"{page}.html").is_file()
    api = (tmp_path / "site" / "site" / "api.html").read_text("utf-8")
    for package in (fpcodec, fpcodec_edge, fpcodec_server):
        classes = [x for x in package.__all__ if x[0].isupper() and not x.isupper()]
        assert [x for x in classes if f'.{x}"' not in api] == []


@pytest.mark.skipif(not find_spec("onnx"), reason="needs fpcodec[bench]")
def test_the_notebook_does_what_it_shows(tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat", reason="needs fpcodec[docs]")
    path = DOCS / "notebooks" / "split_any_detector.ipynb"
    assert path.stat().st_size < 20_000
    cells = [x for x in nbformat.read(path, 4).cells if x.cell_type == "code"]
    code = "\n".join(x.source for x in cells)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    shown = "".join(output.text for cell in cells for output in cell.outputs)
    # Figures, and so which boxes are best, vary a little between machines; the words do not.
    varies = rf"[\d,.]+|{'|'.join(CLASS_NAMES)}"
    assert re.sub(varies, "#", done.stdout) == re.sub(varies, "#", shown)
