"""Whether a recovered picture, or a pyramid, gives away which known picture it was made of."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage

from fpcodec.detectors.base import Image
from fpcodec.evaluation.privacy.similarity import luma
from fpcodec.pyramid import Pyramid

_SIDE = 32

Descriptors = npt.NDArray[np.float32]


def descriptor(picture: Image) -> Descriptors:
    """Luma at 32x32 without its mean, of length 1, shape (1024,); zeros for a flat picture."""
    small = PillowImage.fromarray(picture).resize((_SIDE, _SIDE), PillowImage.Resampling.BOX)
    values = luma(np.asarray(small, np.uint8)).ravel()
    values = values - values.mean()
    length = float(np.linalg.norm(values))
    # Rounding leaves a flat picture's values a little off zero: no direction to go by.
    return values / length if length > 1e-2 else np.zeros_like(values)


def pyramid_descriptor(pyramid: Pyramid) -> Descriptors:
    """All coded levels, each averaged to the grid of the coarsest, of length 1, shape (D,)."""
    levels = [pyramid.levels[name] for name in pyramid.spec.coded_names]
    rows, columns = levels[-1].shape[1:]
    parts = []
    for values in levels:
        # Where a level's sides are no multiples, its last rows or columns are left out.
        down, across = values.shape[1] // rows, values.shape[2] // columns
        whole = values[:, : rows * down, : columns * across]
        parts.append(whole.reshape(-1, rows, down, columns, across).mean((2, 4)).ravel())
    joined = np.concatenate(parts)
    return np.asarray(joined / max(float(np.linalg.norm(joined)), 1e-9), np.float32)


def centred(descriptors: Descriptors, mean: Descriptors) -> Descriptors:
    """Descriptors (N, D) less what all pictures share, (D,), of length 1."""
    left = descriptors - mean
    return np.asarray(
        left / np.maximum(np.linalg.norm(left, axis=1, keepdims=True), 1e-9), np.float32
    )


def rank_of_original(recovered: Descriptors, originals: Descriptors, own: int) -> float:
    """How many other pictures are liker to a recovered one than its own original: 0 is a find.

    Args:
        recovered: Shape (D,): of the recovered picture.
        originals: Shape (N, D): of all pictures it may be of.
        own: Which of them it is of.

    Returns:
        A whole number, or with a half for each picture that is as like as the original: then a
        guess decides.
    """
    likeness = originals @ recovered
    others = np.delete(likeness, own)
    return float((others > likeness[own]).sum() + 0.5 * (others == likeness[own]).sum())
