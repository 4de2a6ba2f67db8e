"""A light edge as the edge half of a detector's folder."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from fpcodec.detectors.factory import CONFIG_FILE
from fpcodec.detectors.onnx import EDGE_FILE, LIGHT_EDGE, SERVER_FILE, OnnxDetector
from fpcodec.detectors.onnx_graph import edge_macs_table
from fpcodec.detectors.onnx_session import open_session
from fpcodec.detectors.onnx_shapes import import_onnx
from fpcodec.detectors.torch_export import OPSET, require_same, trace_graph
from fpcodec.distill.light_edge import LightEdge
from fpcodec.distill.settings import DistillConfig
from fpcodec.files import file_sha256, replacing

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
    tensors = [detector.config["tensors"][name] for name in student.names]
    _export(student, out / EDGE_FILE, _input_name(detector), tensors, detector.network_size)
    shutil.copyfile(detector.folder / SERVER_FILE, out / SERVER_FILE)
    graph = import_onnx().load(str(out / EDGE_FILE))
    macs = edge_macs_table(graph, dict(zip(student.names, tensors, strict=True)))
    described: dict[str, Any] = {
        **detector.config,
        "kind": "onnx",
        "files": {name: file_sha256(out / name) for name in (EDGE_FILE, SERVER_FILE)},
        "macs": {"edge": macs, "server": detector.server_macs},
        LIGHT_EDGE: {
            "body": config.body,
            "size": list(student.config.size or detector.network_size),
            "loss": config.loss,
            "stands_for": {EDGE_FILE: file_sha256(detector.folder / EDGE_FILE)},
        },
    }
    with replacing(out / CONFIG_FILE) as scratch:
        scratch.write_text(json.dumps(described, indent=1) + "\n")
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
    # Where onnx2torch looks for it when torchvision was imported first.
    symbolic_helper._export_onnx_opset_version = OPSET
    with replacing(path) as scratch:
        trace_graph(student, [image], scratch, [input_name], tensors)
        require_same(student, [image], scratch, [input_name], tensors, TOLERANCE)
