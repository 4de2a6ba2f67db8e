"""The device: encodes images and asks a server what is in them."""

from fpcodec_edge.client import EdgeClient
from fpcodec_edge.outcomes import FrameOutcome, StreamOptions
from fpcodec_edge.pipeline import SplitClient, SplitReply
from fpcodec_edge.replies import Agreement, InferReply
from fpcodec_edge.retry import RetryPolicy
from fpcodec_edge.stream import StreamClient

__all__ = [
    "Agreement",
    "EdgeClient",
    "FrameOutcome",
    "InferReply",
    "RetryPolicy",
    "SplitClient",
    "SplitReply",
    "StreamClient",
    "StreamOptions",
]
