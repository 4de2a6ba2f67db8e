"""``scripts/resize_coco.py``: pictures and boxes change size together."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image
from script_kit import script_fixture

from fpcodec.data.coco import load_coco
from fpcodec.errors import InputError

script = script_fixture("resize_coco")


def write_data(folder: Path, name: str, *, image_id: int, category: str = "cell") -> Path:
    """One 200 x 100 picture with a white rectangle at its box, and its annotations."""
    pixels = np.zeros((100, 200, 3), np.uint8)
    pixels[20:60, 50:150] = 255
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(folder / "pictures" / f"{name}.png")
    row = {"id": image_id, "file_name": f"{name}.png", "width": 200, "height": 100}
    box = {"id": 7, "image_id": image_id, "category_id": 3, "bbox": [50, 20, 100, 40],
           "area": 3000, "iscrowd": 1}  # fmt: skip
    document = {"images": [row], "annotations": [box], "categories": [{"id": 3, "name": category}]}
    path = folder / f"{name}.json"
    path.write_text(json.dumps(document))
    return path


def test_boxes_scale_with_the_pictures(script: ModuleType, tmp_path: Path) -> None:
    files = [write_data(tmp_path, name, image_id=9) for name in ("one", "two")]
    datasets = [load_coco(file, tmp_path / "pictures") for file in files]
    out = script.resize(datasets, (100, 100), tmp_path / "out")
    resized = load_coco(out, out.parent / "images")
    assert [image.id for image in resized.images] == [1, 2]
    assert [image.file_name for image in resized.images] == ["one.png", "two.png"]
    assert [box.image_id for box in resized.boxes] == [1, 2]
    for box in resized.boxes:
        assert box.bbox == (25.0, 20.0, 50.0, 40.0)
        assert (box.area, box.crowd, box.category_id) == (1500.0, True, 3)
    for path in resized.paths():
        pixels = np.asarray(Image.open(path))
        assert pixels.shape == (100, 100, 3)
        rows, columns = np.nonzero(pixels[:, :, 0] > 127)
        assert (columns.min(), rows.min(), columns.max(), rows.max()) == (25, 20, 74, 59)


def test_repeated_pictures_and_other_categories_are_refused(
    script: ModuleType, tmp_path: Path
) -> None:
    one, two = (write_data(tmp_path, name, image_id=1) for name in ("one", "two"))
    first, second = (load_coco(file, tmp_path / "pictures") for file in (one, two))
    with pytest.raises(InputError, match="is there twice"):
        script.resize([first, first], (50, 50), tmp_path / "out")
    other = load_coco(
        write_data(tmp_path / "other", "three", image_id=1, category="leaf"),
        tmp_path / "other" / "pictures",
    )
    with pytest.raises(InputError, match="categories differ"):
        script.resize([second, other], (50, 50), tmp_path / "out")
