"""Sphinx: docs/ as a site. ``scripts/docs`` builds it."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

SITE = Path(__file__).resolve().parent
DOCS, ROOT = SITE.parent, SITE.parent.parent
sys.path[:0] = [str(SITE), str(ROOT), str(ROOT / "edge"), str(ROOT / "server")]

import fpcodec  # noqa: E402

project, author = "fpcodec", "The fpcodec authors"
project_copyright = "2026, the fpcodec authors"
release = version = fpcodec.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
source_suffix = {".md": "myst-nb", ".ipynb": "myst-nb", ".rst": "restructuredtext"}
exclude_patterns = ["**/.ipynb_checkpoints"]
root_doc = "index"
nb_execution_mode = "off"  # a test runs the notebook; what it printed is in it
myst_heading_anchors = 4
napoleon_numpy_docstring = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
# Prompts and outputs of programs are no program.
highlight_language = "text"

html_theme = "furo"
html_title = f"fpcodec {release}"
html_static_path = ["static"]
html_css_files = ["wide.css"]
html_show_sphinx = False

SECTIONS = {
    "Start": ["start", "site/readme", "notebooks/split_any_detector", "faq"],
    "Guides": [
        "detectors", "your-own-detector", "training", "distillation", "edge", "device", "video",
        "page", "operations", "scaling", "explaining", "crowds",
    ],
    "Concepts and measurements": [
        "fairness", "measurements", "importance", "privacy", "robustness",
    ],
    "Reference": [
        "site/commands", "site/api", "bitstream", "protocol", "errors", "messages", "citing",
    ],
}  # fmt: skip
"""Caption to pages, those that are not there are passed over; a page in none is a guide."""

TITLES = {"site/readme": "README", "faq": "FAQ", "bitstream": "The .fpc frame"}
"""Shorter than a page's own, or where it has several."""

OUTWARD = re.compile(r"(?<!!)\[([^\]]*)\]\(((?:\.\./)+)([^)\s#]+)(#[^)\s]*)?\)")


def sections() -> dict[str, list[str]]:
    """Every page of ``docs/`` in its section."""
    there = {
        str(path.relative_to(DOCS).with_suffix(""))
        for path in (*DOCS.glob("*.md"), *DOCS.glob("notebooks/*.ipynb"), *SITE.glob("*.[mr][ds]*"))
    }
    found = {caption: [x for x in pages if x in there] for caption, pages in SECTIONS.items()}
    placed = {page for pages in found.values() for page in pages}
    found["Guides"] += sorted(there - placed - {"index", "site/conf"})
    return found


def navigation() -> str:
    """The tables of contents, which stand on the first page and beside every page."""
    fences = []
    for caption, pages in sections().items():
        listed = "\n".join(f"{TITLES[x]} <{x}>" if x in TITLES else x for x in pages)
        fences.append(f"```{{toctree}}\n:caption: {caption}\n:maxdepth: 1\n\n{listed}\n```")
    return "\n\n".join(fences)


def readme() -> str:
    """README, its links as they are from ``site/``."""
    text = (ROOT / "README.md").read_text("utf-8")
    return re.sub(r"\]\((?!https?:|#)([^)]+)\)", r"](../../\1)", text).replace(
        "](../../docs/", "](../"
    )


def within_site(docname: str, text: str) -> str:
    """Links that leave ``docs/`` name the file in the source tree instead; README is a page."""
    depth = docname.count("/")

    def named(link: re.Match[str]) -> str:
        words, up, path, anchor = link[1], link[2].count("../"), link[3], link[4] or ""
        if up != depth + 1:
            return link[0]
        if path == "README.md":
            return f"[{words}](/site/readme.md{anchor})"
        return words if words.strip("`") == path else f"{words} (`{path}` in the source tree)"

    return OUTWARD.sub(named, text)


def _read(app: Any, docname: str, source: list[str]) -> None:
    text = source[0]
    if docname == "index":
        text = text.replace("<!-- navigation -->", navigation())
    elif docname == "site/readme":
        text = readme()
    elif docname == "site/commands":
        from command_pages import pages

        text += pages()
    if not docname.startswith("notebooks/"):
        text = within_site(docname, text)
    source[0] = text


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("source-read", _read)
