"""What commands print and write: JSON on stdout, progress on stderr, files by renaming."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from fpcodec.files import replacing

if TYPE_CHECKING:
    from PIL.Image import Image
    from rich.console import Console
    from rich.progress import Progress

T = TypeVar("T")


def print_json(value: Any, *, indent: int | None = 2) -> None:
    """Print one JSON value on stdout; ``indent=None`` gives one line, as JSON Lines needs."""
    sys.stdout.write(json.dumps(value, indent=indent, allow_nan=False) + "\n")
    sys.stdout.flush()


def print_table(table: Any) -> None:
    """Print a Rich table on stdout."""
    from rich.console import Console

    Console(highlight=False).print(table)


def note(message: str) -> None:
    """One line for people, on stderr."""
    print(message, file=sys.stderr)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file under a temporary name and rename it; parent folders are made."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_png(path: Path, picture: Image) -> None:
    """Write a picture as a file."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    write_bytes(path, buffer.getvalue())


def write_json(path: Path, value: Any) -> None:
    """Write one JSON value as a file."""
    write_bytes(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def track(items: Iterable[T], description: str, total: int) -> Iterator[T]:
    """Go through items with a progress bar on stderr, where that is a terminal."""
    with _progress() as progress:
        task = progress.add_task(description, total=total)
        for item in items:
            yield item
            progress.advance(task)


@contextmanager
def progress_callback(description: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr and the function ``(done, total)`` that moves it."""
    with _progress() as progress:
        task = progress.add_task(description, total=None)

        def move(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        yield move


@contextmanager
def stage_progress() -> Iterator[Callable[[str, int, int], None]]:
    """A bar per stage on stderr and the function ``(stage, done, total)`` that moves them."""
    with _progress() as progress:
        tasks: dict[str, Any] = {}

        def move(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = progress.add_task(stage, total=total)
            progress.update(tasks[stage], completed=done, total=total)

        yield move


@contextmanager
def live_line() -> Iterator[Callable[[str], None]]:
    """One line on stderr that is replaced by each next one, where stderr is a terminal."""
    from rich.console import Console

    console = Console(stderr=True)
    if not has_screen(console):
        yield lambda text: None
        return
    with console.status("") as status:
        yield lambda text: status.update(text)


def has_screen(console: Console) -> bool:
    """Whether stderr can show what moves; colour that is forced into a pipe makes it no screen."""
    return sys.stderr.isatty() and not console.is_dumb_terminal


def _progress() -> Progress:
    from rich import progress
    from rich.console import Console

    console = Console(stderr=True)
    return progress.Progress(
        progress.TextColumn("{task.description}"), progress.BarColumn(),
        progress.MofNCompleteColumn(), progress.TimeRemainingColumn(),
        console=console, transient=True, disable=not has_screen(console),
    )  # fmt: skip
