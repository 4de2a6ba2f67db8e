"""Writes every error class and every message into docs/errors.md and docs/messages.md.

python scripts/error_table.py          # rewrites the tables
python scripts/error_table.py --check  # exits 1 where documents and code differ
"""

from __future__ import annotations

import ast
import importlib
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fpcodec import errors
from fpcodec.errors import FpcodecError
from fpcodec.status import STATUSES

ROOT = Path(__file__).resolve().parent.parent
SOURCES = (ROOT, ROOT / "edge", ROOT / "server")
PACKAGES = ("fpcodec", "fpcodec_edge", "fpcodec_server")
CLASSES_PAGE = ROOT / "docs" / "errors.md"
MESSAGES_PAGE = ROOT / "docs" / "messages.md"
EXIT_CODE = 2
VARIES = "…"
FEWEST_LETTERS = 4


@dataclass(frozen=True)
class Message:
    """What an error says, with ``VARIES`` in the place of what is not always the same."""

    text: str
    error: str


@cache
def modules() -> dict[str, ast.Module]:
    """Every module's name and code, generated ones left out."""
    found = {}
    for source, package in zip(SOURCES, PACKAGES, strict=True):
        for path in sorted((source / package).rglob("*.py")):
            if not path.stem.endswith(("_pb2", "_pb2_grpc")):
                name = ".".join(path.relative_to(source).with_suffix("").parts)
                found[name.removesuffix(".__init__")] = ast.parse(path.read_text("utf-8"))
    return found


@cache
def classes() -> dict[str, type[FpcodecError]]:
    """The tree of errors, in the order of its branches, wherever a class is defined."""
    names, homes = {FpcodecError.__name__}, {FpcodecError.__name__: errors.__name__}
    while True:
        before = len(homes)
        for module, tree in modules().items():
            for node in ast.walk(tree):
                bases = {ast.unparse(x).rpartition(".")[2] for x in getattr(node, "bases", ())}
                if isinstance(node, ast.ClassDef) and bases & names:
                    names.add(node.name)
                    homes.setdefault(node.name, module)
        if len(homes) == before:
            break
    found = {x: getattr(importlib.import_module(homes[x]), x) for x in homes}
    return {x.__name__: x for x in _branches(FpcodecError, set(found.values()))}


def _branches(top: type[FpcodecError], known: set[type]) -> Iterator[type[FpcodecError]]:
    yield top
    for below in top.__subclasses__():
        if below in known:
            yield from _branches(below, known)


def class_rows() -> list[str]:
    """The table of the classes, in Markdown."""
    statuses = {x.error: x for x in STATUSES}
    lines = ["| error | cause | remedy | exit code, gRPC status |", "|---|---|---|---|"]
    for name, error in classes().items():
        status = statuses.get(error)
        again = ", may be sent again" if status and status.retryable else ""
        ends = f"{EXIT_CODE}, `{status.code.name}`{again}" if status else "goes on"
        parent = error.__mro__[1].__name__
        kind = "" if error is FpcodecError else f" (a `{parent}`)"
        lines.append(f"| `{name}`{kind} | {error.cause} | {error.remedy} | {ends} |")
    return lines


def messages() -> list[Message]:
    """Everything that errors say, by the letters that do not vary."""
    found = set()
    for tree in modules().values():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and node.args:
                name = ast.unparse(node.func).rpartition(".")[2]
                text = _template(node.args[0]) if name in classes() else VARIES
                if sum(x.isalpha() for x in text) >= FEWEST_LETTERS:
                    found.add(Message(text, name))
    return sorted(found, key=lambda x: (_letters(x.text), x.text, x.error))


def _template(node: ast.expr) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(map(_template, node.values))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _template(node.left) + _template(node.right)
    return VARIES


def _letters(text: str) -> str:
    return re.sub(r"[^a-z ]", "", text.casefold()).strip()


def message_rows() -> list[str]:
    """The table of the messages, in Markdown."""
    lines = ["| what it says | error |", "|---|---|"]
    for message in messages():
        text = " ".join(message.text.split()).replace("|", "\\|")
        mark, space = ("``", " ") if "`" in text else ("`", "")
        lines.append(f"| {mark}{space}{text}{space}{mark} | `{message.error}` |")
    return lines


def rendered(text: str) -> str:
    """A document with its tables as the code has them now."""
    for name, rows in (("classes", class_rows), ("messages", message_rows)):
        marks = rf"(<!-- generated: {name} -->\n).*?(<!-- end -->)"
        body = "\n".join(rows()) if f"<!-- generated: {name} -->" in text else ""
        text = re.sub(marks, lambda m, body=body: f"{m[1]}{body}\n{m[2]}", text, flags=re.S)
    return text


def main() -> int:
    """Write or check both documents; the exit code."""
    stale = []
    for path in (CLASSES_PAGE, MESSAGES_PAGE):
        text = path.read_text("utf-8")
        if (fresh := rendered(text)) != text:
            stale.append(path.name)
            if "--check" not in sys.argv[1:]:
                path.write_text(fresh, "utf-8")
    print(f"changed: {', '.join(stale) or 'nothing'}")
    return 1 if stale and "--check" in sys.argv[1:] else 0


if __name__ == "__main__":
    sys.exit(main())
