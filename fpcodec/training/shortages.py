"""A full disk and a lack of memory, as errors that say what to do."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from fpcodec.errors import InputError


@contextmanager
def disk_full_named(path: Path, what: str) -> Iterator[None]:
    """Turn a full disk into a typed error that says what to free.

    Raises:
        InputError: Writing ran out of space.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise InputError(
            f"{path}: the disk is full while writing {what}; free some space there, or name a "
            "folder on another disk, and run the same again"
        ) from error


@contextmanager
def out_of_memory_named(batch: int) -> Iterator[None]:
    """Turn a lack of memory into a typed error.

    Raises:
        InputError: Memory ran out.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        text = str(error)
        known = isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError))
        if not known and "alloc" not in text:
            raise
        raise InputError(f"memory ran out at batch {batch}; lower --batch, or give the detector a "
                         "smaller input") from error  # fmt: skip
