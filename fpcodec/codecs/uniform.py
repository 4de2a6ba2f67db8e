"""``uniform``: n-bit affine quantisation per channel of the key levels, the study's baseline.

Channels are clipped to ranges seen in calibration and quantised to 2 to 9 bits. They are coded
with the same traversal as ``pca``'s components, the most spread channel first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from fpcodec.codecs.base import Decoded, Limits, quality_byte
from fpcodec.codecs.chunks import ChunkCoder, QuantisedLevel, select_levels
from fpcodec.codecs.identity import stream_id
from fpcodec.codecs.tables import CodecTables, bucket_of
from fpcodec.entropy import Backend
from fpcodec.errors import ProfileError
from fpcodec.pyramid import ImageGeometry, Pyramid, PyramidSpec
from fpcodec.reconstruct.base import Recoverer

LEAST_BITS = 2

Tensors = Mapping[str, npt.NDArray[Any]]


def bits_of(quality: int) -> int:
    """Bits per value at a wire quality: 2 for the lowest 32 qualities, 9 for the highest."""
    return LEAST_BITS + bucket_of(quality)


class UniformCodec:
    """Codec id 1.

    Args:
        spec: The pyramids.
        tensors: Per coded level ``<level>.low`` and ``<level>.high`` (C,): the range quantised;
            ``<level>.centre`` (C,): the value that becomes zero; ``<level>.order`` (C,):
            channels in the order they are coded; ``tables.*``.
        recoverer: Fills the levels that were not sent.
        backend: The entropy coder; None for the fastest installed.

    Raises:
        ProfileError: A tensor is missing or misshapen.
    """

    codec_id = 1

    def __init__(
        self,
        spec: PyramidSpec,
        tensors: Tensors,
        recoverer: Recoverer,
        backend: Backend | None = None,
    ) -> None:
        self.spec, self.tensors, self.recoverer = spec, dict(tensors), recoverer
        self._backend = backend
        for name in spec.coded_names:
            for key in ("low", "high", "centre", "order"):
                found = self.tensors.get(f"{name}.{key}")
                if found is None or found.shape != (spec[name].channels,):
                    raise ProfileError(f"tensor {name}.{key} is missing or misshapen; "
                                       "calibrate the profile again")  # fmt: skip

    @cached_property
    def components(self) -> dict[str, int]:
        """Components per coded level: its channels."""
        return {name: self.spec[name].channels for name in self.spec.coded_names}

    @cached_property
    def stream_id(self) -> bytes:
        """Identity of what both sides must share."""
        return stream_id(self.codec_id, self.spec, self.tensors)

    @cached_property
    def coder(self) -> ChunkCoder:
        """Integers to bytes and back."""
        tables = CodecTables({k: v for k, v in self.tensors.items() if k.startswith("tables.")})
        tables.check(self.components)
        return ChunkCoder(self.codec_id, self.spec, self.components, tables, self.stream_id)

    def _affine(self, name: str, quality: int) -> tuple[npt.NDArray[np.float32], ...]:
        low, high = self.tensors[f"{name}.low"], self.tensors[f"{name}.high"]
        step = np.maximum((high - low) / (2 ** bits_of(quality) - 1), 1e-12)
        return low[:, None], high[:, None], self.tensors[f"{name}.centre"][:, None], step[:, None]

    def quantise(
        self, pyramid: Pyramid, quality: int, names: Sequence[str]
    ) -> dict[str, QuantisedLevel]:
        """Integers of the named levels at a wire quality."""
        out = {}
        for name in names:
            low, high, centre, step = self._affine(name, quality)
            features = pyramid.levels[name]
            clipped = np.clip(features.reshape(len(features), -1), low, high)
            symbols = np.rint((clipped - centre) / step).astype(np.int32)
            symbols = symbols[self.tensors[f"{name}.order"]]
            out[name] = QuantisedLevel(np.ascontiguousarray(symbols).reshape(features.shape))
        return out

    def encode(
        self, pyramid: Pyramid, quality: float, levels: Sequence[str] | None = None
    ) -> bytes:
        """Code the key levels as one frame; see ``Codec.encode``."""
        names = select_levels(self.spec, levels, pyramid.levels)
        Pyramid(self.spec, {x: pyramid.levels[x] for x in names}, pyramid.geometry).require_finite()
        wire = quality_byte(quality)
        geometry = pyramid.geometry
        return self.coder.write(self.quantise(pyramid, wire, names), wire, geometry.image_size,
                                geometry.network_size, self._backend)  # fmt: skip

    def decode(
        self, frame: bytes, limits: Limits | None = None, *, partial: bool = False
    ) -> Decoded:
        """Read a frame back to integers, exactly; see ``Codec.decode``."""
        return self.coder.read(frame, limits, partial=partial, backend=self._backend)

    def reconstruct(
        self, decoded: Sequence[Decoded], geometries: Sequence[ImageGeometry]
    ) -> list[Pyramid]:
        """Turn integers into full pyramids; see ``Codec.reconstruct``."""
        pyramids = []
        for frame, geometry in zip(decoded, geometries, strict=True):
            levels = {}
            for name, symbols in frame.symbols.items():
                _, _, centre, step = self._affine(name, frame.quality)
                values = np.empty((len(symbols), symbols[0].size), np.float32)
                values[self.tensors[f"{name}.order"]] = symbols.reshape(len(symbols), -1)
                levels[name] = (values * step + centre).astype(np.float32).reshape(symbols.shape)
            pyramids.append(Pyramid(self.spec, levels, geometry))
        return self.recoverer.recover(pyramids)
