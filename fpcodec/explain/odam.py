"""ODAM: which places of the pyramid made one detection's score and box.

Zhao and Chan, "ODAM: Gradient-based instance-specific visual explanations for object detection",
ICLR 2023. Without smoothing the map of one attribute is HiResCAM's (Draelos and Carin, 2020) with
that attribute as its target.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fpcodec.errors import InputError, MissingDependency
from fpcodec.explain.heatmaps import normalised, to_image
from fpcodec.explain.predictions import Predictions
from fpcodec.pyramid import Array, ImageGeometry

try:
    import torch
    from torch import Tensor
except ImportError as error:
    raise MissingDependency(
        "ODAM takes gradients in torch; pip install 'fpcodec[torch]', or use the method drise"
    ) from error

ATTRIBUTES = ("score", "x1", "y1", "x2", "y2")
"""Scalars of a detection that can be explained: its score and its box's coordinates."""

MAX_SIGMA = 32.0

MapRule = Callable[[Array, Array], Array]
"""From a gradient and the features it belongs to, both (C, H, W), to a map (H, W)."""


@dataclass(frozen=True)
class Explanation:
    """Why one detection is what it is.

    Attributes:
        level: The coded level it came from.
        stride: Network pixels per cell of that level.
        maps: Attribute to its map over the level's grid, (H, W), float32, not negative.
        shares: Level to its part of the score's absolute gradient; they sum to one. One-stage
            detections and pooled regions have all of it on one level.
        sigma: Standard deviation, in cells, of the Gaussian that smoothed the gradients; 0 for
            none.
        geometry: The image's geometry.
    """

    level: str
    stride: int
    maps: Mapping[str, Array]
    shares: Mapping[str, float]
    sigma: float
    geometry: ImageGeometry

    def combined(self, attributes: Sequence[str] = ()) -> Array:
        """Element-wise maximum of attributes' maps, each stretched to [0, 1]; all for none named.

        Returns:
            Shape (H, W) of the level's grid, float32.

        Raises:
            InputError: An attribute was not explained.
        """
        unknown = [name for name in attributes if name not in self.maps]
        if unknown:
            raise InputError(f"no map of {', '.join(unknown)}; there are {', '.join(self.maps)}")
        chosen = [normalised(self.maps[name]) for name in attributes or self.maps]
        return np.asarray(np.max(chosen, axis=0), np.float32)

    def on_image(self, attributes: Sequence[str] = ()) -> Array:
        """``combined`` over the original image, stretched to [0, 1]."""
        return normalised(to_image(self.combined(attributes), self.geometry, self.stride))


def explain(
    predictions: Predictions,
    index: int,
    attributes: Sequence[str] = ATTRIBUTES,
    sigma: float = 0.0,
    rule: MapRule | None = None,
) -> Explanation:
    """Explain one detection: one backward pass per attribute.

    A coordinate's map shows what pushes its edge right or down: the sign is the coordinate's own,
    not that of a distance from some anchor.

    Args:
        predictions: As ``predictions.open_predictor`` gives them.
        index: Which detection.
        attributes: Some of ATTRIBUTES.
        sigma: Smooth each channel's gradient by a Gaussian of so many cells; 0 for not at all.
        rule: From gradient and features to a map; None for ODAM's.

    Raises:
        InputError: There is no such detection or attribute, or sigma is out of range.
    """
    require_attributes(attributes)
    of_score = gradients(predictions, index, "score")
    mass = {name: float(np.abs(x).sum(dtype=np.float64)) for name, x in of_score.items()}
    level = max(mass, key=lambda name: mass[name])
    features = predictions.levels[level].detach().numpy()[0]
    maps = {}
    for attribute in attributes:
        found = (
            of_score if attribute == "score"
            else gradients(predictions, index, attribute, levels=(level,))
        )  # fmt: skip
        maps[attribute] = (rule or odam_map)(smoothed(found[level], sigma), features)
    total = sum(mass.values())
    return Explanation(
        level, predictions.spec[level].stride, maps,
        {name: value / total if total else 0.0 for name, value in mass.items()},
        sigma, predictions.geometry,
    )  # fmt: skip


def require_attributes(attributes: Sequence[str]) -> None:
    """Take only what a detection has.

    Raises:
        InputError: There is none, or one that is not among ATTRIBUTES.
    """
    if not attributes or not set(attributes) <= set(ATTRIBUTES):
        raise InputError(
            f"attributes {', '.join(attributes) or '(none)'} are not some of "
            f"{', '.join(ATTRIBUTES)}"
        )


def gradients(
    predictions: Predictions, index: int, attribute: str, levels: Sequence[str] | None = None
) -> dict[str, Array]:
    """Gradient of one attribute of one detection by coded levels, (C, H, W), float32.

    Args:
        predictions: As ``predictions.open_predictor`` gives them.
        index: Which detection.
        attribute: One of ATTRIBUTES.
        levels: By these alone, which takes less time; None for every coded level.

    Raises:
        InputError: There is no such detection or attribute.
    """
    if not 0 <= index < len(predictions):
        raise InputError(
            f"detection {index} is not there: {len(predictions)} were found, counted from 0"
        )
    leaves = {name: predictions.levels[name] for name in levels or predictions.levels}
    with torch.enable_grad():  # whatever the caller does not want to keep
        found = torch.autograd.grad(
            _attribute(predictions, index, attribute), list(leaves.values()),
            retain_graph=True, allow_unused=True,
        )  # fmt: skip
    return {
        name: np.zeros(tuple(leaf.shape[1:]), np.float32) if x is None else x[0].numpy()
        for (name, leaf), x in zip(leaves.items(), found, strict=True)
    }


def odam_map(gradient: Array, features: Array) -> Array:
    """ReLU of the sum over channels of gradient times feature; (C, H, W) to (H, W)."""
    return _positive(np.einsum("chw,chw->hw", gradient, features, dtype=np.float64))


def grad_cam_map(gradient: Array, features: Array) -> Array:
    """Grad-CAM (Selvaraju et al., 2017): each channel weighed by its gradient's mean."""
    weights = gradient.mean(axis=(1, 2), dtype=np.float64)
    return _positive(np.einsum("c,chw->hw", weights, features, dtype=np.float64))


def smoothed(gradient: Array, sigma: float) -> Array:
    """Each channel through a Gaussian, cut at three sigma; nothing lies beyond the edges.

    Raises:
        InputError: Sigma is not in 0..MAX_SIGMA cells.
    """
    if not 0 <= sigma <= MAX_SIGMA:
        raise InputError(f"sigma {sigma} is not in 0..{MAX_SIGMA:g} cells")
    if sigma == 0:
        return gradient
    radius = max(1, int(np.ceil(3 * sigma)))
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    result = gradient.astype(np.float64)
    for axis in (1, 2):
        length = result.shape[axis]
        padding = [(radius, radius) if a == axis else (0, 0) for a in range(3)]
        padded = np.pad(result, padding)
        result = sum(
            weight * np.take(padded, range(i, i + length), axis) for i, weight in enumerate(kernel)
        )
    return np.asarray(result, np.float32)


def _attribute(predictions: Predictions, index: int, attribute: str) -> Tensor:
    if attribute == "score":
        return predictions.scores[index]
    if attribute not in ATTRIBUTES:
        raise InputError(f"attribute {attribute!r} is not one of {', '.join(ATTRIBUTES)}")
    return predictions.boxes[index, ATTRIBUTES.index(attribute) - 1]


def _positive(values: np.ndarray) -> Array:
    return np.asarray(np.maximum(values, 0), np.float32)
