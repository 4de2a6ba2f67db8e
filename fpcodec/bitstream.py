"""The ``.fpc`` frame, version 1: header, directory, chunks, checksums, limits.

``docs/bitstream.md`` is the specification; this file is its implementation and knows nothing of
what is inside a chunk.
"""

from __future__ import annotations

import binascii
from collections.abc import Sequence
from dataclasses import dataclass, replace

from fpcodec.codecs.base import Limits
from fpcodec.errors import (
    BadMagic,
    ChecksumMismatch,
    InputError,
    InvalidField,
    LimitExceeded,
    Truncated,
    UnsupportedVersion,
)
from fpcodec.pyramid import MAX_LEVELS, MAX_SIDE

MAGIC = b"FPC"
VERSION = 1
STREAM_PREFIX_BYTES = 6
"""Bytes of the profile's stream id that a frame carries."""

MAX_CHUNK_BYTES = 1 << 28
_PREFIX_OFFSET = 5
_FIXED_BYTES = 15


@dataclass(frozen=True)
class Chunk:
    """One coded level.

    Attributes:
        level: Index of the level in the profile's specification, 0 for the finest.
        has_parent: Whether its contexts used the nearest coarser chunk of the frame.
        has_map: Whether it begins with a step map.
        data: The coded bytes; None where they were lost (only when read as partial).
        problem: Why ``data`` is None.
    """

    level: int
    has_parent: bool
    has_map: bool
    data: bytes | None
    problem: str = ""


@dataclass(frozen=True)
class Frame:
    """A parsed frame.

    Attributes:
        codec_id: Which codec's bytes the chunks are.
        stream_prefix: First bytes of the stream id of the profile that made them.
        quality: 0..255.
        image_size: ``(width, height)`` of the original image in pixels.
        network_size: ``(width, height)`` of the network input in pixels.
        chunks: Coarsest first, as they are stored.
    """

    codec_id: int
    stream_prefix: bytes
    quality: int
    image_size: tuple[int, int]
    network_size: tuple[int, int]
    chunks: tuple[Chunk, ...]

    def parent_of(self, chunk: Chunk) -> Chunk | None:
        """The chunk whose planes this one's contexts used."""
        if not chunk.has_parent:
            return None
        return next((x for x in reversed(self.chunks) if x.level > chunk.level), None)

    @property
    def overhead_bytes(self) -> int:
        """Bytes of the frame that are not in a chunk."""
        return len(write_frame(self)) - sum(len(chunk.data or b"") for chunk in self.chunks)


def stream_prefix_of(data: bytes) -> bytes:
    """The stream prefix that a frame carries, unchecked; shorter where the frame is."""
    return data[_PREFIX_OFFSET : _PREFIX_OFFSET + STREAM_PREFIX_BYTES]


def chunk_bytes(data: bytes, names: Sequence[str]) -> dict[str, int]:
    """Bytes of each chunk of a frame of one's own, by level name, coarsest first.

    Args:
        data: A frame that this process wrote: no receiver's limits apply.
        names: The profile's level names, finest first.

    Raises:
        FormatError: The bytes are not a frame.
    """
    pixels = MAX_SIDE**2
    limits = Limits(max(len(data), 1), max_image_pixels=pixels, max_network_pixels=pixels)
    return {names[x.level]: len(x.data or b"") for x in read_frame(data, limits).chunks}


def frame_quality(data: bytes) -> int:
    """Quality of a frame of one's own, 0..255."""
    return data[len(MAGIC) + 2 + STREAM_PREFIX_BYTES]


def frame_bytes(
    image_size: tuple[int, int], network_size: tuple[int, int], lengths: Sequence[int]
) -> int:
    """Length of the frame of chunks of these lengths."""
    empty = Chunk(0, False, False, b"")
    chunks = tuple(replace(empty, level=len(lengths) - 1 - i) for i in range(len(lengths)))
    frame = Frame(0, bytes(STREAM_PREFIX_BYTES), 0, image_size, network_size, chunks)
    return len(write_frame(frame)) + sum(x + len(_varint(x)) - 1 for x in lengths)


def checksum(data: bytes) -> bytes:
    """CRC-16 (polynomial 0x1021, initial value 0xFFFF), little-endian."""
    return binascii.crc_hqx(data, 0xFFFF).to_bytes(2, "little")


