"""Video: frames that lean on the one before, as integers, and the refresh frames between them."""

from fpcodec.video.config import VideoConfig as VideoConfig
from fpcodec.video.decoder import VideoDecoder as VideoDecoder
from fpcodec.video.encoder import VideoEncoder as VideoEncoder

__all__ = ["VideoConfig", "VideoDecoder", "VideoEncoder"]
