"""The server: answers coded pyramids with detections over gRPC."""

from fpcodec_server.admission import QueueLimits
from fpcodec_server.catalog import ServedProfile
from fpcodec_server.dispatcher import BatchLimits
from fpcodec_server.halves import Halves, InferenceHalf
from fpcodec_server.observer import Observer
from fpcodec_server.process import serve
from fpcodec_server.server import DEFAULT_LISTEN, CodecServer
from fpcodec_server.streams import StreamLimits

__all__ = [
    "DEFAULT_LISTEN",
    "BatchLimits",
    "CodecServer",
    "Halves",
    "InferenceHalf",
    "Observer",
    "QueueLimits",
    "ServedProfile",
    "StreamLimits",
    "serve",
]
