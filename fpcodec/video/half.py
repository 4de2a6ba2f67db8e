"""The edge's half of a camera's detector: image to frame, leaning on the frame before."""

from __future__ import annotations

import time
from collections.abc import Sequence

from fpcodec.bitstream import chunk_bytes
from fpcodec.detectors.base import Image
from fpcodec.profile import Profile
from fpcodec.split import DEFAULT_QUALITY, EncodedFrame
from fpcodec.video.config import VideoConfig
from fpcodec.video.encoder import VideoEncoder
from fpcodec.video.frame import is_inter


class VideoEdgeHalf:
    """As ``EdgeHalf``, for the images of one camera in their order.

    Args:
        profile: The codec and its detector.
        config: How bytes are spent; None for the defaults.
        threads: Threads of the network; None for the runtime's choice.
        providers: onnxruntime execution providers in order of preference.
    """

    def __init__(
        self,
        profile: Profile,
        config: VideoConfig | None = None,
        *,
        threads: int | None = None,
        providers: Sequence[str] = (),
    ) -> None:
        self.profile = profile
        self.detector = profile.open_detector("edge", threads, providers)
        self._encoder = VideoEncoder(profile.open_codec(threads, providers), config)

    def request_refresh(self) -> None:
        """Make the next frame one that stands for itself."""
        self._encoder.request_refresh()

    def encode(
        self,
        image: Image,
        *,
        quality: float | None = None,
        levels: Sequence[str] | None = None,
        max_bytes: int | None = None,
    ) -> EncodedFrame:
        """Turn the camera's next image into a frame; see ``EdgeHalf.encode``.

        Raises:
            InputError: The image, the quality, a level or the budget cannot be used.
        """
        if quality is None and max_bytes is None:
            quality = DEFAULT_QUALITY
        start = time.perf_counter()
        pyramid = self.detector.extract(image, levels)
        extracted = time.perf_counter()
        data = self._encoder.encode(pyramid, quality, levels, max_bytes=max_bytes)
        done = time.perf_counter()
        sizes = {} if is_inter(data) else chunk_bytes(data, self.profile.spec.names)
        timings = {"extract": 1e3 * (extracted - start), "encode": 1e3 * (done - extracted)}
        finest_first = dict(reversed(sizes.items()))
        return EncodedFrame(data, finest_first, timings, pyramid, self._encoder.quality)
