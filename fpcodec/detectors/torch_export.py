"""Torch modules written as ONNX graphs, and held against them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from fpcodec.detectors.onnx_session import open_session, run_session
from fpcodec.errors import ModelError

OPSET = 17


def trace_graph(
    module: nn.Module,
    values: Sequence[Tensor],
    path: Path,
    inputs: Sequence[str],
    outputs: Sequence[str],
    axes: Mapping[str, Mapping[int, str]] | None = None,
) -> None:
    """Write a module, in evaluation mode, as a graph.

    Args:
        module: Called with ``values`` in order; is put in evaluation mode.
        values: Example inputs.
        path: The file; a caller that must not lose an old one names a temporary one.
        inputs: Names.
        outputs: Names.
        axes: Name to axis to the name of its size, where that may vary.

    Raises:
        ModelError: torch cannot export it.
    """
    with torch.no_grad(), warnings.catch_warnings():
        # The exporter warns of its successor, and of the sizes that tracing turns to numbers.
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(
                module.eval(), tuple(values), str(path), input_names=list(inputs),
                output_names=list(outputs), dynamic_axes=dict(axes or {}), opset_version=OPSET,
                dynamo=False,
            )  # fmt: skip
        except (RuntimeError, torch.onnx.errors.OnnxExporterError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ModelError(f"{path.name}: torch cannot export it ({reason})") from error


def require_same(
    module: nn.Module,
    values: Sequence[Tensor],
    path: Path,
    inputs: Sequence[str],
    outputs: Sequence[str],
    tolerance: float,
) -> None:
    """Run a graph on onnxruntime and compare it with its module.

    Args:
        module: In evaluation mode.
        values: Its inputs.
        path: The graph.
        inputs: Names.
        outputs: Names.
        tolerance: Largest difference, relative to an output's largest value, or to 1.

    Raises:
        ModelError: An output has another shape or other values.
    """
    with torch.no_grad():
        wanted = [x.numpy() for x in module(*values)]
    feeds = {name: x.numpy() for name, x in zip(inputs, values, strict=True)}
    found = run_session(open_session(path, threads=1), feeds, outputs)
    for name, expected in zip(outputs, wanted, strict=True):
        if found[name].shape != expected.shape:
            raise ModelError(
                f"{path.name}: output {name} has shape {found[name].shape}, not {expected.shape}; "
                "levels must halve from one to the next"
            )
        error = float(np.abs(found[name] - expected).max())
        limit = tolerance * max(1.0, float(np.abs(expected).max()))
        if not error <= limit:
            raise ModelError(
                f"{path.name}: onnxruntime does not give what was trained: output {name} differs "
                f"by {error:.2g} from torch, above {limit:.2g}; the graph was not written"
            )
