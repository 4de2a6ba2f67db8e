"""Recovery by interpolation: the key-level study's method, with its weights fitted.

The study (dbwp031/detectron2, "FPN level degradation") sends p3 and p5, takes p2 as bilinear
p3 and knows three candidates for p4: 4-1, p3 resized down (``finer``); 4-2, p5 resized up
(``coarser``); 4-3, a weighted sum of both (``mix``). Here any level is recovered in the same way
from its nearest neighbours that arrived. Where two levels differ in channels, a matrix fitted by
least squares maps one's channels to the other's first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from fpcodec.errors import InputError, ProfileError
from fpcodec.pyramid import Array, Pyramid, PyramidSpec, derive

CANDIDATES = ("finer", "coarser", "mix")

Tensors = Mapping[str, npt.NDArray[np.float32]]


class InterpolationRecoverer:
    """Recovers levels by bilinear interpolation of their neighbours.

    Args:
        spec: The pyramids.
        tensors: What ``InterpolationFitter.fit`` returns.
        candidate: ``finer``, ``coarser`` or ``mix``; where a neighbour is missing, the other
            serves, and where both are, the level's mean.

    Raises:
        InputError: An unknown candidate.
    """

    def __init__(self, spec: PyramidSpec, tensors: Tensors, candidate: str = "mix") -> None:
        if candidate not in CANDIDATES:
            raise InputError(f"candidate {candidate!r} is not one of {', '.join(CANDIDATES)}")
        self.spec, self.tensors, self.candidate = spec, dict(tensors), candidate

    def require_complete(self) -> None:
        """Check that every tensor that some set of levels may need is there.

        Raises:
            ProfileError: One is missing or misshapen.
        """
        names = self.spec.coded_names
        channels = {name: self.spec[name].channels for name in names}
        wanted = {f"mean.{name}": (channels[name],) for name in names} | {
            f"map.{a}.{b}": (channels[b], channels[a] + 1)
            for a in names
            for b in names
            if channels[a] != channels[b]
        }
        wanted |= {
            f"mix.{name}.{finer}.{coarser}": (2,)
            for i, name in enumerate(names)
            for finer in names[:i]
            for coarser in names[i + 1 :]
        }
        for key, shape in wanted.items():
            found = self.tensors.get(key)
            if found is None or found.shape != shape:
                raise ProfileError(f"recovery tensor {key} is missing or misshapen; "
                                   "calibrate the profile again")  # fmt: skip

    def recover(self, pyramids: Sequence[Pyramid]) -> list[Pyramid]:
        """Fill every missing level."""
        return [self._recover(pyramid) for pyramid in pyramids]

    def _recover(self, pyramid: Pyramid) -> Pyramid:
        levels = dict(pyramid.levels)
        for name in self.spec.coded_names:
            if name not in pyramid.levels:
                levels[name] = self._predict(name, pyramid)
        return derive(Pyramid(self.spec, levels, pyramid.geometry))

    def _predict(self, name: str, pyramid: Pyramid) -> Array:
        shape = self.spec.shape(name, pyramid.geometry.network_size)
        finer, coarser = neighbours(self.spec, name, pyramid.levels)
        guesses = {}
        for side, source in (("finer", finer), ("coarser", coarser)):
            if source is not None:
                moved = self._map_channels(pyramid.levels[source], source, name)
                guesses[side] = resize_bilinear(moved, shape[1:])
        if not guesses:
            mean = self.tensors[f"mean.{name}"][:, None, None]
            return np.ascontiguousarray(np.broadcast_to(mean, shape), np.float32)
        if len(guesses) == 1:
            return next(iter(guesses.values()))
        if self.candidate != "mix":
            return guesses[self.candidate]
        a, b = self.tensors[f"mix.{name}.{finer}.{coarser}"]
        return np.asarray(a * guesses["finer"] + b * guesses["coarser"], np.float32)

    def _map_channels(self, values: Array, source: str, target: str) -> Array:
        matrix = self.tensors.get(f"map.{source}.{target}")
        if matrix is None:
            return values
        flat = matrix[:, :-1] @ values.reshape(len(values), -1) + matrix[:, -1:]
        return flat.reshape(-1, *values.shape[1:])


def neighbours(
    spec: PyramidSpec, name: str, present: Iterable[str]
) -> tuple[str | None, str | None]:
    """The nearest finer and the nearest coarser level that are present."""
    index = spec.index(name)
    have = sorted(spec.index(x) for x in present if spec[x].derived_from is None)
    finer = max((i for i in have if i < index), default=None)
    coarser = min((i for i in have if i > index), default=None)
    names = spec.names
    return (None if finer is None else names[finer], None if coarser is None else names[coarser])


def resize_bilinear(values: Array, size: tuple[int, int]) -> Array:
    """Resize (C, H, W) to (C, *size): bilinear, half-pixel centres, no antialiasing."""
    out = values
    for axis, length in ((1, size[0]), (2, size[1])):
        source = out.shape[axis]
        if source == length:
            continue
        position = np.clip((np.arange(length) + 0.5) * source / length - 0.5, 0, source - 1)
        low = np.floor(position).astype(np.intp)
        high = np.minimum(low + 1, source - 1)
        shape = [1, 1, 1]
        shape[axis] = length
        weight = (position - low).astype(np.float32).reshape(shape)
        out = out.take(low, axis) * (1 - weight) + out.take(high, axis) * weight
    return np.ascontiguousarray(out, np.float32)


class InterpolationFitter:
    """Accumulates what the fit needs, pyramid by pyramid."""

    def __init__(self, spec: PyramidSpec) -> None:
        self._spec = spec
        self._count = 0
        self._means: dict[str, npt.NDArray[np.float64]] = {}
        self._normal: dict[str, tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]] = {}
        self._held: list[Pyramid] = []

    def add(self, pyramid: Pyramid, *, keep: bool) -> None:
        """Add a full pyramid; ``keep`` it for the mix weights (a few dozen are enough)."""
        self._count += 1
        for name in self._spec.coded_names:
            mean = pyramid.levels[name].mean(axis=(1, 2), dtype=np.float64)
            self._means[name] = self._means.get(name, 0) + mean
        for source, target in self._unlike_pairs():
            self._add_pair(pyramid, source, target)
        if keep:
            self._held.append(pyramid)

    def _unlike_pairs(self) -> list[tuple[str, str]]:
        names = self._spec.coded_names
        return [
            (a, b) for a in names for b in names
            if a != b and self._spec[a].channels != self._spec[b].channels
        ]  # fmt: skip

    def _add_pair(self, pyramid: Pyramid, source: str, target: str) -> None:
        wanted = pyramid.levels[target]
        moved = resize_bilinear(pyramid.levels[source], (wanted.shape[1], wanted.shape[2]))
        x = np.concatenate(
            [moved.reshape(len(moved), -1), np.ones((1, wanted[0].size), np.float32)]
        )
        y = wanted.reshape(len(wanted), -1)
        gram, cross = self._normal.get(f"map.{source}.{target}", (0, 0))
        self._normal[f"map.{source}.{target}"] = (gram + x @ x.T, cross + y @ x.T)

    def fit(self) -> dict[str, npt.NDArray[np.float32]]:
        """Means, channel maps and mix weights, named as the recoverer reads them."""
        out = {
            f"mean.{name}": np.asarray(total / self._count, np.float32)
            for name, total in self._means.items()
        }
        for name, (gram, cross) in self._normal.items():
            ridge = 1e-4 * np.trace(gram) / len(gram) * np.eye(len(gram))
            out[name] = np.linalg.solve(gram + ridge, cross.T).T.astype(np.float32)
        names = self._spec.coded_names
        for i, name in enumerate(names):
            for finer in names[:i]:
                for coarser in names[i + 1 :]:
                    out[f"mix.{name}.{finer}.{coarser}"] = self._mix(name, finer, coarser, out)
        return out

    def _mix(self, name: str, finer: str, coarser: str, tensors: Tensors) -> Array:
        """Least-squares weights (a, b) of the two candidates."""
        gram, cross = np.zeros((2, 2)), np.zeros(2)
        recoverers = {c: InterpolationRecoverer(self._spec, tensors, c) for c in CANDIDATES[:2]}
        for pyramid in self._held:
            kept = {x: pyramid.levels[x] for x in (finer, coarser)}
            part = Pyramid(self._spec, kept, pyramid.geometry)
            guesses = [recoverers[c]._predict(name, part).ravel() for c in CANDIDATES[:2]]
            wanted = pyramid.levels[name].ravel()
            gram += [[float(a @ b) for b in guesses] for a in guesses]
            cross += [float(a @ wanted) for a in guesses]
        gram += 1e-6 * np.trace(gram) * np.eye(2) + 1e-12 * np.eye(2)
        return np.linalg.solve(gram, cross).astype(np.float32)
