"""The help of every command, as a page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from typer.main import get_command
from typer.testing import CliRunner

from fpcodec.cli.app import app

PLAIN = {"NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "92"}


def commands(group: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of everything that can be called."""
    yield above
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, (*above, name))


def pages() -> str:
    """A heading and a text block per command."""
    parts = []
    for words in commands(get_command(app)):
        said = CliRunner().invoke(app, [*words, "--help"], env=PLAIN, prog_name="fpcodec").stdout
        text = "\n".join(line.rstrip() for line in said.strip("\n").splitlines())
        parts.append(f"## `{' '.join(('fpcodec', *words))}`\n\n```text\n{text}\n```\n")
    return "\n".join(parts)
