"""Generated scenes: same seed same bytes, honest annotations, every COCO size bucket filled."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fpcodec.data import CLASS_NAMES, Scene, SceneConfig, generate_scene, write_coco
from fpcodec.data.scenes import CROWDED
from fpcodec.errors import InputError
from fpcodec.evaluation.matching import iou_matrix, to_xywh

SCENE_COUNT = 150


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [generate_scene(seed) for seed in range(SCENE_COUNT)]


def box_areas(scene: Scene) -> np.ndarray:
    return np.prod(scene.boxes[:, 2:] - scene.boxes[:, :2], axis=1)


def digest(scene: Scene) -> str:
    return hashlib.sha256(scene.image.tobytes() + scene.boxes.tobytes()).hexdigest()


def test_same_seed_gives_same_bytes_in_another_process(scenes: list[Scene]) -> None:
    program = (
        "import hashlib; from fpcodec.data import generate_scene; s = generate_scene(7);"
        "print(hashlib.sha256(s.image.tobytes() + s.boxes.tobytes()).hexdigest())"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == digest(scenes[7]) == digest(generate_scene(7))


def test_other_seed_gives_another_scene(scenes: list[Scene]) -> None:
    assert len({digest(scene) for scene in scenes}) == SCENE_COUNT


def test_types_and_shapes(scenes: list[Scene]) -> None:
    for scene in scenes:
        count = len(scene.labels)
        assert scene.image.shape == (320, 320, 3)
        assert scene.image.dtype == np.uint8
        assert scene.boxes.shape == (count, 4)
        assert scene.boxes.dtype == np.float32
        assert scene.labels.dtype == np.int64
        assert scene.visible.shape == (count,)


def test_boxes_lie_inside_the_image_and_are_not_empty(scenes: list[Scene]) -> None:
    boxes = np.concatenate([scene.boxes for scene in scenes])
    assert boxes.min() >= 0
    assert boxes.max() <= 320
    assert (boxes[:, 2:] > boxes[:, :2]).all()


def test_every_class_and_size_bucket_is_well_filled(scenes: list[Scene]) -> None:
    areas = np.concatenate([box_areas(scene) for scene in scenes])
    small, large = np.mean(areas < 32**2), np.mean(areas >= 96**2)
    assert 0.33 < small < 0.48
    assert 0.18 < large < 0.32
    assert 0.27 < 1 - small - large < 0.42
    counts = np.bincount(np.concatenate([s.labels for s in scenes]), minlength=len(CLASS_NAMES))
    assert counts.min() > 0.1 * counts.sum()
    assert 4 < np.mean([len(scene.labels) for scene in scenes]) < 9


def test_some_objects_are_partly_hidden_and_none_nearly(scenes: list[Scene]) -> None:
    visible = np.concatenate([scene.visible for scene in scenes])
    assert visible.min() >= SceneConfig().min_visible
    assert visible.max() <= 1
    assert 0.1 < np.mean(visible < 0.99) < 0.8


def test_background_without_objects_is_textured() -> None:
    config = SceneConfig(min_objects=1, max_objects=1, max_noise=0.0)
    assert np.median([generate_scene(seed, config).image.std() for seed in range(20)]) > 5


def test_other_sizes() -> None:
    scene = generate_scene(3, SceneConfig(size=640))
    assert scene.image.shape == (640, 640, 3)
    assert scene.boxes.max() > 320


def test_coco_file_agrees_with_scenes(tmp_path: Path) -> None:
    written: list[int] = []
    path = write_coco(tmp_path / "set", range(40, 44), progress=written.append)
    document = json.loads(path.read_text())
    assert written == [1, 2, 3, 4]
    assert [c["name"] for c in document["categories"]] == list(CLASS_NAMES)
    assert len({row["id"] for row in document["annotations"]}) == len(document["annotations"])
    for entry in document["images"]:
        scene = generate_scene(entry["id"])
        pixels = np.asarray(Image.open(path.parent / "images" / entry["file_name"]))
        rows = [r for r in document["annotations"] if r["image_id"] == entry["id"]]
        left_top_size = np.array([row["bbox"] for row in rows])
        assert np.array_equal(pixels, scene.image)
        assert np.array_equal(left_top_size[:, :2] + left_top_size[:, 2:], scene.boxes[:, 2:])
        assert np.array_equal([row["area"] for row in rows], box_areas(scene))
        assert [row["category_id"] - 1 for row in rows] == scene.labels.tolist()
        assert {row["iscrowd"] for row in rows} <= {0}
    assert not list(tmp_path.rglob("*.tmp"))


def test_crowded_objects_overlap_others_of_their_class() -> None:
    overlapping = [0, 0]
    for i, config in enumerate((SceneConfig(), CROWDED)):
        for seed in range(40, 60):
            scene = generate_scene(seed, config)
            boxes = to_xywh(scene.boxes)
            ious = iou_matrix(boxes, boxes)
            ious[scene.labels[:, None] != scene.labels] = 0
            overlapping[i] += int((np.triu(ious, 1) > 0.3).sum())
    assert overlapping[1] > 20 * max(1, overlapping[0])


def test_no_crowding_draws_nothing_for_it() -> None:
    plain, other = SceneConfig(crowding=0.0), SceneConfig(crowding=1e-9)
    assert digest(generate_scene(3, plain)) == digest(generate_scene(3))
    assert digest(generate_scene(3, other)) != digest(generate_scene(3))


def test_jpeg_pictures_are_smaller(tmp_path: Path) -> None:
    sizes = {}
    for kind in ("png", "jpg"):
        write_coco(tmp_path / kind, [5], image_format=kind)
        sizes[kind] = (tmp_path / kind / "images" / f"00000005.{kind}").stat().st_size
    assert sizes["jpg"] < sizes["png"]


@pytest.mark.parametrize(
    "fields",
    [
        {"size": 10},
        {"min_objects": 5, "max_objects": 4},
        {"size_shares": (0.5, 0.5, 0.5)},
        {"min_object_size": 1.0},
        {"max_object_size": 50.0},
        {"min_visible": 0.0},
        {"max_blur": 2.0},
        {"crowding": 1.5},
    ],
)
def test_impossible_settings_are_refused(fields: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(fields))):
        SceneConfig(**fields)


def test_bad_arguments_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="seed is -1"):
        generate_scene(-1)
    with pytest.raises(InputError, match="png or jpg"):
        write_coco(tmp_path, [0], image_format="bmp")
