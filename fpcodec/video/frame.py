"""The ``.fpc`` frame, version 2: an inter frame. ``docs/bitstream.md`` section 8 specifies it.

This file knows the bytes around the coded changes; what they mean is ``stream``'s.
"""

from __future__ import annotations

import binascii
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from fpcodec.bitstream import MAGIC
from fpcodec.codecs.base import Limits
from fpcodec.errors import (
    BadMagic,
    ChecksumMismatch,
    InvalidField,
    LimitExceeded,
    Truncated,
    UnsupportedVersion,
)

VERSION = 2
HEADER_BYTES = 11
RATIO_ONE = 32
"""What a ratio that changes nothing is: ratios are in units of 1/32."""

_LEVELS, _QUALITY = 1, 2
_CHECKSUM = slice(9, HEADER_BYTES)


@dataclass(frozen=True)
class LevelChange:
    """Which levels the stream holds from this frame on.

    Attributes:
        present: Bit *i* set: level *i* is there. A new one begins with zeros.
        maps: Bit *i* set: level *i* has step classes. A subset of ``present``.
    """

    present: int
    maps: int


@dataclass(frozen=True)
class QualityChange:
    """The quality from this frame on.

    Attributes:
        quality: 0..255.
        ratios: Per level present, coarsest first, and step class: what the reference's integers
            are multiplied by, in units of 1/32, 0..255.
    """

    quality: int
    ratios: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class InterFrame:
    """A parsed inter frame.

    Attributes:
        reference: CRC-32 of the stream that it leans on.
        data: What follows the header.
        flags: Which changes stand at the beginning of ``data``.
    """

    reference: int
    data: bytes
    flags: int

    @property
    def changes_levels(self) -> bool:
        """Whether ``data`` begins with a ``LevelChange``."""
        return bool(self.flags & _LEVELS)

    @property
    def changes_quality(self) -> bool:
        """Whether a ``QualityChange`` comes next."""
        return bool(self.flags & _QUALITY)


def is_inter(data: bytes) -> bool:
    """Whether bytes begin as an inter frame does."""
    return data[:3] == MAGIC and data[3:4] == bytes([VERSION])


def stream_checksum(data: bytes, before: int = 0) -> int:
    """CRC-32 of a stream of which these bytes are the next frame."""
    return zlib.crc32(data, before)


def write_inter(
    reference: int,
    levels: LevelChange | None,
    quality: QualityChange | None,
    coded: bytes,
) -> bytes:
    """Serialise an inter frame."""
    flags = (_LEVELS if levels is not None else 0) | (_QUALITY if quality is not None else 0)
    head = MAGIC + bytes([VERSION, flags]) + reference.to_bytes(4, "little")
    body = bytearray()
    if levels is not None:
        body += bytes([levels.present, levels.maps])
    if quality is not None:
        body.append(quality.quality)
        for ratios in quality.ratios:
            body += bytes(ratios)
    body += coded
    return head + _checksum(head, bytes(body)) + bytes(body)


def read_inter(data: bytes, limits: Limits) -> InterFrame:
    """Parse an inter frame.

    Raises:
        BadMagic, UnsupportedVersion, Truncated, ChecksumMismatch, LimitExceeded, InvalidField:
            As named.
    """
    if data[:3] != MAGIC[: len(data)]:
        raise BadMagic(f"starts with {bytes(data[:3])!r}, not {MAGIC!r}: not an .fpc frame")
    if len(data) > limits.max_frame_bytes:
        raise LimitExceeded(
            f"frame of {len(data)} bytes is above the limit of {limits.max_frame_bytes}; "
            "lower the quality"
        )
    if len(data) > 3 and data[3] != VERSION:
        raise UnsupportedVersion(f"frame version {data[3]} is no inter frame, {VERSION}")
    if len(data) < HEADER_BYTES:
        raise Truncated(f"the header ends after {len(data)} bytes; send the whole frame")
    if data[_CHECKSUM] != _checksum(data[: _CHECKSUM.start], data[HEADER_BYTES:]):
        raise ChecksumMismatch("the frame's checksum does not match; send the frame again")
    flags = data[4]
    if flags & ~(_LEVELS | _QUALITY):
        raise InvalidField(f"flags {flags:#04x} have a bit that this version does not know")
    return InterFrame(int.from_bytes(data[5:9], "little"), bytes(data[HEADER_BYTES:]), flags)


def take_levels(data: bytes) -> tuple[LevelChange, bytes]:
    """A level change from the front, and what follows it.

    Raises:
        Truncated: The data end before it does.
        InvalidField: A level has a map, but is not there.
    """
    if len(data) < 2:
        raise Truncated("the frame ends within its list of levels; send the whole frame")
    change = LevelChange(data[0], data[1])
    if change.maps & ~change.present:
        raise InvalidField("a level has step classes, but is not in the stream")
    return change, data[2:]


def take_quality(data: bytes, classes: Sequence[int]) -> tuple[QualityChange, bytes]:
    """A quality change from the front, and what follows it.

    Args:
        data: The bytes.
        classes: Step classes of every level present, coarsest first.

    Raises:
        Truncated: The data end before it does.
    """
    length = 1 + sum(classes)
    if len(data) < length:
        raise Truncated("the frame ends within its ratios; send the whole frame")
    ratios, position = [], 1
    for count in classes:
        ratios.append(tuple(data[position : position + count]))
        position += count
    return QualityChange(data[0], tuple(ratios)), data[length:]


def _checksum(head: bytes, body: bytes) -> bytes:
    return binascii.crc_hqx(body, binascii.crc_hqx(head, 0xFFFF)).to_bytes(2, "little")
