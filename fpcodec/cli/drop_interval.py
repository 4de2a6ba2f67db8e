"""``--drops LOW:HIGH``: an interval of AP drops."""

from __future__ import annotations

import math
from typing import Annotated

import typer

from fpcodec.errors import InputError

Drops = Annotated[
    str,
    typer.Option(metavar="LOW:HIGH", help="Interval of AP drops, in points, averaged over."),
]
Method = Annotated[
    str, typer.Option(metavar="METHOD", help="pchip or akima, between the hull's points.")
]


def parse_drops(text: str) -> tuple[float, float]:
    """Read ``LOW:HIGH``.

    Raises:
        InputError: It is not two finite numbers, the lower first.
    """
    try:
        low, high = (float(part) for part in text.split(":"))
    except ValueError as error:
        raise InputError(f"--drops {text} is not LOW:HIGH; give two numbers as 0.5:4") from error
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InputError(f"--drops {text} is not LOW:HIGH; give the lower number first, as 0.5:4")
    return low, high
