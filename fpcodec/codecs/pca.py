"""``pca``: a channel basis per level, quantised finely where a linear probe expects a response.

Everything is closed-form: one calibration pass over unlabelled images gives each level's mean,
principal components and probe, and the tables are counted. The probe predicts the head's
response S from the level's own features and their absolute values, so the edge knows where the
head will look without running it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from fpcodec.codecs.base import ClassMap, Integers
from fpcodec.codecs.chunked import ChunkedCodec, Quantise, level_by_level
from fpcodec.codecs.chunks import QuantisedLevel
from fpcodec.codecs.coefficients import STEP_CLASSES, whole_groups
from fpcodec.codecs.latents import Latents
from fpcodec.errors import ProfileError
from fpcodec.pyramid import Array, Pyramid

ROUNDING = 0.4
"""A magnitude rounds up from 0.6 of a step: below a half, zeros are cheaper than they are wrong."""

_CHANNELS_AT_ONCE = 32  # keeps the probe's temporaries within the processor's cache

LARGEST = 1 << 22
"""Magnitudes saturate here, the format's limit: far beyond any feature that means something."""


class PcaCodec(ChunkedCodec):
    """Codec id 2.

    Args:
        tensors: Per coded level ``<level>.mean`` (C,), ``<level>.basis`` (C, K) with orthogonal
            columns of one length (the level's unit: its root mean component deviation) and
            ``<level>.probe`` (2C + 1,); ``<level>.reach`` (K,), the largest magnitude to expect
            of each component, falling; ``steps`` (256, classes) in those units and
            ``thresholds`` (256, classes - 1) on the probe, by wire quality; ``tables.*``.
        spec, recoverer, backend: See ``ChunkedCodec``.
    """

    codec_id = 2
    edge_only = ("probe", "reach", "thresholds")
    quality_step = 4  # of calibration's schedule; where steps differ, a budget passes over some

    def _check(self) -> None:
        for name in self.spec.coded_names:
            channels = self.spec[name].channels
            for key, size in (("mean", channels), ("basis", channels), ("probe", 2 * channels + 1)):
                found = self.tensors.get(f"{name}.{key}")
                if found is None or len(found) != size or not np.isfinite(found).all():
                    raise ProfileError(f"tensor {name}.{key} is missing or damaged; "
                                       "calibrate the profile again")  # fmt: skip
            reach = self.tensors.get(f"{name}.reach")
            if reach is None or reach.shape != self.tensors[f"{name}.basis"].shape[1:]:
                raise ProfileError(f"tensor {name}.reach is missing or misshapen; calibrate again")
        steps, thresholds = self.tensors.get("steps"), self.tensors.get("thresholds")
        classes = 0 if steps is None or steps.ndim != 2 else steps.shape[1]
        if (
            steps is None
            or thresholds is None
            or not 1 <= classes <= STEP_CLASSES
            or (len(steps), thresholds.shape) != (256, (256, classes - 1))
        ):
            raise ProfileError("steps and thresholds do not fit 256 qualities and 1 to "
                               f"{STEP_CLASSES} classes; calibrate the profile again")  # fmt: skip

    @property
    def step_classes(self) -> int:
        """Step classes that the profile has steps for."""
        return int(self.tensors["steps"].shape[1])

    @cached_property
    def components(self) -> dict[str, int]:
        """Components kept per coded level."""
        return {name: self.tensors[f"{name}.basis"].shape[1] for name in self.spec.coded_names}

    @cached_property
    def _forward(self) -> dict[str, tuple[Array, Array]]:
        """Per level the analysis matrix (K, C) and what it makes of the mean (K, 1)."""
        out = {}
        for name in self.spec.coded_names:
            basis = self.tensors[f"{name}.basis"]
            matrix = np.ascontiguousarray((basis / (basis**2).sum(axis=0)).T, np.float32)
            out[name] = (matrix, (matrix @ self.tensors[f"{name}.mean"])[:, None])
        return out

    def response(self, name: str, features: Array) -> Array:
        """The probe's prediction of log S, shape (H, W)."""
        probe = self.tensors[f"{name}.probe"]
        channels = len(features)
        flat = features.reshape(channels, -1)
        value = probe[:channels] @ flat + probe[-1]
        for start in range(0, channels, _CHANNELS_AT_ONCE):
            some = slice(start, start + _CHANNELS_AT_ONCE)
            value += probe[channels:-1][some] @ np.abs(flat[some])
        return np.asarray(value.reshape(features.shape[1:]), np.float32)

    def peak_response(self, name: str, features: Array) -> Array:
        """The highest prediction in each position's 3 x 3 surroundings, shape (H, W)."""
        return highest_nearby(self.response(name, features))

    def step_map(self, name: str, features: Array, quality: int) -> ClassMap:
        """Step class per position: how many thresholds the probe passes nearby."""
        peak = self.peak_response(name, features)
        return np.searchsorted(self.tensors["thresholds"][quality], peak).astype(np.uint8)

    def latents(self, pyramid: Pyramid, names: Sequence[str]) -> Latents:
        """Project the named levels; see ``ChunkedCodec.latents``."""
        components, importance = {}, {}
        for name in names:
            features = pyramid.levels[name]
            matrix, mean = self._forward[name]
            flat = matrix @ features.reshape(len(features), -1) - mean
            components[name] = np.asarray(flat.reshape(-1, *features.shape[1:]), np.float32)
            importance[name] = self.peak_response(name, features)
        return Latents(components, importance)

    def steps(self, name: str, quality: int) -> Array:
        """Step of every class and component; see ``ChunkedCodec.steps``."""
        steps = np.asarray(self.tensors["steps"][quality], np.float32)
        return np.repeat(steps[:, None], self.components[name], axis=1)

    def thresholds(self, name: str, quality: int) -> Array:
        """Response from which each class begins; see ``ChunkedCodec.thresholds``."""
        return np.asarray(self.tensors["thresholds"][quality], np.float32)

    def prepare(self, pyramid: Pyramid, names: Sequence[str]) -> Quantise:
        """Nothing to do before the quality is known; see ``ChunkedCodec.prepare``."""
        return level_by_level(self._quantise, pyramid)

    def _quantise(self, name: str, features: Array, quality: int) -> QuantisedLevel:
        return self.quantise_level(name, features, self.step_map(name, features, quality), quality)

    def quantise_level(
        self, name: str, features: Array, classes: ClassMap | None, quality: int
    ) -> QuantisedLevel:
        """Integers of one level by a given step map, shape (H, W); None for class 0 all over."""
        matrix, mean = self._forward[name]
        flat = features.reshape(len(features), -1)
        flat_classes = np.zeros(flat.shape[1], np.uint8) if classes is None else classes.ravel()
        steps = self.tensors["steps"][quality]
        # Most positions are coarse, and there only the first components can pass a step.
        counts = [self._live_components(name, float(step)) for step in steps]
        present = np.bincount(flat_classes, minlength=len(steps)) > 0
        most = whole_groups(self.components[name], max(np.where(present, counts, 0)))
        symbols = np.zeros((most, flat.shape[1]), np.int32)
        for index, (step, count) in enumerate(zip(steps, counts, strict=True)):
            if not count or not present[index]:
                continue
            where = np.flatnonzero(flat_classes == index)
            # Copying the columns of nearly all positions would cost more than it spares.
            if 2 * len(where) > flat.shape[1]:
                scaled = (matrix[:count] @ flat).take(where, axis=1)
            else:
                scaled = matrix[:count] @ flat.take(where, axis=1)
            scaled -= mean[:count]
            scaled /= step
            scaled += np.copysign(np.float32(ROUNDING), scaled)
            symbols[:count, where] = np.clip(scaled, -LARGEST, LARGEST)
        shape = (most, *features.shape[1:])
        return QuantisedLevel(symbols.reshape(shape), classes, self.components[name])

    def _live_components(self, name: str, step: float) -> int:
        """Components that pass ``1 - ROUNDING`` of a step within their largest deviation."""
        reach = self.tensors[f"{name}.reach"]
        return int(np.count_nonzero(reach >= (1 - ROUNDING) * step))

    def _dequantise(
        self, name: str, symbols: Integers, classes: ClassMap | None, quality: int
    ) -> Array:
        shape, flat = symbols.shape, symbols.reshape(len(symbols), -1)
        steps = np.asarray(self.tensors["steps"][quality], np.float32)
        mean = self.tensors[f"{name}.mean"][:, None]
        values = np.empty((len(mean), flat.shape[1]), np.float32)
        values[:] = mean
        where = np.flatnonzero(flat.any(axis=0))
        live = np.flatnonzero(flat.any(axis=1))
        count = int(live[-1]) + 1 if len(live) else 0
        step = steps[0] if classes is None else steps[classes.ravel()[where]]
        values[:, where] += self.tensors[f"{name}.basis"][:, :count] @ (flat[:count, where] * step)
        return values.reshape(-1, *shape[1:])


def highest_nearby(plane: Array) -> Array:
    """Maximum over each position's 3 x 3 surroundings."""
    padded = np.pad(plane, 1, constant_values=-np.inf)
    rows = np.maximum(np.maximum(padded[:-2], padded[1:-1]), padded[2:])
    return np.asarray(np.maximum(np.maximum(rows[:, :-2], rows[:, 1:-1]), rows[:, 2:]), np.float32)
