"""A profile whose edge graph has another precision; its frames are read by the same server.

What both sides must share to decode is the codec's: ``stream_id`` does not know the edge graph.
The codec's own network, ``analysis.onnx``, stays float: its outputs are what is rounded and sent.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fpcodec.detectors.onnx import EDGE_FILE, EDGE_PRECISION, OnnxDetector
from fpcodec.detectors.onnx_session import open_session
from fpcodec.errors import InputError, ProfileError
from fpcodec.files import file_sha256
from fpcodec.images import load_image
from fpcodec.precision import DEFAULT_ERROR, PRECISIONS
from fpcodec.precision.half import halve_graph
from fpcodec.precision.integer import Progress, quantise_graph
from fpcodec.profile import Profile
from fpcodec.profile_folder import MANIFEST, TENSORS
from fpcodec.pyramid import Array


@dataclass(frozen=True)
class PreciseEdge:
    """What ``quantise_profile`` wrote.

    Attributes:
        profile: As it lies in its folder.
        facts: What the profile says of its edge graph's precision.
        graph_bytes: Length of the new edge graph and of the one it stands for.
    """

    profile: Profile
    facts: Mapping[str, Any]
    graph_bytes: tuple[int, int]


def quantise_profile(
    profile: Profile,
    out: Path,
    precision: str,
    images: Sequence[Path] = (),
    *,
    max_error: float = DEFAULT_ERROR,
    progress: Progress | None = None,
) -> PreciseEdge:
    """Write a profile like another one, with an edge graph of lower precision.

    Args:
        profile: In a folder, with an edge half that is an ONNX graph.
        out: The folder to write.
        precision: ``fp16`` or ``int8``.
        images: To calibrate ``int8`` on; ``fp16`` needs none.
        max_error: Of ``int8``; see ``quantise_graph``.
        progress: Called with a stage, what is done of it and its total.

    Raises:
        InputError: The precision is unknown, an image cannot be read, or a folder is in the way.
        ProfileError: The profile has no edge graph of float precision.
        MissingDependency: The ``onnx`` package is absent.
        ModelError: The graph cannot be converted.
    """
    if precision not in PRECISIONS:
        raise InputError(f"precision {precision!r} is not one of {', '.join(PRECISIONS)}")
    source = _float_edge(profile)
    facts: dict[str, Any] = {"precision": precision}
    if precision == "fp16":
        graph = halve_graph(source)
    else:
        found = quantise_graph(
            source, _network_inputs(profile, images), max_error=max_error, progress=progress
        )
        graph = found.model
        facts |= {
            "images": len(images), "max_error": max_error, "error": round(found.error, 6),
            "quantised": found.quantised, "kept": list(found.kept),
        }  # fmt: skip
    open_session(graph, threads=1)  # what cannot be loaded is not written
    config = profile.detector_config
    facts["stands_for"] = {EDGE_FILE: config.get("files", {}).get(EDGE_FILE, file_sha256(source))}
    written = profile.save(out, _OtherEdge(profile, graph, facts))
    return PreciseEdge(written, facts, (len(graph), source.stat().st_size))


def _float_edge(profile: Profile) -> Path:
    if profile.path is None or not (profile.path / EDGE_FILE).is_file():
        raise ProfileError(f"profile {profile.name} has no {EDGE_FILE}; name a folder with one")
    before = profile.detector_config.get(EDGE_PRECISION)
    if before is not None:
        raise ProfileError(
            f"{profile.path}: its edge graph is {before.get('precision')} already; start from the "
            "profile that it was made of"
        )
    return profile.path / EDGE_FILE


def _network_inputs(profile: Profile, images: Sequence[Path]) -> list[Array]:
    detector = profile.open_detector("edge", threads=1)
    if not isinstance(detector, OnnxDetector):
        raise ProfileError(f"profile {profile.name}: its detector is no pair of ONNX graphs")
    return [detector.preprocess(load_image(path))[0] for path in images]


class _OtherEdge:
    """Exports a profile's detector with another edge graph."""

    def __init__(self, profile: Profile, graph: bytes, facts: Mapping[str, Any]) -> None:
        self._profile, self._graph, self._facts = profile, graph, facts

    def export(self, folder: Path) -> dict[str, Any]:
        """Copy the folder's files, write the graph; return the configuration."""
        for file in (self._profile.path or Path()).iterdir():
            if file.is_file() and file.name not in (MANIFEST, TENSORS, EDGE_FILE):
                shutil.copyfile(file, folder / file.name)
        (folder / EDGE_FILE).write_bytes(self._graph)
        config = dict(self._profile.detector_config)
        files = {**config.get("files", {}), EDGE_FILE: file_sha256(folder / EDGE_FILE)}
        return {**config, "files": files, EDGE_PRECISION: dict(self._facts)}
