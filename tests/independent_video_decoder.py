"""A second decoder of inter frames, written from docs/bitstream.md alone; see independent_decoder.

The one place where it leans on the first is what the page says to be the same.
"""

import json
import zlib
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
from independent_decoder import (
    DIRECT,
    RangeDecoder,
    crc16,
    lift,
    neighbours,
    read_safetensors,
    require,
)
from independent_decoder import decode as decode_refresh

SIZES, LARGEST = [1, 1, 2, 4, 8, 16, 32], [15, 15, 15, 15, 7, 7, 3]
CODED = [1, 5, 15, 31, 51, 77, 102, 128, 154, 166, 179]
CHANGES = [[119, 4, 1], [115, 5, 1], [109, 8, 2, 1], [100, 11, 3, 1], [84, 14, 5, 2, 1],
           [64, 16, 8, 4, 2, 1], [45, 17, 10, 6, 4, 2, 1],
           [32, 14, 10, 7, 5, 3, 2, 2, 1]]  # fmt: skip


class Stream:
    """Frames in order, integers out; any problem of the page is a ValueError."""

    def __init__(self, profile_dir: Path) -> None:
        self.folder = profile_dir
        profile = json.loads((profile_dir / "profile.json").read_text())
        tensors = read_safetensors((profile_dir / "codec.safetensors").read_bytes())
        self.names = [x["name"] for x in profile["spec"]["levels"]]
        self.strides = [x["stride"] for x in profile["spec"]["levels"]]
        self.derived = [x["derived_from"] is not None for x in profile["spec"]["levels"]]
        kind = profile["codec_id"]
        self.counts, self.classes = {}, 4
        for x in profile["spec"]["levels"]:
            wide = {2: f"{x['name']}.basis", 3: f"{x['name']}.gains"}.get(kind)
            if x["derived_from"] is None:
                self.counts[x["name"]] = tensors[wide].shape[1] if wide else x["channels"]
        if kind > 1:
            steps = "steps" if kind == 2 else f"{next(iter(self.counts))}.steps"
            self.classes = tensors[steps].shape[1]
        self.checksum = None

    def decode(self, frame: bytes) -> dict:
        if frame[3:4] == b"\1":
            self.fields = decode_refresh(frame, self.folder)
            self.levels = {}
            for name in sorted(self.fields["symbols"], key=self.names.index, reverse=True):
                values, plane = self.fields["symbols"][name], self.fields["step_maps"].get(name)
                plane = None if plane is None else plane.astype(np.int64)
                self.levels[name] = (
                    values.astype(np.int64),
                    plane,
                    np.zeros(values.shape[1:], int),
                )
            self.tables = first_tables(max(self.counts.values()))
            self.checksum = zlib.crc32(frame)
        else:
            self.change(frame)
        maps = {x: plane for x, (_, plane, _) in self.levels.items() if plane is not None}
        return self.fields | {
            "symbols": {x: v[0] for x, v in self.levels.items()},
            "step_maps": maps,
        }

    def change(self, frame: bytes) -> None:
        require(frame[:4] == b"FPC\2", "BadMagic or UnsupportedVersion")
        require(len(frame) >= 11, "Truncated")
        require(crc16(frame[:9] + frame[11:]) == frame[9:11], "ChecksumMismatch")
        require(frame[4] < 4, "InvalidField: flags")
        require(int.from_bytes(frame[5:9], "little") == self.checksum, "NeedsRefresh")
        levels, fields, body = dict(self.levels), dict(self.fields), frame[11:]
        if frame[4] & 1:
            require(len(body) >= 2, "Truncated")
            levels, body = self.other_levels(body[0], body[1]), body[2:]
        if frame[4] & 2:
            require(len(body) >= 1, "Truncated")
            fields["quality"], body = body[0], body[1:]
            for name, (values, plane, activity) in levels.items():
                number = 1 if plane is None else self.classes
                require(len(body) >= number, "Truncated")
                ratio, body = np.frombuffer(body[:number], np.uint8).astype(int), body[number:]
                ratio = ratio[np.zeros_like(activity) if plane is None else plane]
                size = np.minimum((abs(values) * ratio + 16) // 32, 1 << 23)
                levels[name] = (np.sign(values) * size, plane, activity)
        coder, above = Coder(body, self.tables), None
        for name, level in levels.items():
            levels[name] = read_level(coder, level, above)
            plane, above = levels[name][1], levels[name][2]
            require(plane is None or plane.max(initial=0) < self.classes, "InvalidField: class")
        rest = (coder.range.point - coder.range.lower) & ((1 << 64) - 1)
        require(coder.range.at >= len(body), "InvalidField: bytes left unread")
        require(rest < (1 << 33) - 1 or not coder.seen, "InvalidField: bytes left unread")
        self.levels, self.fields = levels, fields
        self.tables = coder.learned()
        self.checksum = zlib.crc32(frame, self.checksum)

    def other_levels(self, present: int, maps: int) -> dict:
        require(maps & ~present == 0, "InvalidField: maps")
        out, (width, height) = {}, self.fields["network_size"]
        for i in range(7, -1, -1):
            if not present >> i & 1:
                continue
            require(i < len(self.names) and not self.derived[i], "InvalidField: level")
            name, has_map, stride = self.names[i], maps >> i & 1, self.strides[i]
            old = self.levels.get(name)
            if old is None or (old[1] is not None) != bool(has_map):
                zeros = np.zeros((-(-height // stride), -(-width // stride)), np.int64)
                values = np.zeros((self.counts[name], *zeros.shape), np.int64)
                old = (values, zeros if has_map else None, zeros)
            out[name] = old
        return out


def bounds(count: int) -> list[tuple[int, int]]:
    ends = [0]
    while ends[-1] < count:
        group = len(ends) - 1
        ends.append(min(count, ends[-1] + (SIZES[group] if group < 7 else 64)))
    return list(pairwise(ends))


def first_tables(count: int) -> dict[str, list[list[int]]]:
    groups = len(bounds(count))
    flags = [CODED[min(i // 36 % 5, 3) + i // 12 % 3 + i // 3 % 4 + i % 3] for i in range(540)]
    tables = {
        "flag": [[256 - n, n] for n in flags],
        "class": [[48 if i == j else 8 for j in range(4)] for i in range(4)],
        "depth": [[12] * (groups + 1) for _ in range(24)],
        "escape": [[4] * 24],
    }
    for g in range(groups):
        middle = LARGEST[min(g, 6)]
        tables[f"group{g}"] = []
        for i in range(96):
            one = (CHANGES[i // 4 % 8] + [1] * 20)[: middle + 1]
            tables[f"group{g}"].append(one[:0:-1] + one + [1])
    return tables


class Coder:
    def __init__(self, data: bytes, tables: dict[str, list[list[int]]]) -> None:
        self.range, self.tables, self.seen = RangeDecoder(data), tables, []
        self.rows = {name: [row_of(counts) for counts in rows] for name, rows in tables.items()}

    def symbol(self, name: str, context: int) -> int:
        found = self.range.symbol(self.rows[name][context])
        self.seen.append((name, context, found))
        return found

    def learned(self) -> dict[str, list[list[int]]]:
        tables = {name: [list(row) for row in rows] for name, rows in self.tables.items()}
        for name, context, symbol in self.seen:
            tables[name][context][symbol] += 32
        for row in (row for rows in tables.values() for row in rows):
            while sum(row) > 16384:
                row[:] = [(c + 1) // 2 for c in row]
        return tables


def row_of(counts: list[int]) -> list[int]:
    """Counts summed up, from 0 to 65536."""
    row = [1 + c * (65536 - len(counts)) // sum(counts) for c in counts]
    row[counts.index(max(counts))] += 65536 - sum(row)
    return [0, *accumulate(row)]


def read_level(coder: Coder, before, above):
    values, plane, activity = before
    count, *size = values.shape
    up = np.zeros(size, int) if above is None else lift(above, *size)
    busy = (activity > 0).astype(int)
    around = neighbours(busy, [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if y or x])
    lately = np.where(busy > 0, 3, (around > 0).astype(int) + (around > 2))
    live = (values != 0).any(axis=0).astype(int) + (0 if plane is None else plane > 0)

    def context(number, near):
        return (((number * 5 + near) * 3 + up) * 4 + lately) * 3 + live

    flags = read_plane(coder, size, context)
    where = [tuple(x) for x in np.argwhere(flags)]
    classes = plane
    if plane is not None:
        classes = plane.copy()
        for at in where:
            classes[at] = coder.symbol("class", plane[at])
    out = values.copy()
    if plane is not None:
        out[:, classes != plane] = 0
    depth, groups = np.zeros(size, int), bounds(count)
    for at in where:
        used = [n for n, (a, b) in enumerate(groups, 1) if values[(slice(a, b), *at)].any()]
        kind = 0 if plane is None else 2 * classes[at] + (classes[at] != plane[at])
        depth[at] = coder.symbol("depth", kind * 3 + min(max(used, default=0), 2))
    require(depth.max(initial=0) <= len(groups), "InvalidField: depth")
    energy = 4 * depth
    for g, (first, last) in enumerate(groups):
        if not (depth > g).any():
            break
        read_group(coder, g, out[first:last], depth, energy)
        energy = coder.energy
    require(np.abs(out).max(initial=0) <= 1 << 23, "InvalidField: an integer above 2^23")
    return out, classes, flags + (depth > 0)


def read_plane(coder: Coder, size, context) -> np.ndarray:
    plane, (row, column) = np.zeros(size, np.int64), np.indices(size) % 2
    places = [(row == 0) & (column == 0), (row == 1) & (column == 1), row != column]
    for number, offsets in enumerate(([], [(-1, -1), (-1, 1), (1, -1), (1, 1)], DIRECT)):
        contexts = context(number, neighbours(plane, offsets))
        for r, c in np.argwhere(places[number]):
            plane[r, c] = coder.symbol("flag", contexts[r, c])
    return plane


def read_group(coder: Coder, g: int, group: np.ndarray, depth: np.ndarray, energy: np.ndarray):
    middle, changes = LARGEST[min(g, 6)], np.zeros_like(group)
    digits = np.minimum(np.digitize(energy, 2 ** np.arange(11)), 7)
    places = [tuple(x) for x in np.argwhere(depth > g)]
    for k, expected in enumerate(group):
        for at in places:
            left = min(depth[at] - g, 3) - 1
            context = (left * 8 + digits[at]) * 4 + min(abs(expected[at]), 3)
            changes[(k, *at)] = coder.symbol(f"group{g}", context) - middle
    escaped = changes == middle + 1
    lengths = Lengths(coder)
    changes[escaped] = lengths.range.escapes(int(escaped.sum()), lengths, middle)
    group += np.where(group < 0, -changes, changes)
    a = np.minimum(np.abs(changes), 255).sum(axis=0) * 16 // len(group)
    coder.energy = 2 * a + neighbours(a, DIRECT) // 2


class Lengths(list):
    """The row of the escapes' lengths; reading with it is remembered."""

    def __init__(self, coder: Coder) -> None:
        super().__init__(coder.rows["escape"][0])
        self.range, self._coder = self, coder

    def escapes(self, count: int, row: list[int], middle: int) -> list[int]:
        inner, seen = self._coder.range, self._coder.seen
        plain = inner.symbol

        def symbol(given: list[int]) -> int:
            found = plain(given)
            if given is row:
                seen.append(("escape", 0, found))
            return found

        inner.symbol = symbol
        try:
            return inner.escapes(count, row, middle)
        finally:
            inner.symbol = plain
