"""Results as JSON lines, and as a video with the boxes drawn in."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from fpcodec.detections import Detections
from fpcodec.detectors.base import Image
from fpcodec.drawing import draw_detections
from fpcodec.errors import InputError, MissingDependency
from fpcodec_edge.accounts import Recorder

_TICKS_PER_S = 1000
_BITS_PER_PIXEL = 0.15
_TYPICAL_FPS = 25
_ENCODERS: dict[str, dict[str, str]] = {
    "libopenh264": {},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0"},
    "mpeg4": {},
}
"""Encoders with their options; the first that this PyAV has is used. None is under the GPL."""


class JsonLines:
    """Writes one JSON line per frame, whatever became of it.

    Args:
        file: Flushed after every line.
        labels: Class names.
    """

    def __init__(self, file: TextIO, labels: Sequence[str] = ()) -> None:
        self._file, self._labels = file, labels

    def sent(self, number: int, time_s: float, image: Image) -> None:
        """Nothing is written of it yet."""

    def answered(self, facts: Mapping[str, Any], detections: Detections) -> None:
        """See ``Recorder.answered``."""
        self._write({**facts, "detections": detections.to_dicts(self._labels)})

    def ended(self, facts: Mapping[str, Any]) -> None:
        """See ``Recorder.ended``."""
        self._write(facts)

    def _write(self, line: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(line, allow_nan=False) + "\n")
        self._file.flush()


@dataclass
class _Shown:
    time_s: float
    image: Image
    ended: bool = False
    detections: Detections | None = None


class DrawnVideo:
    """Writes the answered frames as a video, in order, with their boxes.

    Needs PyAV, the extra ``video``. Frames without an answer are left out; the others are shown
    when they were captured. Images wait in memory for their answer.

    Args:
        path: Its ending names the container: ``.mp4``, ``.mkv``.
        labels: Class names.

    Raises:
        InputError: The file cannot be written.
        MissingDependency: PyAV is not installed, or has no encoder.
    """

    def __init__(self, path: Path, labels: Sequence[str] = ()) -> None:
        self._path, self._labels = path, labels
        self._waiting: dict[int, _Shown] = {}
        self._stream: Any = None
        self._last_tick = -1
        self._av = _import_av()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._container = self._av.open(str(path), "w")
        except (OSError, ValueError) as error:
            raise InputError(
                f"{path}: cannot be written as video ({error}); name an .mp4 or .mkv file"
            ) from error

    def sent(self, number: int, time_s: float, image: Image) -> None:
        """See ``Recorder.sent``."""
        self._waiting[number] = _Shown(time_s, image)

    def answered(self, facts: Mapping[str, Any], detections: Detections) -> None:
        """See ``Recorder.answered``."""
        self._end(facts, detections)

    def ended(self, facts: Mapping[str, Any]) -> None:
        """See ``Recorder.ended``."""
        self._end(facts, None)

    def close(self) -> None:
        """Write what is complete and finish the file."""
        for shown in self._waiting.values():
            shown.ended = True
        self._write_ready()
        with suppress(self._av.FFmpegError, ValueError):
            if self._stream is not None:
                self._container.mux(self._stream.encode())
            self._container.close()

    def _end(self, facts: Mapping[str, Any], detections: Detections | None) -> None:
        shown = None if facts.get("from_spool") else self._waiting.get(facts.get("frame", -1))
        if shown is not None:
            shown.ended, shown.detections = True, detections
            self._write_ready()

    def _write_ready(self) -> None:
        while self._waiting:
            number, shown = next(iter(self._waiting.items()))
            if not shown.ended:
                return
            del self._waiting[number]
            if shown.detections is not None:
                self._write(shown, shown.detections)

    def _write(self, shown: _Shown, detections: Detections) -> None:
        # 4:2:0 wants even sides.
        height, width = (side - side % 2 for side in shown.image.shape[:2])
        if self._stream is None:
            self._stream = self._open_stream(width, height)
        if (self._stream.width, self._stream.height) != (width, height):
            return  # Another image's size: a video has one.
        drawn = np.asarray(draw_detections(shown.image, detections, self._labels))
        frame = self._av.VideoFrame.from_ndarray(
            np.ascontiguousarray(drawn[:height, :width]), format="rgb24"
        )
        self._last_tick = max(self._last_tick + 1, round(shown.time_s * _TICKS_PER_S))
        frame.pts, frame.time_base = self._last_tick, Fraction(1, _TICKS_PER_S)
        try:
            self._container.mux(self._stream.encode(frame))
        except (self._av.FFmpegError, ValueError) as error:
            raise InputError(
                f"{self._path}: cannot be written ({error}); leave the video out"
            ) from error

    def _open_stream(self, width: int, height: int) -> Any:
        for name, options in _ENCODERS.items():
            try:
                stream = self._container.add_stream(name, rate=_TYPICAL_FPS, options=options)
            except (self._av.FFmpegError, ValueError):
                continue
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.time_base = stream.codec_context.time_base = Fraction(1, _TICKS_PER_S)
            stream.bit_rate = int(width * height * _BITS_PER_PIXEL * _TYPICAL_FPS)
            return stream
        raise MissingDependency(
            f"this PyAV has none of {', '.join(_ENCODERS)}; install a wheel from PyPI: "
            "pip install 'fpcodec[video]'"
        )


class Recorders:
    """Several recorders as one."""

    def __init__(self, *recorders: Recorder) -> None:
        self._recorders = recorders

    def sent(self, number: int, time_s: float, image: Image) -> None:
        """See ``Recorder.sent``."""
        for recorder in self._recorders:
            recorder.sent(number, time_s, image)

    def answered(self, facts: Mapping[str, Any], detections: Detections) -> None:
        """See ``Recorder.answered``."""
        for recorder in self._recorders:
            recorder.answered(facts, detections)

    def ended(self, facts: Mapping[str, Any]) -> None:
        """See ``Recorder.ended``."""
        for recorder in self._recorders:
            recorder.ended(facts)


def _import_av() -> Any:
    try:
        import av
    except ImportError as error:
        raise MissingDependency(
            "a drawn video needs PyAV; run: pip install 'fpcodec[video]' (PyAV is BSD, but its "
            "wheels carry encoders under the GPL)"
        ) from error
    return av
