"""Whether a recovered picture gives away which of many known pictures it was made of."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage

from fpcodec.detectors.base import Image
from fpcodec.evaluation.privacy.similarity import luma

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
