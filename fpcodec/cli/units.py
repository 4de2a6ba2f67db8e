"""Quantities with units, as people type them: ``1Mbps``, ``256kbps``, ``40ms``, ``0.2s``."""

from __future__ import annotations

import re
from collections.abc import Mapping

from fpcodec.errors import InputError

_BIT_RATES = {"bps": 1.0, "kbps": 1e3, "Mbps": 1e6, "Gbps": 1e9}
_DURATIONS_MS = {"ms": 1.0, "s": 1e3}
_QUANTITY = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([A-Za-z]+)\s*", re.ASCII)


def parse_bit_rate(text: str) -> float:
    """Bit/s of ``256kbps`` or ``1.5Mbps``; a k is 1,000.

    Raises:
        InputError: It is no such rate.
    """
    return _parse(text, _BIT_RATES, "bit rate", "256kbps or 1Mbps")


def parse_duration_ms(text: str) -> float:
    """Milliseconds of ``40ms`` or ``0.2s``.

    Raises:
        InputError: It is no such time.
    """
    return _parse(text, _DURATIONS_MS, "time", "40ms or 0.2s")


def format_bit_rate(bps: float) -> str:
    """Three digits and a unit: ``1.5 Mbps``."""
    unit, scale = next(
        ((name, size) for name, size in reversed(_BIT_RATES.items()) if bps >= size),
        ("bps", 1.0),
    )
    return f"{float(f'{bps / scale:.3g}'):g} {unit}"


def _parse(text: str, units: Mapping[str, float], what: str, example: str) -> float:
    # mbps and Kbps are typed too and nobody means millibits; a B would be bytes.
    folded = {x: scale for name, scale in units.items() for x in (name, name.lower(), _upper(name))}
    found = _QUANTITY.fullmatch(text)
    if found is None or found[2] not in folded:
        raise InputError(
            f"{text!r} is no {what}; give a number and one of {', '.join(units)}, as {example}"
        )
    return float(found[1]) * folded[found[2]]


def _upper(unit: str) -> str:
    """With a large prefix: ``Kbps``; units without a prefix as they are."""
    return unit[:1].upper() + unit[1:] if len(unit) == 4 else unit
