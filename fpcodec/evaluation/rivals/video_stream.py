"""Pictures of a camera through x264, x265 or SVT-AV1 at low delay, by PyAV.

Low delay: no B-frames, no look-ahead, every picture leaves the coder before the next comes in, as a
camera that wants answers now must do. See ``video_coding`` for what PyAV's wheels bundle.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from PIL import Image as PillowImage

from fpcodec.detectors.base import Image
from fpcodec.errors import FormatError, InputError
from fpcodec.evaluation.rivals.video_coding import load_av, open_coder

PRESETS = {"x264": "slow", "x265": "slow", "svtav1": "6"}
"""Slower than a camera's hardware can do: what they cost here is their best."""

_DECODERS = {"x264": "h264", "x265": "hevc", "svtav1": "libdav1d"}
_TICKS = 1000


@dataclass(frozen=True)
class StreamSetting:
    """How a stream is coded.

    Attributes:
        codec: One of PRESETS.
        crf: The coder's constant rate factor; more is fewer bytes.
        rate: Pictures per second, which the coders take into account.
        refresh: Pictures from one key picture to the next.
        preset: The coder's own; empty for PRESETS'.
    """

    codec: str
    crf: int
    rate: float
    refresh: int
    preset: str = ""

    def __post_init__(self) -> None:
        if self.codec not in PRESETS:
            raise InputError(f"video codec {self.codec!r} is not one of {', '.join(PRESETS)}")
        if not (0 <= self.crf <= 63 and self.rate > 0 and self.refresh >= 1):
            raise InputError(f"crf {self.crf}, rate {self.rate} or refresh {self.refresh} is out "
                             "of range; use 0..63, more than 0, at least 1")  # fmt: skip


def encode_stream(pictures: Iterable[Image], setting: StreamSetting) -> list[bytes]:
    """Code pictures one by one, on one thread.

    Args:
        pictures: Shape (H, W, 3), uint8, RGB; sides even, all of one size.
        setting: How.

    Returns:
        Per picture its bytes, parameter sets included, without a container.

    Raises:
        InputError: The pictures cannot be coded so, or the coder held one back.
        MissingDependency: PyAV is not installed, or lacks the coder.
    """
    av = load_av()
    coder, out = None, []
    for index, picture in enumerate(pictures):
        height, width = picture.shape[:2]
        if coder is None:
            coder = _open(setting, (width, height))
        frame = _to_frame(picture)
        frame.pts, frame.time_base = index, coder.time_base
        try:
            packets = list(coder.encode(frame))
        except av.error.FFmpegError as error:
            raise InputError(f"{setting.codec} cannot code {width}x{height}: {error}") from error
        if len(packets) != 1:
            raise InputError(f"{setting.codec} gave {len(packets)} packets for picture {index}; "
                             "low delay is one for each")  # fmt: skip
        out.append(bytes(packets[0]))
    if coder is not None and list(coder.encode(None)):
        raise InputError(f"{setting.codec} held pictures back; low delay holds none")
    return out


def decode_stream(packets: Iterable[bytes], setting: StreamSetting) -> list[Image]:
    """Read ``encode_stream``'s packets back.

    Returns:
        Per picture shape (H, W, 3), uint8, RGB.

    Raises:
        FormatError: The packets are not the coder's.
        MissingDependency: PyAV is not installed, or lacks the decoder.
    """
    av = load_av()
    decoder = open_coder(_DECODERS[setting.codec], "r")
    decoder.thread_count = 1
    frames: list[Any] = []
    count = 0
    try:
        for packet in packets:
            count += 1
            frames += decoder.decode(av.Packet(packet))
        frames += decoder.decode(None)
    except av.error.FFmpegError as error:
        raise FormatError(f"packet {count} is no {setting.codec} picture: {error}") from error
    if len(frames) != count:
        raise FormatError(f"{count} packets gave {len(frames)} pictures")
    return [_to_picture(frame) for frame in frames]


# FFmpeg's own conversion and Pillow's both darken pictures by about a grey level, which detectors
# notice: these round.
_FROM_RGB = np.array(
    [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], np.float32
)
_TO_RGB = np.array([[1, 0, 1.402], [1, -0.344136, -0.714136], [1, 1.772, 0]], np.float32)
_MIDDLE = 128


def _to_frame(picture: Image) -> Any:
    """4:2:0 in the full range of 8 bits, its chroma averaged over two by two pixels."""
    height, width = picture.shape[:2]
    values = picture.astype(np.float32) @ _FROM_RGB.T
    chroma = values[..., 1:].reshape(height // 2, 2, width // 2, 2, 2).mean(axis=(1, 3)) + _MIDDLE
    frame = load_av().VideoFrame(width, height, "yuv420p")
    planes = (values[..., 0], chroma[..., 0], chroma[..., 1])
    for plane, part in zip(frame.planes, planes, strict=True):
        rows = np.zeros((plane.height, plane.line_size), np.uint8)
        rows[:, : plane.width] = np.clip(np.rint(part), 0, 255)
        plane.update(rows.tobytes())
    return frame


def _to_picture(frame: Any) -> Image:
    size, planes = (frame.width, frame.height), []
    for index, plane in enumerate(frame.planes):
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
        values = rows[: plane.height, : plane.width].astype(np.float32) - _MIDDLE * (index > 0)
        image = PillowImage.fromarray(values).resize(size, PillowImage.Resampling.BILINEAR)
        planes.append(np.asarray(image))
    rgb = np.stack(planes, axis=-1) @ _TO_RGB.T
    return np.asarray(np.clip(np.rint(rgb), 0, 255), np.uint8)


def _open(setting: StreamSetting, size: tuple[int, int]) -> Any:
    context = open_coder(f"lib{setting.codec}", "w")
    context.width, context.height = size
    context.pix_fmt = "yuv420p"
    context.framerate = Fraction(round(setting.rate * _TICKS), _TICKS)
    context.time_base = 1 / context.framerate
    context.thread_count = 1
    context.options = dict(_options(setting))
    return context


def _options(setting: StreamSetting) -> Mapping[str, str]:
    preset, key = setting.preset or PRESETS[setting.codec], setting.refresh
    common = {"preset": preset, "crf": str(setting.crf)}
    if setting.codec == "svtav1":
        # pred-struct 1 is low delay: no picture waits for a later one.
        return common | {"g": str(key), "svtav1-params": "pred-struct=1:lookahead=0:scd=0:lp=1"}
    keys = f"keyint={key}:min-keyint={key}:scenecut=0"
    if setting.codec == "x264":
        extra = {"x264-params": f"{keys}:threads=1:sliced-threads=0"}
    else:
        # Without info=0 the coder's settings stand in the first picture as text.
        quiet = "info=0:log-level=none:pools=none:frame-threads=1:repeat-headers=1"
        extra = {"x265-params": f"{keys}:{quiet}"}
    return common | {"tune": "zerolatency"} | extra
