"""The network of a ``learned`` profile: where training goes on from what was trained before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fpcodec.codecs.graphs import ANALYSIS_FILE, SYNTHESIS_FILE
from fpcodec.codecs.learned import LearnedCodec
from fpcodec.detectors.onnx_shapes import load_model
from fpcodec.errors import ProfileError
from fpcodec.training.network import LearnedNetwork, NetworkConfig

_UNSAVED = "rate."
"""Parameters that a profile has no use for: training fits them anew before its first step."""


def trained_network(codec: LearnedCodec) -> LearnedNetwork:
    """Read a codec's graphs and tensors back into the network that they were exported from.

    Raises:
        ModelError: A graph is missing or damaged.
        ProfileError: It is another version's.
    """
    folder, names = codec.graphs.folder, codec.spec.coded_names
    weights = _weights(folder / ANALYSIS_FILE) | _weights(folder / SYNTHESIS_FILE)
    try:
        config = NetworkConfig(
            components=tuple(codec.components.values()),
            analysis_width=tuple(len(weights[f"analysis.levels.{x}.enter.bias"]) for x in names),
            synthesis_width=len(weights[f"synthesis.enter.{names[0]}.bias"]),
            synthesis_blocks=sum(
                key.startswith(f"synthesis.last.{names[0]}.") and key.endswith("look.bias")
                for key in weights
            ),
            classes=codec.step_classes,
        )
        network = LearnedNetwork(names, [codec.spec[x].channels for x in names], config)
        weights |= _rounding(codec, config.anchors)
        kept = {x: v for x, v in network.state_dict().items() if x.startswith(_UNSAVED)}
        network.load_state_dict({**weights, **kept})
    except (KeyError, RuntimeError) as error:
        raise ProfileError(
            f"the graphs in {folder} are not what this version trains ({str(error).splitlines()[0]}"
            "); start from the pca profile of the detector instead"
        ) from error
    return network


def _weights(path: Path) -> dict[str, Tensor]:
    """A graph's weights by name."""
    graph = load_model(path).graph
    from onnx import numpy_helper

    return {x.name: torch.from_numpy(numpy_helper.to_array(x).copy()) for x in graph.initializer}


def _rounding(codec: LearnedCodec, anchors: int) -> dict[str, Tensor]:
    """Steps, gains and thresholds at the anchors, from those of the 256 wire qualities."""
    place = np.arange(256) / 255 * (anchors - 1)
    hats = np.maximum(0, 1 - np.abs(place[:, None] - np.arange(anchors)))
    out = {}
    for name in codec.spec.coded_names:
        rows = {
            "base": np.log(codec.tensors[f"{name}.steps"]),
            "gain": np.log(codec.tensors[f"{name}.gains"]),
            "threshold": codec.tensors[f"{name}.thresholds"],
        }
        for what, values in rows.items():
            found = np.linalg.lstsq(hats, values.astype(np.float64), rcond=None)[0]
            out[f"quantiser.{what}.{name}"] = torch.from_numpy(found).float()
    return out
