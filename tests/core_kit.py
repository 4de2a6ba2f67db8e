"""A detector of numpy alone, its pyramids, and profiles calibrated for it in a second."""

from __future__ import annotations

import atexit
import lzma
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from fpcodec.calibration import calibrate
from fpcodec.codecs.chunks import ChunkCoder
from fpcodec.codecs.coefficients import table_shapes
from fpcodec.codecs.tables import BUCKETS, CodecTables
from fpcodec.detections import Detections
from fpcodec.detectors.base import HeadOutput
from fpcodec.entropy import (
    Backend,
    ConstrictionBackend,
    PythonBackend,
    Table,
    table_from_counts,
)
from fpcodec.profile import Profile
from fpcodec.profile_folder import MANIFEST
from fpcodec.pyramid import ImageGeometry, LevelSpec, Pyramid, PyramidSpec, derive
from fpcodec.reconstruct.interpolation import resize_bilinear

NETWORK = (96, 64)
IMAGE = (120, 80)
SPEC = PyramidSpec(
    (
        LevelSpec("p3", 8, 8),
        LevelSpec("p4", 16, 8),
        LevelSpec("p5", 32, 8),
        LevelSpec("p6", 64, 8, derived_from="p5"),
    )
)
GEOMETRY = ImageGeometry(IMAGE, NETWORK, NETWORK)
GOLDEN = Path(__file__).parent / "golden"


def backends() -> list[Backend]:
    """Every range coder that can run here: the twin always, constriction's with its wheel."""
    try:
        return [PythonBackend(), ConstrictionBackend()]
    except ImportError:
        return [PythonBackend()]


