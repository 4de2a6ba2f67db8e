"""What shells offer where a profile is wanted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fpcodec.embedded import EMBEDDED, RECIPES


def embedded_names(incomplete: str) -> list[str]:
    """Names of what ships with the package."""
    return [name for name in (*EMBEDDED, *RECIPES) if name.startswith(incomplete)]


def profiles_to_run(incomplete: str) -> list[str]:
    """Embedded profiles that have their detector, and folders of profiles.

    Where none begins so, the shell goes on with its own files and folders.
    """
    names = [name for name in EMBEDDED if name.startswith(incomplete)]
    return [*names, *profile_folders(incomplete)]


def all_profiles(incomplete: str) -> list[str]:
    """Everything that has a name, and folders of profiles."""
    return [*embedded_names(incomplete), *profile_folders(incomplete)]


def profile_folders(incomplete: str) -> Iterator[str]:
    """Folders that hold a profile, here or beneath what was typed."""
    from fpcodec.profile_folder import MANIFEST

    above, slash, start = incomplete.rpartition("/")
    try:
        found = sorted(Path(f"{above}{slash}" or ".").iterdir())
    except OSError:
        return
    for folder in found:
        if folder.name.startswith(start) and (folder / MANIFEST).is_file():
            yield f"{above}{slash}{folder.name}"
