"""Reading image files as the arrays that detectors take."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage
from PIL import UnidentifiedImageError

from fpcodec.detectors.base import Image
from fpcodec.errors import InputError
from fpcodec.pyramid import MAX_IMAGE_PIXELS, MAX_SIDE

_ORIENTATION = 0x0112
_TURNS = {
    2: PillowImage.Transpose.FLIP_LEFT_RIGHT,
    3: PillowImage.Transpose.ROTATE_180,
    4: PillowImage.Transpose.FLIP_TOP_BOTTOM,
    5: PillowImage.Transpose.TRANSPOSE,
    6: PillowImage.Transpose.ROTATE_270,
    7: PillowImage.Transpose.TRANSVERSE,
    8: PillowImage.Transpose.ROTATE_90,
}


def load_image(
    path: Path | str,
    max_pixels: int = MAX_IMAGE_PIXELS,
    formats: tuple[str, ...] | None = None,
) -> Image:
    """Read an image file.

    Args:
        path: Any format Pillow reads.
        max_pixels: Largest image; checked before its pixels are decoded.
        formats: Pillow's names of those that are read, for files of strangers; None for all.

    Returns:
        Shape (H, W, 3), uint8, RGB, turned upright where the file says how it was held.

    Raises:
        InputError: The file is absent, is not an image, is damaged, or is too large.
    """
    try:
        with warnings.catch_warnings():
            # Pillow warns of metadata it skips, and of large images by a limit of its own; what
            # matters here is checked below or raised.
            warnings.simplefilter("ignore")
            with PillowImage.open(path, formats=formats) as picture:
                _check_size(picture.size, path, max_pixels)
                upright = _rgb(_upright(picture), path)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except IsADirectoryError as error:
        raise InputError(f"{path} is a folder; name an image file in it") from error
    except UnidentifiedImageError as error:
        raise InputError(f"{path}: not an image file; use JPEG, PNG or WebP") from error
    except PillowImage.DecompressionBombError as error:
        raise InputError(
            f"{path}: above the limit of {max_pixels} pixels; scale it down"
        ) from error
    except InputError:
        raise
    except Exception as error:  # damaged bytes make Pillow's decoders raise nearly anything
        raise InputError(f"{path}: cannot be read as an image ({error}); is it whole?") from error
    return np.asarray(upright, np.uint8)


def _check_size(size: tuple[int, int], path: Path | str, max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels or max(width, height) > MAX_SIDE:
        raise InputError(f"{path}: {width}x{height} pixels is above the limit of {max_pixels} "
                         f"pixels and {MAX_SIDE} a side; scale it down")  # fmt: skip


def _upright(picture: PillowImage.Image) -> PillowImage.Image:
    """Turned as its metadata says; metadata that cannot be read turns nothing.

    Pillow's own ``exif_transpose`` also writes the metadata anew and fails on odd tags.
    """
    try:
        turn = _TURNS.get(picture.getexif().get(_ORIENTATION, 1))
    except Exception:
        turn = None
    return picture if turn is None else picture.transpose(turn)


def _rgb(picture: PillowImage.Image, path: Path | str) -> PillowImage.Image:
    if picture.mode.startswith("I;16"):
        # Pillow would clip 16 bits to 255 instead of scaling them.
        picture = PillowImage.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    elif picture.mode in ("I", "F"):
        raise InputError(f"{path}: 32-bit values have no fixed white; save it with 8 or 16 bits")
    return picture.convert("RGB")
