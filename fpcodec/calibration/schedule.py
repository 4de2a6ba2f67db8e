"""What a wire quality means for ``pca``: steps by class, and where the classes begin."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

DISTINCT = 64
"""Qualities that differ: 4 of the wire's 256 share their steps, so that a step up is felt in
every image and more quality is never fewer bytes."""

# quality; the four classes' steps in a level's root mean component deviations, coarsest first; the
# predicted responses above which a position leaves each class. Chosen on COCO train photographs by
# how well YOLOX-nano's detections agree with its unsplit ones at equal bytes: a step that falls
# with the square root of the response loses least.
_ANCHORS = (
    (0, 60.0, 20.0, 8.0, 3.3, 0.03, 0.12, 0.50),
    (64, 44.0, 13.5, 5.5, 2.2, 0.02, 0.08, 0.40),
    (112, 30.0, 9.0, 3.7, 1.5, 0.014, 0.06, 0.33),
    (160, 18.0, 5.6, 2.4, 1.0, 0.009, 0.045, 0.28),
    (208, 7.0, 3.0, 1.4, 0.7, 0.004, 0.025, 0.20),
    (236, 2.2, 1.2, 0.7, 0.45, 0.001, 0.01, 0.10),
    (255, 0.6, 0.5, 0.4, 0.3, 0.0003, 0.003, 0.03),
)

RESPONSE_FLOOR = 1e-4
"""Added to a response before its logarithm, when the probe is fitted and when it is compared."""


def quality_schedule() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Steps (256, 4) by class, coarse first, and thresholds (256, 3) on the probe's log S."""
    anchors = np.asarray(_ANCHORS)
    block = 256 // DISTINCT
    quality = np.arange(256) // block * block * 255 / (256 - block)
    values = np.exp(
        [np.interp(quality, anchors[:, 0], np.log(column)) for column in anchors[:, 1:].T]
    )
    thresholds = np.log(values[4:].T + RESPONSE_FLOOR)
    return values[:4].T.astype(np.float32), thresholds.astype(np.float32)
