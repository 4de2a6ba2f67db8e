"""Integer-exact entropy coding: a range coder driven by shipped tables of counts.

Every symbol is coded with one row of a ``Table``: integer counts that sum to 2^16. Nothing
floating-point decides between bits and symbols. The coder is constriction's range coder where its
wheel exists; ``RangeWriter`` and ``RangeReader`` below are its plain Python twin, identical to
the bit, for platforms without one. ``docs/bitstream.md`` specifies the words.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fpcodec.errors import InputError, InvalidField

Symbols = npt.NDArray[np.int32]
Contexts = npt.NDArray[np.intp]

TABLE_BITS = 16
"""Counts of a table row sum to ``2 ** TABLE_BITS``."""

_PRECISION = 24
_SCALE = 1 << (_PRECISION - TABLE_BITS)
_WORD = (1 << 32) - 1
_STATE = (1 << 64) - 1
_BLOCK = 1 << 15  # symbols handed to the coder at once: bounds the memory of gathered rows


class Table:
    """Rows of counts, one per context.

    Args:
        counts: Shape (contexts, alphabet), integers of at least 1, each row summing to 2^16.

    Raises:
        InputError: A row breaks these rules.
    """

    def __init__(self, counts: npt.NDArray[Any]) -> None:
        values = np.ascontiguousarray(counts, np.int64)
        if values.ndim != 2 or values.shape[1] < 2 or not len(values):
            raise InputError(f"a table is (contexts, alphabet of 2 or more), not {values.shape}")
        if values.min() < 1 or (values.sum(axis=1) != 1 << TABLE_BITS).any():
            raise InputError("table rows must hold counts of at least 1 that sum to 65536")
        self.counts = values
        # constriction quantises floats p to floor(cumulative(p)) + symbol index. With
        # p = 256·count − 1 every sum is an integer below 2^24, exact in float32, and its
        # 24-bit probabilities are 256·count to the bit.
        self._rows = (values * _SCALE - 1).astype(np.float32)

    @property
    def contexts(self) -> int:
        """Number of rows."""
        return int(self.counts.shape[0])

    @property
    def alphabet(self) -> int:
        """Number of symbols."""
        return int(self.counts.shape[1])

    def rows(self, contexts: Contexts) -> npt.NDArray[np.float32]:
        """Probabilities as constriction takes them, shape (N, alphabet)."""
        return self._rows[contexts]

    def cost_bits(self, contexts: Contexts, symbols: Symbols) -> float:
        """Ideal code length of the symbols under this table, in bits."""
        return float(self.symbol_bits(contexts, symbols).sum())

    def symbol_bits(self, contexts: Contexts, symbols: Symbols) -> npt.NDArray[np.float64]:
        """Ideal code length of each symbol under this table, in bits."""
        return np.asarray(TABLE_BITS - np.log2(self.counts[contexts, symbols]))


def table_from_counts(counts: npt.NDArray[Any], strength: float = 4.0) -> Table:
    """Fit a table by counting.

    Rows seen rarely lean on the average row: ``strength`` is the weight of that average in
    symbols.

    Args:
        counts: Shape (contexts, alphabet), how often each symbol was seen.
        strength: Pseudo-count of the average row.
    """
    seen = np.asarray(counts, np.float64)
    average = seen.sum(axis=0) + 0.05
    average /= average.sum()
    share = seen + strength * average
    share /= share.sum(axis=1, keepdims=True)
    free = (1 << TABLE_BITS) - seen.shape[1]
    fitted = 1 + np.floor(share * free).astype(np.int64)
    best = fitted.argmax(axis=1)
    fitted[np.arange(len(fitted)), best] += (1 << TABLE_BITS) - fitted.sum(axis=1)
    return Table(fitted)


class SymbolCoder(Protocol):
    """Codes symbols in one direction; traversals are written once for all of them."""

    def code(self, table: Table, contexts: Contexts, symbols: Symbols | None) -> Symbols:
        """Code one pass.

        Args:
            table: The rows.
            contexts: Row of each symbol, shape (N,).
            symbols: Shape (N,), int32; None when reading.

        Returns:
            The symbols, shape (N,), int32.
        """


class SymbolCounter:
    """Counts symbols per table instead of coding them: how tables are fitted."""

    def __init__(self) -> None:
        self.counts: dict[int, npt.NDArray[np.int64]] = {}

    def code(self, table: Table, contexts: Contexts, symbols: Symbols | None) -> Symbols:
        """Add the symbols to the counts of this table."""
        if symbols is None:
            raise InputError("counting needs symbols")
        size = table.contexts * table.alphabet
        seen = np.bincount(contexts * table.alphabet + symbols, minlength=size)
        shape = (table.contexts, table.alphabet)
        total = self.counts.setdefault(id(table), np.zeros(shape, np.int64))
        total += seen.reshape(shape)
        return symbols


class SymbolMeter:
    """Adds up ideal code lengths and symbols instead of coding them."""

    def __init__(self) -> None:
        self.bits = 0.0
        self.symbols = 0

    def code(self, table: Table, contexts: Contexts, symbols: Symbols | None) -> Symbols:
        """Add the cost of these symbols."""
        if symbols is None:
            raise InputError("measuring needs symbols")
        self.bits += table.cost_bits(contexts, symbols)
        self.symbols += len(symbols)
        return symbols


class PythonBackend:
    """The plain Python range coder, word for word constriction's."""

    def encode(self, passes: Sequence[tuple[Table, Contexts, Symbols]]) -> npt.NDArray[np.uint32]:
        """Encode passes of symbols to 32-bit words."""
        writer = RangeWriter()
        for table, contexts, symbols in passes:
            right = np.cumsum(table.counts, axis=1)
            counts = table.counts[contexts, symbols]
            left = right[contexts, symbols] - counts
            for low, count in zip(left.tolist(), counts.tolist(), strict=True):
                writer.write(low * _SCALE, count * _SCALE)
        return np.asarray(writer.finish(), np.uint32)

    def decoder(self, words: npt.NDArray[np.uint32]) -> RangeReader:
        """A reader over words."""
        return RangeReader(words.tolist())


