"""One run's committed rows and draws, and what fairness is asked about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fpcodec.errors import InputError
from fpcodec.evaluation.bd_rate import BytesRatio, bytes_ratio_at_drop
from fpcodec.evaluation.curves import Curve, by_family, named_curve
from fpcodec.evaluation.results import DRAWS, ROWS, ResultRow, read_rows
from fpcodec.evaluation.scoring import read_draws

DROP = 1.0
"""Points of AP at which bytes are compared."""

Draws = Mapping[str, npt.NDArray[np.float64]]


@dataclass(frozen=True)
class Run:
    """One run's rows.

    Attributes:
        rows: The unsplit detector first.
        draws: Row name to drop of AP per bootstrap draw; empty where they are not known.

    Raises:
        InputError: The first row is not the unsplit detector, or no frames were measured.
    """

    rows: tuple[ResultRow, ...]
    draws: Draws = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.rows or self.rows[0].kind != "unsplit":
            raise InputError("the first row is not the unsplit detector; use fpcodec bench rd")
        if not any(row.kind == "features" for row in self.rows):
            raise InputError("no frames were measured; use fpcodec bench rd")

    @classmethod
    def read(cls, folder: Path) -> Run:
        """Rows and, where they lie beside them, draws."""
        drawn = read_draws(folder / DRAWS) if (folder / DRAWS).is_file() else {}
        return cls(tuple(read_rows(folder / ROWS)), drawn)

    @property
    def unsplit(self) -> ResultRow:
        """The reference."""
        return self.rows[0]

    @cached_property
    def families(self) -> dict[str, list[ResultRow]]:
        """Rows with bytes and a drop, by family."""
        return by_family(self.rows)

    @cached_property
    def ours(self) -> str:
        """The family of frames with all levels: the first that was measured."""
        return next(row.family for row in self.rows if row.kind == "features")

    @cached_property
    def our_row(self) -> ResultRow:
        """Our setting of fewest bytes that loses at most ``DROP``, or the one that loses least."""
        rows = self.families[self.ours]
        kept = [row for row in rows if drop_of(row) <= DROP]
        return min(kept, key=mean_bytes) if kept else min(rows, key=drop_of)

    def members(self, kind: str) -> list[ResultRow]:
        """Rows of a kind with bytes and a drop."""
        return [row for rows in self.families.values() for row in rows if row.kind == kind]

    def families_of(self, kind: str) -> list[str]:
        """Families of a kind, in order of first appearance."""
        return list(dict.fromkeys(row.family for row in self.members(kind)))

    @property
    def plain_pictures(self) -> list[str]:
        """Picture families at the network's own size and with their default chroma."""
        return [name for name in self.families_of("picture") if " " not in name]

    def ratio(self, anchor: str, test: str) -> BytesRatio | None:
        """Bytes of one family by those of another at ``DROP``, with an interval if it has one."""
        curves = [named_curve(self.rows, name, self.draws) for name in (anchor, test)]
        without_draws = [Curve(x.name, x.points) for x in curves]
        return _ratio(*curves) or _ratio(*without_draws)

    def gap(self, worse: ResultRow, better: ResultRow) -> str:
        """How many points of AP one row lies below another, with its paired interval."""
        value = f"{drop_of(worse) - drop_of(better):.1f}"
        if not {worse.name, better.name} <= set(self.draws):
            return value
        low, high = np.nanpercentile(self.draws[worse.name] - self.draws[better.name], [2.5, 97.5])
        return f"{value} [{low:.1f}, {high:.1f}]"

    @property
    def source(self) -> str:
        """Where the figures come from."""
        environment = self.unsplit.environment
        sha = (environment.git_sha or "unknown")[:7]
        return (
            f"<sub>{self.unsplit.images} photographs; `{environment.command}`, commit {sha}</sub>"
        )


def _ratio(anchor: Curve, test: Curve) -> BytesRatio | None:
    try:
        return bytes_ratio_at_drop(anchor, test, DROP)
    except InputError:
        # A hull that does not reach the drop, in all or in too many draws.
        return None


def mean_bytes(row: ResultRow) -> float:
    """Mean bytes per image of a row that has them."""
    return row.sent_bytes.mean if row.sent_bytes else float("nan")


def drop_of(row: ResultRow) -> float:
    """Drop of AP of a row that has one."""
    return row.drop.value if row.drop else float("nan")
