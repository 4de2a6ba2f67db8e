"""The detectors and their profiles that ship with the package."""

from __future__ import annotations

from pathlib import Path

from fpcodec.errors import InputError

EMBEDDED = ("tiny", "bccd")
"""``tiny`` finds objects in generated scenes; ``bccd`` blood cells in photographs."""


def embedded_folder(name: str = "tiny") -> Path:
    """Folder of an embedded detector and its profile.

    Raises:
        InputError: None has this name.
    """
    if name not in EMBEDDED:
        raise InputError(f"no embedded profile {name!r}; there are {', '.join(EMBEDDED)}")
    return Path(__file__).parent / "assets" / name
