"""Options of ``onnx:MODEL?key=value``: level tensors, decoding, pre-processing, labels."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fpcodec.detectors.coco_labels import COCO_LABELS
from fpcodec.detectors.decoding import KINDS, DecodeConfig
from fpcodec.detectors.layouts import LAYOUTS
from fpcodec.detectors.preprocess import Preprocess
from fpcodec.errors import InputError

_LEVEL = re.compile(r"[a-z][0-9]{1,2}")
_DECODE_KEYS = {
    "score_threshold": float,
    "nms_iou": float,
    "max_detections": int,
    "label_offset": int,
}
_PREPROCESS_KEYS = ("mode", "align", "channel_order", "value_scale", "mean", "std", "pad_value")


@dataclass(frozen=True)
class OnnxOptions:
    """What the options say.

    Attributes:
        tensors: Level name to tensor name.
        decode: How raw outputs become boxes.
        preprocess: How images become input.
        network_size: ``(width, height)`` asked for; None for the graph's own.
        labels: Class names; None where nothing is said.
    """

    tensors: dict[str, str]
    decode: DecodeConfig
    preprocess: Preprocess
    network_size: tuple[int, int] | None
    labels: tuple[str, ...] | None


def read_options(given: Mapping[str, Any]) -> OnnxOptions:
    """Read the options of an onnx detector.

    Level names (``p3=TENSOR``); ``decode``, the keys of ``DecodeConfig`` and of its layout's
    options, ``outputs`` as ``role:name,role:name``; ``preprocess=LAYOUT`` or the keys of
    ``Preprocess``, ``size`` as ``640x384``, ``mean`` and ``std`` as three numbers; ``labels`` as
    ``coco``, a ``.txt`` file with one name a line, or names joined by commas. In a JSON file
    values may be data instead.

    Raises:
        InputError: An option is unknown, missing or out of range.
    """
    options = dict(given)
    tensors = {key: str(options.pop(key)) for key in list(options) if _LEVEL.fullmatch(key)}
    decode = _decode_config(options)
    preprocess, network_size = _preprocess(options, decode)
    said = options.pop("labels", None)
    labels = () if said is None and decode.kind not in LAYOUTS else _labels(said)
    if options:
        own = LAYOUTS[decode.kind].Options.names() if decode.kind in LAYOUTS else ()
        raise InputError(
            f"onnx detector has no option {', '.join(options)}; it takes level names, decode, "
            f"size, labels, outputs, {', '.join((*_DECODE_KEYS, *own, *_PREPROCESS_KEYS))}"
        )
    return OnnxOptions(tensors, decode, preprocess, network_size, labels)


def _decode_config(options: dict[str, Any]) -> DecodeConfig:
    """Take the decoding's options out of ``options``."""
    decode = options.pop("decode", None)
    if decode is None:
        raise InputError(f"onnx detector needs decode=, one of {', '.join(KINDS)}, module:function")
    data: dict[str, Any] = {"kind": str(decode)}
    if isinstance(decode, Mapping):
        data = dict(decode)
    layout = LAYOUTS.get(str(data.get("kind")))
    if layout is not None:
        own = {key: options.pop(key) for key in layout.Options.names() if key in options}
        given = data.get("options", {})
        if not isinstance(given, Mapping):
            raise InputError(f"decode options {given!r} are not keys and values")
        data["options"] = {**given, **own}
        data = {**layout.defaults(data["options"]), **data}
    for key, kind in _DECODE_KEYS.items():
        if key in options:
            data[key] = _number(kind, key, options.pop(key))
    outputs = options.pop("outputs", None)
    if isinstance(outputs, str):  # role:name,role:name
        pairs = [pair.partition(":") for pair in outputs.split(",")]
        outputs = {role: name for role, _, name in pairs}
    if outputs is not None:
        data["outputs"] = dict(outputs)
    return DecodeConfig.from_dict(data)


def _preprocess(
    options: dict[str, Any], decode: DecodeConfig
) -> tuple[Preprocess, tuple[int, int] | None]:
    """Take the pre-processing's options out of ``options``; the size is None where not given."""
    whole = options.pop("preprocess", None)
    size = options.pop("size", None)
    given = {key: options.pop(key) for key in _PREPROCESS_KEYS if key in options}
    if isinstance(whole, Mapping):
        given = {**whole, **given}
        size = size or given.pop("size", None)
    elif whole is not None and whole not in LAYOUTS:
        raise InputError(
            f"preprocess {whole!r} is not one of {', '.join(LAYOUTS)}; describe others by its keys"
        )
    for key in ("mean", "std"):
        if isinstance(given.get(key), str):
            given[key] = [_number(float, key, part) for part in given[key].split(",")]
    for key, kind in (("value_scale", float), ("pad_value", int)):
        if key in given:
            given[key] = _number(kind, key, given[key])
    if isinstance(size, str):
        size = [_number(int, "size", part) for part in size.lower().split("x")]
    # The graph's own size takes this one's place where none is given.
    base: dict[str, Any] = {"size": [416, 416]}
    family = LAYOUTS.get(decode.kind if whole is None else str(whole))
    if family is not None and not isinstance(whole, Mapping):
        base |= family.preprocess(decode.options if family.kind == decode.kind else {})
    described = Preprocess.from_dict(base | given | ({"size": list(size)} if size else {}))
    return described, described.size if size else None


def _labels(value: Any) -> tuple[str, ...] | None:
    """Class names from data, ``coco``, a file with one name a line, or names joined by commas."""
    if value is None:
        return None
    if not isinstance(value, str):
        return tuple(str(name) for name in value)
    if value == "coco":
        return COCO_LABELS
    path = Path(value)
    if value.endswith(".txt"):
        if not path.is_file():
            raise InputError(f"{path}: no such labels file; give one name a line")
        return tuple(path.read_text("utf-8").splitlines())
    return tuple(value.split(",")) if value else ()


def _number(kind: type[int] | type[float], key: str, value: Any) -> Any:
    try:
        return kind(value)
    except (TypeError, ValueError) as error:
        raise InputError(f"detector option {key}={value} is not a number") from error
