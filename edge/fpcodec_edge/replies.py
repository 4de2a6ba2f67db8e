"""The wire's answers as Python values."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from fpcodec.codecs.base import Limits
from fpcodec.detections import MAX_MASK_VALUES, Detections
from fpcodec.errors import LimitExceeded, ProfileMismatch, TransportError, UnsupportedVersion
from fpcodec.v1 import codec_pb2


@dataclass(frozen=True)
class Agreement:
    """What a negotiation came to.

    Attributes:
        stream_id: The stream to send.
        frame_version: The frame version to send.
        limits: What the server accepts.
        labels: Class names; may be empty.
        profile_name: The server's profile.
        server_version: The server's release.
    """

    stream_id: bytes
    frame_version: int
    limits: Limits
    labels: tuple[str, ...]
    profile_name: str
    server_version: str


@dataclass(frozen=True)
class InferReply:
    """What the server found in one frame.

    Attributes:
        request_id: The request's.
        detections: In pixels of the original image.
        levels_used: Levels that came out of the frame.
        levels_recovered: Levels that the server predicted.
        levels_ignored: Level name to the reason why it arrived in vain.
        timings_ms: The server's milliseconds for ``queue``, ``decode``, ``reconstruct``, ``head``.
        round_trip_ms: Milliseconds from call to answer, retries included.
    """

    request_id: str
    detections: Detections
    levels_used: tuple[str, ...]
    levels_recovered: tuple[str, ...]
    levels_ignored: Mapping[str, str]
    timings_ms: Mapping[str, float]
    round_trip_ms: float


def to_agreement(response: codec_pb2.NegotiateResponse, address: str) -> Agreement:
    """Read a negotiation.

    Raises:
        ProfileMismatch: The server has another profile.
        UnsupportedVersion: The server reads other frame versions.
    """
    if response.outcome == codec_pb2.NEGOTIATION_OUTCOME_UNSUPPORTED_VERSION:
        versions = ", ".join(map(str, response.served_frame_versions))
        raise UnsupportedVersion(
            f"the server at {address} ({response.server_version}) reads frame version "
            f"{versions} only; upgrade the older side"
        )
    if response.outcome != codec_pb2.NEGOTIATION_OUTCOME_ACCEPTED:
        served = ", ".join(stream.hex()[:12] for stream in response.served_stream_ids)
        raise ProfileMismatch(
            f"the server at {address} serves profile {response.profile_name!r} (stream {served}), "
            "not this one; deploy the same profile on both sides"
        )
    limits = response.limits
    return Agreement(
        response.stream_id,
        response.frame_version,
        Limits(
            max_frame_bytes=limits.max_frame_bytes,
            max_image_pixels=limits.max_image_pixels,
            max_network_pixels=limits.max_network_pixels,
            max_elements=limits.max_elements,
        ),
        tuple(response.labels),
        response.profile_name,
        response.server_version,
    )


def require_fits(frame: bytes, max_frame_bytes: int, address: str) -> None:
    """Check a frame against what a server takes, before it crosses the link.

    Raises:
        LimitExceeded: It is longer.
    """
    if len(frame) > max_frame_bytes:
        raise LimitExceeded(
            f"the frame has {len(frame)} bytes, the limit of {address} is {max_frame_bytes}; send "
            "fewer levels or a lower quality"
        )


def to_reply(response: codec_pb2.InferResponse, round_trip_ms: float) -> InferReply:
    """Read an answer.

    Raises:
        TransportError: A mask cannot be read.
    """
    found = response.detections
    times = response.timings
    return InferReply(
        response.request_id,
        Detections(
            np.array([(d.x1, d.y1, d.x2, d.y2) for d in found], np.float32).reshape(-1, 4),
            np.array([d.score for d in found], np.float32),
            np.array([d.label for d in found], np.int64),
            _to_masks(response) if response.HasField("image_size") else None,
        ),
        tuple(response.levels_used),
        tuple(response.levels_recovered),
        {level.name: level.reason for level in response.levels_ignored},
        {
            "queue": times.queue_ms,
            "decode": times.decode_ms,
            "reconstruct": times.reconstruct_ms,
            "head": times.head_ms,
        },
        round_trip_ms,
    )


def _to_masks(response: codec_pb2.InferResponse) -> npt.NDArray[np.bool_]:
    width, height = response.image_size.width, response.image_size.height
    count = len(response.detections)
    if count * width * height > MAX_MASK_VALUES:
        raise TransportError(
            f"the answer's {count} masks of {width}x{height} pixels are above the limit of "
            f"{MAX_MASK_VALUES} pixels in all; send a smaller image"
        )
    masks = np.zeros((count, height, width), np.bool_)
    for i, detection in enumerate(response.detections):
        mask = detection.mask
        if mask.png:
            crop = _read_mask(mask.png, width - mask.left, height - mask.top)
            rows, columns = crop.shape
            masks[i, mask.top : mask.top + rows, mask.left : mask.left + columns] = crop
    return masks


def _read_mask(png: bytes, max_width: int, max_height: int) -> npt.NDArray[np.bool_]:
    try:
        with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
            # Checked on the header, before any pixel is unpacked.
            if image.mode != "1" or image.width > max_width or image.height > max_height:
                raise TransportError(
                    f"the answer holds a mask of {image.width}x{image.height} pixels in mode "
                    f"{image.mode!r}, not a bitmap inside the image; check the server's release"
                )
            return np.asarray(image, np.bool_)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise TransportError(
            f"the answer holds a mask that is no PNG ({error}); check the server's release"
        ) from error