def smooth(rng: np.random.Generator, shape: tuple[int, int, int]) -> np.ndarray:
    """Smooth noise with a little detail on top, shape (C, H, W), float32."""
    channels, height, width = shape
    coarse = rng.normal(0, 1, (channels, (height + 3) // 4 + 1, (width + 3) // 4 + 1))
    fine = rng.normal(0, 0.15, shape)
    return (resize_bilinear(coarse.astype(np.float32), (height, width)) + fine).astype(np.float32)


def make_pyramid(
    seed: int, spec: PyramidSpec = SPEC, geometry: ImageGeometry = GEOMETRY
) -> Pyramid:
    """A full pyramid of smooth noise, its channels mixed so that a basis has work to do."""
    rng = np.random.default_rng(seed)
    levels = {}
    for name in spec.coded_names:
        channels, height, width = spec.shape(name, geometry.network_size)
        # One mixing per level for every seed: what calibration is to find.
        mixing = np.random.default_rng(channels).normal(0, 1, (channels, channels))
        mixing *= 0.17 ** (np.arange(channels) / channels)
        values = smooth(rng, (channels, height, width)).reshape(channels, -1)
        levels[name] = (mixing @ values).astype(np.float32).reshape(channels, height, width)
    return derive(Pyramid(spec, levels, geometry))


class FakeDetector:
    """Both halves of a detector whose features are pooled pixels; no model, no file."""

    def __init__(self, spec: PyramidSpec = SPEC, network_size: tuple[int, int] = NETWORK) -> None:
        self.spec, self._network_size = spec, network_size
        self.labels = ("blob", "other")
        self.config: dict[str, Any] = {"kind": "fake"}
        self.export_files = {"edge.bin": b"edge half", "server.bin": b"server half"}

    def extract(self, image: np.ndarray, levels: Sequence[str] | None = None) -> Pyramid:
        geometry = self.geometry((image.shape[1], image.shape[0]))
        names = self.spec.coded_names if levels is None else levels
        seed = int(np.asarray(image, np.int64).sum()) % 10_000
        full = make_pyramid(seed, self.spec, geometry)
        return Pyramid(self.spec, {name: full.levels[name] for name in names}, geometry)

    def head(self, pyramid: Pyramid) -> HeadOutput:
        scores = {name: x[None] for name, x in self.response(pyramid).items()}
        return HeadOutput(scores, {name: x[:4] for name, x in pyramid.levels.items()})

    def response(self, pyramid: Pyramid) -> Mapping[str, np.ndarray]:
        # A position scores high where its first channel is strong: a probe can learn that.
        return {
            name: (1 / (1 + np.exp(8 - 2 * np.abs(x[0])))).astype(np.float32)
            for name, x in pyramid.levels.items()
        }

    def detect(self, pyramid: Pyramid) -> Detections:
        full = derive(pyramid)
        found = []
        for name, scores in self.response(full).items():
            stride = self.spec[name].stride
            for y, x in np.argwhere(scores > 0.5):
                centre = np.array([x + 0.5, y + 0.5] * 2) * stride
                size = np.array([-1, -1, 1, 1]) * stride
                found.append((float(scores[y, x]), centre + size))
        found.sort(key=lambda item: -item[0])
        boxes = np.asarray([box for _, box in found], np.float32).reshape(-1, 4)
        return Detections(
            pyramid.geometry.to_image(boxes),
            np.asarray([score for score, _ in found], np.float32),
            np.zeros(len(found), np.int64),
        )

    def geometry(
        self, image_size: tuple[int, int], network_size: tuple[int, int] | None = None
    ) -> ImageGeometry:
        size = network_size or self._network_size
        return ImageGeometry(image_size, size, size)

    def macs(self, levels: Sequence[str] | None = None) -> int | None:
        names = self.spec.coded_names if levels is None else levels
        return sum(int(np.prod(self.spec.shape(x, self._network_size))) * 100 for x in names)

    def export(self, folder: Path) -> dict[str, Any]:
        for name, data in self.export_files.items():
            (folder / name).write_bytes(data)
        return dict(self.config)


def write_images(folder: Path, count: int) -> list[Path]:
    """Small PNG files of noise."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(5)
    paths = []
    for index in range(count):
        pixels = rng.integers(0, 256, (IMAGE[1], IMAGE[0], 3)).astype(np.uint8)
        paths.append(folder / f"{index}.png")
        Image.fromarray(pixels).save(paths[-1])
    return paths


@cache
def kit_folder() -> Path:
    """A folder of this test run, removed at its end."""
    folder = Path(tempfile.mkdtemp(prefix="fpcodec-kit-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@cache
def kit_profile(codec: str) -> Profile:
    """A profile of ``codec`` for ``FakeDetector``; made once a run, so do not write into it."""
    images = write_images(kit_folder() / "images", 12)
    return calibrate(
        FakeDetector(), images, kit_folder() / codec, codec=codec, key_level_seconds=0.2
    )


def unpack_golden(kind: str, folder: Path) -> Path:
    """A golden profile's files, unpacked into a folder; the folder."""
    for file in (GOLDEN / kind).iterdir():
        if file.suffix == ".xz":
            (folder / file.stem).write_bytes(lzma.decompress(file.read_bytes()))
    (folder / MANIFEST).write_bytes((GOLDEN / kind / MANIFEST).read_bytes())
    return folder


@cache
def golden_learned() -> Profile:
    """The golden learned profile, for tests that have no torch; do not write into its folder."""
    folder = kit_folder() / "learned"
    folder.mkdir()
    return Profile.load(unpack_golden("learned", folder))


def random_tables(components: int, seed: int) -> dict[str, Table]:
    """Tables with nothing uniform about them, for a level of K components."""
    rng = np.random.default_rng(seed)
    return {
        name: table_from_counts(rng.gamma(0.3, 40, shape).astype(np.int64))
        for name, shape in table_shapes(components).items()
    }


def random_coder(
    codec_id: int, spec: PyramidSpec = SPEC, seed: int = 0, stream_id: bytes = bytes(range(32))
) -> ChunkCoder:
    """A chunk coder over random tables: no calibration, for tests of bytes alone."""
    components = {name: spec[name].channels for name in spec.coded_names}
    counts = {}
    for number, (level, count) in enumerate(components.items()):
        sets = [random_tables(count, seed + 100 * number + case) for case in range(2)]
        for name in sets[0]:
            cases = [np.asarray(tables[name].counts, np.uint16) for tables in sets]
            counts[f"tables.{level}.{name}"] = np.stack(
                [np.repeat(case[None], BUCKETS, axis=0) for case in cases]
            )
    return ChunkCoder(codec_id, spec, components, CodecTables(counts), stream_id)
