"""From a detector's description to a ``Detector``; adapters are imported when first wanted."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote

from fpcodec.detectors.base import Detector
from fpcodec.detectors.decoding import DecodeConfig
from fpcodec.detectors.preprocess import Preprocess
from fpcodec.embedded import EMBEDDED, embedded_folder
from fpcodec.errors import InputError, MissingDependency, ModelError
from fpcodec.pyramid import LevelSpec, PyramidSpec

KINDS = ("onnx", "torchvision", "detectron2", "tiny")
CONFIG_FILE = "detector.json"
"""In the folder of an ONNX detector that has been cut already."""

TINY_FOLDER = embedded_folder("tiny")


@dataclass(frozen=True)
class DetectorSpec:
    """What to open.

    Attributes:
        kind: One of KINDS.
        argument: A model file, a model's name or a configuration file; for ``tiny`` the name or
            the folder of one, empty for the one of generated scenes.
        options: What the adapter understands; values are strings, or data from a JSON file.
    """

    kind: str
    argument: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(f"detector kind {self.kind!r} is not one of {', '.join(KINDS)}")
        if not self.argument and self.kind != "tiny":
            raise InputError(f"detector {self.kind} needs an argument: {self.kind}:MODEL?key=value")


class ExportableDetector(Detector, Protocol):
    """A detector that a profile can carry."""

    config: dict[str, Any]

    def export(self, folder: Path) -> dict[str, Any]:
        """Write the files that a profile needs; return what ``detector_from_config`` reads."""


def parse_spec(text: str) -> DetectorSpec:
    """Read ``KIND:ARGUMENT?key=value&key=value``, or the path of a JSON file with the same.

    The file holds ``kind``, ``argument`` and ``options``; a model path in it is relative to it.
    Values may be percent-encoded, for names that hold ``&``.

    Raises:
        InputError: The text is neither.
    """
    if Path(text).suffix == ".json":
        return _spec_from_file(Path(text))
    head, _, query = text.partition("?")
    kind, _, argument = head.partition(":")
    options: dict[str, str] = {}
    for pair in query.split("&") if query else ():
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise InputError(f"detector option {pair!r} is not key=value in {text!r}")
        if key in options:
            raise InputError(f"detector option {key} is given twice in {text!r}")
        options[unquote(key)] = unquote(value)
    return DetectorSpec(kind, unquote(argument), options)


def open_detector(
    spec: str | DetectorSpec,
    work_dir: Path | None = None,
    threads: int | None = None,
    providers: Sequence[str] = (),
) -> ExportableDetector:
    """Open a detector from its description.

    Args:
        spec: A string as ``parse_spec`` reads it, or its result.
        work_dir: Where an ONNX model's halves are written; None for a temporary folder that goes
            with the detector.
        threads: Threads within an operator; None for the runtime's choice.
        providers: onnxruntime execution providers in order of preference.

    Raises:
        InputError: The description cannot be read.
        ModelError: The model cannot be opened; the message says why.
    """
    wanted = parse_spec(spec) if isinstance(spec, str) else spec
    if wanted.kind == "onnx":
        return _open_onnx(wanted, work_dir, threads, providers)
    if wanted.kind == "tiny":
        if wanted.options:
            raise InputError(
                f"detector tiny takes no option {next(iter(wanted.options))}; leave it out "
                "(runtime=torch is for fpcodec sweep and drift)"
            )
        folder = tiny_folder(wanted.argument)
        return detector_from_config(tiny_config(folder), folder, "both", threads, providers)
    options = dict(wanted.options)
    if threads is not None and wanted.kind != "onnx":
        options.setdefault("threads", str(threads))
    detector: ExportableDetector = _adapter(wanted.kind).from_spec(wanted.argument, options)
    return detector


def detector_from_config(
    config: Mapping[str, Any],
    folder: Path,
    role: str = "both",
    threads: int | None = None,
    providers: Sequence[str] = (),
) -> ExportableDetector:
    """Open the detector that a profile carries.

    Args:
        config: What the adapter's ``export`` returned.
        folder: Where its files lie.
        role: ``edge``, ``server`` or ``both``: the halves to load.
        threads: Threads within an operator; None for the runtime's choice.
        providers: onnxruntime execution providers in order of preference.

    Raises:
        ModelError: The configuration or its files cannot be used.
    """
    kind = config.get("kind")
    if kind not in KINDS or kind == "tiny":
        raise ModelError(f"detector kind {kind!r} is not one of onnx, torchvision, detectron2")
    detector: ExportableDetector = _adapter(kind).from_config(
        config, Path(folder), role=role, threads=threads, providers=providers
    )
    return detector


def tiny_folder(argument: str) -> Path:
    """Where the ``tiny`` lies that a spec's argument means: an embedded one's name, or a folder."""
    if not argument:
        return TINY_FOLDER
    named = argument in EMBEDDED and not Path(argument).exists()
    return embedded_folder(argument) if named else Path(argument)


def tiny_config(folder: Path = TINY_FOLDER) -> dict[str, Any]:
    """Configuration of a ``tiny``'s graphs, from the card beside them.

    Raises:
        ModelError: The card is absent or cannot be read.
    """
    path = folder / "card.json"
    try:
        card = json.loads(path.read_text("utf-8"))
        size = card["input"]["size"]
        width, height = (size, size) if isinstance(size, int) else map(int, size)
        mean, std = card["input"]["mean"], card["input"]["std"]
        # The mean grey around a photograph is zero to the network.
        preprocess = Preprocess.from_dict(
            {"size": [width, height], "mean": mean, "std": std, "pad_value": round(mean[0])}
        )
        strides = {str(name): int(stride) for name, stride in card["strides"].items()}
        channels = int(card["channels"])
        levels = [
            LevelSpec(name, stride, channels, derived_from="p5" if name == "p6" else None)
            for name, stride in strides.items()
        ]
        divisor = math.gcd(levels[-1].stride, width, height)
        spec = PyramidSpec(tuple(levels), size_divisor=divisor)
        labels = [str(name) for name in card["classes"]]
        macs = {"edge": dict(card["macs"]["edge"]), "server": int(card["macs"]["server"])}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise ModelError(
            f"{path}: cannot be read ({error}); give a folder that holds a tiny, or reinstall "
            "fpcodec"
        ) from error
    return {
        "kind": "onnx",
        "input": "image",
        "tensors": {name: name for name in spec.names},
        "spec": spec.to_dict(),
        "preprocess": preprocess.to_dict(),
        "decode": DecodeConfig("detections", score_threshold=0.05).to_dict(),
        "labels": labels,
        "macs": macs,
    }


def _open_onnx(
    spec: DetectorSpec, work_dir: Path | None, threads: int | None, providers: Sequence[str]
) -> ExportableDetector:
    from fpcodec.detectors.onnx_build import build_onnx
    from fpcodec.detectors.onnx_options import read_options

    path = Path(spec.argument)
    if path.is_dir():
        return _open_cut(path, spec.options, threads, providers)
    if not spec.options and not path.exists():
        raise ModelError(f"{path}: no such file or folder; give a model and its tensors, or the "
                         "folder of a detector that has been cut")  # fmt: skip
    options = read_options(spec.options)
    return build_onnx(
        path, options.tensors, options.decode, options.preprocess,
        network_size=options.network_size, labels=options.labels,
        work_dir=work_dir, threads=threads, providers=providers,
    )  # fmt: skip


def _open_cut(
    folder: Path, options: Mapping[str, Any], threads: int | None, providers: Sequence[str]
) -> ExportableDetector:
    """A detector that has been cut already: two graphs and what ``export`` returned."""
    if options:
        raise InputError(
            f"detector folder {folder} says everything itself; leave out option "
            f"{next(iter(options))}"
        )
    path = folder / CONFIG_FILE
    try:
        config = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{path}: cannot be read ({error}); give a folder that fpcodec distill wrote"
        ) from error
    if not isinstance(config, dict) or config.get("kind") != "onnx":
        raise ModelError(f"{path}: not the description of a cut ONNX detector; write it again")
    return detector_from_config(config, folder, "both", threads, providers)


def _spec_from_file(path: Path) -> DetectorSpec:
    try:
        data = json.loads(path.read_text("utf-8"))
        kind, argument = str(data["kind"]), str(data.get("argument", ""))
        options = dict(data.get("options", {}))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not a detector description ({error}); it wants kind, argument "
                         "and options") from error  # fmt: skip
    beside = path.parent / argument
    return DetectorSpec(kind, str(beside) if argument and beside.exists() else argument, options)


def _adapter(kind: str) -> Any:
    """The adapter's class, imported now.

    Raises:
        MissingDependency: What it needs is not installed.
    """
    if kind == "onnx":
        from fpcodec.detectors.onnx import OnnxDetector

        return OnnxDetector
    try:
        if kind == "torchvision":
            from fpcodec.detectors.torchvision import TorchvisionDetector

            return TorchvisionDetector
        from fpcodec.detectors.detectron2 import Detectron2Detector
    except ImportError as error:
        if (error.name or "").startswith("fpcodec"):
            raise
        extra = "fpcodec[torch]" if kind == "torchvision" else "fpcodec[torch] and detectron2"
        raise MissingDependency(
            f'detector kind {kind} needs {error.name}: pip install "{extra}"'
        ) from error
    return Detectron2Detector
