"""The server: answers coded pyramids with detections over gRPC."""

from fpcodec_server.process import serve
from fpcodec_server.server import DEFAULT_LISTEN, CodecServer
from fpcodec_server.service import InferenceHalf, ServedProfile

__all__ = ["DEFAULT_LISTEN", "CodecServer", "InferenceHalf", "ServedProfile", "serve"]
