"""Where images come from: folders, video files, cameras, streams."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from fpcodec.detectors.base import Image
from fpcodec.errors import FpcodecError, InputError, MissingDependency
from fpcodec.images import load_image
from fpcodec_edge.retry import RetryPolicy

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
DEVICE = re.compile(r"/dev/video[0-9]+", re.ASCII)
URL = re.compile(r"(rtsps?|https?|tcp|udp|srt)://.+", re.ASCII | re.IGNORECASE)

_OPEN_S, _READ_S = 10.0, 10.0


@dataclass(frozen=True)
class SourceImage:
    """One image of a source.

    Attributes:
        number: Counts from 0.
        name: The file's, or the source's with the number.
        time_s: When it is shown, in seconds from the source's beginning.
        image: Shape (H, W, 3), uint8, RGB; None where it cannot be used.
        error: Why there is no image.
    """

    number: int
    name: str
    time_s: float
    image: Image | None
    error: FpcodecError | None = None


class Source(Protocol):
    """Images in order.

    Attributes:
        is_live: Whether images come by themselves, whoever waits, and are lost where nobody does.
    """

    is_live: bool

    def __iter__(self) -> Iterator[SourceImage]:
        """Read from the beginning.

        Raises:
            InputError: The source cannot be opened, or ends where it should not.
            MissingDependency: It needs the ``video`` extra.
        """


class ImageFiles:
    """Image files, one after the other.

    Args:
        paths: In the order in which they are shown.
        fps: Images per second of ``time_s``.
    """

    is_live = False

    def __init__(self, paths: list[Path], fps: float = 10.0) -> None:
        self._paths, self._fps = paths, fps

    def __iter__(self) -> Iterator[SourceImage]:
        for number, path in enumerate(self._paths):
            image, error = None, None
            try:
                image = load_image(path)
            except InputError as unread:
                error = unread
            yield SourceImage(number, path.name, number / self._fps, image, error)


class Video:
    """A video file, a camera or a network stream, decoded by FFmpeg.

    Needs PyAV, the extra ``video``. PyAV is BSD-3-Clause; the FFmpeg in its wheels is built with
    x264 and x265, which makes them subject to the GPL.

    Args:
        location: A path, ``/dev/video0``, or a URL such as ``rtsp://camera/stream``.
    """

    def __init__(self, location: str) -> None:
        self._location = location
        self._name = Path(location).name if URL.fullmatch(location) is None else _hide(location)
        self.is_live = DEVICE.fullmatch(location) is not None or URL.fullmatch(location) is not None

    def __iter__(self) -> Iterator[SourceImage]:
        av = _import_av()
        try:
            with av.open(self._location, **self._options()) as container:
                yield from self._images(container)
        except av.FFmpegError as error:
            raise InputError(
                f"{self._name}: cannot be read as video ({error.strerror or error}); "
                "name a video file, /dev/videoN, or an rtsp:// address that plays elsewhere"
            ) from error

    def _images(self, container: Any) -> Iterator[SourceImage]:
        if not container.streams.video:
            raise InputError(f"{self._name}: holds no video; name another file")
        stream = container.streams.video[0]
        # Several threads add as many frames of delay, which a camera should not have.
        stream.thread_type = "SLICE" if self.is_live else "AUTO"
        begun_s: float | None = None
        for number, frame in enumerate(container.decode(stream)):
            shown_s = frame.time if frame.time is not None else 0.0
            begun_s = shown_s if begun_s is None else begun_s
            image = frame.to_ndarray(format="rgb24")
            turns = round(getattr(frame, "rotation", 0) / 90) % 4
            upright = np.ascontiguousarray(np.rot90(image, turns)) if turns else image
            name = f"{self._name}#{number}"
            yield SourceImage(number, name, max(0.0, shown_s - begun_s), upright)

    def _options(self) -> dict[str, Any]:
        if DEVICE.fullmatch(self._location):
            return {"format": "v4l2"}
        if not self.is_live:
            return {}
        options = {"fflags": "nobuffer", "flags": "low_delay"}
        if self._location.lower().startswith("rtsp"):
            # Over UDP, lost packets become grey blocks that no detector expects.
            options["rtsp_transport"] = "tcp"
        return {"options": options, "timeout": (_OPEN_S, _READ_S)}


class Paced:
    """A source shown at its own speed, as a camera would show it.

    Args:
        source: What to show.
        fps: Images per second; None for the source's own times.
        speed: Faster than life by so much, where ``fps`` is None.
        clock: Monotonic seconds.
        sleep: Waits so many seconds.
    """

    is_live = True

    def __init__(
        self,
        source: Source,
        fps: float | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._source, self._fps, self._clock, self._sleep = source, fps, clock, sleep

    def __iter__(self) -> Iterator[SourceImage]:
        begun_s: float | None = None
        for item in self._source:
            now_s = self._clock()
            begun_s = now_s if begun_s is None else begun_s
            time_s = item.time_s if self._fps is None else item.number / self._fps
            if begun_s + time_s > now_s:
                self._sleep(begun_s + time_s - now_s)
            yield item


class Reopened:
    """A live source that is opened again when it fails, for as long as it takes.

    A source that cannot be opened the first time is an error: its name is probably wrong.

    Args:
        source: What to read.
        policy: Waits between attempts.
        on_error: Told why it failed.
        sleep: Waits so many seconds.
        rng: Source of jitter; None for a fresh one.
    """

    is_live = True

    def __init__(
        self,
        source: Source,
        policy: RetryPolicy,
        on_error: Callable[[FpcodecError], None],
        *,
        sleep: Callable[[float], None] = time.sleep,
        rng: random.Random | None = None,
    ) -> None:
        self._source, self._policy, self._on_error, self._sleep = source, policy, on_error, sleep
        self._rng = rng or random.Random()  # noqa: S311 (jitter is no secret)

    def __iter__(self) -> Iterator[SourceImage]:
        seen, failures = False, 0
        while True:
            try:
                for item in self._source:
                    seen, failures = True, 0
                    yield item
                ended: FpcodecError = InputError("the source has ended")
            except InputError as error:
                if not seen:
                    raise
                ended = error
            failures += 1
            self._on_error(ended)
            self._sleep(self._policy.backoff_s(failures, self._rng))


class Limited:
    """The first images of a source.

    Args:
        source: Where they come from.
        images: How many.
    """

    def __init__(self, source: Source, images: int) -> None:
        self._source, self._images, self.is_live = source, images, source.is_live

    def __iter__(self) -> Iterator[SourceImage]:
        yield from islice(self._source, self._images)


def open_source(text: str, fps: float | None = None) -> Source:
    """The source that a user names.

    Args:
        text: A folder of images, an image, a video file, ``/dev/video0``, or a URL.
        fps: Images per second that a folder's images are shown at.

    Raises:
        InputError: There is no such file, or a folder without images.
    """
    if DEVICE.fullmatch(text) or URL.fullmatch(text):
        return Video(text)
    path = Path(text)
    if path.is_dir():
        paths = sorted(x for x in path.iterdir() if x.suffix.lower() in IMAGE_SUFFIXES)
        if not paths:
            raise InputError(f"{path}: holds no images ({', '.join(IMAGE_SUFFIXES)})")
        return ImageFiles(paths, fps or 10.0)
    if not path.is_file():
        raise InputError(
            f"{path}: no such file; name a folder of images, a video file, /dev/videoN or an "
            "rtsp:// address"
        )
    return ImageFiles([path]) if path.suffix.lower() in IMAGE_SUFFIXES else Video(text)


def choose_source(
    text: str,
    *,
    fps: float | None = None,
    realtime: bool = False,
    limit: int | None = None,
    on_error: Callable[[FpcodecError], None] = lambda error: None,
) -> Source:
    """The source that a user names, shown as asked for.

    Args:
        text: See ``open_source``.
        fps: Show images or a file as a camera of so many images per second would.
        realtime: Show them at their own speed, as a camera would.
        limit: How many images; None for all.
        on_error: Told when a live source fails and is opened again.

    Raises:
        InputError: There is no such file, or a live source is to be paced.
    """
    source = open_source(text, fps)
    if source.is_live:
        if fps is not None:
            raise InputError(f"{text}: a camera has a frame rate of its own; leave out the other")
        source = Reopened(source, RetryPolicy(initial_backoff_s=0.5, max_backoff_s=30.0), on_error)
    elif fps is not None or realtime:
        source = Paced(source, fps)
    return source if limit is None else Limited(source, limit)


def _import_av() -> Any:
    try:
        import av
    except ImportError as error:
        raise MissingDependency(
            "video files, cameras and streams need PyAV; run: pip install 'fpcodec[video]' "
            "(PyAV is BSD, but its wheels carry encoders under the GPL)"
        ) from error
    return av


def _hide(url: str) -> str:
    """A URL without user and password: names appear in results and logs."""
    return re.sub(r"//[^/@]*@", "//", url)
