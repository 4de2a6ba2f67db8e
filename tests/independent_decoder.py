"""A second decoder of the `.fpc` frame, written from docs/bitstream.md alone.

It shares no code with the package and is slow. It exists so that the page can be held against
the code: whatever the two read differently is a mistake of one of them.
"""

import bisect
import io
import json
from pathlib import Path

import numpy as np

WORDS = (1 << 64) - 1
HALVES = [0, 32768, 65536]
DIAGONAL = [(-1, -1), (-1, 1), (1, -1), (1, 1)]
DIRECT = [(-1, 0), (1, 0), (0, -1), (0, 1)]


def decode(frame: bytes, profile_dir: Path) -> dict:
    """Read one whole frame with a profile folder; any problem of the page is a ValueError."""
    profile = json.loads((profile_dir / "profile.json").read_text())
    tensors = read_safetensors((profile_dir / "codec.safetensors").read_bytes())
    header, chunks = read_frame(frame)
    require(header["codec_id"] == profile["codec_id"], "ProfileMismatch: codec")
    require(header["prefix"] == profile["stream_id"][:12], "ProfileMismatch: stream")
    levels, (width, height) = profile["spec"]["levels"], header["network_size"]
    sizes = [(-(-height // level["stride"]), -(-width // level["stride"])) for level in levels]
    features = sum(x["channels"] * h * w for x, (h, w) in zip(levels, sizes, strict=True))
    require(features <= 32_000_000, "LimitExceeded: feature values")
    for i in chunks:
        require(i < len(levels) and levels[i]["derived_from"] is None, "InvalidField: level")
    symbols, maps, parent = {}, {}, None
    for i, data in chunks.items():
        name, has_map = levels[i]["name"], header["maps"] >> i & 1
        above = parent if header["parents"] >> i & 1 else None
        start, case = f"tables.{name}.", (int(above is not None), header["quality"] // 32)
        rows = {k[len(start) :]: v[case] for k, v in tensors.items() if k.startswith(start)}
        kind = header["codec_id"]
        wide = {2: f"{name}.basis", 3: f"{name}.gains"}.get(kind)
        count = tensors[wide].shape[1] if wide else levels[i]["channels"]
        symbols[name], depth, classes = read_chunk(data, (count, *sizes[i]), rows, has_map, above)
        parent = (depth, classes if has_map else None)
        if has_map:
            steps = {2: "steps", 3: f"{name}.steps"}.get(kind)
            known = tensors[steps].shape[1] if steps else 4
            require(classes.max(initial=0) < known, "InvalidField: step class")
            maps[name] = classes
    return header | {"symbols": symbols, "step_maps": maps}


def require(condition: bool, problem: str) -> None:
    if not condition:
        raise ValueError(problem)


def read_safetensors(data: bytes) -> dict[str, np.ndarray]:
    """Eight bytes of length, so much JSON, then the tensors; kinds are as `U16` and `F32`."""
    start, tensors = 8 + int.from_bytes(data[:8], "little"), {}
    for name, entry in json.loads(data[8:start]).items():
        if name != "__metadata__":
            first, last = entry["data_offsets"]
            kind = f"<{entry['dtype'][0].lower()}{int(entry['dtype'][1:]) // 8}"
            flat = np.frombuffer(data[start + first : start + last], kind)
            tensors[name] = flat.reshape(entry["shape"])
    return tensors


def crc16(data: bytes) -> bytes:
    crc = 0xFFFF
    for bit in np.unpackbits(np.frombuffer(data, np.uint8)).tolist():
        crc = (crc << 1 & 0xFFFF) ^ (0x1021 if crc >> 15 != bit else 0)
    return crc.to_bytes(2, "little")


class Reader(io.BytesIO):
    def take(self, count: int) -> bytes:
        data = self.read(count)
        require(len(data) == count, "Truncated: header or chunk")
        return data

    def varint(self) -> int:
        data = self.take(1)
        while data[-1] > 127 and len(data) < 5:
            data += self.take(1)
        require(0 < data[-1] < 128 or data == b"\0", "InvalidField: varint too long or padded")
        return sum((byte & 127) << 7 * place for place, byte in enumerate(data))


def read_frame(frame: bytes) -> tuple[dict, dict[int, bytes]]:
    """The header's fields, and the chunks by level index, coarsest first."""
    require(len(frame) <= 4 << 20, "LimitExceeded: frame")
    reader = Reader(frame)
    require(reader.take(3) == b"FPC", "BadMagic")
    require(reader.take(1) == b"\1", "UnsupportedVersion")
    codec, prefix = reader.take(1)[0], reader.take(6).hex()
    quality, present, parents, maps = reader.take(4)
    width, height, *coded = (reader.varint() for _ in range(4))
    across, down = (v // 2 if v % 2 else 32 * (v // 2) for v in coded)
    order = [i for i in range(7, -1, -1) if present >> i & 1]
    directory = [(i, reader.varint(), reader.take(2)) for i in order]
    require(crc16(frame[: reader.tell()]) == reader.take(2), "ChecksumMismatch: header")
    require(codec in (1, 2, 3), "UnknownCodec")
    require((parents | maps) & ~present == 0, "InvalidField: parents or maps")
    require(not order or not parents >> order[0] & 1, "InvalidField: coarsest chunk's parent")
    require(all(1 <= side <= 16383 for side in (width, height, across, down)), "InvalidField: side")
    require(width * height <= 64_000_000 and across * down <= 4_000_000, "LimitExceeded: pixels")
    chunks = {i: reader.take(length) for i, length, _ in directory}
    require(reader.tell() == len(frame), "InvalidField: bytes after the last chunk")
    for i, _, checksum in directory:
        require(crc16(chunks[i]) == checksum, "ChecksumMismatch: chunk")
    fields = {"codec_id": codec, "prefix": prefix, "quality": quality, "parents": parents}
    fields |= {"maps": maps, "image_size": (width, height), "network_size": (across, down)}
    return fields, chunks


class RangeDecoder:
    def __init__(self, data: bytes) -> None:
        require(not data.endswith(b"\0"), "InvalidField: chunk ends in a zero byte")
        self.data, self.at, self.lower, self.range = data, 0, 0, WORDS
        self.point = self.word() << 32 | self.word()

    def word(self) -> int:
        """The next four bytes; those past the end are missing and so read as zero."""
        self.at += 4
        return int.from_bytes(self.data[self.at - 4 : self.at], "little")

    def symbol(self, row: list[int]) -> int:
        """One symbol; `row` has its counts summed up, from 0 to 65536."""
        scale = self.range >> 24
        quantile = ((self.point - self.lower) & WORDS) // scale
        require(quantile < 1 << 24, "InvalidField: not a code of the tables")
        symbol = bisect.bisect_right(row, quantile >> 8) - 1
        self.lower = (self.lower + scale * 256 * row[symbol]) & WORDS
        self.range = scale * 256 * (row[symbol + 1] - row[symbol])
        if self.range < 1 << 32:
            self.lower, self.range = self.lower << 32 & WORDS, self.range << 32
            self.point = (self.point << 32 & WORDS) | self.word()
        return symbol

    def plane(self, rows, shape, context) -> np.ndarray:
        """Three passes; `context(number, near)` is the plane of row numbers for a pass."""
        plane, (row, column) = np.zeros(shape, np.int64), np.indices(shape) % 2
        places = [(row == 0) & (column == 0), (row == 1) & (column == 1), row != column]
        for number, offsets in enumerate(([], DIAGONAL, DIRECT)):
            contexts = context(number, neighbours(plane, offsets))
            for r, c in np.argwhere(places[number]):
                plane[r, c] = self.symbol(rows[contexts[r, c]])
        return plane

    def escapes(self, count: int, length_row: list[int], middle: int) -> list[int]:
        """The values of a group's escapes."""
        signs = [-1 if self.symbol(HALVES) else 1 for _ in range(count)]
        lengths = [self.symbol(length_row) for _ in range(count)]
        longest, excess = max(lengths, default=0), [1] * count
        require(longest <= 21, "InvalidField: an escape above its limit")
        for b in range(longest - 1, -1, -1):
            for i in range(count):
                if lengths[i] > b:
                    excess[i] = 2 * excess[i] + self.symbol(HALVES)
        return [sign * (middle + extra) for sign, extra in zip(signs, excess, strict=True)]


def neighbours(plane: np.ndarray, offsets: list[tuple[int, int]]) -> np.ndarray:
    """Per position the sum over its neighbours at `offsets`."""
    (h, w), padded = plane.shape, np.pad(plane, 1)
    parts = [padded[1 + y : 1 + y + h, 1 + x : 1 + x + w] for y, x in offsets]
    return sum(parts, np.zeros_like(plane))


def lift(plane: np.ndarray, h: int, w: int) -> np.ndarray:
    rows, columns = (np.arange(n) * old // n for n, old in zip((h, w), plane.shape, strict=True))
    return plane[np.ix_(rows, columns)].astype(np.int64)


def read_chunk(data: bytes, shape, tables, has_map, parent) -> tuple[np.ndarray, ...]:
    """Values (K, H, W), depth and classes (H, W); `parent` has its depth and perhaps classes."""
    padded = {name: np.pad(table, ((0, 0), (1, 0))) for name, table in tables.items()}
    rows = {name: np.cumsum(table, axis=1, dtype=int).tolist() for name, table in padded.items()}
    coder, values = RangeDecoder(data), np.zeros(shape, np.int32)
    count, *size = shape
    classes, above, up = np.zeros((3, *size), np.int64)
    if parent is not None:
        up = lift(parent[0], *size)
        above = above if parent[1] is None else 1 + lift(parent[1], *size)
    if has_map:
        classes = coder.plane(rows["map"], size, lambda n, near: (n * 5 + above) * 13 + near)

    def depth_context(number: int, near: np.ndarray) -> np.ndarray:
        n = np.digitize(near, [1, 3, 6, 10, 16, 24])
        return ((number * 4 + classes) * 7 + n) * 7 + np.minimum(up, 6)

    depth = coder.plane(rows["depth"], size, depth_context)
    first, g, energy = 0, 0, 4 * depth + up
    while first < count and (depth > g).any():
        group = values[first : first + [1, 1, 2, 4, 8, 16, 32, 64][min(g, 7)]]
        middle = [15, 15, 15, 15, 7, 7, 3][min(g, 6)]
        digits = np.digitize(energy, 2 ** np.arange(11))  # binary digits, 11 from 1024 on
        contexts = (classes * 3 + np.minimum(depth - g, 3) - 1) * 12 + digits
        live = depth > g
        for plane in group:
            plane[live] = [coder.symbol(rows[f"group{g}"][i]) - middle for i in contexts[live]]
        escaped = group == middle + 1
        group[escaped] = coder.escapes(int(escaped.sum()), rows["escape"][0], middle)
        a = np.minimum(np.abs(group), 255).sum(axis=0) * 16 // len(group)
        energy = 2 * a + neighbours(a, DIRECT) // 2
        first, g = first + len(group), g + 1
    rest = (coder.point - coder.lower) & WORDS
    require(coder.at >= len(data) and rest < (1 << 33) - 1, "InvalidField: bytes left unread")
    return values, depth, classes.astype(np.uint8)
