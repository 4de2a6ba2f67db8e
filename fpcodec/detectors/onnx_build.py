"""From a whole ONNX detector to the ``onnx`` adapter: cut it, describe it, open it."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fpcodec.detectors.coco_labels import COCO_LABELS
from fpcodec.detectors.decoding import DecodeConfig
from fpcodec.detectors.onnx import EDGE_FILE, SERVER_FILE, OnnxDetector
from fpcodec.detectors.onnx_graph import cut_onnx
from fpcodec.detectors.preprocess import Preprocess
from fpcodec.errors import ModelError
from fpcodec.files import file_sha256


def build_onnx(
    model_path: Path,
    level_tensors: Mapping[str, str],
    decode: DecodeConfig,
    preprocess: Preprocess,
    *,
    network_size: tuple[int, int] | None = None,
    labels: Sequence[str] | None = (),
    work_dir: Path | None = None,
    threads: int | None = None,
    providers: Sequence[str] = (),
) -> OnnxDetector:
    """Cut a whole detector at named tensors and open both halves.

    Args:
        model_path: The ONNX file.
        level_tensors: Level name to tensor name.
        decode: How raw outputs become boxes.
        preprocess: How images become input; its size gives way to the graph's.
        network_size: ``(width, height)`` for a graph of dynamic size; None for its own.
        labels: Class names; None for COCO's, if the head scores as many.
        work_dir: Where the halves are written; None for a folder that goes with the detector.
        threads: Threads within an operator; None for onnxruntime's choice.
        providers: Execution providers in order of preference; none means the CPU's.

    Raises:
        MissingDependency: The ``onnx`` package is absent.
        ModelError: The model cannot be cut there, or its outputs or labels do not fit the
            decoding; the message says why.
    """
    folder = Path(work_dir or tempfile.mkdtemp(prefix="fpcodec-"))
    try:
        cut = cut_onnx(model_path, level_tensors, folder, network_size)
        config: dict[str, Any] = {
            "kind": "onnx",
            "source": {"file": model_path.name, "sha256": file_sha256(model_path)},
            "files": {name: file_sha256(folder / name) for name in (EDGE_FILE, SERVER_FILE)},
            "input": cut.input_name,
            "tensors": cut.tensors,
            "outputs": list(cut.outputs),
            "spec": cut.spec.to_dict(),
            "preprocess": replace(preprocess, size=cut.network_size).to_dict(),
            "decode": decode.to_dict(),
            "labels": list(labels or ()),
            "macs": {"edge": cut.edge_macs, "server": cut.server_macs},
        }
        detector = OnnxDetector(config, folder, threads=threads, providers=providers)
        if detector.layout is not None:
            config |= _fitted(detector, len(cut.outputs), labels)
            detector = OnnxDetector(config, folder, threads=threads, providers=providers)
    except BaseException:
        if work_dir is None:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    if work_dir is None:
        weakref.finalize(detector, shutil.rmtree, folder, ignore_errors=True)
    return detector


def _fitted(detector: OnnxDetector, outputs: int, labels: Sequence[str] | None) -> dict[str, Any]:
    """What only a run of the head tells: which output is which, and how many classes it scores.

    Raises:
        ModelError: The outputs are not the layout's, or the labels are of another number.
    """
    roles, classes = detector.try_head()
    if labels is None:
        labels = COCO_LABELS if classes == len(COCO_LABELS) else ()
    if labels and len(labels) != classes:
        raise ModelError(
            f"the head scores {classes} classes, but there are {len(labels)} labels; give as "
            "many, as labels=a,b,c or a .txt file, or labels= for none"
        )
    decode = dict(detector.config["decode"])
    if outputs > 1:
        decode["outputs"] = roles
    return {"decode": decode, "labels": list(labels)}
