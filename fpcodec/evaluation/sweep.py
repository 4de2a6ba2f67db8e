"""Runs a degradation study over a data set, in pieces that survive being killed.

    OUT/sweep.json      every cell's AP and drop, key levels, reading; grows cell by cell
    OUT/shards/         detections of a few images in many cells; may be deleted afterwards

Images are the outer loop: a pyramid is extracted once and serves every cell.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar
from zipfile import BadZipFile

import numpy as np

from fpcodec.calibration.key_levels import macs_saved
from fpcodec.data.coco import CocoDataset
from fpcodec.detections import Detections
from fpcodec.detectors.base import Detector
from fpcodec.errors import InputError
from fpcodec.evaluation.average_precision import evaluate_ap, require_coco_eval
from fpcodec.evaluation.degradation import (
    Degradation,
    DegradedPyramids,
    clamped_levels,
    detect_cell,
    require_scope,
    to_dict,
)
from fpcodec.evaluation.detection_files import read_detections, write_detections
from fpcodec.evaluation.environment import Environment
from fpcodec.evaluation.level_reading import LevelLosses, key_level_table, read_direction
from fpcodec.evaluation.scoring import Bootstrap, Score, score_detections
from fpcodec.executor import Executor
from fpcodec.files import replacing
from fpcodec.images import load_image
from fpcodec.profile import Profile
from fpcodec.pyramid import PyramidSpec

FORMAT = 1
RESULT = "sweep.json"
SHARDS = "shards"
SHARD_IMAGES = 8
"""Images whose detections are written at once: what a killed run loses, per worker."""

Progress = Callable[[str, int, int], None]
"""Called with the stage, steps done and steps in all."""

T = TypeVar("T")


@dataclass(frozen=True)
class DetectorSource:
    """Where a detector comes from: a plain value that travels to other processes.

    Attributes:
        profile: A profile folder, or None.
        spec: A detector's description as ``open_detector`` reads it, where there is no profile.
        threads: Threads within an operator.
    """

    profile: Path | None
    spec: str = ""
    threads: int = 1

    def open(self) -> Detector:
        """Open both halves.

        Raises:
            FpcodecError: It cannot be opened; the message says why.
        """
        if self.profile is not None:
            return Profile.load(self.profile).open_detector("both", threads=self.threads)
        from fpcodec.detectors.factory import open_detector, parse_spec

        wanted = parse_spec(self.spec)
        if wanted.kind == "tiny" and wanted.argument == "torch":
            from fpcodec.detectors.tiny_torch import TinyTorchDetector

            folder = wanted.options.get("folder")
            if folder is None:
                return TinyTorchDetector.embedded(self.threads)
            return TinyTorchDetector.from_folder(Path(folder), self.threads)
        return open_detector(wanted, threads=self.threads)

    def identity(self) -> dict[str, Any]:
        """JSON-able: what makes it the same detector in a later run, wherever it lies."""
        if self.profile is not None:
            profile = Profile.load(self.profile)
            # A profile's tables and key levels have no say here, only its detector's files.
            config = {k: v for k, v in profile.detector_config.items() if k != "macs"}
            return {"profile": profile.name, "config": config}
        from fpcodec.detectors.factory import parse_spec

        wanted = parse_spec(self.spec)
        options = {k: _content(v) for k, v in wanted.options.items() if k != "threads"}
        return {"kind": wanted.kind, "argument": _content(wanted.argument), "options": options}


def _content(value: Any) -> Any:
    """A value, or the sha256 of the file that it names."""
    if not isinstance(value, str) or not Path(value).is_file():
        return value
    return f"sha256:{hashlib.sha256(Path(value).read_bytes()).hexdigest()}"


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
    result = _read_result(sweep.folder / RESULT, fingerprint)
    detector = _opened(sweep.source)
    _check(detector, sweep.dataset, sweep.cells)
    cells = _with_references(sweep.cells)
    result |= _header(sweep, detector, fingerprint, result)
    # Shards without a result that names their study would be anybody's.
    _write_result(sweep.folder / RESULT, result)
    missing = [cell for cell in cells if cell.key not in result["cells"]]
    if missing:
        needed = _with_references(missing)
        result["cost"] = _detect(sweep, needed, executor, progress) or result.get("cost")
        _score(sweep, detector, needed, result, executor, progress)
    result["readings"] = read_cells(result, detector.spec)
    _write_result(sweep.folder / RESULT, result)
    return result


def read_cells(result: Mapping[str, Any], spec: PyramidSpec) -> dict[str, Any]:
    """Key levels and direction, per scope and resampling whose single levels were all measured."""
    readings = {}
    for kind in sorted({key.split(" ", 1)[1] for key in result["cells"]}):
        losses = losses_of(result, kind)
        if losses.top_ratio is None:
            continue
        halves = [losses_of(result, kind, half) for half in (0, 1)]
        readings[kind] = {
            "key_levels": {k: list(v) for k, v in key_level_table(losses, spec).items()},
            "direction": read_direction(losses, halves),
        }
    return readings


def losses_of(result: Mapping[str, Any], kind: str, half: int | None = None) -> LevelLosses:
    """The losses of one scope and resampling, such as ``all seed``.

    Args:
        result: What ``run_sweep`` returns.
        kind: Scope and resampling.
        half: 0 or 1 for every other image; None for all.
    """
    cells = [cell for key, cell in result["cells"].items() if key.split(" ", 1)[1] == kind]
    return LevelLosses.of(
        result["levels"],
        [(x["ratios"], x["ap"] if half is None else x["ap_halves"][half]) for x in cells],
    )


def detect_shard(
    source: DetectorSource, paths: Sequence[Path], cells: Sequence[Degradation], target: Path
) -> tuple[float, float]:
    """Detect on a few images in every cell and write the detections to ``target``.

    Returns:
        Seconds spent on extraction and on cells.
    """
    detector = _opened(source)
    found: dict[str, list[Detections]] = {cell.key: [] for cell in cells}
    extracting = 0.0
    start = perf_counter()
    for path in paths:
        image = load_image(path)
        before = perf_counter()
        degraded = DegradedPyramids.of(detector.extract(image))
        extracting += perf_counter() - before
        for cell in cells:
            found[cell.key].append(detect_cell(detector, degraded, cell))
    spent = perf_counter() - start - extracting
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
    for (_, part, todo, _), (here, there) in _run(executor, detect_shard, work):
        extracting, spent = extracting + here, spent + there
        images, runs = images + len(part), runs + len(part) * len(todo)
        progress("Detecting", images, total)
    return {"images": images, "head_runs": runs, "extract_ms": 1000 * extracting / images,
            "cell_ms": 1000 * spent / runs, "workers": executor.workers}  # fmt: skip


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
    work = [(sweep.dataset, found[cell.key], labels, sweep.bootstrap) for cell in cells]
    references: dict[str, Score] = {}
    scored = zip(cells, _run(executor, score_cell, work), strict=True)
    for index, (cell, (_, (score, halves))) in enumerate(scored):
        kind = cell.key.split(" ", 1)[1]
        if cell.is_reference:
            references[kind] = score
        drop = None if cell.is_reference else _drop(score, references[kind])
        result["cells"][cell.key] = {
            **to_dict(cell), "ap": dict(score.ap), "ap_halves": halves, "drop": drop,
            "clamped": list(clamped[cell.key]),
        }  # fmt: skip
        _write_result(sweep.folder / RESULT, result)
        progress("Scoring", index + 1, len(cells))


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
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise InputError(f"{file} cannot be read ({error}); delete it and run again") from error


def _run(
    executor: Executor, function: Callable[..., T], work: Sequence[tuple[Any, ...]]
) -> Iterator[tuple[tuple[Any, ...], T]]:
    """Run a function over pieces of work, in order, a few ahead; an error ends it at once."""
    ahead = 1 if executor.workers == 1 else 2 * executor.workers
    pending: deque[Any] = deque()
    for arguments in work:
        pending.append((arguments, executor.submit(function, *arguments)))
        while len(pending) >= ahead:
            first, future = pending.popleft()
            yield first, future.result()
    while pending:
        first, future = pending.popleft()
        yield first, future.result()


def _read_result(path: Path, fingerprint: str) -> dict[str, Any]:
    """What an earlier run wrote, or an empty result.

    Raises:
        InputError: It is another study's, or no result at all.
    """
    if not path.exists():
        return {}
    try:
        result = json.loads(path.read_text("utf-8"))
        same = result["fingerprint"] == fingerprint and isinstance(result["cells"], dict)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} is no result of a sweep ({error}); choose another --out"
        ) from error
    if not same:
        raise InputError(
            f"{path} is of another detector, data set, number of images or seed; choose another "
            "--out"
        )
    return dict(result)


def _write_result(path: Path, result: Mapping[str, Any]) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n", "utf-8")


def with_key_levels(
    profile: Profile, result: Mapping[str, Any], kind: str, detector: Detector
) -> Profile:
    """A profile with the key levels of a study; its stream and all else stay.

    Args:
        profile: Made for the detector that was measured.
        result: What ``run_sweep`` returns.
        kind: Scope and resampling, such as ``all seed``.
        detector: Says what its levels cost.
    """
    table = {k: tuple(v) for k, v in result["readings"][kind]["key_levels"].items()}
    measured = {
        **profile.measured,
        "key_levels": {"sweep": kind, "data": result["data"], "images": result["images"]},
        "edge_macs_saved_by_scale": macs_saved(detector, table),
    }
    return replace(profile, key_levels=table, measured=measured)
