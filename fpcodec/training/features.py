"""Features on disk: each image is extracted once, whatever many times it is trained on.

One file per level and network size, half precision, image after image; ``index.json`` is written
last, so a cache is whole or absent.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fpcodec.detectors.base import Image
from fpcodec.errors import InputError
from fpcodec.images import load_image
from fpcodec.pyramid import ImageGeometry, Pyramid, PyramidSpec
from fpcodec.training.shortages import disk_full_named

INDEX = "index.json"
HALF_MAX = 65504.0

Progress = Callable[[int, int], None]


class PyramidSource(Protocol):
    """What gives pyramids of images: a detector, or what arrives of its pyramids elsewhere."""

    @property
    def spec(self) -> PyramidSpec:
        """The pyramids."""

    def extract(self, image: Image) -> Pyramid:
        """The pyramid of an image, shape (H, W, 3), uint8, RGB."""


@dataclass(frozen=True)
class Entry:
    """One cached pyramid.

    Attributes:
        image: Path of the image, for messages.
        mirrored: Whether left and right are swapped.
        geometry: As the detector laid it.
        row: Its place in the files of its network size.
    """

    image: str
    mirrored: bool
    geometry: ImageGeometry
    row: int


class FeatureCache:
    """Pyramids of many images, read as they are asked for.

    Args:
        folder: As ``cache_features`` wrote it.
        spec: The pyramids.
    """

    def __init__(self, folder: Path, spec: PyramidSpec) -> None:
        self.folder, self.spec = folder, spec
        index = json.loads((folder / INDEX).read_text())
        self.images_left_out = int(index["images_left_out"])
        self.entries = [
            Entry(x["image"], x["mirrored"], _geometry(x["geometry"]), x["row"])
            for x in index["entries"]
        ]

    def __len__(self) -> int:
        return len(self.entries)

    def by_size(self, start: int) -> list[npt.NDArray[np.intp]]:
        """Entries from ``start`` on, grouped by network size."""
        groups: dict[tuple[int, int], list[int]] = {}
        for index in range(start, len(self)):
            groups.setdefault(self.entries[index].geometry.network_size, []).append(index)
        return [np.array(group, np.intp) for group in groups.values()]

    def batch(self, indices: Sequence[int], device: torch.device) -> dict[str, Tensor]:
        """Features (N, C, H, W) of entries of one network size, float32, channels last."""
        size = self.entries[indices[0]].geometry.network_size
        rows = [self.entries[index].row for index in indices]
        out = {}
        for name in self.spec.coded_names:
            some = torch.from_numpy(self._maps[size][name][rows]).to(device)
            out[name] = some.float().contiguous(memory_format=torch.channels_last)
        return out

    def pyramid(self, index: int) -> Pyramid:
        """One entry, every coded level, float32."""
        entry = self.entries[index]
        maps = self._maps[entry.geometry.network_size]
        levels = {name: x[entry.row].astype(np.float32) for name, x in maps.items()}
        return Pyramid(self.spec, levels, entry.geometry)

    def some(self, indices: Sequence[int]) -> CachedPyramids:
        """Entries as a sequence of pyramids that are read when they are asked for."""
        return CachedPyramids(self, tuple(indices))

    @cached_property
    def _maps(self) -> dict[tuple[int, int], dict[str, npt.NDArray[np.float16]]]:
        maps: dict[tuple[int, int], dict[str, npt.NDArray[np.float16]]] = {}
        for size in {entry.geometry.network_size for entry in self.entries}:
            maps[size] = {}
            for name in self.spec.coded_names:
                values = np.memmap(_file(self.folder, size, name), np.float16, "r")
                maps[size][name] = values.reshape(-1, *self.spec.shape(name, size))
        return maps


@dataclass(frozen=True)
class CachedPyramids(Sequence[Pyramid]):
    """Some entries of a cache: of large pyramids a memory holds few.

    Attributes:
        cache: Where they lie.
        indices: Which they are.
    """

    cache: FeatureCache
    indices: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.indices)

    @overload
    def __getitem__(self, index: int) -> Pyramid: ...

    @overload
    def __getitem__(self, index: slice) -> CachedPyramids: ...

    def __getitem__(self, index: int | slice) -> Pyramid | CachedPyramids:
        if isinstance(index, slice):
            return CachedPyramids(self.cache, self.indices[index])
        return self.cache.pyramid(self.indices[index])


def cache_features(
    detector: PyramidSource,
    images: Sequence[Path],
    folder: Path,
    *,
    identity: str,
    limit_bytes: float,
    held_out: int = 0,
    mirror: bool = False,
    progress: Progress | None = None,
) -> FeatureCache:
    """Extract images, or find that it was done before.

    Args:
        detector: Its edge half, or another source of its pyramids.
        images: In the order in which they are to be cached; the first are those held out.
        folder: Holds one folder per detector and list of images.
        identity: Of the detector.
        limit_bytes: Images beyond it are left out; see ``FeatureCache.images_left_out``.
        held_out: Images that are not mirrored.
        mirror: Cache the mirrored images too.
        progress: Called with images done and images in all.

    Raises:
        InputError: An image cannot be read, not one fits, or the disk is full.
    """
    key = _key(identity, images, limit_bytes, held_out if mirror else -1)
    target = folder / key
    if not (target / INDEX).is_file():
        with disk_full_named(target, "cached features"):
            shutil.rmtree(target, ignore_errors=True)
            target.mkdir(parents=True)
            try:
                _extract(detector, images, target, limit_bytes, held_out, mirror, progress)
            except BaseException:
                shutil.rmtree(target, ignore_errors=True)
                raise
    return FeatureCache(target, detector.spec)


def _extract(
    detector: PyramidSource,
    images: Sequence[Path],
    folder: Path,
    limit_bytes: float,
    held_out: int,
    mirror: bool,
    progress: Progress | None,
) -> None:
    entries: list[dict[str, Any]] = []
    rows: dict[tuple[int, int], int] = {}
    used_bytes, done = 0, 0
    for number, path in enumerate(images):
        pyramids = [
            (mirrored, detector.extract(picture))
            for mirrored, picture in _views(path, mirror and number >= held_out)
        ]
        need = sum(2 * x.size for _, p in pyramids for x in p.levels.values())
        if used_bytes + need > limit_bytes:
            break
        for mirrored, pyramid in pyramids:
            pyramid.require_finite()
            size = pyramid.geometry.network_size
            for name, values in pyramid.levels.items():
                half = np.clip(values, -HALF_MAX, HALF_MAX).astype(np.float16)
                with _file(folder, size, name).open("ab") as file:
                    file.write(half.tobytes())
            row = rows.setdefault(size, 0)
            rows[size] += 1
            entries.append({"image": str(path), "mirrored": mirrored, "row": row,
                            "geometry": vars(pyramid.geometry)})  # fmt: skip
        used_bytes, done = used_bytes + need, number + 1
        if progress is not None:
            progress(done, len(images))
    if not entries:
        raise InputError(f"not one image's features fit into {limit_bytes / 1e9:g} GB; "
                         "raise --cache-gb")  # fmt: skip
    index = {"images_left_out": len(images) - done, "entries": entries}
    (folder / INDEX).write_text(json.dumps(index))


def _views(path: Path, mirror: bool) -> Iterator[tuple[bool, Image]]:
    picture = load_image(path)
    yield False, picture
    if mirror:
        yield True, np.ascontiguousarray(picture[:, ::-1])


def _file(folder: Path, size: tuple[int, int], name: str) -> Path:
    return folder / f"{size[0]}x{size[1]}.{name}.f16"


def _geometry(values: dict[str, Any]) -> ImageGeometry:
    return ImageGeometry(**{key: tuple(value) for key, value in values.items()})


def _key(identity: str, images: Sequence[Path], limit_bytes: float, unmirrored: int) -> str:
    facts: list[Any] = [identity, limit_bytes, unmirrored]
    for path in images:
        status = path.stat()
        facts.append([str(path.resolve()), status.st_size, status.st_mtime_ns])
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]
