"""Data sets in COCO's JSON format, or another that is turned into it: images, boxes, categories."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fpcodec.errors import InputError


@dataclass(frozen=True)
class CocoImage:
    """One picture: its id, its file name within the image folder, its size in pixels."""

    id: int
    file_name: str
    width: int
    height: int


@dataclass(frozen=True)
class CocoBox:
    """One annotated object.

    Attributes:
        image_id: The picture it lies in.
        category_id: Its category.
        bbox: ``(left, top, width, height)`` in pixels.
        area: In square pixels; decides COCO's object scale. The box's own area where the file
            gives none.
        crowd: True for a region of many objects, which matches any number of detections and
            counts for none.
    """

    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    area: float
    crowd: bool = False


@dataclass(frozen=True)
class CocoCategory:
    """A category's id and name."""

    id: int
    name: str


@dataclass(frozen=True)
class CocoDataset:
    """Pictures with annotated boxes.

    Attributes:
        name: The annotation file's name without its ending.
        folder: Where the picture files lie.
        images: In the file's order.
        boxes: Of these images only.
        categories: In order of id.
    """

    name: str
    folder: Path
    images: tuple[CocoImage, ...]
    boxes: tuple[CocoBox, ...]
    categories: tuple[CocoCategory, ...]

    def __len__(self) -> int:
        return len(self.images)

    def path(self, image: CocoImage) -> Path:
        """Where the file of a picture lies."""
        return self.folder / image.file_name

    def paths(self) -> Iterator[Path]:
        """The files of all pictures, in order."""
        return (self.path(image) for image in self.images)

    def limit(self, count: int | None) -> CocoDataset:
        """The first ``count`` pictures with their boxes; all of them for None.

        Raises:
            InputError: The count is below one.
        """
        if count is None:
            return self
        if count < 1:
            raise InputError(f"a limit of {count} images leaves nothing; use 1 or more")
        images = self.images[:count]
        kept = {image.id for image in images}
        boxes = tuple(box for box in self.boxes if box.image_id in kept)
        return replace(self, images=images, boxes=boxes)

    def require_images(self) -> None:
        """Check that every picture's file is there.

        Raises:
            InputError: A file is absent; the message names the first and counts the others.
        """
        absent = [path for path in self.paths() if not path.is_file()]
        if absent:
            raise InputError(
                f"{self.name}: {len(absent)} of {len(self)} image files are missing, the first "
                f"is {absent[0]}; name the folder that has them all, or give a file of those "
                "alone, or --limit N where the first N are there"
            )

    def category_ids(self, labels: Sequence[str]) -> tuple[int | None, ...]:
        """The category id of each of a detector's label indices.

        By name, ignoring case, where the detector has labels; a label that the data set lacks
        (a detector's ``background``) has None and is not scored. By order of id where the
        detector has none.

        Raises:
            InputError: Not one label is among the categories.
        """
        if not labels:
            return tuple(category.id for category in self.categories)
        by_name = {category.name.casefold(): category.id for category in self.categories}
        ids = tuple(by_name.get(label.casefold()) for label in labels)
        if all(category_id is None for category_id in ids):
            raise InputError(
                f"{self.name}: none of the detector's {len(labels)} labels "
                f"({', '.join(labels[:3])}..) is a category of this data set "
                f"({', '.join(category.name for category in self.categories[:3])}..)"
            )
        return ids


def load_coco(
    path: Path | str, image_folder: Path | str | None = None, *, limit: int | None = None
) -> CocoDataset:
    """Read a data set in COCO's format.

    Args:
        path: The JSON file, or the image folder that has its JSON file beside it
            (``val/`` with ``val.json``); or a list of a data set in Pascal VOC's layout
            (``VOC/ImageSets/Main/val.txt``, see ``fpcodec.data.voc``).
        image_folder: Where the pictures lie; None for the folder beside the JSON file that has
            its name, else the JSON file's own folder.
        limit: Keep only so many pictures, the first ones.

    Raises:
        InputError: A file is missing, is not JSON, lacks a key, or holds a value out of range.
    """
    if image_folder is not None and not Path(image_folder).is_dir():
        there = (
            "this is a file; name its folder" if Path(image_folder).exists() else "no such folder"
        )
        raise InputError(f"images {image_folder}: {there}")
    if Path(path).suffix == ".txt":
        from fpcodec.data.voc import load_voc

        dataset = load_voc(path, image_folder).limit(limit)
        dataset.require_images()
        return dataset
    annotations, folder = _locate(Path(path), image_folder)
    try:
        text = annotations.read_text("utf-8")
    except OSError as error:
        raise InputError(f"{annotations} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{annotations} is no COCO JSON file: it is no UTF-8 text") from error
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{annotations} is not JSON: {error}; give a COCO file") from error
    dataset = _parse(data, annotations, folder).limit(limit)
    dataset.require_images()
    return dataset


