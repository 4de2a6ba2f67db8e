"""Profiles: the folder that edge and server deploy.

    profile.json        what is here: format version, codec, detector, measured facts, sha256s
    codec.safetensors   the codec's tensors and tables, and the recoverer's weights
    analysis.onnx       of a learned codec, what the edge runs, and
    synthesis.onnx      what the server runs; either may be absent on the other side
    edge.onnx ...       the detector's files, named in profile.json

``stream_id`` covers only what both sides must share to decode; every file has a sha256 beside it.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fpcodec.codecs.chunks import CODEC_NAMES
from fpcodec.codecs.graphs import ANALYSIS_FILE, SYNTHESIS_FILE, LearnedGraphs
from fpcodec.codecs.learned import LearnedCodec
from fpcodec.codecs.pca import PcaCodec
from fpcodec.codecs.uniform import UniformCodec
from fpcodec.embedded import embedded_folder
from fpcodec.errors import ProfileError
from fpcodec.files import file_sha256
from fpcodec.profile_folder import (
    FORMAT_VERSION,
    MANIFEST,
    TENSORS,
    check_files,
    load_tensors,
    read_manifest,
    replace_folder,
    require_free,
)
from fpcodec.pyramid import PyramidSpec
from fpcodec.reconstruct.interpolation import InterpolationRecoverer

if TYPE_CHECKING:
    from fpcodec.codecs.base import Codec
    from fpcodec.detectors.base import Detector

_RECOVERY = "recovery."


@dataclass(frozen=True)
class Profile:
    """A codec fitted to one detector.

    Attributes:
        name: For people.
        codec: Ready to encode and decode.
        recovery: The recoverer's tensors.
        detector_config: What ``detectors.factory`` opens.
        labels: Class names.
        key_levels: Object scale to the levels it needs, as calibration measured.
        measured: Facts from calibration: images, bytes by quality, agreement by levels.
        path: The folder it was loaded from.
    """

    name: str
    codec: Codec
    recovery: Mapping[str, npt.NDArray[np.float32]]
    detector_config: Mapping[str, Any]
    labels: tuple[str, ...] = ()
    key_levels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    measured: Mapping[str, Any] = field(default_factory=dict)
    path: Path | None = None

    @property
    def spec(self) -> PyramidSpec:
        """The pyramid at the cut."""
        return self.codec.spec

    @property
    def stream_id(self) -> bytes:
        """Identity of what both sides must share: 32 bytes."""
        return self.codec.stream_id

    @classmethod
    def load(cls, path: Path | str) -> Profile:
        """Load a profile folder.

        Raises:
            ProfileError: It is absent, damaged or of an unknown format version.
        """
        folder = Path(path)
        manifest = read_manifest(folder)
        try:
            tensors = load_tensors(folder / TENSORS, manifest["files"][TENSORS])
            spec = PyramidSpec.from_dict(manifest["spec"])
            recovery = {
                key[len(_RECOVERY) :]: value
                for key, value in tensors.items()
                if key.startswith(_RECOVERY)
            }
            own = {k: v for k, v in tensors.items() if not k.startswith(_RECOVERY)}
            graphs = LearnedGraphs(folder, _graph_hashes(manifest["files"]))
            codec = make_codec(int(manifest["codec_id"]), spec, own, recovery, graphs)
            profile = cls(
                name=str(manifest["name"]),
                codec=codec,
                recovery=recovery,
                detector_config=dict(manifest["detector"]),
                labels=tuple(manifest["labels"]),
                key_levels={k: tuple(v) for k, v in manifest["key_levels"].items()},
                measured=dict(manifest["measured"]),
                path=folder,
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ProfileError(
                f"{folder / MANIFEST} is incomplete ({error}); calibrate again"
            ) from error
        if profile.stream_id.hex() != manifest.get("stream_id"):
            raise ProfileError(f"{folder}: tensors do not give the stream id in {MANIFEST}; "
                               "copy the folder again")  # fmt: skip
        return profile

    def save(self, path: Path | str, detector: Any = None) -> Profile:
        """Write the profile as a folder, whole or not at all.

        Args:
            path: The folder; an old profile there is replaced, any other folder is not. A learned
                codec's graphs come along, those that its folder has.
            detector: Whose files are exported into it; None copies those of ``self.path``.

        Returns:
            The profile as it lies there.

        Raises:
            InputError: Something that is not a profile is in the way.
        """
        folder = Path(path).resolve()
        require_free(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as name:
            scratch = Path(name) / "profile"
            scratch.mkdir()
            config = dict(self.detector_config)
            if detector is not None:
                config = detector.export(scratch)
            elif self.path is not None:
                _copy_detector_files(self.path, scratch)
            if isinstance(self.codec, LearnedCodec):
                _copy_graphs(self.codec.graphs.folder, scratch)
            self._write_tensors(scratch / TENSORS)
            manifest = self._manifest(config, scratch)
            (scratch / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
            replace_folder(folder, scratch, Path(name) / "old")
        return Profile.load(folder)

    def _write_tensors(self, path: Path) -> None:
        from safetensors.numpy import save

        own = self.codec.tensors
        tensors = {**own, **{f"{_RECOVERY}{k}": v for k, v in self.recovery.items()}}
        path.write_bytes(save({k: np.ascontiguousarray(v) for k, v in tensors.items()}))

    def _manifest(self, config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
        return {
            "format_version": FORMAT_VERSION,
            "name": self.name,
            "stream_id": self.stream_id.hex(),
            "codec_id": self.codec.codec_id,
            "codec": CODEC_NAMES[self.codec.codec_id],
            "spec": self.spec.to_dict(),
            "labels": list(self.labels),
            "key_levels": {k: list(v) for k, v in self.key_levels.items()},
            "measured": dict(self.measured),
            "detector": dict(config),
            "files": {
                x.name: file_sha256(x) for x in sorted(folder.iterdir()) if x.name != MANIFEST
            },
        }

    def verify(self, *, skip_absent: bool = False) -> None:
        """Check every file against its sha256.

        Args:
            skip_absent: Let files be missing, as the other side's may.

        Raises:
            ProfileError: A file is missing or was changed.
        """
        if self.path is None:
            raise ProfileError("this profile is not in a folder; save it first")
        check_files(self.path, skip_absent=skip_absent)

    def open_codec(self, threads: int | None = None, providers: Sequence[str] = ()) -> Codec:
        """The codec, its networks, where it has any, run as a detector's would be.

        ``codec`` itself runs them on one thread of the CPU.

        Args:
            threads: Threads within an operator; None for the runtime's choice.
            providers: onnxruntime execution providers in order of preference.
        """
        if isinstance(self.codec, LearnedCodec):
            return self.codec.with_runtime(threads, providers)
        return self.codec

    def open_detector(
        self, role: str = "both", threads: int | None = None, providers: Sequence[str] = ()
    ) -> Detector:
        """Open the detector's edge half, server half or both.

        Raises:
            ModelError: It cannot be opened; the message says why.
        """
        from fpcodec.detectors.factory import detector_from_config

        folder = self.path or Path()
        if self.path is not None:
            # A flipped bit in a graph changes features without a word. A device may lack the
            # server's half, so absent files are left to the detector.
            check_files(folder, skip_absent=True)
        return detector_from_config(self.detector_config, folder, role, threads, providers)


def embedded_profile_path(name: str = "tiny") -> Path:
    """Folder of a profile that ships with the package: ``tiny`` or ``bccd``.

    Raises:
        InputError: None has this name.
    """
    return embedded_folder(name)


def make_codec(
    codec_id: int,
    spec: PyramidSpec,
    tensors: Mapping[str, npt.NDArray[Any]],
    recovery: Mapping[str, npt.NDArray[np.float32]],
    graphs: LearnedGraphs | None = None,
) -> Codec:
    """Build a codec from its tensors.

    Args:
        codec_id: Which one.
        spec: The pyramids.
        tensors: The codec's own.
        recovery: The recoverer's; ``learned`` has none, and what there is serves the
            comparison with interpolation.
        graphs: Of ``learned``.

    Raises:
        ProfileError: The codec id is unknown, or a tensor is missing.
    """
    if codec_id not in CODEC_NAMES:
        known = ", ".join(f"{number} ({name})" for number, name in CODEC_NAMES.items())
        raise ProfileError(f"codec id {codec_id} is unknown; this release has {known}")
    if codec_id == LearnedCodec.codec_id:
        if graphs is None:
            raise ProfileError("codec id 3 (learned) needs its graphs; load it from its folder")
        return LearnedCodec(spec, tensors, graphs)
    kind = UniformCodec if codec_id == UniformCodec.codec_id else PcaCodec
    recoverer = InterpolationRecoverer(spec, recovery)
    recoverer.require_complete()
    return kind(spec, tensors, recoverer)


def _graph_hashes(files: Mapping[str, str]) -> dict[str, str]:
    return {x: files[x] for x in (ANALYSIS_FILE, SYNTHESIS_FILE) if x in files}


def _copy_graphs(source: Path, target: Path) -> None:
    for name in (ANALYSIS_FILE, SYNTHESIS_FILE):
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)


def _copy_detector_files(source: Path, target: Path) -> None:
    for file in source.iterdir():
        if file.is_file() and file.name not in (MANIFEST, TENSORS):
            shutil.copyfile(file, target / file.name)