class ConstrictionBackend:
    """constriction's range coder (32-bit words, 64-bit state, 24-bit probabilities)."""

    def __init__(self) -> None:
        import constriction

        self._queue = constriction.stream.queue
        self._family = constriction.stream.model.Categorical(perfect=False)

    def encode(self, passes: Sequence[tuple[Table, Contexts, Symbols]]) -> npt.NDArray[np.uint32]:
        """Encode passes of symbols to 32-bit words."""
        encoder = self._queue.RangeEncoder()
        for table, contexts, symbols in passes:
            for start in range(0, len(symbols), _BLOCK):
                part = slice(start, start + _BLOCK)
                encoder.encode(symbols[part], self._family, table.rows(contexts[part]))
        return np.asarray(encoder.get_compressed(), np.uint32)

    def decoder(self, words: npt.NDArray[np.uint32]) -> _ConstrictionReader:
        """A reader over words."""
        return _ConstrictionReader(self._queue.RangeDecoder(words), self._family)


class _ConstrictionReader:
    def __init__(self, decoder: Any, family: Any) -> None:
        self._decoder, self._family = decoder, family

    def read(self, table: Table, contexts: Contexts) -> Symbols:
        out = np.empty(len(contexts), np.int32)
        for start in range(0, len(contexts), _BLOCK):
            part = slice(start, start + _BLOCK)
            try:
                out[part] = self._decoder.decode(self._family, table.rows(contexts[part]))
            except AssertionError as error:  # constriction's word for impossible bytes
                raise InvalidField("chunk is not a code of this profile's tables") from error
        return out

    def exhausted(self) -> bool:
        return bool(self._decoder.maybe_exhausted())


