"""The device: encodes images and asks a server what is in them."""

from fpcodec_edge.camera import Camera, CameraOptions
from fpcodec_edge.channel import ChannelSecurity
from fpcodec_edge.client import EdgeClient
from fpcodec_edge.outcomes import FrameOutcome, StreamOptions
from fpcodec_edge.pipeline import SplitClient, SplitReply
from fpcodec_edge.rate_control import RateController, RateTarget
from fpcodec_edge.replies import Agreement, InferReply
from fpcodec_edge.retry import RetryPolicy
from fpcodec_edge.sources import choose_source
from fpcodec_edge.spool import Spool
from fpcodec_edge.stream import StreamClient

__all__ = [
    "Agreement",
    "Camera",
    "CameraOptions",
    "ChannelSecurity",
    "EdgeClient",
    "FrameOutcome",
    "InferReply",
    "RateController",
    "RateTarget",
    "RetryPolicy",
    "SplitClient",
    "SplitReply",
    "Spool",
    "StreamClient",
    "StreamOptions",
    "choose_source",
]
