"""Entropy coders that take the symbols of one chunk: ours, CompressAI's rANS, zstd."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from fpcodec.codecs.base import quality_byte
from fpcodec.codecs.chunked import ChunkedCodec
from fpcodec.codecs.chunks import QuantisedLevel, code_quantised, order_levels
from fpcodec.codecs.coefficients import LevelPlanes
from fpcodec.entropy import (
    TABLE_BITS,
    Backend,
    Contexts,
    SymbolReader,
    Symbols,
    SymbolWriter,
    Table,
    default_backend,
)
from fpcodec.errors import InputError, MissingDependency
from fpcodec.pyramid import Pyramid

Pass = tuple[Table, Contexts, Symbols]

OURS = "range coder"


class SymbolRecorder:
    """Keeps passes of symbols instead of coding them."""

    def __init__(self) -> None:
        self.passes: list[Pass] = []

    def code(self, table: Table, contexts: Contexts, symbols: Symbols | None) -> Symbols:
        """Keep one pass."""
        if symbols is None:
            raise InputError("recording needs symbols")
        self.passes.append((table, contexts, symbols.astype(np.int32)))
        return symbols


@dataclass(frozen=True)
class ChunkSymbols:
    """What one chunk codes.

    Attributes:
        passes: Table, contexts and symbols, in coding order.
        level: The same values as planes.
    """

    passes: tuple[Pass, ...]
    level: QuantisedLevel

    @cached_property
    def symbols(self) -> Symbols:
        """All symbols in coding order."""
        return np.concatenate([symbols for _, _, symbols in self.passes])

    @cached_property
    def as_bytes(self) -> bytes:
        """All symbols in coding order, a byte each: no alphabet has more than 256."""
        return self.symbols.astype(np.uint8).tobytes()

    @cached_property
    def planes(self) -> bytes:
        """Step map and values, component by component: a byte each, or two where one is short."""
        values = self.level.symbols
        small = np.abs(values).max(initial=0) < 128
        classes = self.level.classes
        above = b"" if classes is None else classes.astype(np.uint8).tobytes()
        return above + values.astype(np.int8 if small else np.int16).tobytes()

    @cached_property
    def joint(self) -> tuple[list[int], list[list[int]], npt.NDArray[np.intp]]:
        """One index of used rows over all tables: symbols' counterpart for rANS.

        Returns:
            Lengths of the rows, the rows cumulated, and per symbol its row.
        """
        lengths: list[int] = []
        rows: list[list[int]] = []
        indexes: list[npt.NDArray[np.intp]] = []
        known: dict[tuple[int, int], int] = {}
        for table, contexts, _ in self.passes:
            used, where = np.unique(contexts, return_inverse=True)
            for context in used.tolist():
                if (id(table), context) not in known:
                    known[id(table), context] = len(rows)
                    # rANS takes a row's last symbol for its own escape: an empty one, never coded.
                    ends = [0, *np.cumsum(table.counts[context]).tolist(), 1 << TABLE_BITS]
                    rows.append(ends)
                    lengths.append(len(ends))
            place = np.array([known[id(table), context] for context in used.tolist()], np.intp)
            indexes.append(place[where] if len(used) else np.zeros(0, np.intp))
        return lengths, rows, np.concatenate(indexes)


def chunk_symbols(codec: ChunkedCodec, pyramid: Pyramid, quality: float) -> list[ChunkSymbols]:
    """What each chunk of a frame with every level codes, coarsest first."""
    wire = quality_byte(quality)
    levels = codec.quantise(pyramid, wire, codec.spec.coded_names)
    parent: LevelPlanes | None = None
    chunks = []
    for name in order_levels(codec.spec, levels):
        recorder = SymbolRecorder()
        tables = codec.coder.tables.get(name, parent is not None, wire)
        parent = code_quantised(recorder, tables, levels[name], parent)
        chunks.append(ChunkSymbols(tuple(recorder.passes), levels[name]))
    return chunks


@dataclass(frozen=True)
class Peer:
    """A coder of chunks.

    Attributes:
        name: In rows.
        encode: A chunk to its bytes.
        decode: Bytes, and the chunk for its tables and contexts only, back to what was coded.
        coded: What ``decode`` must give.
    """

    name: str
    encode: Callable[[ChunkSymbols], bytes]
    decode: Callable[[bytes, ChunkSymbols], Any]
    coded: Callable[[ChunkSymbols], Any]


def range_coder(backend: Backend | None = None) -> Peer:
    """This package's coder; None for the fastest backend installed."""
    used = backend or default_backend()

    def encode(chunk: ChunkSymbols) -> bytes:
        writer = SymbolWriter(used)
        for table, contexts, symbols in chunk.passes:
            writer.code(table, contexts, symbols)
        return writer.finish()

    def decode(data: bytes, chunk: ChunkSymbols) -> Symbols:
        reader = SymbolReader(data, used)
        out = [reader.code(table, contexts, None) for table, contexts, _ in chunk.passes]
        reader.finish()
        return np.concatenate(out)

    return Peer(OURS, encode, decode, lambda chunk: chunk.symbols)


def rans() -> Peer:
    """CompressAI's rANS with our tables and contexts.

    Raises:
        MissingDependency: CompressAI is not installed.
    """
    try:
        from compressai.ans import RansDecoder, RansEncoder
    except ImportError as error:
        raise MissingDependency(
            f"rANS needs CompressAI ({error}); install it in an environment of its own: "
            'pip install "compressai==1.2.8"'
        ) from error
    encoder, decoder = RansEncoder(), RansDecoder()

    def encode(chunk: ChunkSymbols) -> bytes:
        lengths, rows, indexes = chunk.joint
        zeros = [0] * len(rows)
        data = encoder.encode_with_indexes(
            chunk.symbols.tolist(), indexes.tolist(), rows, lengths, zeros
        )
        return bytes(data)

    def decode(data: bytes, chunk: ChunkSymbols) -> Symbols:
        lengths, rows, indexes = chunk.joint
        found = decoder.decode_with_indexes(data, indexes.tolist(), rows, lengths, [0] * len(rows))
        return np.array(found, np.int32)

    return Peer("rANS", encode, decode, lambda chunk: chunk.symbols)


def zstd(level: int, what: str, coded: Callable[[ChunkSymbols], bytes]) -> Peer:
    """zstd at a level on bytes of a chunk.

    Raises:
        MissingDependency: zstandard is not installed.
    """
    try:
        import zstandard
    except ImportError as error:
        raise MissingDependency(
            "the comparison needs zstandard; install it with pip install zstandard"
        ) from error
    # Neither sizes nor checksums are in the others' bytes.
    compressor = zstandard.ZstdCompressor(level=level, write_content_size=False)
    decompressor = zstandard.ZstdDecompressor()

    def decode(data: bytes, chunk: ChunkSymbols) -> bytes:
        return decompressor.decompress(data, max_output_size=len(coded(chunk)))

    return Peer(f"zstd-{level} {what}", lambda chunk: compressor.compress(coded(chunk)), decode,
                coded)  # fmt: skip


def peers() -> list[Peer]:
    """Every coder, ours first.

    Raises:
        MissingDependency: A peer is not installed.
    """
    found = [range_coder(), rans()]
    for level in (3, 19):
        found.append(zstd(level, "symbols", lambda chunk: chunk.as_bytes))
        found.append(zstd(level, "planes", lambda chunk: chunk.planes))
    return found
