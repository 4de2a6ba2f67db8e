"""What ``train_detector.py`` trains on: generated scenes, or photographs in COCO's format.

Index ``i`` of a data set always gives the same picture and the same changes to it, so a resumed run
meets what an unbroken one would have met.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from fpcodec.data import SceneConfig, generate_scene
from fpcodec.data.coco import CocoDataset
from fpcodec.detectors.tiny import TinyConfig

Sample = tuple[Tensor, dict[str, Tensor]]
Floats = npt.NDArray[np.float32]

MIN_VISIBLE = 0.4
"""Share of an object's area that a crop must leave for the object to be asked for."""


class Scenes(Dataset[Sample]):
    """Generated scenes: index ``i`` has the seed ``first + i * stride``."""

    def __init__(self, first: int, stride: int, config: SceneConfig | None = None) -> None:
        self.first, self.stride, self.config = first, stride, config

    def __len__(self) -> int:
        return 10_000_000

    def __getitem__(self, index: int) -> Sample:
        scene = generate_scene(self.first + index * self.stride, self.config)
        image = torch.from_numpy(scene.image).permute(2, 0, 1).contiguous()
        labels = torch.from_numpy(scene.labels) + 1  # torchvision's 0 is background
        return image, {"boxes": torch.from_numpy(scene.boxes), "labels": labels}


@dataclass(frozen=True)
class Changes:
    """How far a photograph is changed before it is trained on.

    Attributes:
        scale: Largest factor, either way, on the size of what is seen.
        stretch: Largest further factor, either way, on its width.
        contrast: Largest share that contrast or saturation grow or shrink by.
        light: Largest share that brightness grows or shrinks by.
        tint: Largest share that one channel's brightness grows or shrinks by.
    """

    scale: float = 1.25
    stretch: float = 1.1
    contrast: float = 0.25
    light: float = 0.12
    tint: float = 0.05


class Photographs(Dataset[Sample]):
    """Photographs of a COCO data set, shuffled anew each epoch, cropped, flipped, recoloured."""

    def __init__(
        self, dataset: CocoDataset, config: TinyConfig, seed: int, first: int, stride: int
    ) -> None:
        self.dataset, self.config, self.seed = dataset, config, seed
        self.first, self.stride, self.changes = first, stride, Changes()
        labels = {category.id: i + 1 for i, category in enumerate(dataset.categories)}
        rows: dict[int, list[tuple[float, ...]]] = {image.id: [] for image in dataset.images}
        for box in dataset.boxes:
            left, top, width, height = box.bbox
            if not box.crowd and width > 0 and height > 0:
                row = (left, top, left + width, top + height, labels[box.category_id])
                rows[box.image_id].append(row)
        self.rows = {key: np.array(value, np.float32).reshape(-1, 5) for key, value in rows.items()}

    def __len__(self) -> int:
        return 10_000_000

    def __getitem__(self, index: int) -> Sample:
        draw = self.first + index * self.stride
        epoch, position = divmod(draw, len(self.dataset))
        order = np.random.default_rng([self.seed, 0, epoch]).permutation(len(self.dataset))
        entry = self.dataset.images[order[position]]
        rng = np.random.default_rng([self.seed, 1, draw])
        with Image.open(self.dataset.path(entry)) as opened:
            picture = opened.convert("RGB")
        window = random_window(rng, picture.size, self.config.size, self.changes)
        pixels, rows = cut(picture, self.rows[entry.id], window, self.config)
        pixels, rows = flip(rng, pixels, rows)
        pixels = recolour(rng, pixels, self.config, self.changes)
        target = {
            "boxes": torch.from_numpy(rows[:, :4].copy()),
            "labels": torch.from_numpy(rows[:, 4].astype(np.int64)),
        }
        return torch.from_numpy(pixels.transpose(2, 0, 1).copy()), target


def random_window(
    rng: np.random.Generator, picture: tuple[int, int], size: tuple[int, int], changes: Changes
) -> tuple[int, int, int, int]:
    """Return the part (left, top, right, bottom) of a picture to see; it may reach beyond it."""
    zoom = np.exp(rng.uniform(-1, 1) * np.log(changes.scale))
    stretch = np.exp(rng.uniform(-1, 1) * np.log(changes.stretch))
    ratio = fitting_ratio(picture, size) * zoom
    width, height = round(size[0] * ratio * stretch), round(size[1] * ratio)
    left, top = (
        round(rng.uniform(min(0, whole - part), max(0, whole - part)))
        for whole, part in ((picture[0], width), (picture[1], height))
    )
    return left, top, left + width, top + height