def _locate(path: Path, image_folder: Path | str | None) -> tuple[Path, Path]:
    """The annotation file and the image folder that a path stands for."""
    if path.is_dir():
        annotations = path.with_name(path.resolve().name + ".json")
        if not annotations.is_file():
            raise InputError(f"{path} is a folder without {annotations} beside it; name the JSON")
        return annotations, Path(image_folder) if image_folder is not None else path
    if not path.is_file():
        raise InputError(f"{path} does not exist; give a COCO JSON file or its image folder")
    if image_folder is not None:
        return path, Path(image_folder)
    beside = path.with_suffix("")
    return path, beside if beside.is_dir() else path.parent


def _parse(data: Any, source: Path, folder: Path) -> CocoDataset:
    if not isinstance(data, Mapping):
        raise InputError(f"{source} holds a JSON {type(data).__name__}, not COCO's object")
    images = tuple(
        CocoImage(
            _integer(row, "id"), _file_name(row), _size(row, "width"), _size(row, "height")
        )
        for row in _rows(data, "images", source)
    )  # fmt: skip
    categories = tuple(
        CocoCategory(_integer(row, "id"), str(_value(row, "name")))
        for row in _rows(data, "categories", source)
    )
    boxes = tuple(_box(row) for row in _rows(data, "annotations", source))
    if not images or not categories:
        raise InputError(f"{source} has {len(images)} images and {len(categories)} categories")
    image_ids = {image.id for image in images}
    category_ids = {category.id for category in categories}
    if len(image_ids) != len(images) or len(category_ids) != len(categories):
        raise InputError(f"{source} repeats an image id or a category id; make them unique")
    for box in boxes:
        if box.image_id not in image_ids or box.category_id not in category_ids:
            raise InputError(
                f"{source} has an annotation of image {box.image_id}, category {box.category_id}, "
                "which it does not list"
            )
    ordered = tuple(sorted(categories, key=lambda category: category.id))
    return CocoDataset(source.stem, folder, images, boxes, ordered)


def _rows(data: Mapping[str, Any], key: str, source: Path) -> Iterator[Mapping[str, Any]]:
    """The entries of one of the file's lists; names the entry in any error it causes."""
    rows = data.get(key)
    if not isinstance(rows, list):
        raise InputError(f"{source} has no list {key!r}; COCO files have images, annotations and "
                         "categories")  # fmt: skip
    for index, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise InputError(f"{source}: {key}[{index}] is not an object")
        yield _Row(row, f"{source}: {key}[{index}]")


class _Row(dict[str, Any]):
    """An entry that knows where in the file it stands."""

    def __init__(self, row: Mapping[str, Any], where: str) -> None:
        super().__init__(row)
        self.where = where


def _where(row: Mapping[str, Any]) -> str:
    return row.where if isinstance(row, _Row) else "entry"


def _value(row: Mapping[str, Any], key: str) -> Any:
    if key not in row:
        raise InputError(f"{_where(row)} has no {key!r}")
    return row[key]


def _integer(row: Mapping[str, Any], key: str) -> int:
    value = _value(row, key)
    if isinstance(value, bool) or not isinstance(value, int):
        raise InputError(f"{_where(row)}: {key} is {value!r}, not an integer")
    return value


def _size(row: Mapping[str, Any], key: str) -> int:
    value = _integer(row, key)
    if value < 1:
        raise InputError(f"{_where(row)}: {key} is {value}; pixels count from 1")
    return value


def _file_name(row: Mapping[str, Any]) -> str:
    name = _value(row, "file_name")
    if not isinstance(name, str) or not name:
        raise InputError(f"{_where(row)}: file_name is {name!r}, not a name")
    parts = Path(name)
    if parts.is_absolute() or ".." in parts.parts:
        raise InputError(f"{_where(row)}: file_name {name!r} leaves the image folder")
    return name


def _box(row: Mapping[str, Any]) -> CocoBox:
    values = _value(row, "bbox")
    if not isinstance(values, list) or len(values) != 4 or not all(map(_is_number, values)):
        raise InputError(f"{_where(row)}: bbox is {values!r}, not four finite numbers")
    x, y, width, height = (float(value) for value in values)
    if width < 0 or height < 0:
        raise InputError(f"{_where(row)}: bbox has a negative side ({width} x {height})")
    area = row.get("area", width * height)
    if not _is_number(area):
        raise InputError(f"{_where(row)}: area is {area!r}, not a finite number")
    return CocoBox(
        _integer(row, "image_id"), _integer(row, "category_id"), (x, y, width, height),
        float(area), bool(row.get("iscrowd", 0)),
    )  # fmt: skip


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
