"""Generated scenes written to disk as a COCO-format data set."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from PIL import Image

from fpcodec.data.scenes import Scene, SceneConfig, generate_scene
from fpcodec.data.shapes import CLASS_NAMES
from fpcodec.errors import InputError


def write_coco(
    directory: str | Path,
    seeds: Iterable[int],
    config: SceneConfig | None = None,
    image_format: str = "png",
    progress: Callable[[int], None] | None = None,
) -> Path:
    """Write scenes as pictures beside a COCO-format ``annotations.json``.

    Args:
        directory: made if absent; receives ``images/`` and ``annotations.json``.
        seeds: one picture each; the seed is the COCO image id.
        config: defaults to ``SceneConfig()``.
        image_format: ``png`` (lossless) or ``jpg`` (quality 95).
        progress: called with the number of pictures written so far.

    Returns:
        The path of the annotations. Category ids are class indices plus 1, ``area`` is the area
        of the visible box in square pixels, ``iscrowd`` is 0.

    Raises:
        InputError: the image format is neither ``png`` nor ``jpg``.
    """
    if image_format not in ("png", "jpg"):
        raise InputError(f"image_format is {image_format!r}, give png or jpg")
    config = config or SceneConfig()
    root = Path(directory)
    (root / "images").mkdir(parents=True, exist_ok=True)
    images: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    for seed in seeds:
        scene = generate_scene(seed, config)
        name = f"{seed:08d}.{image_format}"
        Image.fromarray(scene.image).save(root / "images" / name, quality=95)
        images.append({"id": seed, "file_name": name, "width": config.size, "height": config.size})
        annotations += _coco_annotations(scene, seed, len(annotations))
        if progress is not None:
            progress(len(images))
    categories = [{"id": i + 1, "name": name} for i, name in enumerate(CLASS_NAMES)]
    document = {"images": images, "annotations": annotations, "categories": categories}
    path = root / "annotations.json"
    temporary = path.with_suffix(".json.tmp")
    temporary.write_text(json.dumps(document))
    os.replace(temporary, path)
    return path


def _coco_annotations(scene: Scene, image_id: int, before: int) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for number, (box, label) in enumerate(zip(scene.boxes, scene.labels, strict=True)):
        left, top, right, bottom = (float(edge) for edge in box)
        width, height = right - left, bottom - top
        rows.append(
            {
                "id": before + number + 1,
                "image_id": image_id,
                "category_id": int(label) + 1,
                "bbox": [left, top, width, height],
                "area": width * height,
                "iscrowd": 0,
            }
        )
    return rows
