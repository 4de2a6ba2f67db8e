"""From a detector and a folder of images to a profile."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fpcodec.calibration.counting import fit_tables
from fpcodec.calibration.findings import FIRST_IMAGES, Findings
from fpcodec.calibration.key_levels import macs_saved, measure_key_levels
from fpcodec.calibration.schedule import quality_schedule
from fpcodec.calibration.statistics import LevelStatistics
from fpcodec.codecs.base import quality_byte
from fpcodec.codecs.chunked import ChunkedCodec
from fpcodec.codecs.pca import PcaCodec
from fpcodec.codecs.uniform import UniformCodec
from fpcodec.detectors.factory import ExportableDetector, open_detector
from fpcodec.errors import InputError
from fpcodec.image_folder import choose_images
from fpcodec.images import load_image
from fpcodec.profile import Profile
from fpcodec.pyramid import Pyramid, derive
from fpcodec.reconstruct.interpolation import InterpolationFitter, InterpolationRecoverer

Progress = Callable[[int, int], None]
Tensors = dict[str, npt.NDArray[Any]]

HELD_BYTES = 768 * 1024 * 1024
"""Features kept in memory for counting tables, so that every image is extracted once."""

_MIX_PYRAMIDS = 16
_PEAK_PYRAMIDS = 100
_RATED = (0.0, 0.25, 0.5, 0.75, 1.0)


def calibrate(
    detector: ExportableDetector | str,
    images: Sequence[Path] | Path | str,
    out: Path | str,
    *,
    codec: str = "pca",
    seed: int = 0,
    name: str | None = None,
    keep_variance: float = 0.9995,
    most_components: int = 256,
    key_level_seconds: float = 60.0,
    progress: Progress | None = None,
) -> Profile:
    """Fit a codec to a detector and write the profile.

    One pass over the images gathers moments; the first pyramids that fit into memory then give
    the tables, the key-level table and the rates. Unlabelled images suffice.

    Args:
        detector: Both halves, or a SPEC for ``open_detector``.
        images: Typical pictures, or a folder of them; a few dozen work, a few hundred are better.
        out: The profile folder to write.
        codec: ``pca`` or ``uniform``.
        seed: Draws positions and qualities; the same seed gives the same profile on one machine.
        name: For people; the folder's name by default.
        keep_variance: Share of a level's variance that ``pca`` keeps.
        most_components: Most components per level.
        key_level_seconds: Time for measuring which levels each object scale needs.
        progress: Called with steps done and steps in all.

    Returns:
        The profile as it lies in ``out``.

    Raises:
        InputError: There are no images, one cannot be read, or the codec is unknown.
        ModelError: The detector cannot be opened, or its scores are not in [0, 1].
    """
    if isinstance(images, (str, Path)):
        images = choose_images(Path(images))
    if isinstance(detector, str):
        detector = open_detector(detector)
    if codec not in ("pca", "uniform"):
        raise InputError(f"codec {codec!r} is not one of pca, uniform")
    if not images:
        raise InputError("calibration needs at least one image; give a folder that holds some")
    step = progress or (lambda done, total: None)
    rng = np.random.default_rng(seed)
    findings = Findings(detector.labels)
    statistics, interpolation, held = _gather(detector, images, rng, step, findings)
    recovery = interpolation.fit()
    recoverer = InterpolationRecoverer(detector.spec, recovery)
    kind: type[PcaCodec] | type[UniformCodec]
    if codec == "pca":
        kind = PcaCodec
        tensors = _pca_tensors(statistics, keep_variance, most_components)
        tensors["thresholds"] = _thresholds(kind(detector.spec, tensors, recoverer), held)
    else:
        kind = UniformCodec
        tensors = _uniform_tensors(statistics)
    fitted = kind(detector.spec, tensors, recoverer)
    count = len(images)
    tensors |= fit_tables(
        fitted, held, rng,
        progress=lambda done, total: step(count + done * count // total, 2 * count),
    ).tensors  # fmt: skip
    fitted = kind(detector.spec, tensors, recoverer)
    key_levels, kept = measure_key_levels(detector, recoverer, held, key_level_seconds)
    measured = {
        "calibration_images": len(images),
        "seed": seed,
        "mean_bytes_by_quality": mean_bytes_by_quality(fitted, held[:50]),
        "key_levels": kept,
        "found": findings.facts(),
        "edge_macs": detector.macs(None),
        "edge_macs_saved_by_scale": macs_saved(detector, key_levels),
    }
    profile = Profile(
        name=name or Path(out).name,
        codec=fitted,
        recovery=recovery,
        detector_config={},
        labels=tuple(detector.labels),
        key_levels=key_levels,
        measured=measured,
    )
    return profile.save(out, detector)


def _gather(
    detector: ExportableDetector,
    images: Sequence[Path],
    rng: np.random.Generator,
    step: Progress,
    findings: Findings,
) -> tuple[dict[str, LevelStatistics], InterpolationFitter, list[Pyramid]]:
    spec = detector.spec
    statistics = {x: LevelStatistics(spec[x].channels, rng) for x in spec.coded_names}
    interpolation = InterpolationFitter(spec)
    held: list[Pyramid] = []
    held_bytes = 0
    for index, path in enumerate(images):
        pyramid = detector.extract(load_image(path))
        pyramid.require_finite()
        whole = derive(pyramid)
        if index < FIRST_IMAGES:
            findings.add(detector.detect(whole))
        response = detector.response(whole)
        for name, level in statistics.items():
            level.add(pyramid.levels[name], response[name])
        interpolation.add(pyramid, keep=index < _MIX_PYRAMIDS)
        if not held or held_bytes + pyramid.raw_bytes <= HELD_BYTES:
            held.append(pyramid)
            held_bytes += pyramid.raw_bytes
        step(index + 1, 2 * len(images))
    return statistics, interpolation, held


def _pca_tensors(
    statistics: Mapping[str, LevelStatistics], keep_variance: float, most_components: int
) -> Tensors:
    steps, shares = quality_schedule()
    # Thresholds need the probe: see _thresholds.
    tensors: Tensors = {"steps": steps, "thresholds": np.zeros(shares.shape, np.float32)}
    for name, level in statistics.items():
        tensors[f"{name}.mean"] = level.mean.astype(np.float32)
        basis, reach = level.basis(keep_variance, most_components)
        tensors[f"{name}.basis"], tensors[f"{name}.reach"] = basis, reach
        tensors[f"{name}.probe"] = level.probe()
    return tensors


def _thresholds(codec: PcaCodec, held: Sequence[Pyramid]) -> npt.NDArray[np.float32]:
    """Probe values that the schedule's shares of all positions exceed."""
    _, shares = quality_schedule()
    peaks = np.concatenate([
        codec.peak_response(name, pyramid.levels[name]).ravel()
        for pyramid in held[:_PEAK_PYRAMIDS]
        for name in codec.spec.coded_names
    ])  # fmt: skip
    return np.asarray(np.quantile(peaks, 1 - shares), np.float32)


def _uniform_tensors(statistics: Mapping[str, LevelStatistics]) -> Tensors:
    tensors: Tensors = {}
    for name, level in statistics.items():
        tensors[f"{name}.low"] = level.low.astype(np.float32)
        tensors[f"{name}.high"] = level.high.astype(np.float32)
        tensors[f"{name}.centre"] = level.mean.astype(np.float32)
        tensors[f"{name}.order"] = np.argsort(level.low - level.high, kind="stable").astype(
            np.int32
        )
    return tensors


def mean_bytes_by_quality(codec: ChunkedCodec, pyramids: Sequence[Pyramid]) -> dict[str, float]:
    """Mean frame bytes of some pyramids, by wire quality."""
    return {
        str(quality_byte(quality)): round(
            float(np.mean([len(codec.encode(pyramid, quality)) for pyramid in pyramids])), 1
        )
        for quality in _RATED
    }
