"""The few operations that layouts need of arrays, so that numpy and torch share their formulas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt


class Maths(Protocol):
    """Operations on one library's arrays; what both write alike is not here."""

    def floats(self, x: Any) -> Any:
        """As float32."""

    def exp(self, x: Any) -> Any:
        """Exponential."""

    def at_most(self, x: Any, limit: float) -> Any:
        """Each value, or the limit where it is above."""

    def sigmoid(self, x: Any) -> Any:
        """Logistic function."""

    def softmax(self, x: Any) -> Any:
        """Probabilities along the last axis."""

    def highest(self, x: Any, axis: int) -> Any:
        """Maximum along an axis."""

    def permute(self, x: Any, axes: Sequence[int]) -> Any:
        """Axes in another order."""

    def join(self, parts: Sequence[Any], axis: int) -> Any:
        """Concatenation along an axis."""


class NumpyMaths:
    """``Maths`` of numpy's arrays."""

    def floats(self, x: Any) -> npt.NDArray[np.float32]:
        """As float32."""
        return np.asarray(x, np.float32)

    def exp(self, x: Any) -> npt.NDArray[Any]:
        """Exponential."""
        return np.asarray(np.exp(x))

    def at_most(self, x: Any, limit: float) -> npt.NDArray[Any]:
        """Each value, or the limit where it is above."""
        return np.asarray(np.minimum(x, limit))

    def sigmoid(self, x: Any) -> npt.NDArray[Any]:
        """Logistic function; exp(80) keeps float32 finite."""
        return np.asarray(1 / (1 + np.exp(-np.clip(x, -80, 80))))

    def softmax(self, x: Any) -> npt.NDArray[Any]:
        """Probabilities along the last axis."""
        powers = np.exp(x - x.max(axis=-1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=-1, keepdims=True))

    def highest(self, x: Any, axis: int) -> npt.NDArray[Any]:
        """Maximum along an axis."""
        return np.asarray(x.max(axis=axis))

    def permute(self, x: Any, axes: Sequence[int]) -> npt.NDArray[Any]:
        """Axes in another order."""
        return np.asarray(x.transpose(axes))

    def join(self, parts: Sequence[Any], axis: int) -> npt.NDArray[Any]:
        """Concatenation along an axis."""
        return np.concatenate(list(parts), axis=axis)


NUMPY = NumpyMaths()