class RangeWriter:
    """Range encoder with carry: 64-bit ``lower`` and ``range``, 32-bit words."""

    def __init__(self) -> None:
        self._words: list[int] = []
        self._lower, self._range = 0, _STATE
        self._held = 0  # words held back because a carry may still change them
        self._first = 0

    def write(self, left: int, probability: int) -> None:
        """Code one symbol: cumulative ``left`` and ``probability`` in units of 2^-24."""
        scale = self._range >> _PRECISION
        self._range = scale * probability
        lower = (self._lower + scale * left) & _STATE
        if self._held and (lower + self._range) & _STATE > lower:
            self._release(carry=lower < self._lower)
        self._lower = lower
        if self._range >> 32:
            return
        self._range <<= 32
        word, self._lower = lower >> 32, (lower << 32) & _STATE
        if self._held:
            self._held += 1
        elif (self._lower + self._range) & _STATE > self._lower:
            self._words.append(word)
        else:
            self._held, self._first = 1, word

    def _release(self, carry: bool) -> None:
        self._words.append((self._first + carry) & _WORD)
        self._words += [0 if carry else _WORD] * (self._held - 1)
        self._held = 0

    def finish(self) -> list[int]:
        """Words of everything written; no words where nothing was."""
        if self._range == _STATE:
            return []
        point = (self._lower + _WORD) & _STATE
        if self._held:
            self._release(carry=point < self._lower)
        self._words.append(point >> 32)
        if ((self._lower + self._range) & _STATE) >> 32 == point >> 32:
            self._words.append(0)
        return self._words


class RangeReader:
    """Reads what ``RangeWriter`` wrote; zeros follow the last word."""

    def __init__(self, words: list[int]) -> None:
        self._words, self._next = words, 0
        self._lower, self._range = 0, _STATE
        self._point = (self._take() << 32) | self._take()

    def _take(self) -> int:
        self._next += 1
        return self._words[self._next - 1] if self._next <= len(self._words) else 0

    def read(self, table: Table, contexts: Contexts) -> Symbols:
        """Read one pass of symbols.

        Raises:
            InvalidField: The words cannot be a code of these tables.
        """
        right = np.cumsum(table.counts, axis=1)
        out = np.empty(len(contexts), np.int32)
        for i, context in enumerate(contexts.tolist()):
            scale = self._range >> _PRECISION
            quantile = ((self._point - self._lower) & _STATE) // scale
            if quantile >> _PRECISION:
                raise InvalidField("chunk is not a code of this profile's tables")
            row = right[context]
            symbol = int(np.searchsorted(row, quantile // _SCALE, side="right"))
            count = int(table.counts[context, symbol])
            self._lower = (self._lower + scale * (int(row[symbol]) - count) * _SCALE) & _STATE
            self._range = scale * count * _SCALE
            if not self._range >> 32:
                self._range <<= 32
                self._lower = (self._lower << 32) & _STATE
                self._point = ((self._point << 32) & _STATE) | self._take()
            out[i] = symbol
        return out

    def exhausted(self) -> bool:
        """Whether nothing but padding can follow."""
        if self._next < len(self._words):
            return False
        return self._range == _STATE or (self._point - self._lower) & _STATE < (1 << 33) - 1


Backend = PythonBackend | ConstrictionBackend


def default_backend() -> Backend:
    """constriction's coder where its wheel is installed, else the Python twin."""
    if importlib.util.find_spec("constriction") is None:
        return PythonBackend()
    return ConstrictionBackend()


class SymbolWriter:
    """Writes passes of symbols and returns them as bytes."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._passes: list[tuple[Table, Contexts, Symbols]] = []

    def code(self, table: Table, contexts: Contexts, symbols: Symbols | None) -> Symbols:
        """Queue one pass for writing."""
        if symbols is None:
            raise InputError("writing needs symbols")
        self._passes.append((table, contexts, symbols))
        return symbols

    def finish(self) -> bytes:
        """The coded bytes: little-endian words less trailing zero bytes."""
        words = self._backend.encode(self._passes)
        return words.astype("<u4").tobytes().rstrip(b"\0")


class SymbolReader:
    """Reads passes of symbols from bytes."""

    def __init__(self, data: bytes, backend: Backend) -> None:
        if data.endswith(b"\0"):
            raise InvalidField("chunk ends in a zero byte, which encoders never write")
        padded = data + b"\0" * (-len(data) % 4)
        words = np.frombuffer(padded, "<u4").astype(np.uint32)
        self._reader = backend.decoder(words)

    def code(self, table: Table, contexts: Contexts, symbols: Symbols | None) -> Symbols:
        """Read one pass; ``symbols`` is not used."""
        return self._reader.read(table, contexts)

    def finish(self) -> None:
        """Check that nothing is left.

        Raises:
            InvalidField: Bytes remain after the last symbol.
        """
        if not self._reader.exhausted():
            raise InvalidField("chunk holds bytes beyond its last symbol")
