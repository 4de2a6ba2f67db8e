"""Frames of a video file that a visitor handed in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from fpcodec.detectors.base import Image
from fpcodec.errors import InputError, MissingDependency

MAX_CLIP_FRAMES = 300
"""Of a clip only its first frames can be chosen: one is found by decoding those before it."""

MAX_CLIP_PIXELS = 3840 * 2160

# A playlist, whatever its file is called, names other files and addresses for FFmpeg to open.
_OPTIONS = {
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi",
    "protocol_whitelist": "file",
}


def count_frames(path: Path) -> int:
    """Frames of a clip's video, MAX_CLIP_FRAMES at most; nothing is decoded.

    Raises:
        InputError: It is no video, or its frames are too large.
        MissingDependency: The ``video`` extra is not installed.
    """
    with _opened(path) as (container, stream):
        packets = (packet for packet in container.demux(stream) if packet.size)
        return max(1, sum(1 for _ in islice(packets, MAX_CLIP_FRAMES)))


def read_frame(path: Path, number: int) -> Image:
    """A frame, turned upright where the clip says how it was held; the last one for a late number.

    Args:
        path: Of the clip.
        number: Counted from 0.

    Raises:
        InputError: It is no video, its frames are too large, or it holds none.
        MissingDependency: The ``video`` extra is not installed.
    """
    last = None
    with _opened(path) as (container, stream):
        for frame in islice(container.decode(stream), number + 1):
            last = frame
        if last is None:
            raise InputError(f"{path}: holds no frame that can be shown; name another clip")
        turns = round(getattr(last, "rotation", 0) / 90) % 4
        return np.ascontiguousarray(np.rot90(last.to_ndarray(format="rgb24"), turns))


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """A clip and its video."""
    try:
        import av
    except ImportError as error:
        raise MissingDependency(
            "clips need PyAV; pip install 'fpcodec[video]', or use a picture"
        ) from error
    try:
        with av.open(str(path), options=_OPTIONS) as container:
            if not container.streams.video:
                raise InputError(f"{path}: holds no video; name another file")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            if stream.width * stream.height > MAX_CLIP_PIXELS:
                raise InputError(
                    f"{path}: {stream.width}x{stream.height} pixels is above the limit of "
                    f"{MAX_CLIP_PIXELS} a frame; scale it down"
                )
            yield container, stream
    except av.FFmpegError as error:
        raise InputError(
            f"{path}: cannot be read as video ({error.strerror or error}); is it whole?"
        ) from error
