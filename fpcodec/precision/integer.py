"""INT8 edge graphs: static quantisation of the convolutions, as far as the levels bear it.

onnxruntime's quantiser does the work: ranges of activations from calibration images, 8-bit
activations per tensor and 8-bit weights per channel, written as QuantizeLinear and
DequantizeLinear pairs. What is decided here is which convolutions stay float: each is quantised
alone first, and those that harm the pyramid most are left out until it is near enough.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnxruntime as ort

from fpcodec.detectors.onnx_session import first_line, open_session, run_session
from fpcodec.detectors.onnx_shapes import load_model
from fpcodec.errors import InputError, ModelError
from fpcodec.precision import DEFAULT_ERROR
from fpcodec.precision.half import serialised
from fpcodec.pyramid import Array

PERCENTILE = 99.999
"""Of each activation's values, what lies beyond is clipped."""

OPSET = 17
"""Weights per channel need 13; graphs below it are brought to this."""

CHECKED_IMAGES = 4
"""Of the calibration images, so many are compared with the float graph."""

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class QuantisedGraph:
    """An INT8 edge graph.

    Attributes:
        model: A serialised ONNX model.
        error: Largest mean squared error of a level by its variance, on the checked images.
        quantised: Convolutions that are in INT8.
        kept: Those that stayed float, by name.
    """

    model: bytes
    error: float
    quantised: int
    kept: tuple[str, ...]


def quantise_graph(
    path: Path,
    inputs: Sequence[Array],
    *,
    max_error: float = DEFAULT_ERROR,
    progress: Progress | None = None,
) -> QuantisedGraph:
    """Quantise an edge graph's convolutions.

    Args:
        path: A float graph with one input.
        inputs: Network inputs of typical images, (1, 3, H, W) float32.
        max_error: Largest mean squared error of a level, by the level's variance.
        progress: Called with a stage, what is done of it and its total.

    Raises:
        InputError: There are no inputs, or the limit is out of range.
        MissingDependency: The ``onnx`` package is absent.
        ModelError: The graph has no convolution, or cannot be quantised.
    """
    if not inputs:
        raise InputError("no calibration images; give a folder of typical ones")
    if not 0 < max_error < 1:
        raise InputError(f"--max-error {max_error} is not a share; use more than 0 and below 1")
    move = progress or (lambda stage, done, total: None)
    graph = load_model(path)
    with TemporaryDirectory() as folder, _quiet():
        try:
            scratch = Path(folder) / "float.onnx"
            names = _write_float(graph, scratch)
            ranges = _ranges(scratch, inputs, move)
            return _choose(_Search(scratch, ranges, inputs), names, max_error, move)
        except (InputError, ModelError):
            raise
        except Exception as error:  # onnx's and onnxruntime's exceptions share no base class
            raise ModelError(f"{path}: cannot be quantised: {first_line(error)}") from error


class _Search:
    """Quantises some of a graph's convolutions and says what that does to its outputs."""

    def __init__(self, path: Path, ranges: Any, inputs: Sequence[Array]) -> None:
        self._graph, self._ranges = load_model(path), ranges
        self._inputs = inputs[:CHECKED_IMAGES]
        session = open_session(path, threads=1)
        self._name = session.get_inputs()[0].name
        self._wanted = self._outputs(session)

    def quantised(self, names: Sequence[str]) -> bytes:
        """The graph with these convolutions in INT8."""
        from onnx import ModelProto
        from onnxruntime.quantization import QuantType
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

        copied = ModelProto()
        copied.CopyFrom(self._graph)
        quantiser = QDQQuantizer(
            copied, True, False, QuantType.QInt8, QuantType.QUInt8, self._ranges,
            list(names), [], ["Conv"], {},
        )  # fmt: skip
        quantiser.quantize_model()
        return serialised(quantiser.model.model)

    def error(self, names: Sequence[str]) -> float:
        """The largest mean squared error of an output by its variance."""
        found = self._outputs(open_session(self.quantised(names), threads=1))
        return max(
            float(((mine - wanted) ** 2).mean() / max(float(wanted.var()), 1e-12))
            for mine, wanted in zip(found, self._wanted, strict=True)
        )

    def _outputs(self, session: ort.InferenceSession) -> list[Array]:
        runs = [run_session(session, {self._name: tensor}) for tensor in self._inputs]
        return [np.concatenate([run[name] for run in runs]) for name in runs[0]]


