"""Files that a running server reads again when they change."""

from __future__ import annotations

import logging
import stat
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from fpcodec.errors import InputError

T = TypeVar("T")

_log = logging.getLogger(__name__)


class WatchedFiles(Generic[T]):
    """What was read from some files, and is read anew when one of them changes.

    Safe to share between threads.

    Args:
        paths: The files.
        read: Reads them; raises InputError where they cannot be used.

    Raises:
        InputError: The files cannot be used as they are now.
    """

    def __init__(self, paths: Sequence[Path], read: Callable[[], T]) -> None:
        self._paths = tuple(paths)
        self._read = read
        self._lock = threading.Lock()
        self._stamp = self._look()
        self.value = read()

    def refresh(self) -> bool:
        """Read the files if they changed; keeps, and logs, what was before if they are unusable.

        Returns:
            Whether there is a new value.
        """
        with self._lock:
            stamp = self._look()
            if stamp == self._stamp:
                return False
            # Remembered before they are read: files that change meanwhile are read once more.
            self._stamp = stamp
            try:
                self.value = self._read()
            except InputError as error:
                _log.error("kept what was read before: %s", error)
                return False
            _log.info("read anew: %s", ", ".join(map(str, self._paths)))
            return True

    def _look(self) -> tuple[tuple[int, ...], ...]:
        return tuple(_stamp(path) for path in self._paths)


def read_file(path: Path, what: str) -> bytes:
    """The bytes of a small file.

    Raises:
        InputError: It cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{path}: cannot read the {what} ({error.strerror or error}); correct the path or "
            "the file's permissions"
        ) from error


def warn_if_open_to_all(path: Path, what: str) -> None:
    """Log a warning where every user of the machine may read a secret."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return
    if mode & stat.S_IROTH:
        _log.warning(
            "%s: every user of this machine can read the %s; run: chmod o-r %s", path, what, path
        )


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        found = path.stat()
    except OSError:
        return ()
    # Certificates are often replaced by renaming, or by moving a link: the inode tells.
    return (found.st_mtime_ns, found.st_size, found.st_ino)
