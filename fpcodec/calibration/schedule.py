"""What a wire quality means for ``pca``: steps by class, and where the classes begin."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

DISTINCT = 64
"""Qualities that differ: 4 of the wire's 256 share their steps, so that a step up is felt in
every image."""

# quality; coarse, middle and fine step in a level's root mean component deviations; the share of
# all positions that gets the middle step or better, and the fine one. Chosen for YOLOX-nano on
# COCO train photographs, by the AP against boxes drawn from its unsplit detections (each with its
# score as the probability, its corners jittered by 8 % of its size): where the head hardly
# responds nothing but the strongest components is worth a bit, elsewhere steps should differ
# little. Shares rather than scores, so that a detector with other scores spends alike.
_ANCHORS = (
    (0, 60.0, 5.5, 4.4, 0.066, 0.030),
    (64, 45.0, 3.6, 2.8, 0.080, 0.036),
    (112, 36.0, 2.5, 2.0, 0.095, 0.040),
    (144, 30.0, 2.0, 1.6, 0.105, 0.044),
    (176, 24.0, 1.5, 1.2, 0.123, 0.052),
    (208, 14.0, 1.0, 0.8, 0.174, 0.070),
    (236, 4.0, 0.6, 0.5, 0.318, 0.123),
    (255, 0.6, 0.4, 0.3, 0.572, 0.208),
)

RESPONSE_FLOOR = 1e-4
"""Added to a response before its logarithm, when the probe is fitted."""


def quality_schedule() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
    """Steps (256, 3) by class, coarse first, and the shares (256, 2) of positions above each."""
    anchors = np.asarray(_ANCHORS)
    block = 256 // DISTINCT
    quality = np.arange(256) // block * block * 255 / (256 - block)
    values = np.exp(
        [np.interp(quality, anchors[:, 0], np.log(column)) for column in anchors[:, 1:].T]
    )
    return values[:3].T.astype(np.float32), values[3:].T
