"""What the training script shows a detector: photographs, changed, with boxes that still fit."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
from script_kit import script_fixture

from fpcodec.data import CLASS_NAMES, write_coco
from fpcodec.data.coco import CocoDataset, load_coco

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")

from fpcodec.detectors.tiny import TinyConfig  # noqa: E402

CONFIG = TinyConfig("scenes", CLASS_NAMES, (128, 96))


script = script_fixture("training_data")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> CocoDataset:
    annotations = write_coco(tmp_path_factory.mktemp("scenes"), range(5))
    return load_coco(annotations, annotations.parent / "images")


def test_every_epoch_shows_every_picture_anew(script: ModuleType, dataset: CocoDataset) -> None:
    pictures = script.Photographs(dataset, CONFIG, seed=1, first=0, stride=1)
    later = script.Photographs(dataset, CONFIG, seed=1, first=5, stride=1)
    first, second = (
        [image for image, _ in map(x.__getitem__, range(5))] for x in (pictures, later)
    )
    assert all(image.shape == (3, 96, 128) for image in first)
    assert not any(torch.equal(a, b) for a in first for b in second)
    assert torch.equal(pictures[7][0], later[2][0])


def test_boxes_stay_within_the_picture(script: ModuleType, dataset: CocoDataset) -> None:
    pictures = script.Photographs(dataset, CONFIG, seed=0, first=0, stride=1)
    targets = [pictures[i][1] for i in range(25)]
    boxes = torch.cat([target["boxes"] for target in targets])
    labels = torch.cat([target["labels"] for target in targets])
    assert len(boxes) > 25
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] <= torch.tensor([128.0, 96.0])).all()
    assert ((boxes[:, 2:] - boxes[:, :2]) >= 2).all()
    assert set(labels.tolist()) <= set(range(1, 1 + len(CLASS_NAMES)))


def test_cuts_and_flips_move_boxes_with_the_pixels(script: ModuleType) -> None:
    from PIL import Image

    pixels = np.zeros((96, 128, 3), np.uint8)
    pixels[30:50, 40:80] = 255
    rows = np.array([[40, 30, 80, 50, 2]], np.float32)
    zoomed, moved = script.cut(Image.fromarray(pixels), rows, (20, 10, 84, 58), CONFIG)
    assert moved.tolist() == [[40.0, 40.0, 120.0, 80.0, 2.0]]
    for seed in range(8):
        flipped, found = script.flip(np.random.default_rng(seed), zoomed, moved)
        lit = np.nonzero(flipped[:, :, 0] > 127)
        edges = (lit[1].min(), lit[0].min(), lit[1].max() + 1, lit[0].max() + 1)
        assert found[0, :4].tolist() == list(map(float, edges))
    beyond, gone = script.cut(Image.fromarray(pixels), rows, (70, 40, 198, 136), CONFIG)
    assert len(gone) == 0
    assert tuple(beyond[-1, -1]) == tuple(round(x) for x in CONFIG.mean)


def test_pictures_set_aside_are_not_trained_on(script: ModuleType, dataset: CocoDataset) -> None:
    training, aside = script.split_heldout(dataset, 2)
    assert (len(training), len(aside)) == (3, 2)
    assert {x.id for x in training.images}.isdisjoint(x.id for x in aside.images)
    assert len(training.boxes) + len(aside.boxes) == len(dataset.boxes)
    mean, std = script.measure_colours(training)
    assert all(0 < value < 255 for value in (*mean, *std))
