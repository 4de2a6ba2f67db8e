"""The device: encodes images and asks a server what is in them."""

from fpcodec_edge.channel import ChannelSecurity
from fpcodec_edge.client import EdgeClient
from fpcodec_edge.pipeline import SplitClient, SplitReply
from fpcodec_edge.replies import Agreement, InferReply
from fpcodec_edge.retry import RetryPolicy

__all__ = [
    "Agreement",
    "ChannelSecurity",
    "EdgeClient",
    "InferReply",
    "RetryPolicy",
    "SplitClient",
    "SplitReply",
]
