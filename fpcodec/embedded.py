"""The detectors and their profiles that ship with the package."""

from __future__ import annotations

from pathlib import Path

from fpcodec.errors import InputError

EMBEDDED = ("tiny", "bccd")
"""``tiny`` finds objects in generated scenes; ``bccd`` blood cells in photographs."""

RECIPES = ("yolox_nano",)
"""Profiles that lack their detector: its weights are its publisher's to give away."""


def embedded_folder(name: str = "tiny") -> Path:
    """Folder of an embedded detector and its profile.

    Raises:
        InputError: None has this name.
    """
    if name not in EMBEDDED:
        raise InputError(f"no embedded profile {name!r}; there are {', '.join(EMBEDDED)}")
    return _asset(name)


def recipe_folder(name: str) -> Path:
    """Folder of an embedded recipe: a profile without its detector's files.

    Raises:
        InputError: None has this name.
    """
    if name not in RECIPES:
        raise InputError(f"no recipe {name!r}; there are {', '.join(RECIPES)}")
    return _asset(name)


def asset_folder() -> Path:
    """Folder of all that ships with the package."""
    return Path(__file__).parent / "assets"


def _asset(name: str) -> Path:
    return asset_folder() / name
