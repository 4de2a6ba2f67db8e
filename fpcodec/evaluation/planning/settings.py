"""What measured rows say about the ways to send: bytes, drop, and compute on either side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from fpcodec.errors import InputError
from fpcodec.evaluation.results import ResultRow

WAYS = ("boxes", "split", "light split", "picture")
"""All on the edge; cut in two; the same with a light edge; all on the server."""

SPLITS = ("split", "light split")
"""Those of them with half a network on either side."""

_WAY_OF_KIND = {"boxes": "boxes", "features": "split", "picture": "picture"}


@dataclass(frozen=True)
class Setting:
    """What one row says, at the measuring machine's speed.

    Attributes:
        way: One of ``WAYS``.
        name: The row's.
        family: The row's.
        bytes: Sent per image, mean.
        bytes_p95: Sent per image, 95th percentile.
        drop: Points of AP lost against the unsplit detector.
        edge_ms: Median compute on the edge.
        server_ms: Median compute on the server.
    """

    way: str
    name: str
    family: str
    bytes: float
    bytes_p95: float
    drop: float
    edge_ms: float
    server_ms: float


def measured_settings(rows: Iterable[ResultRow]) -> tuple[Setting, ...]:
    """What rows say about the ways; rows of other kinds are passed over.

    Raises:
        InputError: The unsplit detector's row is missing, or a row lacks one of its times.
    """
    rows = tuple(rows)
    unsplit = next((row for row in rows if row.kind == "unsplit"), None)
    if unsplit is None:
        raise InputError("the rows hold no unsplit detector, whose times are needed; "
                         "give what fpcodec bench rd wrote")  # fmt: skip
    whole = _stages(unsplit, ("extract", "head"))
    return tuple(
        _setting(row, whole)
        for row in rows
        if row.kind in _WAY_OF_KIND and row.sent_bytes is not None and row.drop is not None
    )


def allowed(
    settings: Sequence[Setting], max_drop: float, *, head_on_server: bool = False
) -> tuple[Setting, ...]:
    """Settings that lose at most ``max_drop`` points, without boxes where the head is not there.

    Raises:
        InputError: None is left.
    """
    possible = [x for x in settings if not (head_on_server and x.way == "boxes")]
    if not possible:
        raise InputError("the rows hold no setting to choose from; measure some: fpcodec bench rd")
    kept = tuple(x for x in possible if x.drop <= max_drop)
    if not kept:
        least = min(possible, key=lambda x: x.drop)
        raise InputError(
            f"no measured setting loses {max_drop:g} AP or less; the least is {least.drop:.2f} "
            f"({least.name}): raise --max-drop or measure better qualities"
        )
    return kept


def nearest_split(rows: Iterable[ResultRow]) -> Setting | None:
    """The split setting that loses least; None where none was measured."""
    splits = (x for x in measured_settings(rows) if x.way in SPLITS)
    return min(splits, key=lambda x: x.drop, default=None)


def _setting(row: ResultRow, whole: Mapping[str, float]) -> Setting:
    """One row's bytes, drop and times on either side."""
    if row.sent_bytes is None or row.drop is None:
        raise InputError(f"{row.name}: a setting needs bytes and a drop")
    if row.kind == "boxes":
        times = _stages(row, ("extract", "head", "encode", "decode"), whole)
        edge_ms, server_ms = times["extract"] + times["head"] + times["encode"], times["decode"]
    elif row.kind == "features":
        times = _stages(row, ("extract", "encode", "decode", "reconstruct", "head"), whole)
        edge_ms = times["extract"] + times["encode"]
        server_ms = times["decode"] + times["reconstruct"] + times["head"]
    else:
        times = _stages(row, ("encode", "decode", "detect"))
        edge_ms, server_ms = times["encode"], times["decode"] + times["detect"]
    return Setting(
        way="light split" if row.parameters.get("light_edge") else _WAY_OF_KIND[row.kind],
        name=row.name,
        family=row.family or row.kind,
        bytes=row.sent_bytes.mean,
        bytes_p95=row.sent_bytes.p95,
        drop=row.drop.value,
        edge_ms=edge_ms,
        server_ms=server_ms,
    )


def _stages(
    row: ResultRow, names: Sequence[str], otherwise: Mapping[str, float] | None = None
) -> dict[str, float]:
    """Median ms of a row's stages; ``otherwise`` serves for those it lacks.

    Medians, because what else the measuring machine did lengthens a mean.
    """
    times = {**(otherwise or {}), **{name: x.p50 for name, x in row.times_ms.items()}}
    missing = [name for name in names if name not in times]
    if missing:
        raise InputError(
            f"row {row.name} holds no time of {', '.join(missing)}; measure again: fpcodec bench rd"
        )
    return {name: times[name] for name in names}
