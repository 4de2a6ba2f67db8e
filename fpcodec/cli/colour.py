"""Colour for people at a terminal; none in files, pipes, or where it is not wanted."""

from __future__ import annotations

import os
from typing import TextIO

RED, YELLOW, GREEN = "1;31", "33", "32"


def wants_colour(stream: TextIO) -> bool:
    """Whether text for a stream may be coloured.

    ``NO_COLOR`` forbids it (https://no-color.org), ``FORCE_COLOR`` asks for it even in a pipe;
    else it is for terminals that are not ``TERM=dumb``.
    """
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")


def painted(text: str, style: str, stream: TextIO) -> str:
    """The text in a style, where the stream may be coloured."""
    return f"\x1b[{style}m{text}\x1b[0m" if wants_colour(stream) else text
