"""Where a frame's bits went: the cost of every position of every level."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fpcodec.bitstream import chunk_bytes
from fpcodec.codecs.base import Decoded
from fpcodec.codecs.chunks import QuantisedLevel, code_quantised
from fpcodec.codecs.coefficients import LevelPlanes, passes
from fpcodec.codecs.tables import TableSet
from fpcodec.entropy import Contexts, SymbolMeter, Symbols, Table
from fpcodec.pyramid import Array

if TYPE_CHECKING:
    from fpcodec.codecs.chunked import ChunkedCodec


def bit_maps(codec: ChunkedCodec, frame: bytes, decoded: Decoded) -> dict[str, Array]:
    """Bits per position of each level that a frame holds.

    The code lengths are those of the profile's tables. Values beyond their alphabet and the
    coder's last word belong to no position: they are spread in proportion, so that a map's sum is
    what its chunk takes.

    Args:
        codec: Whose frame it is.
        frame: Its bytes.
        decoded: Its integers.

    Returns:
        Level name to bits, shape (H, W), float32, finest level first.
    """
    sizes = chunk_bytes(frame, codec.spec.names)
    planes: dict[str, LevelPlanes] = {}
    maps: dict[str, Array] = {}
    for name in reversed([x for x in codec.spec.names if x in decoded.symbols]):
        symbols, parent = decoded.symbols[name], decoded.parents.get(name)
        tables = codec.coder.tables.get(name, parent is not None, decoded.quality)
        meter = _PositionMeter(tables, symbols.shape[1:])
        level = QuantisedLevel(symbols, decoded.step_maps.get(name))
        planes[name] = code_quantised(
            meter, tables, level, None if parent is None else planes[parent]
        )
        bits = meter.total(planes[name].depth)
        whole = 8.0 * sizes[name]
        scaled = bits * (whole / bits.sum()) if bits.any() else bits + whole / bits.size
        maps[name] = np.asarray(scaled, np.float32)
    return {name: maps[name] for name in codec.spec.names if name in maps}


class _PositionMeter(SymbolMeter):
    """Adds up what each position costs; it knows tables apart, and the order of their passes."""

    def __init__(self, tables: TableSet, shape: tuple[int, ...]) -> None:
        super().__init__()
        self._planes = {id(tables["map"]): 0, id(tables["depth"]): 0}
        self._groups = {id(table) for name, table in tables.items() if name.startswith("group")}
        self._passes = passes(*shape)
        self._flat = np.zeros(shape).ravel()
        self._of_groups: list[np.ndarray] = []

    def code(self, table: Table, contexts: Contexts, symbols: Symbols | None) -> Symbols:
        """Add the cost of these symbols to their positions."""
        if symbols is not None and id(table) in self._planes:
            where = self._passes[self._planes[id(table)]]
            self._planes[id(table)] += 1
            self._flat[where] += table.symbol_bits(contexts, symbols)
            return symbols
        if symbols is not None and id(table) in self._groups:
            self._of_groups.append(table.symbol_bits(contexts, symbols))
            return symbols
        return super().code(table, contexts, symbols)

    def total(self, depth: np.ndarray) -> np.ndarray:
        """Bits of every position, shape (H, W), once it is known how deep each was coded."""
        flat, deep = self._flat.copy(), depth.ravel()
        for group, bits in enumerate(self._of_groups):
            where = np.flatnonzero(deep > group)
            flat[where] += bits.reshape(-1, len(where)).sum(axis=0)
        return np.asarray(flat.reshape(depth.shape))
