"""What a wire quality means for ``pca``: steps by class, and where the classes begin."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

DISTINCT = 64
"""Qualities that differ: 4 of the wire's 256 share their steps, so that a step up is felt in
every image and more quality is never fewer bytes."""

# quality; coarse, middle and fine step in a level's root mean component deviations; the predicted
# responses above which a position is coded with the middle and with the fine step. Chosen for
# YOLOX-nano on COCO train photographs, by the AP against boxes drawn from its unsplit detections
# (each with its score as the probability, its corners jittered by 8 % of its size): where the
# head hardly responds nothing but the strongest components is worth a bit, elsewhere steps
# should differ little.
_ANCHORS = (
    (0, 60.0, 5.5, 4.4, 0.09, 0.40),
    (64, 45.0, 3.6, 2.8, 0.06, 0.30),
    (112, 36.0, 2.5, 2.0, 0.04, 0.25),
    (144, 30.0, 2.0, 1.6, 0.03, 0.20),
    (176, 24.0, 1.5, 1.2, 0.02, 0.15),
    (208, 14.0, 1.0, 0.8, 0.008, 0.08),
    (236, 4.0, 0.6, 0.5, 0.0015, 0.02),
    (255, 0.6, 0.4, 0.3, 0.0003, 0.003),
)

RESPONSE_FLOOR = 1e-4
"""Added to a response before its logarithm, when the probe is fitted and when it is compared."""


def quality_schedule() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Steps (256, 3) by class, coarse first, and thresholds (256, 2) on the probe's log S."""
    anchors = np.asarray(_ANCHORS)
    block = 256 // DISTINCT
    quality = np.arange(256) // block * block * 255 / (256 - block)
    values = np.exp(
        [np.interp(quality, anchors[:, 0], np.log(column)) for column in anchors[:, 1:].T]
    )
    thresholds = np.log(values[3:].T + RESPONSE_FLOOR)
    return values[:3].T.astype(np.float32), thresholds.astype(np.float32)
