"""Reading data sets in Pascal VOC's layout."""

from __future__ import annotations

from pathlib import Path

import pytest
from voc_kit import write_voc

from fpcodec.data.coco import CocoCategory, load_coco
from fpcodec.errors import InputError

ROWS = {
    "one": ((40, 30), [("cell", (1, 2, 11, 22)), ("dust", (5, 5, 5, 5))]),
    "two": ((20, 20), [("dust", (0, 0, 4.5, 2))]),
}

OBJECT = """<annotation><size><width>9</width><height>9</height></size><object><name>{name}</name>
<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>{side}</xmax><ymax>4</ymax></bndbox></object></annotation>
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_voc(tmp_path / "VOC", {"train": ["one"], "val": ["two"]}, ROWS)


def test_a_list_gives_its_pictures_and_boxes(root: Path) -> None:
    train, val = (load_coco(root / "ImageSets" / "Main" / f"{x}.txt") for x in ("train", "val"))
    (picture,), (box,) = train.images, train.boxes  # a box without an area is none
    assert (train.name, picture.width, picture.height) == ("train", 40, 30)
    assert train.path(picture) == root / "JPEGImages" / "one.jpg"
    assert (box.bbox, box.area, box.category_id, box.crowd) == ((1, 2, 10, 20), 200, 1, False)
    assert val.boxes[0].bbox == (0, 0, 4.5, 2)
    # Though only one of them has a cell.
    assert train.categories == val.categories == (CocoCategory(1, "cell"), CocoCategory(2, "dust"))


def test_pictures_may_lie_elsewhere_and_have_another_ending(root: Path) -> None:
    (root / "JPEGImages").rename(root / "pictures")
    (root / "pictures" / "one.jpg").rename(root / "pictures" / "one.PNG")
    dataset = load_coco(root / "ImageSets" / "Main" / "train.txt", root / "pictures")
    assert [path.name for path in dataset.paths()] == ["one.PNG"]


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("ImageSets/Main/train.txt", "three\n", "1 of 1 pictures have no XML"),
        ("ImageSets/Main/train.txt", "\n", "not a list of a VOC data set"),
        ("Annotations/one.xml", "<annotation>", "one.xml: not VOC's XML"),
        ("Annotations/one.xml", "<annotation/>", "one.xml: not VOC's XML"),
        ("Annotations/one.xml", OBJECT.format(name="cell", side="nan"), "no finite box"),
        ("Annotations/one.xml", OBJECT.format(name="", side=3), "no name"),
        ("JPEGImages/one.jpg", None, "1 of 1 image files are missing"),
    ],
)
def test_what_is_wrong_is_named(root: Path, file: str, text: str | None, message: str) -> None:
    path = root / file
    if text is None:
        path.unlink()
    else:
        path.write_text(text)
    with pytest.raises(InputError, match=message):
        load_coco(root / "ImageSets" / "Main" / "train.txt")


def test_a_text_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("buy milk\n")
    with pytest.raises(InputError, match="not a list of a VOC data set"):
        load_coco(tmp_path / "notes.txt")
    with pytest.raises(InputError, match="cannot be read"):
        load_coco(tmp_path / "absent.txt")