def write_frame(frame: Frame) -> bytes:
    """Serialise a frame.

    Raises:
        InputError: A field does not fit the format.
    """
    _check_writable(frame)
    bodies = [chunk.data or b"" for chunk in frame.chunks]
    head = bytearray(MAGIC)
    head += bytes([VERSION, frame.codec_id])
    head += frame.stream_prefix
    head.append(frame.quality)
    head.append(sum(1 << chunk.level for chunk in frame.chunks))
    head.append(sum(1 << chunk.level for chunk in frame.chunks if chunk.has_parent))
    head.append(sum(1 << chunk.level for chunk in frame.chunks if chunk.has_map))
    for side in frame.image_size:
        head += _varint(side)
    for side in frame.network_size:
        # Most networks take multiples of 32: half the bytes for them.
        head += _varint(side * 2 + 1 if side % 32 else side // 32 * 2)
    for body in bodies:
        if len(body) > MAX_CHUNK_BYTES:
            raise InputError(f"a chunk of {len(body)} bytes is above {MAX_CHUNK_BYTES}; "
                             "lower the quality")  # fmt: skip
        head += _varint(len(body)) + checksum(body)
    return bytes(head) + checksum(bytes(head)) + b"".join(bodies)


def _check_writable(frame: Frame) -> None:
    levels = [chunk.level for chunk in frame.chunks]
    if levels != sorted(set(levels), reverse=True) or not all(0 <= x < MAX_LEVELS for x in levels):
        raise InputError(f"chunks of levels {levels} are not coarsest first, each once")
    if frame.chunks and frame.chunks[0].has_parent:
        raise InputError(f"chunk {levels[0]} has a parent, but no coarser chunk is in the frame")
    if not 0 <= frame.codec_id <= 255 or not 0 <= frame.quality <= 255:
        raise InputError(f"codec id {frame.codec_id} or quality {frame.quality} is not in 0..255")
    if len(frame.stream_prefix) != STREAM_PREFIX_BYTES:
        raise InputError(f"stream prefix has {len(frame.stream_prefix)} bytes, "
                         f"not {STREAM_PREFIX_BYTES}")  # fmt: skip
    if not all(1 <= side <= MAX_SIDE for side in (*frame.image_size, *frame.network_size)):
        raise InputError(f"image size {frame.image_size} or network size {frame.network_size} "
                         f"has a side outside 1..{MAX_SIDE}; scale it down")  # fmt: skip


def read_frame(data: bytes, limits: Limits | None = None, *, partial: bool = False) -> Frame:
    """Parse a frame, checking every limit before anything is allocated.

    Args:
        data: The frame's bytes.
        limits: What this receiver accepts.
        partial: Accept lost or damaged chunks, marking them, instead of raising. The header
            must be whole.

    Raises:
        BadMagic, UnsupportedVersion, Truncated, ChecksumMismatch, LimitExceeded, InvalidField:
            As named.
    """
    limits = limits or Limits()
    if not data:
        raise Truncated("the frame is empty; send a whole .fpc frame")
    if data[:3] != MAGIC[: len(data)]:
        raise BadMagic(f"starts with {bytes(data[:3])!r}, not {MAGIC!r}: not an .fpc frame")
    if len(data) > limits.max_frame_bytes:
        raise LimitExceeded(
            f"frame of {len(data)} bytes is above the limit of {limits.max_frame_bytes}; "
            "lower the quality or send fewer levels"
        )
    reader = _Reader(data)
    if len(data) > 3 and data[3] != VERSION:
        raise UnsupportedVersion(
            f"frame version {data[3]} is unknown; this release reads {VERSION}"
        )
    fixed = reader.take(_FIXED_BYTES)
    present, parents, maps = fixed[12:15]
    image_size = (reader.varint(), reader.varint())
    network_size = (_side(reader.varint()), _side(reader.varint()))
    levels = [level for level in range(MAX_LEVELS - 1, -1, -1) if present >> level & 1]
    entries = [(level, reader.varint(), reader.take(2)) for level in levels]
    if reader.take(2) != checksum(data[: reader.position - 2]):
        raise ChecksumMismatch("the header's checksum does not match; send the frame again")
    if (parents | maps) & ~present:
        raise InvalidField("the directory describes a chunk that the frame does not list")
    if present and parents >> levels[0] & 1:
        raise InvalidField(f"chunk {levels[0]} names a parent, but no coarser chunk is present")
    _check_sizes(image_size, network_size, limits)
    body = sum(length for _, length, _ in entries)
    if reader.position + body < len(data):
        raise InvalidField(f"{len(data) - reader.position - body} bytes follow the last chunk")
    chunks = []
    for level, length, check in entries:
        content, problem = reader.rest(length), ""
        if len(content) < length:
            problem = f"chunk {level} has {len(content)} of {length} bytes"
            if not partial:
                raise Truncated(f"{problem}; send the whole frame")
        elif checksum(content) != check:
            problem = f"the checksum of chunk {level} does not match"
            if not partial:
                raise ChecksumMismatch(f"{problem}; send the frame again")
        chunks.append(Chunk(level, bool(parents >> level & 1), bool(maps >> level & 1),
                            None if problem else content, problem))  # fmt: skip
    return Frame(fixed[4], bytes(fixed[5:11]), fixed[11], image_size, network_size, tuple(chunks))


def _check_sizes(
    image_size: tuple[int, int], network_size: tuple[int, int], limits: Limits
) -> None:
    for what, size, limit in (
        ("image", image_size, limits.max_image_pixels),
        ("network input", network_size, limits.max_network_pixels),
    ):
        if not all(1 <= side <= MAX_SIDE for side in size):
            raise InvalidField(f"{what} size {size} has a side outside 1..{MAX_SIDE}")
        if size[0] * size[1] > limit:
            raise LimitExceeded(f"{what} of {size[0]}x{size[1]} pixels is above the limit of "
                                f"{limit}; scale it down or raise the limit")  # fmt: skip


def _side(code: int) -> int:
    return code >> 1 if code & 1 else (code >> 1) * 32


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


class _Reader:
    """Takes bytes from the front; running out is ``Truncated``."""

    def __init__(self, data: bytes) -> None:
        self._data, self.position = data, 0

    def take(self, count: int) -> bytes:
        if self.position + count > len(self._data):
            raise Truncated(f"the header ends after {len(self._data)} bytes; send the whole frame")
        self.position += count
        return self._data[self.position - count : self.position]

    def rest(self, count: int) -> bytes:
        """Up to ``count`` bytes: fewer where the data ends."""
        part = self._data[self.position : self.position + count]
        self.position += len(part)
        return part

    def varint(self) -> int:
        value = 0
        for shift in range(0, 35, 7):
            (byte,) = self.take(1)
            value |= (byte & 127) << shift
            if byte < 128:
                if shift and not byte:
                    raise InvalidField("a number in the header is longer than it need be")
                return value
        raise InvalidField("a number in the header has more than five bytes")
