"""Every error has its row in the documents, and nothing else is raised on purpose."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from types import ModuleType

import pytest
from script_kit import script_fixture

from fpcodec.errors import FpcodecError

tables = script_fixture("error_table")

OTHERS = {
    "fpcodec": "AttributeError",  # what Python wants of a module without the name
    "fpcodec.cli.app": "Exit",  # Typer's own end of a command
    "fpcodec.cli.doctor": "Exit",  # the same, with exit code 1
    "fpcodec.detectors.layouts.options": "ValueError",  # caught beside int's and float's
    "fpcodec.detectors.torchvision_models": "ValueError",  # caught beside torchvision's
    "fpcodec.executor.local": "KeyboardInterrupt",
    "fpcodec.explain.layout_candidates": "IndexError",  # a fault of the program
    "fpcodec_edge.outbox": "StopIteration",  # an iterator's protocol
    "fpcodec_server.settings": "ValueError",  # caught beside int's and float's
}
"""Module to the one error outside of the tree that it may raise."""


def raised(tree: ast.Module) -> Iterator[str]:
    """Names of the classes that are raised by name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and node.exc is not None:
            made = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            name = ast.unparse(made).rpartition(".")[2]
            if name[:1].isupper():
                yield name


def test_documents_are_as_the_code(tables: ModuleType) -> None:
    for page in (tables.CLASSES_PAGE, tables.MESSAGES_PAGE):
        text = page.read_text("utf-8")
        assert tables.rendered(text) == text, f"run python scripts/error_table.py: {page.name}"


def test_every_class_has_a_row_with_words_of_its_own(tables: ModuleType) -> None:
    classes = tables.classes()
    assert len(classes) > 20
    rows = "\n".join(tables.class_rows())
    for name, error in classes.items():
        assert f"| `{name}`" in rows
        assert {"cause", "remedy"} <= set(vars(error)), f"{name} lacks words of its own"
    causes = [x.cause for x in classes.values()]
    assert len(set(causes)) == len(causes)


def test_classes_outside_of_the_one_file_are_found(tables: ModuleType) -> None:
    homes = {error.__module__ for error in tables.classes().values()}
    assert {"fpcodec.errors", "fpcodec_edge.spool", "fpcodec_edge.connections"} <= homes


def test_everything_that_is_raised_is_in_the_tree(tables: ModuleType) -> None:
    for module, tree in tables.modules().items():
        others = set(raised(tree)) - set(tables.classes())
        assert others <= {OTHERS.get(module)}, module


def test_every_message_that_is_raised_in_words_is_listed(tables: ModuleType) -> None:
    page = tables.MESSAGES_PAGE.read_text("utf-8")
    assert len(tables.messages()) > 500
    assert all(f"`{message.error}`" in page for message in tables.messages())


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("InputError('plain')", "plain"),
        ("InputError(f'{path}: no such {kind!r}; name one')", "…: no such …; name one"),
        ("InputError('a file' + f' of {n}')", "a file of …"),
        ("InputError(text)", "…"),
    ],
)
def test_templates(tables: ModuleType, code: str, text: str) -> None:
    call = ast.parse(code, mode="eval").body
    assert isinstance(call, ast.Call)
    assert tables._template(call.args[0]) == text


def test_classes_say_what_the_command_line_and_the_wire_do(tables: ModuleType) -> None:
    rows = {row.split("`")[1]: row for row in tables.class_rows()[2:]}
    assert rows["Overloaded"].endswith("| 2, `RESOURCE_EXHAUSTED`, may be sent again |")
    assert rows["DamagedSpoolFile"].endswith("| goes on |")
    assert set(rows) == {x.__name__ for x in tables.classes().values()}
    assert FpcodecError.__name__ in rows
