"""Results on disk: a folder with ``rows.json`` and perhaps ``draws.npz``, or the rows alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from fpcodec.errors import InputError
from fpcodec.evaluation.curves import Floats, by_family
from fpcodec.evaluation.results import DRAWS, ROWS, ResultRow, read_rows
from fpcodec.evaluation.scoring import read_draws

PICTURE = "picture"
FEATURES = "features"
BOXES = "boxes"
UNSPLIT = "unsplit"


@dataclass(frozen=True)
class ResultSet:
    """Rows of one run, with the bootstrap's draws where they were kept.

    Attributes:
        name: For headings and file names.
        rows: As measured.
        draws: Row name to drops per draw, shape (draws,), float64; may lack rows or be empty.
    """

    name: str
    rows: tuple[ResultRow, ...]
    draws: Mapping[str, Floats] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.rows:
            raise InputError(f"{self.name} holds no rows; measure at least one setting")

    @property
    def unsplit(self) -> ResultRow | None:
        """The row of the detector without a codec; None where it is missing."""
        return next((row for row in self.rows if row.kind == UNSPLIT), None)

    @property
    def families(self) -> dict[str, list[ResultRow]]:
        """Rows with bytes and a drop, by family."""
        return by_family(self.rows)

    def families_of(self, *kinds: str) -> list[str]:
        """Names of the families of these kinds, in order of appearance."""
        return [name for name, rows in self.families.items() if rows[0].kind in kinds]

    @property
    def rival_families(self) -> list[str]:
        """Families that are neither ours, pictures nor boxes: mosaics, the seed's method."""
        known = (FEATURES, PICTURE, BOXES)
        return [name for name, rows in self.families.items() if rows[0].kind not in known]


def load_results(path: Path | str) -> ResultSet:
    """Read a folder with ``rows.json``, or a file of rows; draws lie beside ``rows.json``.

    Raises:
        InputError: The rows or the draws cannot be read.
    """
    given = Path(path)
    rows_path = given / ROWS if given.is_dir() else given
    name = rows_path.parent.resolve().name if rows_path.name == ROWS else rows_path.stem
    rows = tuple(_with_family(row) for row in read_rows(rows_path))
    draws_path = rows_path.parent / DRAWS
    kept = rows_path.name == ROWS and draws_path.is_file()
    return ResultSet(name, rows, read_draws(draws_path) if kept else {})


def load_all(paths: list[Path]) -> list[ResultSet]:
    """Read several results; equal names are told apart by a number.

    Raises:
        InputError: One of them cannot be read.
    """
    results: list[ResultSet] = []
    for path in paths:
        result = load_results(path)
        taken = {x.name for x in results}
        count = 2
        while result.name in taken:
            result = replace(result, name=f"{load_results(path).name}-{count}")
            count += 1
        results.append(result)
    return results


def _with_family(row: ResultRow) -> ResultRow:
    """Name the family of a row of a release that did not store it."""
    if row.family:
        return row
    family = row.kind
    if row.kind == PICTURE:
        family = str(row.parameters.get("format", PICTURE))
    elif row.kind == FEATURES:
        family = f"fpc {'+'.join(row.parameters.get('levels') or ('all',))}"
    return replace(row, family=family)
