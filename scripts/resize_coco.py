"""Resize data sets in COCO's format, boxes included, into one new data set of PNG pictures.

    python scripts/resize_coco.py cells/val.json cells/test.json --images cells/images \\
        --size 384x288 --out runs/cells-data/heldout

PNG keeps every pixel, so that whatever is compared later starts from the same picture. The output
folder receives ``images/`` and, once all are written, ``annotations.json``; ``fpcodec`` commands
read them with ``--images`` and ``--annotations``. Pillow's bilinear filter is used, as in the
detectors' own preparation.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from rich.progress import track

from fpcodec.data.coco import CocoBox, CocoDataset, load_coco
from fpcodec.errors import InputError
from fpcodec.files import replacing

DIGITS = 3
"""Decimals that coordinates in pixels keep."""


def resize(datasets: Sequence[CocoDataset], size: tuple[int, int], out: Path) -> Path:
    """Write the resized pictures and their annotations; ids count from 1 anew.

    Args:
        datasets: With the same categories, and no picture of the same name.
        size: ``(width, height)`` in pixels; pictures of another ratio are stretched.
        out: The folder to fill.

    Returns:
        The path of the annotations.

    Raises:
        InputError: Categories differ, or a picture's name repeats.
    """
    if any(dataset.categories != datasets[0].categories for dataset in datasets):
        raise InputError(f"{', '.join(x.name for x in datasets)}: categories differ; give files "
                         "of one data set")  # fmt: skip
    (out / "images").mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    names: set[str] = set()
    for dataset, image in track([(d, image) for d in datasets for image in d.images], "resizing"):
        name = f"{Path(image.file_name).stem}.png"
        if name in names:
            raise InputError(f"{dataset.name}: picture {name} is there twice; rename one")
        names.add(name)
        with Image.open(dataset.path(image)) as opened:
            picture = opened.convert("RGB").resize(size, Image.Resampling.BILINEAR)
        with replacing(out / "images" / name) as temporary:
            picture.save(temporary)
        row = {"id": len(images) + 1, "file_name": name, "width": size[0], "height": size[1]}
        images.append(row)
        scale = (size[0] / image.width, size[1] / image.height)
        for box in dataset.boxes:
            if box.image_id == image.id:
                number = len(annotations) + 1
                annotations.append(resized_box(box, scale, image_id=row["id"], number=number))
    categories = [{"id": category.id, "name": category.name} for category in datasets[0].categories]
    document = {"images": images, "annotations": annotations, "categories": categories}
    with replacing(out / "annotations.json") as temporary:
        temporary.write_text(json.dumps(document), "utf-8")
    return out / "annotations.json"


def resized_box(
    box: CocoBox, scale: tuple[float, float], *, image_id: int, number: int
) -> dict[str, Any]:
    """Return a box's row with its sides and area scaled by ``(across, down)``."""
    return {
        "id": number,
        "image_id": image_id,
        "category_id": box.category_id,
        "bbox": [round(x * f, DIGITS) for x, f in zip(box.bbox, scale * 2, strict=True)],
        "area": round(box.area * scale[0] * scale[1], DIGITS),
        "iscrowd": int(box.crowd),
    }


def read_size(text: str) -> tuple[int, int]:
    """Read ``384x288`` as (384, 288)."""
    width, height = map(int, text.split("x"))
    return width, height


def main() -> None:
    """Read the flags and resize."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("annotations", type=Path, nargs="+", help="COCO files to join")
    parser.add_argument("--images", type=Path, help="image folder of all of them")
    parser.add_argument("--size", type=read_size, required=True, help="in pixels, as 384x288")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    flags = parser.parse_args()
    datasets = [load_coco(path, flags.images) for path in flags.annotations]
    print(resize(datasets, flags.size, flags.out))


if __name__ == "__main__":
    main()
