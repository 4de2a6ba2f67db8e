"""A long measurement in shards: parallel over processes, resumable after a kill."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from fpcodec.data.coco import CocoDataset
from fpcodec.evaluation.environment import Environment
from fpcodec.evaluation.results import DRAWS, ROWS, write_rows
from fpcodec.evaluation.runner import (
    Evaluation,
    measure,
    require_scorable,
    row_names,
    score_traces,
)
from fpcodec.evaluation.scoring import Bootstrap, write_draws
from fpcodec.evaluation.traces import Trace, read_traces, write_traces
from fpcodec.evaluation.ways import Way, Workplace
from fpcodec.evaluation.ways.base import detector_identity, load_profiles
from fpcodec.executor import Executor, run_all
from fpcodec.files import file_sha256
from fpcodec.profile import Profile
from fpcodec.profile_folder import MANIFEST

SHARD_IMAGES = 5
"""Images of one shard: what a kill can cost, at most, per worker."""

StageProgress = Callable[[str, int, int], None]
"""Called with the stage's name, what is done of it, and all there is."""


@dataclass(frozen=True)
class Study:
    """What is measured: a plain value that can be sent to another process.

    Attributes:
        profiles: Label to profile folder; all were made for one detector.
        dataset: The images and their boxes.
        ways: The settings.
        threads: Of each network; None for the runtime's default.
    """

    profiles: Mapping[str, Path]
    dataset: CocoDataset
    ways: tuple[Way, ...]
    threads: int | None = 1

    def shards(self) -> list[CocoDataset]:
        """The data set in portions of a few images."""
        images = self.dataset.images
        parts = (images[i : i + SHARD_IMAGES] for i in range(0, len(images), SHARD_IMAGES))
        # Boxes are needed for scoring alone.
        return [replace(self.dataset, images=part, boxes=()) for part in parts]

    def digest(self, environment: Environment) -> str:
        """Names what a shard's numbers depend on: settings, images, profiles, code, packages."""
        profiles = load_profiles(self.profiles)
        described = {
            "ways": [[way.name, dict(way.parameters)] for way in self.ways],
            "images": [[x.id, x.file_name] for x in self.dataset.images],
            "folder": str(self.dataset.folder.resolve()),
            "profiles": {
                label: [x.stream_id.hex(), detector_identity(x), _files_digest(x)]
                for label, x in profiles.items()
            },
            "code": [environment.git_sha, dict(environment.packages)],
            "threads": self.threads,
        }
        return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:16]


def _files_digest(profile: Profile) -> str | None:
    """Of the manifest, which hashes every file: synthesis may change while the stream id stays."""
    if profile.path is None:
        return None
    return file_sha256(profile.path / MANIFEST)


def run_study(
    study: Study,
    out: Path,
    executor: Executor,
    *,
    environment: Environment,
    bootstrap: Bootstrap = Bootstrap(),
    progress: StageProgress | None = None,
) -> Evaluation:
    """Measure what is missing, score everything, write ``rows.json`` and ``draws.npz``.

    Shards lie under ``out/shards`` and are kept: the same study goes on where it was, and one
    that is complete is only scored again.

    Args:
        study: What to measure.
        out: The run's folder.
        executor: Where shards and settings are worked on.
        environment: Kept in the rows.
        bootstrap: Draws and seed of the intervals.
        progress: Called after every shard and every scored setting.

    Raises:
        InputError: Two ways have one name, or an image or the folder cannot be used.
        MissingDependency: A way's package, or faster-coco-eval, is not installed.
        WorkerLost: A worker died; what it had finished is kept.
    """
    row_names(study.ways)
    study.dataset.require_images()
    workplace = Workplace.open(study.profiles, study.threads)
    require_scorable(study.dataset, workplace.detector)
    folder = out / "shards" / study.digest(environment)
    folder.mkdir(parents=True, exist_ok=True)
    paths = _measure_shards(study, folder, executor, progress)
    traces: dict[str, Trace] = {name: Trace() for name in row_names(study.ways)}
    for path in paths:
        for name, trace in read_traces(path).items():
            traces[name].extend(trace)
    evaluation = score_traces(
        workplace, study.dataset, study.ways, traces, environment=environment,
        bootstrap=bootstrap, executor=executor,
        progress=None if progress is None else lambda done, total: progress(
            "scoring", done, total
        ),
    )  # fmt: skip
    write_draws(out / DRAWS, evaluation.draws)
    write_rows(out / ROWS, evaluation.rows)
    return evaluation


def _measure_shards(
    study: Study, folder: Path, executor: Executor, progress: StageProgress | None
) -> list[Path]:
    """Measure the shards that are not there yet; the paths of all."""
    shards = study.shards()
    paths = [folder / f"{index:05}.json" for index in range(len(shards))]
    missing = [i for i, path in enumerate(paths) if not path.is_file()]
    # Only the ways, the shard's images and the paths travel to a worker.
    jobs = ((replace(study, dataset=shards[i]), paths[i]) for i in missing)
    done = sum(len(shards[i]) for i in range(len(shards)) if i not in set(missing))
    for index, _ in run_all(executor, measure_shard, jobs):
        done += len(shards[missing[index]])
        if progress is not None:
            progress("measuring", done, len(study.dataset))
    return paths


def measure_shard(study: Study, path: Path) -> None:
    """Measure a few images and write their traces; runs in a worker."""
    workplace = Workplace.open(study.profiles, study.threads)
    write_traces(path, measure(workplace, study.dataset, study.ways))
