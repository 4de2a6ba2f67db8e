"""A guide's commands, run as its reader would run them, on smaller things."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from typer.testing import CliRunner

from fpcodec.cli.app import app
from fpcodec.cli.serve import READY

ADDRESS = "127.0.0.1:50051"
"""What guides call the server; tests take a free port."""


def section(text: str, heading: str) -> str:
    """What stands below a heading of the second level, up to the next."""
    found = re.search(
        rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL
    )
    assert found is not None, heading
    return found.group(1)


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def commands(text: str) -> list[str]:
    """The commands of the console blocks, each as one line."""
    joined = re.sub(r" *\\\n *", " ", "".join(blocks(text, "console")))
    return [line.removeprefix("$ ") for line in joined.splitlines() if line.startswith("$ ")]


class Reader:
    """Types commands into a shell of which there is only what guides use.

    ``NAME=value`` and ``export NAME=value`` set variables; ``fpcodec serve`` runs in a process of
    its own until the next one, or the end; other ``fpcodec`` commands run in this process, in the
    current folder. Anything else fails.

    Args:
        smaller: Text in a command to what takes its place: fewer steps, smaller networks.
    """

    def __init__(self, smaller: Mapping[str, str]) -> None:
        self.smaller = smaller
        self.variables: dict[str, str] = {}
        self._server: subprocess.Popen[str] | None = None
        self._address = ADDRESS

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end_server()

    def type(self, line: str) -> str:
        """Run one command; return what it prints on stdout."""
        for given, taken in self.smaller.items():
            line = line.replace(given, taken)
        line = line.replace(ADDRESS, self._address)
        assigned = re.fullmatch(r"(?:export )?([A-Z_]+)=(.*)", line)
        if assigned:
            self.variables[assigned[1]] = "".join(shlex.split(assigned[2]))
            return ""
        words = [re.sub(r"\$(\w+)", lambda x: self.variables[x[1]], x) for x in shlex.split(line)]
        assert words[0] == "fpcodec", f"no way to run: {line}"
        if words[1] == "serve":
            self._serve(words[2:])
            return ""
        result: Any = CliRunner().invoke(app, words[1:])
        assert result.exit_code == 0, f"{line}\n{result.output}\n{result.exception!r}"
        return str(result.stdout)

    def _serve(self, arguments: list[str]) -> None:
        self._end_server()
        free = [re.sub(r"^127\.0\.0\.1:\d+$", "127.0.0.1:0", x) for x in arguments]
        paths = [self.variables.get("PYTHONPATH", ""), *sys.path]
        server = subprocess.Popen(
            [sys.executable, "-m", "fpcodec.cli", "serve", *free, "--stop-with-stdin"],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(str(Path(x).resolve()) for x in paths)},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._server = server
        assert server.stdout is not None
        ready, self._address = server.stdout.readline().split()[:2]
        assert ready == READY

    def _end_server(self) -> None:
        if self._server is not None:
            self._server.terminate()
            self._server.communicate()
            self._server, self._address = None, ADDRESS
