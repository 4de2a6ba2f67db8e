"""A codec's tables: one set per level, parent case and quality bucket, fitted by counting."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fpcodec.codecs.coefficients import table_shapes
from fpcodec.entropy import SymbolCounter, Table, table_from_counts
from fpcodec.errors import ProfileError

BUCKETS = 8
"""Quality buckets: 32 of the wire's 256 qualities share a table set."""

TableSet = Mapping[str, Table]


def bucket_of(quality: int) -> int:
    """The quality bucket of a wire quality."""
    return quality * BUCKETS // 256


class CodecTables:
    """Table sets by level, parent case and quality bucket; rows are prepared when first used.

    Args:
        counts: ``tables.<level>.<name>`` to counts, shape (2, BUCKETS, contexts, alphabet),
            uint16: the first axis is whether a parent is used.
    """

    def __init__(self, counts: Mapping[str, npt.NDArray[np.uint16]]) -> None:
        self.tensors = dict(counts)
        self._sets: dict[tuple[str, bool, int], TableSet] = {}

    def get(self, level: str, has_parent: bool, quality: int) -> TableSet:
        """The table set for one chunk.

        Raises:
            ProfileError: The profile has no usable tables for the level.
        """
        key = (level, has_parent, bucket_of(quality))
        if key not in self._sets:
            prefix = f"tables.{level}."
            try:
                self._sets[key] = {
                    name[len(prefix) :]: Table(values[int(has_parent), key[2]])
                    for name, values in self.tensors.items()
                    if name.startswith(prefix)
                }
            except (ValueError, IndexError) as error:
                raise ProfileError(f"tables of level {level} are damaged: {error}") from error
        return self._sets[key]

    def check(self, components: Mapping[str, int]) -> None:
        """Check that every level has the tables its components need.

        Raises:
            ProfileError: A table is missing or has another shape.
        """
        for level, count in components.items():
            for name, shape in table_shapes(count).items():
                found = self.tensors.get(f"tables.{level}.{name}")
                if found is None or found.shape != (2, BUCKETS, *shape):
                    raise ProfileError(f"table {level}.{name} is missing or misshapen; "
                                       "calibrate the profile again")  # fmt: skip


class TableFitter:
    """Counts what an encoder would code, then turns the counts into tables."""

    def __init__(self, components: Mapping[str, int]) -> None:
        self._components = components
        self._counter = SymbolCounter()
        self._blank = {level: _blank_set(count) for level, count in components.items()}
        self._sets: dict[tuple[str, bool, int], dict[str, Table]] = {}

    def count(
        self, run: Callable[[SymbolCounter, Callable[[str, bool, int], TableSet]], Any]
    ) -> None:
        """Let ``run`` code with a counter and these stand-in tables."""
        run(self._counter, self._stand_in)

    def _stand_in(self, level: str, has_parent: bool, quality: int) -> TableSet:
        key = (level, has_parent, bucket_of(quality))
        if key not in self._sets:
            # A table of its own for every set: the counter tells tables apart by identity.
            self._sets[key] = {k: Table(t.counts) for k, t in self._blank[level].items()}
        return self._sets[key]

    def fit(self, *, pool_contexts: bool = False) -> CodecTables:
        """The fitted tables; sets never seen lean on the nearest bucket that was.

        Args:
            pool_contexts: Give every context of a table the same row, so that contexts carry
                nothing: what they are worth can be measured.
        """
        out: dict[str, npt.NDArray[np.uint16]] = {}
        for level, blanks in self._blank.items():
            for name, blank in blanks.items():
                shape = (2, BUCKETS, *blank.counts.shape)
                seen = np.zeros(shape)
                for (key, parent, bucket), tables in self._sets.items():
                    if key == level:
                        found = self._counter.counts.get(id(tables[name]))
                        seen[int(parent), bucket] = 0 if found is None else found
                if pool_contexts:
                    seen[:] = seen.sum(axis=2, keepdims=True)
                out[f"tables.{level}.{name}"] = _fit_table(seen)
        return CodecTables(out)


def _fit_table(seen: npt.NDArray[np.float64]) -> npt.NDArray[np.uint16]:
    """Fit (2, BUCKETS, contexts, alphabet) counts, neighbours lending to what was rarely seen."""
    fitted = np.empty(seen.shape, np.uint16)
    for parent in range(2):
        for bucket in range(BUCKETS):
            distance = np.abs(np.arange(BUCKETS) - bucket)
            lent = np.tensordot(0.02 * 0.25**distance, seen.sum(axis=0), 1)
            fitted[parent, bucket] = table_from_counts(seen[parent, bucket] + lent).counts
    return fitted


def _blank_set(components: int) -> dict[str, Table]:
    return {
        name: table_from_counts(np.zeros(shape)) for name, shape in table_shapes(components).items()
    }
