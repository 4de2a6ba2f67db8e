"""What a visitor hands in: a picture's file, a clip's, or one of the page's own scenes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from fpcodec.data import generate_scene
from fpcodec.detectors.base import Image
from fpcodec.errors import FpcodecError, InputError
from fpcodec.images import load_image
from fpcodec.ui.clips import count_frames, read_frame

MAX_UPLOAD_BYTES = 64 * 1024 * 1024

UPLOAD_LABEL = "Picture or clip, at most 64 MB"

PICTURE_FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF")
"""Those that Pillow reads by itself: for some others it starts programs."""

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
            InputError: The file is too large, or the clip cannot be read.
            MissingDependency: The ``video`` extra is not installed.
        """
        file = Path(path)
        if file.stat().st_size > MAX_UPLOAD_BYTES:
            size = math.ceil(file.stat().st_size / 2**20)
            raise InputError(f"{file.name}: {size} MB is above the limit of 64 MB; make it smaller")
        try:
            return cls(file, file.name, count_frames(file) if _is_clip(file) else 1)
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
            if _is_clip(self.path):
                return read_frame(self.path, min(max(frame, 0), self.frames - 1))
            return load_image(self.path, formats=PICTURE_FORMATS)
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


def _is_clip(path: Path) -> bool:
    return path.suffix.lower() in CLIP_SUFFIXES


def _without_folder(error: FpcodecError, path: Path) -> FpcodecError:
    """The same error with the file's name alone: its place on the server is nobody's business."""
    return type(error)(str(error).replace(str(path), path.name))
