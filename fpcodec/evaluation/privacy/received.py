"""What an attacker at the server has of an image: the pyramid decoded from its frame."""

from __future__ import annotations

import numpy as np
from PIL import Image as PillowImage

from fpcodec.detectors.base import Image
from fpcodec.profile import Profile
from fpcodec.pyramid import ImageGeometry, Pyramid, PyramidSpec

GREY = 114
"""Of the padding around a picture in the network's input."""


class ReceivedPyramids:
    """From images to pyramids as the server holds them, by a real frame's bytes.

    Args:
        profile: The detector and its codec.
        quality: Of the frames, in [0, 1]; None for pyramids that were never coded.
        threads: Threads of the networks.
    """

    def __init__(self, profile: Profile, quality: float | None, threads: int | None = None) -> None:
        self.quality = quality
        self._detector = profile.open_detector("edge", threads)
        self._codec = profile.open_codec(threads)

    @property
    def spec(self) -> PyramidSpec:
        """The pyramids."""
        return self._detector.spec

    def extract(self, image: Image) -> Pyramid:
        """The pyramid that arrives; image shape (H, W, 3), uint8, RGB."""
        return self.receive(image)[0]

    def receive(self, image: Image) -> tuple[Pyramid, int | None]:
        """The pyramid that arrives, and the frame's bytes; None where nothing was coded."""
        pyramid = self._detector.extract(image)
        if self.quality is None:
            return pyramid, None
        frame = self._codec.encode(pyramid, self.quality)
        decoded = self._codec.decode(frame)
        return self._codec.reconstruct([decoded], [pyramid.geometry])[0], len(frame)


def network_picture(image: Image, geometry: ImageGeometry) -> Image:
    """The image as the network sees it: resized, on a grey canvas of the network's size.

    Args:
        image: Shape (H, W, 3), uint8, RGB.
        geometry: As the detector laid it.
    """
    canvas = PillowImage.new("RGB", geometry.network_size, (GREY, GREY, GREY))
    canvas.paste(PillowImage.fromarray(content_picture(image, geometry)), geometry.offset)
    return np.asarray(canvas, np.uint8)


def content_picture(image: Image, geometry: ImageGeometry) -> Image:
    """The image at the size that it has in the network's input."""
    content = PillowImage.fromarray(image)
    if content.size != geometry.content_size:
        content = content.resize(geometry.content_size, PillowImage.Resampling.BILINEAR)
    return np.asarray(content, np.uint8)


def content_of(picture: Image, geometry: ImageGeometry) -> Image:
    """The part of a picture at the network's size that is not padding."""
    (left, top), (width, height) = geometry.offset, geometry.content_size
    return picture[top : top + height, left : left + width]
