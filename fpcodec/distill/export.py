"""A light edge as the edge half of a detector's folder."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fpcodec.detectors.factory import CONFIG_FILE
from fpcodec.detectors.onnx import EDGE_FILE, SERVER_FILE, OnnxDetector
from fpcodec.detectors.onnx_session import open_session, run_session
from fpcodec.detectors.onnx_shapes import count_macs, import_onnx
from fpcodec.distill.light_edge import LightEdge
from fpcodec.distill.settings import DistillConfig
from fpcodec.errors import ModelError
from fpcodec.files import file_sha256

OPSET = 17

TOLERANCE = 1e-3
"""Largest difference between onnxruntime and torch, relative to an output's largest value."""


def require_exportable(student: LightEdge, detector: OnnxDetector) -> None:
    """Find out before a long run whether its result can be written.

    Raises:
        ModelError: The exporter cannot, or onnxruntime does not give what torch gives.
    """
    tensors = [detector.config["tensors"][name] for name in student.names]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / EDGE_FILE
        _export(student, path, _input_name(detector), tensors, detector.network_size)


def write_light_detector(
    student: LightEdge, detector: OnnxDetector, out: Path, config: DistillConfig
) -> tuple[OnnxDetector, tuple[int, int]]:
    """Write ``edge.onnx``, the detector's ``server.onnx`` and ``detector.json``.

    Returns:
        The detector, and the multiply-accumulates of its edge and of the full one.

    Raises:
        ModelError: onnxruntime does not give what torch gives.
    """
    out.mkdir(parents=True, exist_ok=True)
    tensors = [detector.config["tensors"][name] for name in student.names]
    _export(student, out / EDGE_FILE, _input_name(detector), tensors, detector.network_size)
    shutil.copyfile(detector.folder / SERVER_FILE, out / SERVER_FILE)
    macs = _macs_table(out / EDGE_FILE, dict(zip(student.names, tensors, strict=True)))
    described: dict[str, Any] = {
        **detector.config,
        "kind": "onnx",
        "files": {name: file_sha256(out / name) for name in (EDGE_FILE, SERVER_FILE)},
        "macs": {"edge": macs, "server": detector.server_macs},
        "light_edge": {
            "body": config.body,
            "size": list(student.config.size or detector.network_size),
            "loss": config.loss,
            "stands_for": {EDGE_FILE: file_sha256(detector.folder / EDGE_FILE)},
        },
    }
    scratch = out / f".{CONFIG_FILE}.{os.getpid()}"
    scratch.write_text(json.dumps(described, indent=1) + "\n")
    scratch.replace(out / CONFIG_FILE)
    light = OnnxDetector(described, out, threads=1)
    return light, (light.macs() or 0, detector.macs() or 0)


def _input_name(detector: OnnxDetector) -> str:
    name = detector.config.get("input")
    if name:
        return str(name)
    return str(open_session(detector.folder / EDGE_FILE, threads=1).get_inputs()[0].name)


def _export(
    student: LightEdge,
    path: Path,
    input_name: str,
    tensors: Sequence[str],
    network_size: tuple[int, int],
) -> None:
    from onnx2torch.utils.common import symbolic_helper

    width, height = network_size
    image = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with torch.no_grad(), warnings.catch_warnings():
            # The exporter warns of its successor, and of the sizes that tracing turns to numbers.
            warnings.simplefilter("ignore")
            # Where onnx2torch looks for it when torchvision was imported first.
            symbolic_helper._export_onnx_opset_version = OPSET
            torch.onnx.export(
                student.eval(), (image,), str(scratch), input_names=[input_name],
                output_names=list(tensors), opset_version=OPSET, dynamo=False,
            )  # fmt: skip
            wanted = student(image)
        found = run_session(open_session(scratch, threads=1), {input_name: image.numpy()}, tensors)
        for name, expected in zip(tensors, wanted, strict=True):
            limit = TOLERANCE * max(1.0, float(expected.abs().max()))
            if not np.abs(found[name] - expected.numpy()).max() <= limit:
                raise ModelError(f"{path}: onnxruntime does not give what was trained at {name}")
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def _macs_table(path: Path, tensors: dict[str, str]) -> dict[str, int | None]:
    """Multiply-accumulates for each choice of levels."""
    model = import_onnx().load(str(path))
    return {
        ",".join(names): count_macs(model, [tensors[name] for name in names])
        for count in range(1, len(tensors) + 1)
        for names in itertools.combinations(tensors, count)
    }
