"""What one pass over images gathers: moments, the probe's normal equations, ranges."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fpcodec.calibration.schedule import RESPONSE_FLOOR
from fpcodec.pyramid import Array

_WEIGHT_FLOOR = 0.02
REACH = 8.0
"""Deviations of a component that its magnitude is expected to stay within: tails are heavy."""

_PROBE_POSITIONS = 4096  # of a level per image: enough, and large levels would take all the time


class LevelStatistics:
    """Sums over positions of one level.

    Args:
        channels: C.
        rng: Chooses positions where a level has more than are needed.
    """

    def __init__(self, channels: int, rng: np.random.Generator) -> None:
        self._rng = rng
        self._count = 0
        self._sum = np.zeros(channels)
        self._moment = np.zeros((channels, channels))
        self._gram = np.zeros((2 * channels + 1,) * 2)
        self._cross = np.zeros(2 * channels + 1)
        self.low = np.full(channels, np.inf)
        self.high = np.full(channels, -np.inf)

    def add(self, features: Array, response: Array) -> None:
        """Add one image's level.

        Args:
            features: Shape (C, H, W).
            response: S, shape (H, W), in [0, 1].
        """
        flat, target = features.reshape(len(features), -1), response.ravel()
        self.low = np.minimum(self.low, np.quantile(flat, 0.001, axis=1))
        self.high = np.maximum(self.high, np.quantile(flat, 0.999, axis=1))
        if flat.shape[1] > _PROBE_POSITIONS:
            chosen = self._rng.choice(flat.shape[1], _PROBE_POSITIONS, replace=False)
            flat, target = flat[:, chosen], target[chosen]
        self._count += flat.shape[1]
        self._sum += flat.sum(axis=1, dtype=np.float64)
        self._moment += flat @ flat.T
        inputs = np.concatenate([flat, np.abs(flat), np.ones((1, flat.shape[1]), np.float32)])
        weighted = inputs * (target + _WEIGHT_FLOOR).astype(np.float32)
        self._gram += weighted @ inputs.T
        self._cross += weighted @ np.log(target + RESPONSE_FLOOR)

    @property
    def mean(self) -> npt.NDArray[np.float64]:
        """Channel means (C,)."""
        return np.asarray(self._sum / self._count)

    def basis(self, keep: float, most: int) -> tuple[Array, Array]:
        """Principal components as columns, all of the level's unit length, and their reach.

        Args:
            keep: Share of the variance to keep.
            most: Most components.

        Returns:
            The basis, shape (C, K), float32: orthogonal columns whose length is the root mean
            component deviation of all C components, so that steps mean the same on every level.
            The reach, shape (K,), float32: ``REACH`` deviations of each component in that unit.
        """
        mean = self.mean
        covariance = self._moment / self._count - np.outer(mean, mean)
        values, vectors = np.linalg.eigh(covariance)
        values = np.maximum(values[::-1], 0)
        total = max(float(values.sum()), 1e-12)
        count = int(np.searchsorted(np.cumsum(values) / total, keep)) + 1
        unit = np.sqrt(total / len(values))
        count = min(count, most, len(values))
        basis = vectors[:, ::-1][:, :count] * unit
        reach = REACH * np.sqrt(values[:count]) / unit
        return np.asarray(basis, np.float32), np.asarray(reach, np.float32)

    def probe(self) -> Array:
        """Weighted ridge regression of log S on features and their absolute values: (2C + 1,)."""
        ridge = 1e-7 * np.trace(self._gram) / len(self._gram) * np.eye(len(self._gram))
        return np.asarray(np.linalg.solve(self._gram + ridge, self._cross), np.float32)
