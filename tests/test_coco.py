"""Reading data sets in COCO's format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fpcodec.data.coco import load_coco
from fpcodec.errors import InputError


def coco_json() -> dict[str, Any]:
    return {
        "images": [
            {"id": 7, "file_name": "b.jpg", "width": 20, "height": 10},
            {"id": 3, "file_name": "a.jpg", "width": 8, "height": 8},
        ],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 4, "bbox": [1, 2, 3.5, 4], "area": 9,
             "iscrowd": 1},
            {"id": 2, "image_id": 3, "category_id": 2, "bbox": [0, 0, 2, 3]},
        ],
        "categories": [{"id": 4, "name": "Cat"}, {"id": 2, "name": "dog"}],
    }  # fmt: skip


def write(folder: Path, data: Any) -> Path:
    (folder / "val").mkdir(exist_ok=True)
    for name in ("a.jpg", "b.jpg"):
        (folder / "val" / name).touch()
    path = folder / "val.json"
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path, coco_json())


def test_images_keep_the_files_order_and_boxes_their_values(path: Path) -> None:
    dataset = load_coco(path)
    assert dataset.name == "val"
    assert [p.name for p in dataset.paths()] == ["b.jpg", "a.jpg"]
    crowd, plain = dataset.boxes
    assert (crowd.bbox, crowd.area, crowd.crowd) == ((1.0, 2.0, 3.5, 4.0), 9.0, True)
    assert (plain.area, plain.crowd) == (6.0, False)


def test_the_image_folder_stands_for_the_json_beside_it(path: Path) -> None:
    assert load_coco(path.with_suffix("")) == load_coco(path)


def test_an_image_folder_can_be_named(path: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere.json"
    path.rename(moved)
    assert len(load_coco(moved, tmp_path / "val")) == 2
    with pytest.raises(InputError, match=r"2 of 2 image files are missing.*b\.jpg"):
        load_coco(moved)


def test_a_limit_keeps_the_first_images_and_their_boxes(path: Path) -> None:
    dataset = load_coco(path, limit=1)
    assert [image.id for image in dataset.images] == [7]
    assert [box.image_id for box in dataset.boxes] == [7]
    assert len(dataset.categories) == 2
    with pytest.raises(InputError, match="limit of 0"):
        load_coco(path, limit=0)


def test_labels_find_categories_by_name_or_by_order(path: Path) -> None:
    dataset = load_coco(path)
    assert dataset.category_ids(()) == (2, 4)
    assert dataset.category_ids(("background", "cat", "dog")) == (None, 4, 2)
    with pytest.raises(InputError, match="none of the detector's 2 labels"):
        dataset.category_ids(("bus", "tram"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("images"), "no list 'images'"),
        (lambda d: d.update(annotations={}), "no list 'annotations'"),
        (lambda d: d.update(categories=[]), "0 categories"),
        (lambda d: d["images"][1].pop("width"), r"images\[1\] has no 'width'"),
        (lambda d: d["images"][0].update(height=0), r"images\[0\]: height is 0"),
        (lambda d: d["images"][0].update(id="7"), "id is '7', not an integer"),
        (lambda d: d["images"][0].update(id=3), "repeats an image id"),
        (lambda d: d["images"][0].update(file_name="../x.jpg"), "leaves the image folder"),
        (lambda d: d["annotations"][0].update(bbox=[1, 2, 3]), "not four finite numbers"),
        (lambda d: d["annotations"][0].update(bbox=[1, 2, 3, 1e999]), "not four finite numbers"),
        (lambda d: d["annotations"][0].update(bbox=[1, 2, -3, 4]), "negative side"),
        (lambda d: d["annotations"][0].update(area="big"), "area is 'big'"),
        (lambda d: d["annotations"][0].update(image_id=99), "image 99, category 4"),
        (lambda d: d["annotations"].append(5), r"annotations\[2\] is not an object"),
    ],
)  # fmt: skip
def test_a_malformed_file_is_named_with_the_place(
    tmp_path: Path, change: Any, message: str
) -> None:
    data = coco_json()
    change(data)
    with pytest.raises(InputError, match=message):
        load_coco(write(tmp_path, data))


@pytest.mark.parametrize("text", ["", "{", "\x00", "[" * 100_000])
def test_text_that_is_not_json_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match="is not JSON"):
        load_coco(write(tmp_path, text))


@pytest.mark.parametrize("text", ["[]", "3", "null"])
def test_json_that_is_no_object_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match="not COCO's object"):
        load_coco(write(tmp_path, text))


def test_a_missing_file_and_a_folder_without_json_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        load_coco(tmp_path / "none.json")
    with pytest.raises(InputError, match="without"):
        load_coco(tmp_path)
    (tmp_path / "latin.json").write_bytes(b'{"a": "\xff"}')
    with pytest.raises(InputError, match="is no COCO JSON file"):
        load_coco(tmp_path / "latin.json")
    with pytest.raises(InputError, match="nowhere: no such folder"):
        load_coco(tmp_path / "latin.json", tmp_path / "nowhere")
    with pytest.raises(InputError, match="this is a file"):
        load_coco(tmp_path / "latin.json", tmp_path / "latin.json")
