"""Frames kept on disk while there is no server, and sent later, in order."""

from __future__ import annotations

import binascii
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fpcodec.errors import FormatError, InputError
from fpcodec.files import replacing

_NAME = re.compile(r"([0-9]{12})\.spooled", re.ASCII)
_MAX_HEAD_BYTES = 64 * 1024


@dataclass(frozen=True)
class SpooledFrame:
    """One frame of a spool.

    Attributes:
        sequence: Its place in the order.
        frame: The ``.fpc`` frame.
        facts: What the writer noted of it, JSON-able.
    """

    sequence: int
    frame: bytes
    facts: Mapping[str, Any]


class DamagedSpoolFile(FormatError):
    """A file of a spool does not hold what was written."""

    cause = "A file of the spool was changed, or belongs to another program."
    remedy = "None is needed: the edge client removes the file and counts its frame as failed."


class Spool:
    """A folder of frames, the oldest first, within a size limit; outlives the process.

    A file is a line of JSON, with a checksum over its facts and the frame, and the frame. It is
    written under another name and renamed, so that a power cut leaves it whole or absent. One
    process at a time.

    Args:
        folder: Made where it is absent; frames that it holds already are sent first.
        max_bytes: Most bytes of all its files.

    Raises:
        InputError: The folder cannot be used, or the limit holds nothing.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        if max_bytes < 1:
            raise InputError(f"a spool of {max_bytes} bytes holds nothing; allow more")
        self.folder, self._max_bytes = folder, max_bytes
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._sizes = dict(sorted(
                (int(match[1]), path.stat().st_size)
                for path in folder.iterdir()
                if (match := _NAME.fullmatch(path.name))
            ))  # fmt: skip
            for path in folder.glob(".*.spooled"):
                path.unlink()  # What a power cut left half written.
        except OSError as error:
            raise InputError(f"{folder}: cannot be used as a spool ({error})") from error
        self._next = max(self._sizes, default=0) + 1
        self._evict(0)

    def __len__(self) -> int:
        return len(self._sizes)

    @property
    def stored_bytes(self) -> int:
        """Bytes of all files."""
        return sum(self._sizes.values())

    def put(self, frame: bytes, facts: Mapping[str, Any]) -> int:
        """Keep a frame, giving up the oldest where there is no room.

        Args:
            frame: One ``.fpc`` frame.
            facts: JSON-able.

        Returns:
            How many frames were given up for it.

        Raises:
            InputError: It cannot be written, or is longer than the whole spool.
        """
        noted = json.dumps(dict(facts), allow_nan=False)
        head = {"crc32": _checksum(noted, frame), "facts": noted}
        data = json.dumps(head).encode() + b"\n" + frame
        if len(data) > self._max_bytes:
            raise InputError(
                f"a frame of {len(frame)} bytes is longer than the spool's limit of "
                f"{self._max_bytes}; allow it more"
            )
        evicted = self._evict(len(data))
        with replacing(self._path(self._next)) as temporary:
            temporary.write_bytes(data)
        self._sizes[self._next] = len(data)
        self._next += 1
        return evicted

    def oldest(self, besides: Collection[int] = ()) -> SpooledFrame | None:
        """The oldest frame; None where there is none.

        It stays until ``remove``: a crash while it is sent must not lose it.

        Args:
            besides: Sequence numbers to pass over.

        Raises:
            DamagedSpoolFile: Its file does not hold what was written; it was removed.
        """
        sequence = next((number for number in self._sizes if number not in besides), None)
        if sequence is None:
            return None
        path = self._path(sequence)
        try:
            head, _, frame = path.read_bytes().partition(b"\n")
            noted = json.loads(head[:_MAX_HEAD_BYTES])
            whole = noted["crc32"] == _checksum(noted["facts"], frame)
            facts = json.loads(noted["facts"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            whole, facts = False, {}
        if not whole or not isinstance(facts, dict):
            self.remove(sequence)
            raise DamagedSpoolFile(f"{path}: damaged; the frame in it is lost")
        return SpooledFrame(sequence, frame, facts)

    def remove(self, sequence: int) -> bool:
        """Forget a frame; False where it was gone already."""
        self._path(sequence).unlink(missing_ok=True)
        return self._sizes.pop(sequence, None) is not None

    def _evict(self, room_bytes: int) -> int:
        evicted = 0
        while self._sizes and self.stored_bytes + room_bytes > self._max_bytes:
            self.remove(next(iter(self._sizes)))
            evicted += 1
        return evicted

    def _path(self, sequence: int) -> Path:
        return self.folder / f"{sequence:012d}.spooled"


def _checksum(noted: str, frame: bytes) -> int:
    return binascii.crc32(frame, binascii.crc32(noted.encode()))
