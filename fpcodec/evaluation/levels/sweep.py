"""Runs a degradation study over a data set, in pieces that survive being killed.

    OUT/sweep.json      every cell's AP and drop, key levels, reading; grows cell by cell
    OUT/shards/         detections of a few images in many cells; may be deleted afterwards

Images are the outer loop: a pyramid is extracted once and serves every cell.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np

from fpcodec.data.coco import CocoDataset
from fpcodec.detections import Detections
from fpcodec.detectors.base import Detector
from fpcodec.errors import InputError
from fpcodec.evaluation.average_precision import evaluate_ap, require_coco_eval
from fpcodec.evaluation.detection_files import UNREADABLE, read_detections, write_detections
from fpcodec.evaluation.environment import Environment
from fpcodec.evaluation.levels.degradation import (
    Degradation,
    DegradedPyramids,
    clamped_levels,
    detect_cell,
    require_scope,
    to_dict,
)
from fpcodec.evaluation.levels.detector_source import DetectorSource
from fpcodec.evaluation.levels.sweep_result import read_cells, read_result, write_result
from fpcodec.evaluation.scoring import Bootstrap, Score, score_detections
from fpcodec.executor import Executor, run_all
from fpcodec.images import load_image

FORMAT = 1
RESULT = "sweep.json"
SHARDS = "shards"
SHARD_IMAGES = 8
"""Images whose detections are written at once: what a killed run loses, per worker."""

Progress = Callable[[str, int, int], None]
"""Called with the stage, steps done and steps in all."""


@dataclass(frozen=True)
class Sweep:
    """A study to run.

    Attributes:
        source: The detector.
        dataset: Images and boxes.
        cells: What to measure; the cell without degradation is added where it is missing.
        folder: Where results and shards go.
        bootstrap: Draws and seed of the drops' intervals.
        environment: Kept in the result.
    """

    source: DetectorSource
    dataset: CocoDataset
    cells: tuple[Degradation, ...]
    folder: Path
    bootstrap: Bootstrap
    environment: Environment

    def fingerprint(self) -> str:
        """Hex sha256 of what every cell of a result has in common."""
        dataset = asdict(self.dataset)
        facts = [FORMAT, self.source.identity(), dataset["images"], dataset["boxes"],
                 dataset["categories"], asdict(self.bootstrap)]  # fmt: skip
        return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


def run_sweep(
    sweep: Sweep, executor: Executor, progress: Progress = lambda stage, done, total: None
) -> dict[str, Any]:
    """Measure every cell that the folder does not hold yet, and read the whole.

    Returns:
        What ``OUT/sweep.json`` holds: ``cells`` by key, each with ``ap``, ``ap_halves`` (images
        in turn), ``drop`` and ``clamped`` levels; ``readings`` by scope and resampling.

    Raises:
        InputError: The folder holds another study, a cell does not fit the pyramid, or an image
            cannot be used.
        MissingDependency: faster-coco-eval is not installed.
    """
    require_coco_eval()
    if not sweep.dataset.boxes:
        raise InputError(f"{sweep.dataset.name}: no annotated box; AP needs some")
    fingerprint = sweep.fingerprint()
    result = read_result(sweep.folder / RESULT, fingerprint)
    detector = _opened(sweep.source)
    _check(detector, sweep.dataset, sweep.cells)
    cells = _with_references(sweep.cells)
    result |= _header(sweep, detector, fingerprint, result)
    # Shards without a result that names their study would be anybody's.
    write_result(sweep.folder / RESULT, result)
    missing = [cell for cell in cells if cell.key not in result["cells"]]
    if missing:
        needed = _with_references(missing)
        result["cost"] = _detect(sweep, needed, executor, progress) or result.get("cost")
        _score(sweep, detector, needed, result, executor, progress)
    result["readings"] = read_cells(result, detector.spec)
    write_result(sweep.folder / RESULT, result)
    return result


def detect_shard(
    source: DetectorSource, paths: Sequence[Path], cells: Sequence[Degradation], target: Path
) -> tuple[float, float]:
    """Detect on a few images in every cell and write the detections to ``target``.

    Returns:
        Seconds of CPU spent on extraction and on cells.
    """
    detector = _opened(source)
    found: dict[str, list[Detections]] = {cell.key: [] for cell in cells}
    extracting = 0.0
    start = process_time()
    for path in paths:
        image = load_image(path)
        before = process_time()
        degraded = DegradedPyramids.of(detector.extract(image))
        extracting += process_time() - before
        for cell in cells:
            found[cell.key].append(detect_cell(detector, degraded, cell))
    spent = process_time() - start - extracting
    write_detections(target, found)
    return extracting, spent


@lru_cache(maxsize=1)
def _opened(source: DetectorSource) -> Detector:
    """A worker opens its detector once."""
    return source.open()


def _with_references(cells: Sequence[Degradation]) -> tuple[Degradation, ...]:
    """The cells, each kind's own without degradation first; none twice."""
    references = [replace(cell, ratios=(1.0,) * len(cell.ratios)) for cell in cells]
    return tuple({cell.key: cell for cell in (*references, *cells)}.values())


def _check(detector: Detector, dataset: CocoDataset, cells: Sequence[Degradation]) -> None:
    """Find out now what would end a long run."""
    for cell in cells:
        cell.require_levels(detector.spec)
        require_scope(detector, cell.scope)
    dataset.category_ids(tuple(detector.labels))
    degraded = DegradedPyramids.of(detector.extract(load_image(next(dataset.paths()))))
    for scope in {cell.scope for cell in cells}:
        detect_cell(detector, degraded, next(cell for cell in cells if cell.scope == scope))


