"""Files that are whole or absent, and what tells them apart."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fpcodec.errors import InputError


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A temporary path beside ``target`` that takes its place once the block has ended well.

    The ending is kept, so that writers which look at it still know the format. Parent folders
    are made.

    Raises:
        InputError: The file cannot be written.
    """
    temporary = target.with_name(f".{os.getpid()}.{target.name}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(target)
    except OSError as error:
        raise InputError(f"{target} cannot be written: {_in_the_way(target, error)}") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def _in_the_way(target: Path, error: OSError) -> str:
    """Why a file cannot be written, without the temporary name that nobody typed."""
    if target.is_dir():
        return "it is a folder; name a file in it"
    above = next((x for x in target.parents if x.exists()), None)
    if above is not None and not above.is_dir():
        return f"{above} is a file; name a folder in its place"
    return error.strerror or str(error)


def file_sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
