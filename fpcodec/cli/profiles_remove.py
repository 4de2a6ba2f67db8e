"""``fpcodec profiles remove``: deletes a profile's folder, and no other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fpcodec.cli.completion import profile_folders
from fpcodec.cli.options import Json
from fpcodec.cli.output import note, print_json


def remove(
    profile: Annotated[
        Path, typer.Argument(metavar="DIR", autocompletion=profile_folders, help="The folder.")
    ],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Delete a profile's folder, if it holds a profile and nothing else.

    Example:  fpcodec profiles remove old-profile --yes
    """
    from fpcodec.embedded import EMBEDDED, RECIPES, asset_folder
    from fpcodec.errors import InputError
    from fpcodec.profile_folder import files_to_remove, remove_folder

    if profile.resolve().is_relative_to(asset_folder().resolve()) or (
        not profile.exists() and str(profile) in (*EMBEDDED, *RECIPES)
    ):
        raise InputError(f"{profile} ships with fpcodec and stays; name a folder of your own")
    files = files_to_remove(profile)
    size = sum(file.stat().st_size for file in files)
    if not yes and not _wanted(f"Delete {profile}: {len(files)} files, {size:,} bytes?"):
        note(f"{profile}: kept")
        return
    remove_folder(profile, files)
    if as_json:
        print_json({"removed": str(profile), "files": len(files), "bytes": size})
    else:
        note(f"{profile}: removed, {len(files)} files, {size:,} bytes")


def _wanted(question: str) -> bool:
    """Ask; without an answer, as in a script, say which option it takes."""
    from fpcodec.errors import InputError

    try:
        return typer.confirm(question, err=True)
    except typer.Abort as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            raise
        raise InputError("nobody answers whether to delete it; give --yes") from error
