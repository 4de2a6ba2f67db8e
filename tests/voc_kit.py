"""Data sets in Pascal VOC's layout, as a user might have them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

from PIL import Image

Objects = Sequence[tuple[str, Sequence[float]]]
"""Names, and corners in pixels: left, top, right, bottom."""


def write_voc(
    root: Path,
    lists: Mapping[str, Sequence[str]],
    pictures: Mapping[str, tuple[tuple[int, int], Objects]],
    drawn: Mapping[str, Image.Image] | None = None,
) -> Path:
    """Write lists of names, and of each name an XML file and a JPEG; return the root.

    Args:
        root: Made.
        lists: File name in ``ImageSets/Main`` without ending, to names of pictures.
        pictures: Name to size and objects.
        drawn: Name to picture; black ones without it.
    """
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    for name, names in lists.items():
        (root / "ImageSets" / "Main" / f"{name}.txt").write_text("\n".join(names) + "\n")
    for name, (size, objects) in pictures.items():
        tree = ElementTree.Element("annotation")
        add(tree, "filename", f"{name}.jpg")
        sides = add(tree, "size")
        add(sides, "width", size[0])
        add(sides, "height", size[1])
        for label, corners in objects:
            item = add(tree, "object")
            add(item, "name", label)
            add(item, "difficult", 0)
            box = add(item, "bndbox")
            for side, value in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True):
                add(box, side, value)
        ElementTree.ElementTree(tree).write(root / "Annotations" / f"{name}.xml")
        picture = drawn[name] if drawn else Image.new("RGB", size)
        picture.save(root / "JPEGImages" / f"{name}.jpg", quality=95)
    return root


def add(parent: ElementTree.Element, tag: str, text: object = "") -> ElementTree.Element:
    """Append an element with a text."""
    element = ElementTree.SubElement(parent, tag)
    element.text = str(text)
    return element
