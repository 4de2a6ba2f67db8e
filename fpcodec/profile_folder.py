"""The files of a profile's folder: their names, whether they are whole, and replacing them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy.typing as npt

from fpcodec.embedded import EMBEDDED
from fpcodec.errors import InputError, ProfileError
from fpcodec.files import file_sha256

FORMAT_VERSION = 1
MANIFEST = "profile.json"
TENSORS = "codec.safetensors"
RATES_FOLDER = "rates"
"""Where a profile keeps its own measured rows, if ``fpcodec bench rd`` measured into there."""

_RATES_PARTS = ("rows.json", "draws.npz", "shards")


def require_free(folder: Path, *, replace: bool = True) -> None:
    """Find out whether a profile may be written to a folder, before the work of making it.

    Args:
        folder: Where to.
        replace: Whether a profile there may be replaced.

    Raises:
        InputError: Something that is not a profile is in the way, or a profile that is to stay,
            or the folder cannot be made.
    """
    if not replace and (folder / MANIFEST).exists() and _mayreplace_folder(folder):
        raise InputError(f"{folder} is a profile already; give --replace, or another --out")
    folder = folder.resolve()
    if not _mayreplace_folder(folder):
        raise InputError(f"{folder} exists and is not a profile; choose another folder")
    above = next(x for x in folder.parents if x.exists())
    if not above.is_dir():
        raise InputError(f"{above} is a file, so {folder} cannot be made; choose another folder")
    if not os.access(above, os.W_OK):
        raise InputError(f"{above} cannot be written to; choose another folder")


def replace_folder(folder: Path, scratch: Path, old: Path) -> None:
    """Put ``scratch`` in the place of ``folder``; where that fails, leave what was there."""
    try:
        if folder.exists():
            folder.rename(old)
        scratch.rename(folder)
    except OSError as error:
        if old.exists() and not folder.exists():
            old.rename(folder)
        raise InputError(f"{folder} cannot be replaced ({error}); choose another folder") from error


def _mayreplace_folder(folder: Path) -> bool:
    """Whether there is nothing, an empty folder, or a profile of any release."""
    if not folder.is_dir():
        return not folder.exists()
    if not any(folder.iterdir()):
        return True
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError):
        return False
    # Other programs have a profile.json too, perhaps beside somebody's work.
    return _is_manifest(manifest)


def _is_manifest(data: Any) -> bool:
    known = {"stream_id", "codec_id", "files"}
    return isinstance(data, dict) and known <= set(data) and isinstance(data["files"], dict)


def check_files(folder: Path, *, skip_absent: bool = False) -> None:
    """Check every file that the manifest names; see ``Profile.verify``."""
    for name, expected in read_manifest(folder)["files"].items():
        file = folder / name
        if not file.is_file():
            if skip_absent:
                continue
            raise ProfileError(f"{file} is missing; copy the profile again")
        if file_sha256(file) != expected:
            raise ProfileError(f"{file} was changed since the profile was written; copy it again")


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read ``profile.json``.

    Raises:
        ProfileError: It is absent, damaged or of an unknown format version.
    """
    path = folder / MANIFEST
    if folder.is_file():
        raise ProfileError(f"{folder} is a file; name the folder that fpcodec calibrate wrote")
    if not folder.exists():
        raise ProfileError(f"{folder}: no such folder; make one with fpcodec calibrate, or name "
                           f"an embedded profile: {', '.join(EMBEDDED)}")  # fmt: skip
    if not path.is_file():
        raise ProfileError(f"{folder} is not a profile: it has no {MANIFEST}; "
                           "make one with fpcodec calibrate")  # fmt: skip
    try:
        manifest = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise ProfileError(f"{path} is not JSON ({error}); copy the profile again") from error
    if not isinstance(manifest, dict):
        raise ProfileError(f"{path} is not a manifest; copy the profile again")
    if manifest.get("format_version") != FORMAT_VERSION:
        raise ProfileError(f"{path}: format version {manifest.get('format_version')} is unknown; "
                           f"this release reads {FORMAT_VERSION}")  # fmt: skip
    return manifest


def load_tensors(path: Path, expected: str) -> dict[str, npt.NDArray[Any]]:
    """Read a safetensors file whose SHA-256 is known.

    Raises:
        ProfileError: It is absent, changed or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    if not path.is_file():
        raise ProfileError(f"{path} is missing; copy the profile again")
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != expected:
        raise ProfileError(f"{path} was changed since the profile was written; copy it again")
    try:
        return dict(load(data))
    except SafetensorError as error:
        raise ProfileError(f"{path} is not a safetensors file ({error})") from error


def files_to_remove(folder: Path) -> list[Path]:
    """The files of a folder that holds a profile, perhaps its rates, and nothing else.

    Raises:
        InputError: It is a link, or holds something besides.
        ProfileError: It is no profile.
    """
    manifest = read_manifest(folder)
    if folder.is_symlink():
        raise InputError(f"{folder} is a link to {folder.resolve()}; name that folder")
    if not _is_manifest(manifest):
        raise ProfileError(f"{folder / MANIFEST} is not a profile's; delete the folder by hand")
    own = {MANIFEST, *manifest["files"]}
    files = sorted(folder.iterdir())
    others = [x.name for x in files if x.name not in own or not x.is_file()]
    rates = folder / RATES_FOLDER
    if rates.is_dir() and not rates.is_symlink():
        parts = sorted(rates.iterdir())
        others.remove(RATES_FOLDER)
        others += [f"{RATES_FOLDER}/{x.name}" for x in parts if x.name not in _RATES_PARTS]
    if others:
        raise InputError(f"{folder} holds {', '.join(others[:3])} besides the profile; move it "
                         "away, or delete the folder by hand")  # fmt: skip
    return [x for x in files if x != rates] + sorted(x for x in rates.rglob("*") if x.is_file())


def remove_folder(folder: Path, files: Iterable[Path]) -> None:
    """Delete a profile; an end in between leaves no folder that looks like one.

    Args:
        folder: The profile's.
        files: As ``files_to_remove`` gave them.
    """
    for file in sorted(files, key=lambda x: x.name != MANIFEST):
        file.unlink()
    if (folder / RATES_FOLDER).exists():
        shutil.rmtree(folder / RATES_FOLDER)
    folder.rmdir()
