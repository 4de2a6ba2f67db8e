"""How like a picture is to another: error, structure, edges."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter, sobel

from fpcodec.detectors.base import Image
from fpcodec.errors import InputError
from fpcodec.explain.metrics import map_correlation

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_SIGMA, _RADIUS = 1.5, 5
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
MOST_DB = 99.0
"""What equal pictures are given as PSNR, which has no end."""

Floats = npt.NDArray[np.float32]


def luma(picture: Image) -> Floats:
    """Brightness, 0..255, shape (H, W)."""
    return np.asarray(picture.astype(np.float32) @ _LUMA, np.float32)


def psnr_db(picture: Image, original: Image) -> float:
    """Peak signal to noise ratio over all three channels, at most MOST_DB.

    Raises:
        InputError: The pictures differ in shape.
    """
    _check_alike(picture, original)
    error = np.mean((picture.astype(np.float32) - original.astype(np.float32)) ** 2)
    return MOST_DB if error == 0 else min(MOST_DB, 10 * math.log10(255**2 / float(error)))


def ssim(picture: Image, original: Image) -> float:
    """Structural similarity of luma, mean over the picture, at most 1.

    Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment: from error visibility to
    structural similarity", 2004: Gaussian windows of deviation 1.5.

    Raises:
        InputError: The pictures differ in shape.
    """
    _check_alike(picture, original)
    a, b = luma(picture), luma(original)
    mean_a, mean_b = _blurred(a), _blurred(b)
    variance_a = _blurred(a * a) - mean_a**2
    variance_b = _blurred(b * b) - mean_b**2
    covariance = _blurred(a * b) - mean_a * mean_b
    level = (2 * mean_a * mean_b + _C1) / (mean_a**2 + mean_b**2 + _C1)
    return float(np.mean(level * (2 * covariance + _C2) / (variance_a + variance_b + _C2)))


def edge_correlation(picture: Image, original: Image) -> float:
    """Correlation of the strength of luma's edges (Sobel) in both, -1..1; 0 where one has none.

    Raises:
        InputError: The pictures differ in shape.
    """
    _check_alike(picture, original)
    found = map_correlation(_edges(picture), _edges(original))
    return 0.0 if math.isnan(found) else found


def _edges(picture: Image) -> Floats:
    values = luma(picture)
    return np.asarray(np.hypot(sobel(values, 0), sobel(values, 1)), np.float32)


def _blurred(values: Floats) -> Floats:
    return np.asarray(gaussian_filter(values, _SIGMA, radius=_RADIUS), np.float32)


def _check_alike(picture: Image, original: Image) -> None:
    if picture.shape != original.shape:
        raise InputError(f"pictures of shapes {picture.shape} and {original.shape} cannot be "
                         "compared; resize one")  # fmt: skip
