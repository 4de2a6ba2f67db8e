"""Video: frames that lean on the one before, as integers, and the refresh frames between them."""

from fpcodec.video.config import VideoConfig as VideoConfig
from fpcodec.video.decoder import VideoDecoder as VideoDecoder
from fpcodec.video.encoder import VideoEncoder as VideoEncoder
from fpcodec.video.frame import is_inter as is_inter
from fpcodec.video.half import VideoEdgeHalf as VideoEdgeHalf

__all__ = ["VideoConfig", "VideoDecoder", "VideoEdgeHalf", "VideoEncoder", "is_inter"]
