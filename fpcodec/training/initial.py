"""A learned network that does what a ``pca`` profile does: where training starts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fpcodec.calibration.statistics import REACH
from fpcodec.pyramid import PyramidSpec
from fpcodec.training.network import LearnedNetwork, NetworkConfig

FINEST_COMPONENTS, COMPONENTS = 48, 64
FINEST_WIDTH, WIDTH = 24, 32

PCA_TOP = 0.85
"""The quality of ``pca`` at which the best quality starts: beyond it only bytes grow."""


def config_for(spec: PyramidSpec, tensors: Mapping[str, npt.NDArray[Any]]) -> NetworkConfig:
    """Sizes for a pyramid: the finest level, which has most positions, gets the least."""
    names = spec.coded_names
    limits = [FINEST_COMPONENTS, *[COMPONENTS] * (len(names) - 1)]
    kept = [tensors[f"{name}.basis"].shape[1] for name in names]
    return NetworkConfig(
        components=tuple(map(min, limits, kept)),
        analysis_width=(FINEST_WIDTH, *[WIDTH] * (len(names) - 1)),
        classes=tensors["steps"].shape[1],
    )


def initial_network(
    spec: PyramidSpec,
    tensors: Mapping[str, npt.NDArray[Any]],
    config: NetworkConfig | None = None,
) -> LearnedNetwork:
    """Build the network from the tensors of a ``pca`` codec.

    Args:
        spec: The pyramid.
        tensors: As ``PcaCodec`` takes them.
        config: Sizes; None for ``config_for``.
    """
    config = config or config_for(spec, tensors)
    names = spec.coded_names
    network = LearnedNetwork(names, [spec[name].channels for name in names], config)
    wire = np.linspace(0, 255 * PCA_TOP, config.anchors).round().astype(int)
    weights: dict[str, npt.NDArray[Any]] = {}
    for name, count in zip(names, config.components, strict=True):
        basis, mean = tensors[f"{name}.basis"], tensors[f"{name}.mean"]
        probe, deviation = tensors[f"{name}.probe"], _deviations(basis, tensors[f"{name}.reach"])
        edge, server, rounding = f"analysis.levels.{name}", "synthesis", "quantiser"
        weights |= {
            f"{edge}.mean": mean[None, :, None, None],
            f"{edge}.scale": 1 / deviation[None, :, None, None],
            f"{edge}.basis.weight": (basis / (basis**2).sum(axis=0)).T[:count, :, None, None],
            f"{edge}.probe.weight": probe[None, :-1, None, None],
            f"{edge}.probe.bias": probe[-1:],
            f"{server}.basis.{name}.weight": basis[:, :count, None, None],
            f"{server}.basis.{name}.bias": mean,
            f"{server}.scale_{name}": deviation[None, :, None, None],
            f"{rounding}.base.{name}": np.log(tensors["steps"][wire]),
            f"{rounding}.threshold.{name}": tensors["thresholds"][wire],
        }
    closed = {key: torch.tensor(values, dtype=torch.float32) for key, values in weights.items()}
    network.load_state_dict({**network.state_dict(), **closed})
    return network


def _deviations(
    basis: npt.NDArray[np.float32], reach: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Each channel's deviation, from the components'."""
    components = reach / REACH
    return np.asarray(np.sqrt(((basis * components) ** 2).sum(axis=1) + 1e-8), np.float32)