def fitting_ratio(picture: tuple[int, int], size: tuple[int, int]) -> float:
    """Return how many of its pixels a whole picture has per pixel of the network's input."""
    return max(picture[0] / size[0], picture[1] / size[1])


def cut(
    picture: Image.Image, rows: Floats, window: tuple[int, int, int, int], config: TinyConfig
) -> tuple[npt.NDArray[np.uint8], Floats]:
    """Return the window at the network's size, and the boxes (x1, y1, x2, y2, label) in it."""
    left, top, right, bottom = window
    grey = (round(config.mean[0]), round(config.mean[1]), round(config.mean[2]))
    canvas = Image.new("RGB", (right - left, bottom - top), grey)
    canvas.paste(picture, (-left, -top))
    scale = np.array(config.size, np.float32) / np.array(canvas.size, np.float32)
    whole = (rows[:, :4] - np.array([left, top, left, top], np.float32)) * np.tile(scale, 2)
    seen = whole.clip(0, np.tile(np.array(config.size, np.float32), 2))
    visible = _areas(seen) >= MIN_VISIBLE * _areas(whole)
    visible &= ((seen[:, 2:] - seen[:, :2]) >= 2).all(axis=1)
    kept = np.concatenate([seen, rows[:, 4:]], axis=1)[visible].astype(np.float32)
    resized = canvas.resize(config.size, Image.Resampling.BILINEAR)
    return np.asarray(resized), kept


def _areas(boxes: Floats) -> Floats:
    areas: Floats = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return areas


def flip(
    rng: np.random.Generator, pixels: npt.NDArray[np.uint8], rows: Floats
) -> tuple[npt.NDArray[np.uint8], Floats]:
    """Mirror at either axis, each with probability one half."""
    height, width = pixels.shape[:2]
    rows = rows.copy()
    if rng.random() < 0.5:
        pixels = pixels[:, ::-1]
        rows[:, [0, 2]] = width - rows[:, [2, 0]]
    if rng.random() < 0.5:
        pixels = pixels[::-1]
        rows[:, [1, 3]] = height - rows[:, [3, 1]]
    return pixels, rows


def recolour(
    rng: np.random.Generator, pixels: npt.NDArray[np.uint8], config: TinyConfig, changes: Changes
) -> npt.NDArray[np.uint8]:
    """Change saturation, contrast, brightness and tint; contrast turns about the mean colour."""
    colours = pixels.astype(np.float32)
    grey = colours.mean(axis=2, keepdims=True)
    colours = grey + (colours - grey) * (1 + rng.uniform(-1, 1) * changes.contrast)
    mean = np.array(config.mean, np.float32)
    colours = mean + (colours - mean) * (1 + rng.uniform(-1, 1) * changes.contrast)
    gain = 1 + rng.uniform(-1, 1) * changes.light + rng.uniform(-1, 1, 3) * changes.tint
    bright: npt.NDArray[np.uint8] = (colours * gain).clip(0, 255).round().astype(np.uint8)
    return bright


def split_heldout(dataset: CocoDataset, count: int) -> tuple[CocoDataset, CocoDataset]:
    """Take ``count`` evenly spaced pictures out of a data set; return (the others, the taken)."""
    taken = {
        dataset.images[i].id
        for i in np.linspace(0, len(dataset) - 1, count).round().astype(int).tolist()
    }
    parts = []
    for inside in (False, True):
        images = tuple(image for image in dataset.images if (image.id in taken) == inside)
        boxes = tuple(box for box in dataset.boxes if (box.image_id in taken) == inside)
        parts.append(replace(dataset, images=images, boxes=boxes))
    return parts[0], parts[1]


def measure_colours(dataset: CocoDataset) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the mean and the standard deviation of each channel, rounded to whole levels."""
    total, squares, count = np.zeros(3), np.zeros(3), 0
    for path in dataset.paths():
        with Image.open(path) as opened:
            pixels = np.asarray(opened.convert("RGB").reduce(4), np.float64).reshape(-1, 3)
        total, squares = total + pixels.sum(axis=0), squares + (pixels**2).sum(axis=0)
        count += len(pixels)
    mean = total / count
    std = np.sqrt(squares / count - mean**2)
    return tuple(mean.round().tolist()), tuple(std.round().clip(1).tolist())
