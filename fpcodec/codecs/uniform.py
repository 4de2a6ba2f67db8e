"""``uniform``: n-bit affine quantisation per channel of the key levels, the study's baseline.

Channels are clipped to ranges seen in calibration and quantised to 2 to 9 bits. They are coded
with the same traversal as ``pca``'s components, the most spread channel first.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

from fpcodec.codecs.base import ClassMap, Integers
from fpcodec.codecs.chunked import ChunkedCodec, Quantise, level_by_level
from fpcodec.codecs.chunks import QuantisedLevel
from fpcodec.codecs.latents import Latents
from fpcodec.codecs.tables import BUCKETS, bucket_of
from fpcodec.errors import ProfileError
from fpcodec.pyramid import Array, Pyramid

LEAST_BITS = 2


def bits_of(quality: int) -> int:
    """Bits per value at a wire quality: 2 for the lowest 32 qualities, 9 for the highest."""
    return LEAST_BITS + bucket_of(quality)


class UniformCodec(ChunkedCodec):
    """Codec id 1.

    Args:
        tensors: Per coded level ``<level>.low`` and ``<level>.high`` (C,): the range quantised;
            ``<level>.centre`` (C,): the value that becomes zero; ``<level>.order`` (C,):
            channels in the order they are coded; ``tables.*``.
        spec, recoverer, backend: See ``ChunkedCodec``.
    """

    codec_id = 1
    quality_step = 256 // BUCKETS

    def _check(self) -> None:
        for name in self.spec.coded_names:
            for key in ("low", "high", "centre", "order"):
                found = self.tensors.get(f"{name}.{key}")
                if found is None or found.shape != (self.spec[name].channels,):
                    raise ProfileError(f"tensor {name}.{key} is missing or misshapen; "
                                       "calibrate the profile again")  # fmt: skip

    @cached_property
    def components(self) -> dict[str, int]:
        """Components per coded level: its channels."""
        return {name: self.spec[name].channels for name in self.spec.coded_names}

    def _affine(self, name: str, quality: int) -> tuple[npt.NDArray[np.float32], ...]:
        low, high = self.tensors[f"{name}.low"], self.tensors[f"{name}.high"]
        step = np.maximum((high - low) / (2 ** bits_of(quality) - 1), 1e-12)
        return low[:, None], high[:, None], self.tensors[f"{name}.centre"][:, None], step[:, None]

    def latents(self, pyramid: Pyramid, names: Sequence[str]) -> Latents:
        """Clip and centre the named levels; see ``ChunkedCodec.latents``."""
        components = {}
        for name in names:
            features = pyramid.levels[name]
            low, high, centre, _ = self._affine(name, 0)
            flat = np.clip(features.reshape(len(features), -1), low, high) - centre
            flat = flat[self.tensors[f"{name}.order"]]
            components[name] = np.asarray(flat.reshape(features.shape), np.float32)
        return Latents(components, {})

    def steps(self, name: str, quality: int) -> Array:
        """Step of every component; see ``ChunkedCodec.steps``."""
        step = self._affine(name, quality)[3][:, 0]
        return np.asarray(step[self.tensors[f"{name}.order"]][None], np.float32)

    def thresholds(self, name: str, quality: int) -> Array:
        """None: there is one class; see ``ChunkedCodec.thresholds``."""
        return np.zeros(0, np.float32)

    def prepare(self, pyramid: Pyramid, names: Sequence[str]) -> Quantise:
        """Nothing to do before the quality is known; see ``ChunkedCodec.prepare``."""
        return level_by_level(self._quantise, pyramid)

    def _quantise(self, name: str, features: Array, quality: int) -> QuantisedLevel:
        low, high, centre, step = self._affine(name, quality)
        clipped = np.clip(features.reshape(len(features), -1), low, high)
        symbols = np.rint((clipped - centre) / step).astype(np.int32)
        symbols = symbols[self.tensors[f"{name}.order"]]
        return QuantisedLevel(np.ascontiguousarray(symbols).reshape(features.shape))

    def _dequantise(
        self, name: str, symbols: Integers, classes: ClassMap | None, quality: int
    ) -> Array:
        _, _, centre, step = self._affine(name, quality)
        values = np.empty((len(symbols), symbols[0].size), np.float32)
        values[self.tensors[f"{name}.order"]] = symbols.reshape(len(symbols), -1)
        return np.asarray(values * step + centre, np.float32).reshape(symbols.shape)