def _header(
    sweep: Sweep, detector: Detector, fingerprint: str, old: Mapping[str, Any]
) -> dict[str, Any]:
    command = sweep.environment.command
    spec = detector.spec
    return {
        "format": FORMAT,
        "fingerprint": fingerprint,
        "detector": sweep.source.identity(),
        "levels": list(spec.names),
        "derived": {x.name: x.derived_from for x in spec.levels if x.derived_from is not None},
        "data": sweep.dataset.name,
        "images": len(sweep.dataset),
        "seed": sweep.bootstrap.seed,
        "draws": sweep.bootstrap.draws,
        "environment": asdict(sweep.environment),
        "commands": list(dict.fromkeys([*old.get("commands", []), command])),
        "cells": dict(old.get("cells", {})),
    }


def _detect(
    sweep: Sweep, cells: Sequence[Degradation], executor: Executor, progress: Progress
) -> dict[str, Any] | None:
    """Fill the shards; None where they held everything."""
    paths = list(sweep.dataset.paths())
    folder = sweep.folder / SHARDS
    work = []
    for start in range(0, len(paths), SHARD_IMAGES):
        done = _keys_in(_shard_files(folder, start))
        todo = tuple(cell for cell in cells if cell.key not in done)
        if todo:
            name = hashlib.sha256(" / ".join(x.key for x in todo).encode()).hexdigest()[:8]
            part = paths[start : start + SHARD_IMAGES]
            work.append((sweep.source, part, todo, folder / f"{start:06d}-{name}.npz"))
    if not work:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    extracting = spent = 0.0
    total = sum(len(part) for _, part, _, _ in work)
    images = runs = 0
    for index, (here, there) in run_all(executor, detect_shard, work):
        _, part, todo, _ = work[index]
        extracting, spent = extracting + here, spent + there
        images, runs = images + len(part), runs + len(part) * len(todo)
        progress("detecting", images, total)
    return {"images": images, "head_runs": runs, "extract_cpu_ms": 1000 * extracting / images,
            "cell_cpu_ms": 1000 * spent / runs, "workers": executor.workers}  # fmt: skip


def _score(
    sweep: Sweep, detector: Detector, cells: Sequence[Degradation],
    result: dict[str, Any], executor: Executor, progress: Progress,
) -> None:  # fmt: skip
    """Score every cell into ``result["cells"]``, writing the file as it grows."""
    found = _gather(sweep, {cell.key for cell in cells})
    shapes = {(image.width, image.height) for image in sweep.dataset.images}
    sizes = {detector.geometry(shape).network_size for shape in shapes}
    clamped = clamped_levels(detector.spec, cells, sizes)
    labels = tuple(detector.labels)
    references: dict[str, Score] = {}
    done = 0
    # Drops are taken from the references, so those come first.
    for part in ([x for x in cells if x.is_reference], [x for x in cells if not x.is_reference]):
        work = ((sweep.dataset, found[x.key], labels, sweep.bootstrap) for x in part)
        for index, (score, halves) in run_all(executor, score_cell, work):
            cell, done = part[index], done + 1
            reference = references.setdefault(cell.kind, score)
            result["cells"][cell.key] = {
                **to_dict(cell), "ap": dict(score.ap), "ap_halves": halves,
                "drop": None if cell.is_reference else _drop(score, reference),
                "clamped": list(clamped[cell.key]), "code": sweep.environment.git_sha,
            }  # fmt: skip
            write_result(sweep.folder / RESULT, result)
            progress("scoring", done, len(cells))


def _drop(score: Score, reference: Score) -> dict[str, float] | None:
    """The paired drop, JSON-able; None where no draw holds an annotated box."""
    drop = asdict(score.drop_from(reference)[0])
    return drop if np.isfinite(list(drop.values())).all() else None


def score_cell(
    dataset: CocoDataset, found: Sequence[Detections], labels: Sequence[str], bootstrap: Bootstrap
) -> tuple[Score, list[dict[str, float | None]]]:
    """Score one cell on all images, and its AP on every other image and on the rest."""
    halves = []
    for half in (0, 1):
        images = dataset.images[half::2]
        kept = {image.id for image in images}
        boxes = tuple(box for box in dataset.boxes if box.image_id in kept)
        part = replace(dataset, images=images, boxes=boxes)
        ap = evaluate_ap(part, found[half::2], labels).to_dict() if images else {}
        halves.append(ap)
    return score_detections(dataset, found, labels, bootstrap), halves


def _gather(sweep: Sweep, keys: set[str]) -> dict[str, list[Detections]]:
    """All images' detections by cell."""
    found: dict[str, list[Detections]] = {key: [] for key in keys}
    for start in range(0, len(sweep.dataset), SHARD_IMAGES):
        here: dict[str, list[Detections]] = {}
        for file in _shard_files(sweep.folder / SHARDS, start):
            here |= read_detections(file)
        for key in keys:
            found[key] += here[key]
    return found


def _shard_files(folder: Path, start: int) -> list[Path]:
    return sorted(folder.glob(f"{start:06d}-*.npz"))


def _keys_in(files: Sequence[Path]) -> set[str]:
    """Keys of the cells that shards hold, without reading their detections."""
    keys: set[str] = set()
    for file in files:
        with (
            _readable(file),
            file.open("rb") as opened,
            np.load(opened, allow_pickle=False) as data,
        ):
            keys.update(map(str, data["names"]))
    return keys


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    """Turns what numpy says of a damaged file into a line for people."""
    try:
        yield
    except UNREADABLE as error:
        raise InputError(f"{file} cannot be read ({error}); delete it and run again") from error