def _choose(
    search: _Search, names: Sequence[str], max_error: float, move: Progress
) -> QuantisedGraph:
    """Leave out as few of the convolutions that harm most as the limit allows."""
    errors: dict[str, float] = {}
    for name in names:
        errors[name] = search.error([name])
        move("convolutions", len(errors), len(names))
    ranked = sorted(names, key=lambda name: -errors[name])
    low, high = 0, len(names)  # so many are left out: too few, perhaps; and surely enough
    error = 0.0
    while low < high:
        middle = (low + high) // 2
        measured = search.error(ranked[middle:])
        if measured <= max_error:
            high, error = middle, measured
        else:
            low = middle + 1
    if high == len(names):
        raise ModelError(
            f"no convolution can be in INT8 with a level's error at {max_error:g} or below; the "
            f"least harmful alone brings {errors[ranked[-1]]:.2g}; allow more, or use fp16"
        )
    kept = set(ranked[:high])
    return QuantisedGraph(
        search.quantised(ranked[high:]), error, len(names) - high,
        tuple(name for name in names if name in kept),
    )  # fmt: skip


def _write_float(graph: Any, path: Path) -> list[str]:
    """Prepare a graph for the quantiser: folded, with shapes; return its convolutions' names."""
    from onnx import version_converter
    from onnxruntime.quantization.shape_inference import quant_pre_process

    version = max((x.version for x in graph.opset_import if x.domain in ("", "ai.onnx")), default=0)
    if version < OPSET:
        graph = version_converter.convert_version(graph, OPSET)
    path.write_bytes(graph.SerializeToString())  # given as a message, a graph's tensors get lost
    quant_pre_process(str(path), str(path), skip_symbolic_shape=True)
    folded = load_model(path)
    convolutions = [node for node in folded.graph.node if node.op_type == "Conv"]
    if not convolutions:
        raise ModelError("the edge graph has no convolution to quantise; use fp16")
    for index, node in enumerate(convolutions):
        node.name = node.name or f"Conv_{index}"
    path.write_bytes(folded.SerializeToString())
    return [node.name for node in convolutions]


def _ranges(path: Path, inputs: Sequence[Array], move: Progress) -> Any:
    """Ranges of every convolution's input and output."""
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod
    from onnxruntime.quantization.calibrate import create_calibrator

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # untyped
        """One image: all at once would keep every activation of all of them in memory."""

        def __init__(self, feeds: dict[str, Array]) -> None:
            self._left = [feeds]

        def get_next(self) -> dict[str, Array] | None:
            return self._left.pop() if self._left else None

    calibrator = create_calibrator(
        path, ["Conv"], str(path.with_name("augmented.onnx")), CalibrationMethod.Percentile,
        extra_options={"percentile": PERCENTILE, "symmetric": False},
    )  # fmt: skip
    name = calibrator.infer_session.get_inputs()[0].name
    for index, tensor in enumerate(inputs):
        calibrator.collect_data(Reader({name: tensor}))
        calibrator.clear_collected_data()
        move("ranges", index + 1, len(inputs))
    return calibrator.compute_data()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the quantiser's own lines, on stdout and in the root logger, from the user."""
    logger, level = logging.getLogger(), logging.getLogger().level
    logger.setLevel(logging.ERROR)
    try:
        with redirect_stdout(StringIO()):
            yield
    finally:
        logger.setLevel(level)
