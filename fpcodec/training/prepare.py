"""What training needs before its first step: a closed form to start from, and features."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fpcodec.calibration import calibrate
from fpcodec.codecs.learned import LearnedCodec
from fpcodec.codecs.pca import PcaCodec
from fpcodec.detectors.factory import ExportableDetector
from fpcodec.errors import InputError
from fpcodec.files import file_sha256
from fpcodec.profile import Profile
from fpcodec.profile_folder import MANIFEST
from fpcodec.training.checkpoint import Checkpoint
from fpcodec.training.features import FeatureCache, cache_features
from fpcodec.training.settings import RunConfig, TrainingConfig
from fpcodec.training.shortages import disk_full_named
from fpcodec.training.watch import Watcher

CALIBRATION_IMAGES = 400

_STARTS = (PcaCodec.codec_id, LearnedCodec.codec_id)
_START, _IDENTITY = "start", "detector_identity"


@dataclass(frozen=True)
class Prepared:
    """Where training starts, and on what.

    Attributes:
        start: The run's own copy of a ``pca`` or ``learned`` profile.
        cache: Features; the first are held out.
        targets: What the server should see of the same images; None for the features themselves.
        facts: What a checkpoint must agree with.
    """

    start: Profile
    cache: FeatureCache
    targets: FeatureCache | None
    facts: dict[str, Any]


def prepare(
    detector: ExportableDetector,
    images: Sequence[Path],
    config: TrainingConfig,
    run: RunConfig,
    start: Profile | None,
    teacher: ExportableDetector | None,
    told: Watcher,
) -> Prepared:
    """Make what is not there yet; see ``train``.

    Raises:
        InputError: The run's folder is another detector's, too few images fit into the cache, an
            image cannot be read, or the disk is full.
    """
    identity = detector_identity(detector)
    # Before anything is made: does what lies here belong to another run?
    facts: dict[str, Any] = {"detector": identity}
    if start is not None:
        facts["start"] = start.stream_id.hex()
    Checkpoint.load(run.folder, facts)
    first = _start_profile(detector, images, config, run, start, identity, told)
    cache = cache_features(
        detector, images, run.cache_folder, identity=identity, limit_bytes=1e9 * run.cache_gb,
        held_out=config.held_out, mirror=config.mirror, progress=partial(told.stage, "Features"),
    )  # fmt: skip
    cached = len(images) - cache.images_left_out
    if cache.images_left_out:
        told.note(f"{cached} of {len(images)} images fit into {run.cache_gb:g} GB of cached "
                  "features; the others are left out (--cache-gb)")  # fmt: skip
    if cached < config.held_out + config.batch:
        raise InputError(f"{cached} cached images are fewer than a batch of {config.batch} and "
                         f"{config.held_out} held out; raise --cache-gb")  # fmt: skip
    facts |= {
        "start": first.stream_id.hex(),
        "images": cache.folder.name,
        "config": config.to_dict(),
    }
    if teacher is None:
        return Prepared(first, cache, None, facts)
    targets = _targets(teacher, images, config, run, cache, told)
    return Prepared(first, cache, targets, facts | {"teacher": targets.folder.name})


def _targets(
    teacher: ExportableDetector,
    images: Sequence[Path],
    config: TrainingConfig,
    run: RunConfig,
    cache: FeatureCache,
    told: Watcher,
) -> FeatureCache:
    """The teacher's features of the images that are cached."""
    if teacher.spec != cache.spec:
        raise InputError("the teacher's pyramid is not the detector's; give the detector that the "
                         "light edge was taught by")  # fmt: skip
    targets = cache_features(
        teacher, images[: len(images) - cache.images_left_out], run.cache_folder,
        identity=detector_identity(teacher), limit_bytes=1e9 * run.cache_gb,
        held_out=config.held_out, mirror=config.mirror,
        progress=partial(told.stage, "Teacher's features"),
    )  # fmt: skip
    if [x.geometry for x in targets.entries] != [x.geometry for x in cache.entries]:
        raise InputError("teacher and detector lay images differently; give the detector that the "
                         "light edge was taught by")  # fmt: skip
    return targets


def _start_profile(
    detector: ExportableDetector,
    images: Sequence[Path],
    config: TrainingConfig,
    run: RunConfig,
    start: Profile | None,
    identity: str,
    told: Watcher,
) -> Profile:
    """The run's own copy of the profile it starts from, made when it is not there yet."""
    folder = run.folder / _START
    if (folder / MANIFEST).is_file():
        found = Profile.load(folder)
        if found.measured.get(_IDENTITY) == identity and start is None:
            return found
    with disk_full_named(folder, "the profile to start from"):
        if start is None:
            some = images[config.held_out :][:CALIBRATION_IMAGES]
            stage = partial(told.stage, "Closed form")
            start = calibrate(
                detector, some, folder, seed=config.seed, progress=stage,
                key_level_seconds=run.key_level_seconds,
            )  # fmt: skip
        elif start.codec.codec_id not in _STARTS or start.spec != detector.spec:
            raise InputError(
                f"profile {start.name} is not a pca or learned profile of this detector; give one "
                "that fpcodec calibrate or fpcodec train made for it"
            )
        own = replace(start, measured={**start.measured, _IDENTITY: identity})
        return own.save(folder, detector)


def detector_identity(detector: ExportableDetector) -> str:
    """What makes a detector the same, wherever its files lie: 64 hexadecimal digits."""
    with tempfile.TemporaryDirectory() as folder:
        config = detector.export(Path(folder))
        files = {x.name: file_sha256(x) for x in Path(folder).iterdir()}
    facts = [config.get("kind"), config.get("source"), sorted(files.items()),
             detector.spec.to_dict()]  # fmt: skip
    return hashlib.sha256(json.dumps(facts, default=str).encode()).hexdigest()


def shuffled(images: Sequence[Path]) -> list[Path]:
    """The images in an order of chance, the same for the same images: the first are held out."""
    ordered = sorted(images)
    return [ordered[index] for index in np.random.default_rng(0).permutation(len(ordered))]
