"""A second decoder of the `.fpc` frame, written from docs/bitstream.md alone.

It shares no code with the package and is slow. It exists so that the page can be held against
the code: whatever the two read differently is a mistake of one of them.
"""

from __future__ import annotations

import bisect
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

LIMIT_FRAME_BYTES = 4 << 20
LIMIT_IMAGE_PIXELS = 64_000_000
LIMIT_NETWORK_PIXELS = 4_000_000
LIMIT_VALUES = 64_000_000
HALVES = [0, 32768, 65536]
MASK = (1 << 64) - 1


def decode(frame: bytes, profile_dir: Path) -> dict[str, Any]:
    """Read one whole frame with a profile folder; any problem of the page is a ValueError."""
    profile = json.loads((profile_dir / "profile.json").read_text())
    tensors = read_safetensors(profile_dir / "codec.safetensors")
    header, chunks = read_header(frame)
    if header["codec"] != profile["codec_id"] or header["prefix"] != profile["stream_id"][:12]:
        raise ValueError("ProfileMismatch: another codec or stream")
    levels = profile["spec"]["levels"]
    width, height = header["network"]
    sizes = [(-(-height // level["stride"]), -(-width // level["stride"])) for level in levels]
    channels = [level["channels"] for level in levels]
    if sum(c * h * w for c, (h, w) in zip(channels, sizes, strict=True)) > LIMIT_VALUES:
        raise ValueError("LimitExceeded: feature values")
    for index, _, _ in chunks:
        if index >= len(levels) or levels[index]["derived_from"] is not None:
            raise ValueError("InvalidField: a level that the profile does not code")
    symbols, maps = {}, {}
    parent: tuple[np.ndarray, np.ndarray | None] | None = None
    for index, checksum, data in chunks:
        if crc16(data) != checksum:
            raise ValueError("ChecksumMismatch: chunk")
        name, bit = levels[index]["name"], 1 << index
        above = parent if header["parents"] & bit else None
        bucket = (0 if above is None else 1, header["quality"] // 32)
        start = f"tables.{name}."
        tables = {k[len(start) :]: v[bucket] for k, v in tensors.items() if k.startswith(start)}
        basis = tensors.get(f"{name}.basis") if header["codec"] == 2 else None
        count = levels[index]["channels"] if basis is None else basis.shape[1]
        has_map = bool(header["maps"] & bit)
        values, classes, depth = read_chunk(data, (count, *sizes[index]), tables, has_map, above)
        parent = (depth, classes if has_map else None)
        symbols[name] = values
        if has_map:
            maps[name] = classes
    return {
        "codec_id": header["codec"],
        "quality": header["quality"],
        "image_size": header["image"],
        "network_size": header["network"],
        "symbols": symbols,
        "step_maps": maps,
    }


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    kinds = {"U8": "u1", "U16": "<u2", "I16": "<i2", "I32": "<i4", "I64": "<i8", "F16": "<f2"}
    kinds |= {"F32": "<f4", "F64": "<f8", "I8": "i1"}
    tensors = {}
    for name, entry in json.loads(data[8:start]).items():
        if name != "__metadata__":
            first, last = entry["data_offsets"]
            flat = np.frombuffer(data[start + first : start + last], kinds[entry["dtype"]])
            tensors[name] = flat.reshape(entry["shape"])
    return tensors


def crc16(data: bytes) -> int:
    crc = 0xFFFF
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xFFFF
    return crc


def read_header(frame: bytes) -> tuple[dict[str, Any], list[tuple[int, int, bytes]]]:
    if len(frame) > LIMIT_FRAME_BYTES:
        raise ValueError("LimitExceeded: frame")
    at = 0

    def take(count: int) -> bytes:
        nonlocal at
        if at + count > len(frame):
            raise ValueError("Truncated: header")
        at += count
        return frame[at - count : at]

    def varint() -> int:
        value = 0
        for place in range(5):
            byte = take(1)[0]
            value |= (byte & 127) << 7 * place
            if byte < 128:
                if byte == 0 and place:
                    raise ValueError("InvalidField: padded varint")
                return value
        raise ValueError("InvalidField: varint of more than five bytes")

    if take(3) != b"FPC":
        raise ValueError("BadMagic")
    if take(1) != b"\x01":
        raise ValueError("UnsupportedVersion")
    codec, prefix = take(1)[0], take(6).hex()
    quality, present, parents, maps = take(4)
    image = (varint(), varint())
    coded = (varint(), varint())
    network = tuple(v // 2 if v % 2 else 32 * (v // 2) for v in coded)
    order = [index for index in range(7, -1, -1) if present >> index & 1]
    directory = [(index, varint(), int.from_bytes(take(2), "little")) for index in order]
    if int.from_bytes(take(2), "little") != crc16(frame[: at - 2]):
        raise ValueError("ChecksumMismatch: header")
    if codec not in (1, 2, 3):
        raise ValueError("UnknownCodec")
    if (parents | maps) & ~present or (order and parents >> order[0] & 1):
        raise ValueError("InvalidField: parents or maps")
    if not all(1 <= side <= 16383 for side in (*image, *network)):
        raise ValueError("InvalidField: side")
    if math.prod(image) > LIMIT_IMAGE_PIXELS or math.prod(network) > LIMIT_NETWORK_PIXELS:
        raise ValueError("LimitExceeded: pixels")
    chunks = []
    for index, length, checksum in directory:
        if at + length > len(frame):
            raise ValueError("Truncated: chunk")
        chunks.append((index, checksum, take(length)))
    if at != len(frame):
        raise ValueError("InvalidField: bytes after the last chunk")
    fields = {"codec": codec, "prefix": prefix, "quality": quality, "parents": parents}
    return fields | {"maps": maps, "image": image, "network": network}, chunks


class RangeDecoder:
    def __init__(self, data: bytes) -> None:
        if data and data[-1] == 0:
            raise ValueError("InvalidField: chunk ends in a zero byte")
        padded = data + bytes(-len(data) % 4)
        self.words = [int(word) for word in np.frombuffer(padded, "<u4")]
        self.next = 0
        self.lower, self.range = 0, MASK
        self.point = self._word() << 32
        self.point |= self._word()

    def _word(self) -> int:
        self.next += 1
        return self.words[self.next - 1] if self.next <= len(self.words) else 0

    def symbol(self, sums: list[int]) -> int:
        """`sums` are the cumulative counts, from 0 to 65536."""
        scale = self.range >> 24
        quantile = ((self.point - self.lower) & MASK) // scale
        if quantile >= 1 << 24:
            raise ValueError("InvalidField: not a code of the tables")
        symbol = bisect.bisect_right(sums, quantile >> 8) - 1
        self.lower = (self.lower + scale * 256 * sums[symbol]) & MASK
        self.range = scale * 256 * (sums[symbol + 1] - sums[symbol])
        if self.range < 1 << 32:
            self.lower = self.lower << 32 & MASK
            self.range <<= 32
            self.point = (self.point << 32 & MASK) | self._word()
        return symbol

    def finish(self) -> None:
        rest = (self.point - self.lower) & MASK
        if self.next < len(self.words) or rest >= (1 << 33) - 1:
            raise ValueError("InvalidField: bytes left unread")


def cumulative(table: np.ndarray) -> list[list[int]]:
    sums = np.cumsum(table.astype(np.int64), axis=1)
    return [[0, *row] for row in sums.tolist()]


def group_sizes(count: int) -> list[int]:
    sizes: list[int] = []
    while (left := count - sum(sizes)) > 0:
        sizes.append(min(left, ([1, 1, 2, 4, 8, 16, 32][len(sizes) :] or [64])[0]))
    return sizes


def at_or_zero(plane: np.ndarray, r: int, c: int) -> int:
    inside = 0 <= r < plane.shape[0] and 0 <= c < plane.shape[1]
    return int(plane[r, c]) if inside else 0


def neighbours(plane: np.ndarray, r: int, c: int, diagonal: bool) -> int:
    direct, corners = [(-1, 0), (1, 0), (0, -1), (0, 1)], [(-1, -1), (-1, 1), (1, -1), (1, 1)]
    return sum(at_or_zero(plane, r + y, c + x) for y, x in (corners if diagonal else direct))


def read_plane(coder: RangeDecoder, plane: np.ndarray, rows: list[list[int]], context: Any) -> None:
    h, w = plane.shape
    for number in range(3):
        for r in range(h):
            for c in range(w):
                if number != (0 if r % 2 == c % 2 == 0 else 1 if r % 2 == c % 2 == 1 else 2):
                    continue
                near = neighbours(plane, r, c, number == 1) if number else 0
                plane[r, c] = coder.symbol(rows[context(number, near, r, c)])


def lift(plane: np.ndarray, height: int, width: int) -> np.ndarray:
    h, w = plane.shape
    return plane[np.arange(height) * h // height][:, np.arange(width) * w // width]


def read_chunk(
    data: bytes,
    shape: tuple[int, int, int],
    tables: dict[str, np.ndarray],
    has_map: bool,
    parent: tuple[np.ndarray, np.ndarray | None] | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values (K, H, W), classes (H, W), depth (H, W)."""
    count, h, w = shape
    coder, sizes = RangeDecoder(data), group_sizes(count)
    rows = {name: cumulative(table) for name, table in tables.items()}
    up = np.zeros((h, w), np.int64) if parent is None else lift(parent[0], h, w)
    above = np.zeros((h, w), np.int64)
    if parent is not None and parent[1] is not None:
        above = 1 + lift(parent[1], h, w)
    classes, depth = np.zeros((h, w), np.int64), np.zeros((h, w), np.int64)
    if has_map:
        read_plane(
            coder, classes, rows["map"], lambda n, near, r, c: (n * 5 + above[r, c]) * 13 + near
        )

    def depth_context(number: int, near: int, r: int, c: int) -> int:
        step = sum(limit <= near for limit in (1, 3, 6, 10, 16, 24))
        return int(((number * 4 + classes[r, c]) * 7 + step) * 7 + min(up[r, c], 6))

    read_plane(coder, depth, rows["depth"], depth_context)
    values, energy, first = np.zeros(shape, np.int64), 4 * depth + up, 0
    for g, size in enumerate(sizes):
        live = [(r, c) for r in range(h) for c in range(w) if depth[r, c] > g]
        if not live:
            break
        middle = [15, 15, 15, 15, 7, 7, 3][min(g, 6)]
        part = values[first : first + size]
        read_group(coder, part, live, middle, rows, g, classes, depth, energy)
        sums = np.minimum(np.abs(part), 255).sum(axis=0)
        a = sums * 16 // size
        around = [neighbours(a, r, c, False) for r in range(h) for c in range(w)]
        energy = 2 * a + np.array(around).reshape(h, w) // 2
        first += size
    coder.finish()
    return values.astype(np.int32), classes.astype(np.uint8), depth


def read_group(
    coder: RangeDecoder,
    values: np.ndarray,
    live: list[tuple[int, int]],
    middle: int,
    rows: dict[str, list[list[int]]],
    g: int,
    classes: np.ndarray,
    depth: np.ndarray,
    energy: np.ndarray,
) -> None:
    """Fill `values` (components of group `g`, H, W) in place."""
    contexts = []
    for r, c in live:
        left = min(int(depth[r, c]) - g, 3) - 1
        digits = min(int(energy[r, c]), 2047).bit_length()
        contexts.append((int(classes[r, c]) * 3 + left) * 12 + digits)
    escapes = []
    for k in range(len(values)):
        for (r, c), context in zip(live, contexts, strict=True):
            symbol = coder.symbol(rows[f"group{g}"][context])
            if symbol == 2 * middle + 1:
                escapes.append((k, r, c))
            else:
                values[k, r, c] = symbol - middle
    signs = [coder.symbol(HALVES) for _ in escapes]
    lengths = [coder.symbol(rows["escape"][0]) for _ in escapes]
    if any(length > 21 for length in lengths):
        raise ValueError("InvalidField: an escape above its limit")
    excess = [1 for _ in escapes]
    for b in range(max(lengths, default=0) - 1, -1, -1):
        for i, length in enumerate(lengths):
            if length > b:
                excess[i] = 2 * excess[i] + coder.symbol(HALVES)
    for place, sign, extra in zip(escapes, signs, excess, strict=True):
        values[place] = -(middle + extra) if sign else middle + extra
