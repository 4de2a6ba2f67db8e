"""``learned``: a trained analysis on the edge, a trained synthesis of every level on the server.

The analysis gives each level's components and an importance per position; both become integers as
``pca`` makes them, and the bytes are the same. The synthesis sees whatever chunks arrived, and a
flag for those that did not, and gives all levels: recovery is part of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fpcodec.codecs.base import ClassMap, Decoded, Integers
from fpcodec.codecs.chunked import ChunkedCodec, Quantise, Tensors
from fpcodec.codecs.chunks import QuantisedLevel
from fpcodec.codecs.coefficients import STEP_CLASSES, whole_groups
from fpcodec.codecs.graphs import ANALYSIS_FILE, LearnedGraphs
from fpcodec.codecs.latents import Latents as Latents
from fpcodec.codecs.pca import LARGEST
from fpcodec.entropy import Backend
from fpcodec.errors import ProfileError
from fpcodec.pyramid import Array, ImageGeometry, Pyramid, PyramidSpec
from fpcodec.reconstruct.learned import ArrivedLevel, LearnedRecoverer, synthesise

ROUNDING = 0.4
"""A magnitude rounds up from 0.6 of a step: below a half, zeros are cheaper than they are wrong."""

ANALYSIS_HASH = "analysis.sha256"


class LearnedCodec(ChunkedCodec):
    """Codec id 3.

    Args:
        spec: The pyramids.
        tensors: Per coded level ``<level>.steps`` (256, classes) by wire quality, ``<level>.gains``
            (256, K) which they are multiplied by, and ``<level>.thresholds`` (256, classes - 1) on
            the importance, rising; ``analysis.sha256`` (32,) uint8, taken from the file where it
            is not given; ``tables.*``.
        graphs: The analysis and the synthesis, or the folder that holds them.
        backend: The entropy coder; None for the fastest installed.

    Raises:
        ProfileError: A tensor is missing or misshapen.
    """

    codec_id = 3
    edge_only = ("thresholds",)

    def __init__(
        self,
        spec: PyramidSpec,
        tensors: Tensors,
        graphs: LearnedGraphs | Path,
        backend: Backend | None = None,
    ) -> None:
        graphs = graphs if isinstance(graphs, LearnedGraphs) else LearnedGraphs(graphs)
        own = dict(tensors)
        if ANALYSIS_HASH not in own:
            digest = bytes.fromhex(graphs.file_sha256(ANALYSIS_FILE))
            own[ANALYSIS_HASH] = np.frombuffer(digest, np.uint8).copy()
        # Another analysis is another stream, so the edge's must be the one of the tensors.
        self.graphs = graphs.with_sha256({ANALYSIS_FILE: own[ANALYSIS_HASH].tobytes().hex()})
        super().__init__(spec, own, LearnedRecoverer(spec, own, self.graphs), backend)

    def _check(self) -> None:
        _check_tensors(self.spec, self.tensors)

    def with_runtime(self, threads: int | None, providers: Sequence[str] = ()) -> LearnedCodec:
        """The same codec, its graphs run with other threads and execution providers."""
        graphs = self.graphs.with_runtime(threads, providers)
        return LearnedCodec(self.spec, self.tensors, graphs, self.backend)

    @cached_property
    def components(self) -> dict[str, int]:
        """Components coded per coded level."""
        return {name: self.tensors[f"{name}.gains"].shape[1] for name in self.spec.coded_names}

    @property
    def step_classes(self) -> int:
        """Step classes that the profile has steps for."""
        return int(self.tensors[f"{self.spec.coded_names[0]}.steps"].shape[1])

    def analyse(self, pyramid: Pyramid, names: Sequence[str]) -> Latents:
        """Run the network on the named levels, and on nothing else.

        Raises:
            ProfileError: ``analysis.onnx`` is absent or another.
        """
        found = self.graphs.analyse({name: pyramid.levels[name] for name in names})
        for name, (components, _) in found.items():
            if len(components) != self.components[name]:
                raise ProfileError(
                    f"{ANALYSIS_FILE} makes {len(components)} components of level {name}, the "
                    f"tensors expect {self.components[name]}; copy the profile again"
                )
        return Latents({x: v[0] for x, v in found.items()}, {x: v[1] for x, v in found.items()})

    def latents(self, pyramid: Pyramid, names: Sequence[str]) -> Latents:
        """Run the network on the named levels; see ``ChunkedCodec.latents``."""
        return self.analyse(pyramid, names)

    def steps(self, name: str, quality: int) -> Array:
        """Step of every class and component; see ``ChunkedCodec.steps``."""
        steps = self.tensors[f"{name}.steps"][quality][:, None]
        return np.asarray(self.tensors[f"{name}.gains"][quality] * steps, np.float32)

    def thresholds(self, name: str, quality: int) -> Array:
        """Importance from which each class begins; see ``ChunkedCodec.thresholds``."""
        return np.asarray(self.tensors[f"{name}.thresholds"][quality], np.float32)

    def quantise_latents(
        self, latents: Latents, quality: int, names: Sequence[str]
    ) -> dict[str, QuantisedLevel]:
        """Integers of the named levels at a wire quality; the network is not run."""
        return {name: self._quantise_level(latents, name, quality) for name in names}

    def prepare(self, pyramid: Pyramid, names: Sequence[str]) -> Quantise:
        """Run the network once; see ``ChunkedCodec.prepare``."""
        latents = self.analyse(pyramid, names)
        return lambda quality, some: self.quantise_latents(latents, quality, some)

    def _quantise_level(self, latents: Latents, name: str, quality: int) -> QuantisedLevel:
        thresholds = self.tensors[f"{name}.thresholds"][quality]
        classes = np.searchsorted(thresholds, latents.importance[name]).astype(np.uint8)
        # Features near the end of float32's range overflow, here or on their way to here.
        with np.errstate(over="ignore", invalid="ignore"):
            scaled = latents.components[name] / self._steps(name, classes, quality)
            scaled += np.copysign(np.float32(ROUNDING), scaled)
            if not np.isfinite(scaled.sum(dtype=np.float64)):
                np.nan_to_num(scaled, copy=False)
        symbols = np.clip(scaled, -LARGEST, LARGEST).astype(np.int32)
        live = np.flatnonzero(symbols.any(axis=(1, 2)))
        most = whole_groups(len(symbols), int(live[-1]) + 1 if len(live) else 0)
        return QuantisedLevel(np.ascontiguousarray(symbols[:most]), classes, len(symbols))

    def _steps(self, name: str, classes: ClassMap | None, quality: int) -> Array:
        """Step of every integer, shape (K, H, W), or (K, 1, 1) without a step map."""
        gains = self.tensors[f"{name}.gains"][quality][:, None, None]
        steps = self.tensors[f"{name}.steps"][quality]
        return np.asarray(gains * (steps[:1] if classes is None else steps[classes]), np.float32)

    def _dequantise(
        self, name: str, symbols: Integers, classes: ClassMap | None, quality: int
    ) -> Array:
        """Components (K, H, W): features come of all levels together, see ``reconstruct``."""
        return np.asarray(symbols * self._steps(name, classes, quality), np.float32)

    def reconstruct(
        self, decoded: Sequence[Decoded], geometries: Sequence[ImageGeometry]
    ) -> list[Pyramid]:
        """Turn integers into full pyramids; see ``Codec.reconstruct``.

        Raises:
            ProfileError: ``synthesis.onnx`` is absent or another.
        """
        arrived = [{x: self._arrived(frame, x) for x in frame.symbols} for frame in decoded]
        return synthesise(self.graphs, self.spec, self.components, arrived, geometries)

    def _arrived(self, frame: Decoded, name: str) -> ArrivedLevel:
        symbols, classes = frame.symbols[name], frame.step_maps.get(name)
        log_steps = np.log(self.tensors[f"{name}.steps"][frame.quality])
        flat = np.zeros(symbols.shape[1:], np.uint8) if classes is None else classes
        components = self._dequantise(name, symbols, classes, frame.quality)
        return ArrivedLevel(components, log_steps[flat])


def _check_tensors(spec: PyramidSpec, tensors: Tensors) -> None:
    """Check what the codec and its recoverer read.

    Raises:
        ProfileError: A tensor is missing, misshapen or holds what no training gives.
    """
    counts = set()
    for name in spec.coded_names:
        found = [tensors.get(f"{name}.{x}") for x in ("steps", "gains", "thresholds")]
        present = [x for x in found if x is not None]
        if len(present) != len(found) or not _fit(*present):
            raise ProfileError(f"steps, gains or thresholds of level {name} are missing or "
                               "damaged; train or copy the profile again")  # fmt: skip
        counts.add(present[0].shape[1])
    if len(counts) != 1:
        raise ProfileError("levels differ in their number of step classes; train the profile again")
    digest = tensors.get(ANALYSIS_HASH)
    if digest is None or digest.shape != (32,) or digest.dtype != np.uint8:
        raise ProfileError(
            f"tensor {ANALYSIS_HASH} is missing or misshapen; copy the profile again"
        )


def _fit(steps: npt.NDArray[Any], gains: npt.NDArray[Any], thresholds: npt.NDArray[Any]) -> bool:
    if steps.ndim != 2 or gains.ndim != 2 or not gains.shape[1]:
        return False
    classes = steps.shape[1]
    shapes = (len(steps), len(gains), thresholds.shape)
    if not 1 <= classes <= STEP_CLASSES or shapes != (256, 256, (256, classes - 1)):
        return False
    sizes = all(bool(np.isfinite(x).all() and (x > 0).all()) for x in (steps, gains))
    # Comparisons with NaN are false, so only the first column needs a look of its own.
    return sizes and bool(
        (np.diff(thresholds, axis=1) >= 0).all() and not np.isnan(thresholds[:, :1]).any()
    )
