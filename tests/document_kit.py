"""Markdown as the tests of documents read it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from conftest import REPOSITORY

DOCS = REPOSITORY / "docs"
PAGES = sorted(DOCS.glob("*.md"))
DOCUMENTS = [*sorted(REPOSITORY.glob("*.md")), *PAGES, *sorted(DOCS.glob("site/*.md"))]

_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_CODE_SPAN = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)", re.DOTALL)
_LINK = re.compile(r"\]\(([^()\s]+(?:\([^()]*\)[^()\s]*)?)\)")


def name_of(path: Path) -> str:
    """A document's name for people."""
    return str(path.relative_to(REPOSITORY))


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of one language."""
    return [body for _, found, body in _FENCE.findall(text) if found == language]


def prose(text: str) -> str:
    """A document without its code."""
    return _CODE_SPAN.sub("", _FENCE.sub("", text))


def code_spans(text: str) -> list[str]:
    """Code within the text."""
    return re.findall(r"`([^`]+)`", _FENCE.sub("", text))


def links(text: str) -> list[str]:
    """Where links and pictures lead."""
    return _LINK.findall(prose(text))


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives headings."""
    found: dict[str, int] = {}
    for title in re.findall(r"^#{1,6} (.+?)\s*$", _FENCE.sub("", text), re.MULTILINE):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).replace("`", "").casefold()
        slug = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        found[slug] = found.get(slug, -1) + 1
    return {f"{slug}-{i}" if i else slug for slug, count in found.items() for i in range(count + 1)}


def commands_in(text: str) -> Iterator[list[str]]:
    """The words of every command of ours in a document's console blocks."""
    lines = [
        line.removeprefix("$ ")
        for language in ("console", "bash")
        for block in blocks(text, language)
        for line in re.sub(r"\\\n\s*", " ", block).splitlines()
        if language == "bash" or line.startswith("$ ")  # the others are what a command prints
    ]
    for part in " && ".join(lines).split(" && "):
        words = shlex.split(part, comments=True)
        if words and Path(words[0]).name == "fpcodec":
            yield words[1:]
