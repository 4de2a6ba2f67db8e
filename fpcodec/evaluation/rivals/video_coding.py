"""One still 10-bit picture through a video coder: x265 (HEVC) or SVT-AV1, by PyAV.

PyAV itself is BSD-3, but its wheels bundle FFmpeg with x264 and x265, which are GPL-2 or later:
who passes such a wheel on passes on GPL code. fpcodec neither bundles nor needs it; the extra
``video`` serves these measurements alone.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from fpcodec.errors import FormatError, InputError, MissingDependency

Frame = npt.NDArray[np.uint16]

QP_RANGES = {"x265": (0, 51), "svtav1": (1, 63)}
"""Codec to its least and greatest quantisation parameter."""

PRESETS = {"x265": "fast", "svtav1": "8"}

_NEUTRAL_CHROMA = 512


def encode_still(codec: str, frame: Frame, qp: int, preset: str | None = None) -> bytes:
    """Code one frame with a constant quantiser and one thread.

    Args:
        codec: ``x265``, in 4:0:0, or ``svtav1``, which has only 4:2:0: its chroma is constant.
        frame: Shape (H, W), uint16 in 0..1023; sides even, 64 or more.
        qp: In the codec's QP_RANGES; more is fewer bytes.
        preset: The coder's own; None for PRESETS'.

    Returns:
        All packets with their parameter sets: ``decode_still`` needs nothing else.

    Raises:
        InputError: The codec, the qp or the frame cannot be used.
        MissingDependency: PyAV is not installed, or lacks the coder.
    """
    _check(codec, frame, qp)
    options = _options(codec, qp, preset or PRESETS[codec])
    layout = "gray10le" if codec == "x265" else "yuv420p10le"
    context = open_coder(f"lib{codec}", "w")
    context.height, context.width = frame.shape
    context.pix_fmt = layout
    context.time_base, context.framerate = Fraction(1, 25), Fraction(25)
    context.options = dict(options)
    try:
        packets = [*context.encode(_video_frame(frame, layout)), *context.encode(None)]
    except load_av().error.FFmpegError as error:
        raise InputError(f"{codec} cannot code {frame.shape} at qp {qp}: {error}") from error
    return b"".join(bytes(packet) for packet in packets)


def decode_still(codec: str, data: bytes) -> Frame:
    """Read ``encode_still``'s bytes back.

    Returns:
        Shape (H, W), uint16: the luma.

    Raises:
        InputError: The codec is unknown.
        FormatError: The bytes do not hold exactly one 10-bit picture.
        MissingDependency: PyAV is not installed, or lacks the decoder.
    """
    if codec not in QP_RANGES:
        raise InputError(f"video codec {codec!r} is not one of {', '.join(QP_RANGES)}")
    context = open_coder({"x265": "hevc", "svtav1": "libdav1d"}[codec], "r")
    context.thread_count = 1
    frames: list[Any] = []
    try:
        for packet in [*context.parse(data), *context.parse(b"")]:
            frames += context.decode(packet)
        frames += context.decode(None)
    except load_av().error.FFmpegError as error:
        raise FormatError(f"{len(data)} bytes are not a {codec} picture: {error}") from error
    if len(frames) != 1 or frames[0].format.name not in ("gray10le", "yuv420p10le"):
        raise FormatError(f"{len(data)} bytes hold no single 10-bit {codec} picture")
    luma = frames[0].planes[0]
    rows = np.frombuffer(luma, np.uint16).reshape(luma.height, luma.line_size // 2)
    return np.array(rows[:, : luma.width], np.uint16)


def _check(codec: str, frame: Frame, qp: int) -> None:
    if codec not in QP_RANGES:
        raise InputError(f"video codec {codec!r} is not one of {', '.join(QP_RANGES)}")
    low, high = QP_RANGES[codec]
    if not low <= qp <= high:
        raise InputError(f"{codec} qp {qp} is not in {low}..{high}")
    if frame.ndim != 2 or min(frame.shape) < 64 or any(side % 2 for side in frame.shape):
        raise InputError(f"frame of shape {frame.shape} has a side that is odd or below 64; pad it")
    if frame.dtype != np.uint16 or frame.max() > 1023:
        raise InputError(f"frame is {frame.dtype} up to {frame.max()}; 10 bits are uint16 to 1023")


def _options(codec: str, qp: int, preset: str) -> Mapping[str, str]:
    if codec == "x265":
        # Without info=0 the coder's settings stand in every picture as text, two kilobytes.
        parameters = f"qp={qp}:keyint=1:info=0:log-level=none:pools=none:frame-threads=1"
        return {"preset": preset, "x265-params": parameters}
    return {"preset": preset, "g": "1", "svtav1-params": f"rc=0:aq-mode=0:qp={qp}:lp=1"}


def _video_frame(frame: Frame, layout: str) -> Any:
    height, width = frame.shape
    video = load_av().VideoFrame(width, height, layout)
    for index, plane in enumerate(video.planes):
        rows = np.full((plane.height, plane.line_size // 2), _NEUTRAL_CHROMA, "<u2")
        if index == 0:
            rows[:, :width] = frame
        plane.update(rows.tobytes())
    video.pts = 0
    return video


def open_coder(name: str, mode: str) -> Any:
    """A coder (``w``) or decoder (``r``) by its name in FFmpeg.

    Raises:
        MissingDependency: PyAV is not installed, or lacks it.
    """
    av = load_av()
    try:
        return av.CodecContext.create(name, mode)
    except (ValueError, av.error.FFmpegError) as error:
        raise MissingDependency(
            f"this PyAV has no {name}; install a wheel from PyPI: pip install 'fpcodec[video]'"
        ) from error


def load_av() -> Any:
    """PyAV, quiet.

    Raises:
        MissingDependency: It is not installed.
    """
    # SVT-AV1 writes its settings to stderr unless this is in the environment when it starts.
    os.environ.setdefault("SVT_LOG", "0")
    try:
        import av
    except ImportError as error:
        raise MissingDependency(
            "video coders need PyAV; install it: pip install 'fpcodec[video]'"
        ) from error
    return av
