"""Fitting a codec to a detector from unlabelled images, in closed form."""

from __future__ import annotations

from fpcodec.calibration.calibrate import calibrate as calibrate

__all__ = ["calibrate"]
