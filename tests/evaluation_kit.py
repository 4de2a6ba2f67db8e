"""Small data sets, noisy detections, and a detector of bright rectangles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PillowImage

from fpcodec.bitstream import Chunk, Frame, write_frame
from fpcodec.data.coco import CocoBox, CocoCategory, CocoDataset, CocoImage
from fpcodec.detections import Detections
from fpcodec.pyramid import ImageGeometry, LevelSpec, Pyramid, PyramidSpec


def detections(rows: Sequence[tuple[float, float, float, float, float, int]]) -> Detections:
    values = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(values[:, :4], values[:, 4], values[:, 5].astype(np.int64))


def random_dataset(
    generator: np.random.Generator, images: int = 12, crowds: bool = False
) -> CocoDataset:
    """Boxes of all scales in three categories; the fourth never occurs."""
    boxes = []
    for image in range(images):
        for _ in range(generator.integers(0, 7)):
            left, top = generator.integers(0, 200, 2)
            width, height = generator.integers(4, 160, 2)
            boxes.append(CocoBox(
                100 - image, int(generator.choice([2, 5, 9])),
                (float(left), float(top), float(width), float(height)), float(width * height),
                crowds and bool(generator.random() < 0.2),
            ))  # fmt: skip
    return CocoDataset(
        "random", Path(), tuple(CocoImage(100 - i, f"{i}.jpg", 400, 400) for i in range(images)),
        tuple(boxes), tuple(CocoCategory(i, f"c{i}") for i in (2, 5, 9, 11)),
    )  # fmt: skip


def random_detections(
    generator: np.random.Generator, dataset: CocoDataset, jitter: float = 6.0
) -> list[Detections]:
    """Found boxes with noise, missed ones, doubles and false alarms."""
    order = [category.id for category in dataset.categories]
    found = []
    for image in dataset.images:
        rows = []
        for box in dataset.boxes:
            if box.image_id != image.id:
                continue
            for _ in range(generator.choice([0, 1, 1, 2])):
                x, y, w, h = np.array(box.bbox) + generator.normal(0, jitter, 4)
                label = order.index(box.category_id)
                rows.append((x, y, x + max(w, 1), y + max(h, 1), generator.random(), label))
        for _ in range(generator.integers(0, 4)):
            x, y = generator.integers(0, 300, 2)
            rows.append((x, y, x + 30, y + 30, generator.random() / 2, generator.integers(0, 4)))
        found.append(detections(rows))
    return found


# The runner, with a detector that finds the rectangle of another brightness than the border.

SPEC = PyramidSpec((LevelSpec("p3", 8, 3), LevelSpec("p4", 16, 3)), size_divisor=16)


class BrightBox:
    """Finds the bounding box of the bright pixels; the pyramid carries it in its first cells."""

    spec = SPEC
    labels = ("thing",)

    def geometry(
        self, image_size: tuple[int, int], network_size: tuple[int, int] | None = None
    ) -> ImageGeometry:
        return ImageGeometry(image_size, (64, 64), (64, 64))

    def macs(self, levels: Sequence[str] | None = None) -> int | None:
        return 1000

    server_macs = 100

    def extract(self, image: Any, levels: Sequence[str] | None = None) -> Pyramid:
        geometry = self.geometry((image.shape[1], image.shape[0]))
        resized = np.asarray(PillowImage.fromarray(image).resize((64, 64)))
        rows, columns = np.nonzero(resized.mean(axis=2) > 128)
        p3 = np.zeros((3, 8, 8), np.float32)
        if len(rows):
            box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            p3[0, 0, :4] = box
        return Pyramid(SPEC, {"p3": p3, "p4": np.zeros((3, 4, 4), np.float32)}, geometry)

    def detect(self, pyramid: Pyramid) -> Detections:
        box = pyramid.geometry.to_image(pyramid.levels["p3"][0, 0, :4][None])
        return Detections(box, np.full(1, 0.9, np.float32), np.zeros(1, np.int64))


@dataclass
class FakeAnswer:
    detections: Detections
    timings_ms: dict[str, float]


class FakeCodec:
    """Frames whose only content is the box, shifted by what quality lacks."""

    codec_id = 1
    stream_id = bytes(32)
    spec = SPEC

    def encode(
        self, pyramid: Pyramid, quality: float, levels: Sequence[str] | None = None
    ) -> bytes:
        moved = pyramid.levels["p3"][0, 0, :4] + np.float32(20 * (1 - quality))
        chosen = levels or SPEC.names
        chunks = [Chunk(1, False, False, b"12345")] if "p4" in chosen else []
        chunks.append(Chunk(0, False, False, moved.astype(np.float32).tobytes()))
        geometry = pyramid.geometry
        return write_frame(Frame(1, b"abcdef", round(255 * quality), geometry.image_size,
                                 geometry.network_size, tuple(chunks)))  # fmt: skip


def fake_infer(frame: bytes) -> FakeAnswer:
    from fpcodec.bitstream import read_frame

    parsed = read_frame(frame)
    data = parsed.chunks[-1].data
    assert data is not None
    box = np.frombuffer(data, np.float32)[None]
    geometry = ImageGeometry(parsed.image_size, (64, 64), (64, 64))
    found = Detections(
        geometry.to_image(box), np.full(1, 0.9, np.float32), np.zeros(1, np.int64)
    )  # fmt: skip
    return FakeAnswer(found, {"decode": 1.0, "reconstruct": 2.0, "head": 3.0})


def draw_bright_boxes(tmp_path: Path) -> CocoDataset:
    """Six pictures of 128x128 with one bright rectangle each."""
    images, boxes = [], []
    for i in range(6):
        pixels = np.zeros((128, 128, 3), np.uint8)
        left, top, side = 4 + 8 * i, 30, 24 + 4 * i
        pixels[top : top + side, left : left + side] = 255
        PillowImage.fromarray(pixels).save(tmp_path / f"{i}.png")
        images.append(CocoImage(i, f"{i}.png", 128, 128))
        boxes.append(CocoBox(i, 1, (left, top, side, side), side * side))
    categories = (CocoCategory(1, "thing"),)
    return CocoDataset("bright", tmp_path, tuple(images), tuple(boxes), categories)
