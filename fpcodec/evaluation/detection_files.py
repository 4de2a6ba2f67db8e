"""Detections of a whole data set on disk, so that a later run can be paired with an earlier one."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from fpcodec.detections import Detections
from fpcodec.errors import InputError
from fpcodec.files import replacing

_FIELDS = ("counts", "boxes", "scores", "labels")
UNREADABLE = (
    OSError, ValueError, TypeError, AttributeError, LookupError, EOFError, zipfile.BadZipFile,
    zlib.error,
)  # fmt: skip
"""What numpy may raise on bytes that are not an ``.npz`` of the expected arrays."""


def write_detections(path: Path | str, settings: Mapping[str, Sequence[Detections]]) -> None:
    """Write the detections of several settings as one ``.npz``; whole or absent.

    Args:
        path: Where to.
        settings: Setting's name to one ``Detections`` per image. Masks are left out.

    Raises:
        InputError: The file cannot be written.
    """
    target = Path(path)
    arrays: dict[str, np.typing.NDArray[np.generic]] = {"names": np.array(list(settings), np.str_)}
    for index, found in enumerate(settings.values()):
        none = np.zeros((0, 4), np.float32)
        arrays[f"{index}.counts"] = np.array([len(x) for x in found], np.int64)
        arrays[f"{index}.boxes"] = np.concatenate([none, *(x.boxes for x in found)])
        arrays[f"{index}.scores"] = np.concatenate([none[:, 0], *(x.scores for x in found)])
        arrays[f"{index}.labels"] = np.concatenate(
            [np.zeros(0, np.int64), *(x.labels for x in found)]
        )
    with replacing(target) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def read_detections(path: Path | str) -> dict[str, list[Detections]]:
    """Read what ``write_detections`` wrote.

    Raises:
        InputError: The file is missing or is not such a file.
    """
    try:
        with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as data:
            return {
                str(name): _split(*(data[f"{index}.{field}"] for field in _FIELDS))
                for index, name in enumerate(data["names"])
            }
    except UNREADABLE as error:
        raise InputError(f"detections {path} cannot be read: {error}") from error


def _split(
    counts: np.typing.NDArray[np.int64],
    boxes: np.typing.NDArray[np.float32],
    scores: np.typing.NDArray[np.float32],
    labels: np.typing.NDArray[np.int64],
) -> list[Detections]:
    ends = np.cumsum(counts)[:-1]
    parts = (np.split(array, ends) for array in (boxes, scores, labels))
    return [Detections(*three) for three in zip(*parts, strict=True)] if len(counts) else []
