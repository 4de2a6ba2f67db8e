"""Recipes: profiles whose detector is fetched from its publisher and cut where it is used.

    profile.json ..     a whole profile's files, but for edge.onnx and server.onnx
    recipe.json         where the detector's model is offered, its SHA-256, and where to cut it

The model's weights are its publisher's to give away; the codec fitted to them is not.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from fpcodec.download import TIMEOUT_S, download
from fpcodec.errors import InputError, ModelError, ProfileError
from fpcodec.files import file_sha256
from fpcodec.profile import Profile
from fpcodec.profile_folder import require_free

RECIPE = "recipe.json"

_CUT_KEYS = ("input", "tensors", "outputs", "spec", "preprocess", "decode", "labels")

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class PublishedModel:
    """A detector's file as its publisher offers it.

    Attributes:
        file: Its name.
        sha256: Of the file, 64 hexadecimal digits.
        size_bytes: Of the file.
        url: Where it is offered.
        publisher: By whom.
        licence: SPDX identifier of the file's licence.
    """

    file: str
    sha256: str
    size_bytes: int
    url: str
    publisher: str
    licence: str

    def __post_init__(self) -> None:
        if Path(self.file).name != self.file or not self.file:
            raise InputError(f"model file {self.file!r} is no plain file name")
        if len(self.sha256) != 64 or not set(self.sha256) <= set("0123456789abcdef"):
            raise InputError(f"model sha256 {self.sha256!r} is not 64 hexadecimal digits")
        if self.size_bytes < 1:
            raise InputError(f"model size {self.size_bytes} is below one byte")


@dataclass(frozen=True)
class Recipe:
    """How a profile is completed.

    Attributes:
        folder: Where it lies.
        model: What is to be fetched.
        detector: The detector's SPEC, its argument the name of the model's file.
    """

    folder: Path
    model: PublishedModel
    detector: str

    @classmethod
    def load(cls, folder: Path | str) -> Recipe:
        """Read a recipe's folder.

        Raises:
            ProfileError: It is no recipe, or damaged.
        """
        path = Path(folder) / RECIPE
        if not path.is_file():
            raise ProfileError(f"{folder} is no recipe: it has no {RECIPE}")
        try:
            data = json.loads(path.read_text("utf-8"))
            return cls(Path(folder), PublishedModel(**data["model"]), str(data["detector"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ProfileError(f"{path} is damaged ({error}); copy it again") from error

    def to_dict(self) -> dict[str, Any]:
        """What ``recipe.json`` holds."""
        return {"detector": self.detector, "model": asdict(self.model)}

    def fetch(
        self, target: Path, timeout_s: float = TIMEOUT_S, progress: Progress | None = None
    ) -> None:
        """Download the model from its publisher; see ``fpcodec.download.download``."""
        model = self.model
        download(
            model.url, target, size_bytes=model.size_bytes, sha256=model.sha256,
            timeout_s=timeout_s, progress=progress,
        )  # fmt: skip


def complete(
    recipe: Recipe,
    out: Path,
    model: Path | None = None,
    *,
    timeout_s: float = TIMEOUT_S,
    progress: Progress | None = None,
) -> Profile:
    """Make the profile that a recipe is for: its detector fetched, verified and cut.

    Args:
        recipe: The recipe.
        out: The profile folder to write.
        model: The detector's file, where it is at hand; None to download it.
        timeout_s: Longest silence of the publisher's server.
        progress: Called with bytes downloaded and bytes in all.

    Returns:
        The profile as it lies in ``out``.

    Raises:
        InputError: Something else lies in ``out``, or the model's file is absent.
        MissingDependency: The ``onnx`` package is absent.
        ModelError: The model is another file, or cannot be cut.
        ProfileError: The recipe is damaged.
        TransportError: The download failed.
    """
    from fpcodec.detectors.factory import open_detector, parse_spec
    from fpcodec.detectors.onnx_shapes import import_onnx

    require_free(out)
    import_onnx()  # before the download, which would be for nothing
    profile = _sound(recipe)
    with tempfile.TemporaryDirectory(prefix="fpcodec-") as scratch:
        file = Path(scratch) / recipe.model.file
        if model is None:
            recipe.fetch(file, timeout_s, progress)
        else:
            file = _verified(model, recipe.model)
        spec = replace(parse_spec(recipe.detector), argument=str(file))
        detector = open_detector(spec, Path(scratch) / "halves")
        if _cut(detector.config) != _cut(profile.detector_config):
            raise ProfileError(f"{recipe.folder / RECIPE} cuts {file.name} otherwise than the "
                               "profile's detector was; reinstall or copy it again")  # fmt: skip
        return profile.save(out, detector)


def _cut(config: Mapping[str, Any]) -> str:
    """A detector's configuration without its files: their bytes vary with the onnx package."""
    return json.dumps({k: config.get(k) for k in _CUT_KEYS}, sort_keys=True)


def _sound(recipe: Recipe) -> Profile:
    profile = Profile.load(recipe.folder)
    profile.verify(skip_absent=True)
    return profile


def _verified(model: Path, expected: PublishedModel) -> Path:
    if not model.is_file():
        raise InputError(f"{model}: no such file; name {expected.file}, as offered at "
                         f"{expected.url}")  # fmt: skip
    digest = file_sha256(model)
    if digest != expected.sha256:
        raise ModelError(f"{model} has sha256 {digest}, not {expected.sha256}: give "
                         f"{expected.file} as offered at {expected.url}")  # fmt: skip
    return model
