"""Reading image files as the arrays that detectors take."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageOps, UnidentifiedImageError

from fpcodec.detectors.base import Image
from fpcodec.errors import InputError
from fpcodec.pyramid import MAX_SIDE

MAX_PIXELS = 64_000_000


def load_image(path: Path | str, max_pixels: int = MAX_PIXELS) -> Image:
    """Read an image file.

    Args:
        path: Any format Pillow reads.
        max_pixels: Largest image; checked before its pixels are decoded.

    Returns:
        Shape (H, W, 3), uint8, RGB, turned upright where the file says how it was held.

    Raises:
        InputError: The file is absent, is not an image, is damaged, or is too large.
    """
    try:
        with warnings.catch_warnings():
            # Pillow warns of large images by a limit of its own; ours is checked below.
            warnings.simplefilter("ignore", PillowImage.DecompressionBombWarning)
            with PillowImage.open(path) as picture:
                width, height = picture.size
                if width * height > max_pixels or max(width, height) > MAX_SIDE:
                    raise InputError(
                        f"{path}: {width}x{height} pixels is above the limit of {max_pixels} "
                        f"pixels and {MAX_SIDE} a side; scale it down"
                    )
                upright = ImageOps.exif_transpose(picture).convert("RGB")
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except UnidentifiedImageError as error:
        raise InputError(f"{path}: not an image file; use JPEG, PNG or WebP") from error
    except PillowImage.DecompressionBombError as error:
        raise InputError(
            f"{path}: above the limit of {max_pixels} pixels; scale it down"
        ) from error
    except (OSError, SyntaxError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: cannot be read as an image ({error}); is it whole?") from error
    return np.asarray(upright, np.uint8)
