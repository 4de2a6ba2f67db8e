"""The edge's half of a camera's detector: image to frame, leaning on the frame before."""

from __future__ import annotations

from collections.abc import Sequence

from fpcodec.profile import Profile
from fpcodec.pyramid import Pyramid
from fpcodec.split import EdgeHalf
from fpcodec.video.config import VideoConfig
from fpcodec.video.encoder import VideoEncoder
from fpcodec.video.frame import is_inter


class VideoEdgeHalf(EdgeHalf):
    """An ``EdgeHalf`` for the images of one camera, in their order.

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
        super().__init__(profile, threads=threads, providers=providers)
        self._encoder = VideoEncoder(self.codec, config)

    def request_refresh(self) -> None:
        """Make the next frame one that stands for itself."""
        self._encoder.request_refresh()

    def _code(
        self,
        pyramid: Pyramid,
        quality: float | None,
        levels: Sequence[str] | None,
        max_bytes: int | None,
    ) -> bytes:
        return self._encoder.encode(pyramid, quality, levels, max_bytes=max_bytes)

    def _described(self, data: bytes) -> tuple[dict[str, int], float]:
        # An inter frame has no chunks, and its quality is the stream's.
        return ({}, self._encoder.quality) if is_inter(data) else super()._described(data)
