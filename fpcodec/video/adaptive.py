"""Tables that learn: integer counts of what was decoded since the refresh.

Encoder and decoder count the same symbols, frame by frame, so nothing is sent for it; nothing but
integer arithmetic turns counts into a table. ``docs/bitstream.md`` section 10 is the
specification.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np
import numpy.typing as npt

from fpcodec.codecs.coefficients import (
    ESCAPE_LENGTHS,
    STEP_CLASSES,
    group_bounds,
    largest_magnitude,
)
from fpcodec.entropy import TABLE_BITS, Contexts, SymbolCoder, Symbols, Table

Counts = npt.NDArray[np.int64]

INCREMENT = 32
"""What one symbol adds to its count."""

MOST = 1 << 14
"""A row whose counts sum up to more is halved."""

NEAR, ABOVE, ACTIVITY, LIVE = 5, 3, 4, 3
"""Values of what the context of a position's flag is made of, besides the pass."""

LEFT, ENERGY, MAGNITUDE = 3, 8, 4
"""Values of what the context of an integer's change is made of."""

DEPTHS = 3
"""Classes of the reference's depth."""

_CODED_OF_256 = (1, 5, 15, 31, 51, 77, 102, 128, 154, 166, 179)
"""How often a position is coded, by how much around it is."""

# For each class of energy: counts of a change by 0, by 1, by 2, ...; further ones count 1.
_CHANGES = (
    (119, 4, 1),
    (115, 5, 1),
    (109, 8, 2, 1),
    (100, 11, 3, 1),
    (84, 14, 5, 2, 1),
    (64, 16, 8, 4, 2, 1),
    (45, 17, 10, 6, 4, 2, 1),
    (32, 14, 10, 7, 5, 3, 2, 2, 1),
)


def rows_of(counts: Counts) -> Counts:
    """Rows that sum to 2^16, each in the proportions of its counts.

    Args:
        counts: Shape (contexts, alphabet), of at least 1, each row summing to 2^31 at most.
    """
    free = (1 << TABLE_BITS) - counts.shape[1]
    rows = 1 + counts * free // counts.sum(axis=1, keepdims=True)
    best = counts.argmax(axis=1)  # the first of equals
    rows[np.arange(len(rows)), best] += (1 << TABLE_BITS) - rows.sum(axis=1)
    return np.asarray(rows, np.int64)


class AdaptiveTable:
    """A table and the counts that it is made of.

    Args:
        counts: What to begin with, shape (contexts, alphabet), of at least 1.
    """

    def __init__(self, counts: Counts) -> None:
        self._counts, self._table = counts, Table(rows_of(counts))

    @property
    def table(self) -> Table:
        """The table as it stands."""
        return self._table

    def learn(self, contexts: Contexts, symbols: Symbols) -> AdaptiveTable:
        """The table after these symbols of one frame; this one stays as it is."""
        seen = np.bincount(contexts * self._counts.shape[1] + symbols, minlength=self._counts.size)
        counts = self._counts + INCREMENT * seen.reshape(self._counts.shape)
        large = counts.sum(axis=1) > MOST
        while large.any():
            counts[large] = (counts[large] + 1) // 2
            large = counts.sum(axis=1) > MOST
        return AdaptiveTable(counts)


Tables = Mapping[str, AdaptiveTable]


class LearningCoder:
    """Codes with adaptive tables and remembers what it coded.

    Args:
        coder: Writes, reads or measures.
        tables: As they stand after the previous frame; they are not changed.
    """

    def __init__(self, coder: SymbolCoder, tables: Tables) -> None:
        self._coder, self._tables = coder, tables
        self._coded: dict[str, list[tuple[Contexts, Symbols]]] = {}

    def code(self, name: str, contexts: Symbols | Contexts, symbols: Symbols | None) -> Symbols:
        """Code one pass with a named table."""
        rows = contexts.astype(np.intp)
        out = self._coder.code(self._tables[name].table, rows, symbols)
        self._coded.setdefault(name, []).append((rows, out))
        return out

    def named(self, name: str) -> _Named:
        """A coder of the named table, for code that brings a table of its own."""
        return _Named(self, name)

    def raw(self, table: Table, contexts: Contexts, symbols: Symbols | None) -> Symbols:
        """Code one pass with a table that does not learn."""
        return self._coder.code(table, contexts, symbols)

    def learned(self) -> dict[str, AdaptiveTable]:
        """The tables for the next frame."""
        out = dict(self._tables)
        for name, parts in self._coded.items():
            contexts, symbols = (np.concatenate(x) for x in zip(*parts, strict=True))
            out[name] = out[name].learn(contexts, symbols)
        return out


class _Named:
    """Learns where it is given the named table, and codes with any other."""

    def __init__(self, coder: LearningCoder, name: str) -> None:
        self._coder, self._name = coder, name

    @property
    def table(self) -> Table:
        """The named table."""
        return self._coder._tables[self._name].table

    def code(self, table: Table, contexts: Contexts, symbols: Symbols | None) -> Symbols:
        """Code one pass."""
        if table is self.table:
            return self._coder.code(self._name, contexts, symbols)
        return self._coder.raw(table, contexts, symbols)


@cache
def first_tables(components: int) -> dict[str, AdaptiveTable]:
    """The tables after a refresh; those of all levels are the same.

    Args:
        components: Most components of a level.
    """
    groups = len(group_bounds(components))
    tables = {
        "flag": _flag_counts(),
        "class": np.full((STEP_CLASSES, STEP_CLASSES), 8) + 40 * np.eye(STEP_CLASSES, dtype=int),
        "depth": np.full((2 * STEP_CLASSES * DEPTHS, groups + 1), 12),
        "escape": np.full((1, ESCAPE_LENGTHS), 4),
    }
    for group in range(groups):
        tables[f"group{group}"] = _change_counts(largest_magnitude(group))
    return {name: AdaptiveTable(counts.astype(np.int64)) for name, counts in tables.items()}


def _flag_counts() -> Counts:
    rows = []
    for context in range(3 * NEAR * ABOVE * ACTIVITY * LIVE):
        live, activity = context % LIVE, context // LIVE % ACTIVITY
        above = context // (LIVE * ACTIVITY) % ABOVE
        near = context // (LIVE * ACTIVITY * ABOVE) % NEAR
        coded = _CODED_OF_256[min(near, 3) + above + activity + live]
        rows.append((256 - coded, coded))
    return np.array(rows, np.int64)


def _change_counts(largest: int) -> Counts:
    magnitudes = np.abs(np.arange(-largest, largest + 1))
    rows = np.ones((LEFT, ENERGY, MAGNITUDE, 2 * largest + 2), np.int64)
    for energy, counts in enumerate(_CHANGES):
        padded = np.array(counts + (1,) * (largest + 1))
        rows[:, energy, :, :-1] = padded[magnitudes]
    return rows.reshape(-1, 2 * largest + 2)
