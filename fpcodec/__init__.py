"""fpcodec: split object detection over slow links.

The edge runs a detector's backbone and pyramid and sends the pyramid in a few kilobytes; the
server recovers what was not sent, runs the head and answers with detections.

Names are loaded on first use: ``import fpcodec`` brings neither onnxruntime nor gRPC nor torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fpcodec.calibration.calibrate import calibrate as calibrate
    from fpcodec.codecs.base import Codec as Codec
    from fpcodec.codecs.base import Decoded as Decoded
    from fpcodec.codecs.base import Limits as Limits
    from fpcodec.detections import Detections as Detections
    from fpcodec.detectors.base import Detector as Detector
    from fpcodec.detectors.factory import open_detector as open_detector
    from fpcodec.errors import FormatError as FormatError
    from fpcodec.errors import FpcodecError as FpcodecError
    from fpcodec.errors import InputError as InputError
    from fpcodec.errors import ModelError as ModelError
    from fpcodec.errors import ProfileError as ProfileError
    from fpcodec.errors import TransportError as TransportError
    from fpcodec.images import load_image as load_image
    from fpcodec.profile import Profile as Profile
    from fpcodec.profile import embedded_profile_path as embedded_profile_path
    from fpcodec.pyramid import ImageGeometry as ImageGeometry
    from fpcodec.pyramid import LevelSpec as LevelSpec
    from fpcodec.pyramid import Pyramid as Pyramid
    from fpcodec.pyramid import PyramidSpec as PyramidSpec
    from fpcodec.split import EdgeHalf as EdgeHalf
    from fpcodec.split import EncodedFrame as EncodedFrame
    from fpcodec.split import ServerAnswer as ServerAnswer
    from fpcodec.split import ServerHalf as ServerHalf

__version__ = "0.1.0"

_HOME = {
    "Codec": "codecs.base",
    "Decoded": "codecs.base",
    "Detections": "detections",
    "Detector": "detectors.base",
    "EdgeHalf": "split",
    "EncodedFrame": "split",
    "FormatError": "errors",
    "FpcodecError": "errors",
    "ImageGeometry": "pyramid",
    "InputError": "errors",
    "LevelSpec": "pyramid",
    "Limits": "codecs.base",
    "ModelError": "errors",
    "Profile": "profile",
    "ProfileError": "errors",
    "Pyramid": "pyramid",
    "PyramidSpec": "pyramid",
    "ServerAnswer": "split",
    "ServerHalf": "split",
    "TransportError": "errors",
    "calibrate": "calibration.calibrate",
    "embedded_profile_path": "profile",
    "load_image": "images",
    "open_detector": "detectors.factory",
}

__all__ = [*sorted(_HOME), "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'fpcodec' has no attribute {name!r}")
    value = getattr(import_module(f"fpcodec.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
