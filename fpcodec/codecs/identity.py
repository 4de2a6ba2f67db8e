"""The identity of a codec: a hash over everything that both sides must share to decode."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fpcodec.pyramid import PyramidSpec


def stream_id(
    codec_id: int,
    spec: PyramidSpec,
    tensors: Mapping[str, npt.NDArray[Any]],
    *,
    edge_only: Collection[str] = (),
) -> bytes:
    """SHA-256 over codec id, level specification, and the tensors the decoder needs.

    Args:
        codec_id: The byte format.
        spec: The pyramids.
        tensors: Everything the codec holds.
        edge_only: Last parts of the names of tensors that only the encoder uses.

    Returns:
        32 bytes.
    """
    digest = hashlib.sha256()
    digest.update(json.dumps([codec_id, spec.to_dict()], sort_keys=True).encode())
    for name in sorted(tensors):
        if name.rsplit(".", 1)[-1] in edge_only:
            continue
        values = np.ascontiguousarray(tensors[name])
        little = values.astype(values.dtype.newbyteorder("<"))
        digest.update(f"\n{name} {little.dtype.str} {values.shape}\n".encode())
        digest.update(little.tobytes())
    return digest.digest()
