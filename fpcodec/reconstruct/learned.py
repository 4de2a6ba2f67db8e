"""Recovery by the learned codec's synthesis: every level from whichever are there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fpcodec.codecs.graphs import LearnedGraphs
from fpcodec.pyramid import Array, ImageGeometry, Pyramid, PyramidSpec, derive

BATCH_ELEMENTS = 16_000_000
"""Most feature values that the synthesis makes in one run, unless one frame alone has more."""


@dataclass(frozen=True)
class ArrivedLevel:
    """What the synthesis is told of one level.

    Attributes:
        components: Shape (K, H, W), float32.
        log_steps: Natural logarithm of each position's step, shape (H, W), float32.
    """

    components: Array
    log_steps: Array


Arrived = Mapping[str, ArrivedLevel]


class LearnedRecoverer:
    """Recovers levels from the features of those that are there.

    These pass through the analysis and, unquantised, into the synthesis, with the step that the
    codec's best quality has where it is finest.

    Args:
        spec: The pyramids.
        tensors: Of the learned codec; see ``LearnedCodec``.
        graphs: Its analysis and synthesis; both are needed.
    """

    def __init__(
        self, spec: PyramidSpec, tensors: Mapping[str, npt.NDArray[Any]], graphs: LearnedGraphs
    ) -> None:
        self.spec, self.graphs, self._tensors = spec, graphs, tensors

    def recover(self, pyramids: Sequence[Pyramid]) -> list[Pyramid]:
        """Fill every missing level; see ``Recoverer.recover``.

        Raises:
            ProfileError: A graph is not in the profile's folder.
        """
        arrived = [self._analyse(pyramid) for pyramid in pyramids]
        geometries = [pyramid.geometry for pyramid in pyramids]
        names = self.spec.coded_names
        counts = {name: self._tensors[f"{name}.gains"].shape[1] for name in names}
        predicted = synthesise(self.graphs, self.spec, counts, arrived, geometries)
        return [
            derive(Pyramid(self.spec, {**_coded(guess), **pyramid.levels}, pyramid.geometry))
            for pyramid, guess in zip(pyramids, predicted, strict=True)
        ]

    def _analyse(self, pyramid: Pyramid) -> dict[str, ArrivedLevel]:
        coded = {x: v for x, v in pyramid.levels.items() if x in self.spec.coded_names}
        out = {}
        for name, (components, _) in self.graphs.analyse(coded).items():
            log_step = np.log(self._tensors[f"{name}.steps"][-1, -1])
            out[name] = ArrivedLevel(
                components, np.full(components.shape[1:], log_step, np.float32)
            )
        return out


def _coded(pyramid: Pyramid) -> dict[str, Array]:
    return {x: pyramid.levels[x] for x in pyramid.spec.coded_names}


def synthesise(
    graphs: LearnedGraphs,
    spec: PyramidSpec,
    components: Mapping[str, int],
    arrived: Sequence[Arrived],
    geometries: Sequence[ImageGeometry],
) -> list[Pyramid]:
    """Run the synthesis on frames of any network sizes, those of one size together.

    Args:
        graphs: The synthesis.
        spec: The pyramids.
        components: Components per coded level.
        arrived: Per frame what is there; any coded level may be missing.
        geometries: One per frame.

    Returns:
        Pyramids with every level, derived ones too, in the frames' order.
    """
    out: dict[int, Pyramid] = {}
    for indices in _batches(spec, geometries):
        size = geometries[indices[0]].network_size
        feeds = synthesis_feeds(spec, components, size, [arrived[i] for i in indices])
        levels = graphs.synthesise(feeds, spec.coded_names)
        for place, index in enumerate(indices):
            own = {name: values[place] for name, values in levels.items()}
            out[index] = derive(Pyramid(spec, own, geometries[index]))
    return [out[index] for index in range(len(arrived))]


def _batches(spec: PyramidSpec, geometries: Sequence[ImageGeometry]) -> Iterator[list[int]]:
    """Indices of frames to run together."""
    by_size: dict[tuple[int, int], list[int]] = {}
    for index, geometry in enumerate(geometries):
        by_size.setdefault(geometry.network_size, []).append(index)
    for size, indices in by_size.items():
        most = max(1, BATCH_ELEMENTS // spec.elements(size))
        for start in range(0, len(indices), most):
            yield indices[start : start + most]


def synthesis_feeds(
    spec: PyramidSpec,
    components: Mapping[str, int],
    network_size: tuple[int, int],
    arrived: Sequence[Arrived],
) -> dict[str, Array]:
    """The synthesis' inputs for frames of one network size; see ``LearnedGraphs.synthesise``."""
    feeds: dict[str, Array] = {}
    for name, count in components.items():
        _, height, width = spec.shape(name, network_size)
        values = np.zeros((len(arrived), count, height, width), np.float32)
        log_steps = np.zeros((len(arrived), 1, height, width), np.float32)
        presence = np.zeros((len(arrived), 1, 1, 1), np.float32)
        for index, frame in enumerate(arrived):
            if name in frame:
                values[index], log_steps[index, 0] = frame[name].components, frame[name].log_steps
                presence[index] = 1
        feeds[f"components_{name}"] = values
        feeds[f"log_steps_{name}"] = log_steps
        feeds[f"presence_{name}"] = presence
    return feeds
