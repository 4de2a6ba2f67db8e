"""Rate-AP curves of profiles that were measured in one run, and what comparing them says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fpcodec.errors import InputError
from fpcodec.evaluation.bd_rate import BdRate, BytesRatio
from fpcodec.evaluation.curves import Curve, is_point
from fpcodec.evaluation.results import ResultRow


def by_profile(rows: Iterable[ResultRow]) -> dict[str, list[ResultRow]]:
    """Rows with bytes and a drop, by the name of their profile."""
    families: dict[str, list[ResultRow]] = {}
    for row in rows:
        if is_point(row):
            families.setdefault(row.parameters["profile"], []).append(row)
    return families


def curves_of(
    families: Mapping[str, list[ResultRow]], draws: Mapping[str, Any]
) -> dict[str, Curve]:
    """The curve of each."""
    return {name: Curve.of(name, rows, draws) for name, rows in families.items()}


def compared(compare: Callable[[], BdRate | BytesRatio]) -> dict[str, Any]:
    """A comparison, or why there is none."""
    try:
        return compare().to_dict()
    except InputError as error:
        return {"unknown": str(error)}
