"""Data sets in Pascal VOC's layout: an XML file per picture, and lists of pictures.

VOC/Annotations/NAME.xml    VOC/JPEGImages/NAME.jpg    VOC/ImageSets/Main/train.txt
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from fpcodec.data.coco import CocoBox, CocoCategory, CocoDataset, CocoImage
from fpcodec.errors import InputError

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp")


def load_voc(list_file: Path | str, image_folder: Path | str | None = None) -> CocoDataset:
    """Read the pictures that a list of ``ImageSets/Main`` names.

    Boxes are taken as they stand, ``xmax`` and ``ymax`` as their far edges; boxes without an area
    are left out, and difficult objects count like others. Categories are the names in all of
    ``Annotations``, so that every list of a data set has the same ones.

    Args:
        list_file: Such as ``VOC/ImageSets/Main/train.txt``: a picture's name per line.
        image_folder: Where the pictures lie; None for ``JPEGImages`` beside ``Annotations``.

    Raises:
        InputError: A file is missing, is not VOC's XML, or holds a value out of range.
    """
    path = Path(list_file)
    try:
        names = [line.split()[0] for line in path.read_text("utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    root = next((x for x in path.parents if (x / "Annotations").is_dir()), None)
    if root is None or not names:
        raise InputError(f"{path}: not a list of a VOC data set; give ImageSets/Main/NAME.txt, a "
                         "picture's name per line, below the folder of Annotations")  # fmt: skip
    folder = root / "JPEGImages" if image_folder is None else Path(image_folder)
    pictures = {file.stem: _read(file) for file in sorted((root / "Annotations").glob("*.xml"))}
    absent = [name for name in names if name not in pictures]
    if absent:
        raise InputError(f"{path}: {len(absent)} of {len(names)} pictures have no XML, the first "
                         f"is {root / 'Annotations' / absent[0]}.xml")  # fmt: skip
    labels = sorted({label for picture in pictures.values() for label, _ in picture.boxes})
    if not labels:
        raise InputError(f"{root / 'Annotations'}: no objects in any of its files")
    ids = {label: number for number, label in enumerate(labels, 1)}
    files = {x.stem: x.name for x in _images(folder)}
    images, boxes = [], []
    for number, name in enumerate(names, 1):
        picture = pictures[name]
        images.append(CocoImage(number, files.get(name, f"{name}.jpg"), *picture.size))
        for label, (left, top, right, bottom) in picture.boxes:
            width, height = right - left, bottom - top
            if width > 0 and height > 0:
                box = (left, top, width, height)
                boxes.append(CocoBox(number, ids[label], box, width * height))
    categories = tuple(CocoCategory(number, label) for label, number in ids.items())
    return CocoDataset(path.stem, folder, tuple(images), tuple(boxes), categories)


@dataclass(frozen=True)
class _Picture:
    """What an XML file says: (width, height) in pixels; names and corners of its objects."""

    size: tuple[int, int]
    boxes: tuple[tuple[str, tuple[float, ...]], ...]


def _read(path: Path) -> _Picture:
    try:
        root = ElementTree.parse(path).getroot()  # noqa: S314 (expat bounds entities itself)
        size = int(root.findtext("size/width", "")), int(root.findtext("size/height", ""))
        boxes = tuple(
            (
                item.findtext("name", "").strip(),
                tuple(float(item.findtext(f"bndbox/{x}", "")) for x in _CORNERS),
            )
            for item in root.iter("object")
        )
    except (OSError, ElementTree.ParseError, ValueError) as error:
        raise InputError(f"{path}: not VOC's XML ({error}); it wants size, and a name and a bndbox "
                         "per object") from error  # fmt: skip
    if min(size) < 1 or not all(name and all(map(math.isfinite, box)) for name, box in boxes):
        raise InputError(f"{path}: an object has no name or no finite box, or a side of {size} is "
                         "below 1")  # fmt: skip
    return _Picture(size, boxes)


_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def _images(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from (x for x in sorted(folder.iterdir()) if x.suffix.lower() in IMAGE_ENDINGS)
