"""What a visitor hands in: a picture's file, a clip's, or one of the page's own scenes."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from fpcodec.data import generate_scene
from fpcodec.detectors.base import Image
from fpcodec.errors import FpcodecError, InputError, MissingDependency
from fpcodec.images import load_image

MAX_UPLOAD_BYTES = 64 * 1024 * 1024
MAX_CLIP_FRAMES = 300
"""Of a clip only its first frames can be chosen: one is found by decoding those before it."""

MAX_CLIP_PIXELS = 3840 * 2160

CLIP_SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v")

SCENES = {f"Generated scene {number}": seed for number, seed in enumerate((31, 12, 22, 33, 25), 1)}
"""Name to seed: scenes that the embedded detector never saw while it was trained."""


@dataclass(frozen=True)
class Picked:
    """A file that a visitor chose.

    Attributes:
        path: Where it lies.
        name: What it was called.
        frames: Frames that can be chosen; 1 for a picture.
    """

    path: Path
    name: str
    frames: int = 1

    @classmethod
    def of(cls, path: Path | str) -> Picked:
        """Look at a file's name, and how many frames a clip has.

        Raises:
            InputError: The clip cannot be read.
            MissingDependency: The ``video`` extra is not installed.
        """
        file = Path(path)
        is_clip = file.suffix.lower() in CLIP_SUFFIXES
        try:
            return cls(file, file.name, _count_frames(file) if is_clip else 1)
        except FpcodecError as error:
            raise _without_folder(error, file) from error

    def load(self, frame: int = 0) -> Image:
        """The picture, or a frame of the clip.

        Args:
            frame: Counted from 0; beyond the last is the last.

        Raises:
            InputError: It cannot be read, or is too large.
        """
        try:
            if self.frames == 1:
                return load_image(self.path)
            return _clip_frame(self.path, min(max(frame, 0), self.frames - 1))
        except FpcodecError as error:
            raise _without_folder(error, self.path) from error


def scene(name: str) -> Image:
    """A generated scene by its name on the page.

    Raises:
        InputError: There is no such scene.
    """
    if name not in SCENES:
        raise InputError(f"there is no scene {name!r}; choose one of the list")
    return generate_scene(SCENES[name]).image


def _clip_frame(path: Path, frame: int) -> Image:
    from fpcodec_edge import choose_source

    last: Image | None = None
    for item in islice(choose_source(str(path)), frame + 1):
        last = item.image
    if last is None:
        raise InputError(f"{path}: holds no frame that can be shown; name another clip")
    return last


def _count_frames(path: Path) -> int:
    """Frames of a clip's video, MAX_CLIP_FRAMES at most; nothing is decoded."""
    try:
        import av
    except ImportError as error:
        raise MissingDependency(
            "clips need PyAV; pip install 'fpcodec[video]', or use a picture"
        ) from error
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise InputError(f"{path}: holds no video; name another file")
            stream = container.streams.video[0]
            if stream.width * stream.height > MAX_CLIP_PIXELS:
                raise InputError(
                    f"{path}: {stream.width}x{stream.height} pixels is above the limit of "
                    f"{MAX_CLIP_PIXELS} a frame; scale it down"
                )
            packets = (packet for packet in container.demux(stream) if packet.size)
            return max(1, sum(1 for _ in islice(packets, MAX_CLIP_FRAMES)))
    except av.FFmpegError as error:
        raise InputError(
            f"{path}: cannot be read as video ({error.strerror or error}); is it whole?"
        ) from error


def _without_folder(error: FpcodecError, path: Path) -> FpcodecError:
    """The same error with the file's name alone: its place on the server is nobody's business."""
    return type(error)(str(error).replace(str(path), path.name))
