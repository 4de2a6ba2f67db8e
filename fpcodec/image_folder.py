"""Which pictures of a folder are used."""

from __future__ import annotations

import random
from pathlib import Path

from fpcodec.errors import InputError

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")


def choose_images(folder: Path, limit: int | None = None, seed: int = 0) -> list[Path]:
    """Up to ``limit`` image files of a folder, None for all; the same ones for the same seed.

    Raises:
        InputError: There is no such folder, or no image in it.
    """
    if folder.is_file():
        raise InputError(f"{folder} is a file; name the folder it lies in")
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; name a folder of images")
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_ENDINGS)
    if not found:
        raise InputError(f"{folder}: no image files ({', '.join(IMAGE_ENDINGS)}) in it")
    if limit is None or len(found) <= limit:
        return found
    return sorted(random.Random(seed).sample(found, limit))  # noqa: S311 (no secret)
