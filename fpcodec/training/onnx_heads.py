"""Frozen heads of ONNX detectors, made differentiable by onnx2torch."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from fpcodec.detectors.decoding import DecodeConfig, open_layout
from fpcodec.detectors.layouts import Layout, Rows
from fpcodec.detectors.layouts.tensors import shapes_of
from fpcodec.detectors.onnx import SERVER_FILE, OnnxDetector
from fpcodec.detectors.onnx_session import first_line, open_session, prune, run_session
from fpcodec.detectors.onnx_shapes import import_onnx
from fpcodec.errors import MissingDependency, ModelError
from fpcodec.pyramid import PyramidSpec
from fpcodec.training.heads import Head, HeadAnswer, Levels
from fpcodec.training.torch_maths import TORCH

TOLERANCE = 1e-3
"""Largest difference between onnxruntime and torch, relative to an output's largest value."""

TORCH_FILES = ("card.json", "weights.safetensors")
"""Beside a graph of ``tiny``'s family: the same network in torch."""

_OPSET = 17

_WITHOUT_HEAD = "train with --loss mse, or from the torch model"


def open_onnx_head(detector: OnnxDetector, folder: Path) -> Head:
    """The head of an ONNX detector.

    Args:
        detector: Its configuration is read; it need not have loaded anything.
        folder: Where its server's graph lies.

    Raises:
        ModelError: The head has no score output, or its graph cannot be made differentiable.
        MissingDependency: onnx2torch is not installed.
    """
    decode = DecodeConfig.from_dict(detector.config["decode"])
    if decode.kind == "detections" and all((folder / name).is_file() for name in TORCH_FILES):
        from fpcodec.detectors.small_torch import SmallTorchDetector
        from fpcodec.training.rcnn_head import RcnnHead

        return RcnnHead(SmallTorchDetector.from_folder(folder))
    path = folder / SERVER_FILE
    session = open_session(path, threads=1)
    available = [item.name for item in session.get_outputs()]
    layout = open_layout(decode, detector.spec, detector.network_size)
    if layout is not None:
        if len(available) > 1:
            found = run_session(session, _silence(detector))
            available = list(layout.find(shapes_of(found)).values())
        return LayoutHead(open_graph(path, detector, available), layout)
    outputs = {
        name: decode.outputs.get(f"objectness_{name}", f"objectness_{name}")
        for name in detector.spec.names
    }
    if decode.kind != "detections" or not set(outputs.values()) <= set(available):
        wanted = ", ".join(f"objectness_{name}" for name in detector.spec.names)
        raise ModelError(
            f"{path}: a head with no score output: decode {decode.kind} selects boxes, which have "
            f"no gradient; give the graph outputs {wanted}, or {_WITHOUT_HEAD}"
        )
    return ScoreHead(open_graph(path, detector, list(outputs.values())), outputs)


class DifferentiableGraph(nn.Module):
    """Some outputs of a server's graph as a torch function of the coded levels.

    Args:
        graph: Called with the graph's inputs in order.
        spec: The pyramid.
        inputs: The level of each input.
        outputs: The name of each output.
        one_by_one: The graph takes one image alone.
    """

    def __init__(
        self,
        graph: nn.Module,
        spec: PyramidSpec,
        inputs: Sequence[str],
        outputs: Sequence[str],
        one_by_one: bool = False,
    ) -> None:
        super().__init__()
        self.graph, self.spec, self.one_by_one = graph, spec, one_by_one
        self._inputs, self._outputs = tuple(inputs), tuple(outputs)
        for parameter in graph.parameters():
            parameter.requires_grad_(False)
        self.eval()

    def forward(self, levels: Levels) -> dict[str, Tensor]:
        """Output name to values; the first axis is the batch."""
        complete = _complete(levels, self.spec)
        inputs = [complete[name] for name in self._inputs]
        if not self.one_by_one:
            return self._run(inputs)
        images = [
            self._run(list(one)) for one in zip(*(torch.split(x, 1) for x in inputs), strict=True)
        ]
        return {name: torch.cat([found[name] for found in images]) for name in self._outputs}

    def _run(self, inputs: Sequence[Tensor]) -> dict[str, Tensor]:
        with warnings.catch_warnings():
            # onnx2torch slices by lists, as older releases of torch wanted it; what it gives has
            # been held against onnxruntime.
            warnings.filterwarnings("ignore", "Using a non-tuple sequence", UserWarning)
            found = self.graph(*inputs)
        values = [found] if isinstance(found, Tensor) else list(found)
        return dict(zip(self._outputs, values, strict=True))


class LayoutHead(nn.Module):
    """A head whose raw tensors one of ``detectors.layouts`` reads.

    Args:
        graph: With those tensors as its outputs.
        layout: How they are read.
    """

    def __init__(self, graph: DifferentiableGraph, layout: Layout[Any]) -> None:
        super().__init__()
        self.graph, self.layout = graph, layout
        self.eval()

    def forward(self, levels: Levels, teacher: HeadAnswer | None = None) -> HeadAnswer:
        """Scores are per class the highest over a cell's anchors, boxes the layout's values."""
        scores, boxes = {}, {}
        rows = self.layout.rows(self.graph(levels), TORCH)
        for level, one in zip(self.layout.levels, rows, strict=True):
            scores[level.name], boxes[level.name] = self.layout.maps(one, level, TORCH)
        return HeadAnswer(scores, boxes)

    def rows(self, levels: Levels) -> Rows:
        """Scores (N, rows, K) and box values (N, rows, B) of all levels together."""
        found = self.layout.rows(self.graph(levels), TORCH)
        return Rows(
            torch.cat([x.scores for x in found], 1), torch.cat([x.values for x in found], 1)
        )


class ScoreHead(nn.Module):
    """A head whose graph gives probabilities per level beside boxes it selects itself.

    Of those boxes nothing is asked: a selection has no gradient.

    Args:
        graph: With the scores as its outputs.
        outputs: Level name to output name.
    """

    def __init__(self, graph: DifferentiableGraph, outputs: Mapping[str, str]) -> None:
        super().__init__()
        self.graph, self._names = graph, dict(outputs)
        self.eval()

    def forward(self, levels: Levels, teacher: HeadAnswer | None = None) -> HeadAnswer:
        """Scores alone, (N, K, H, W)."""
        found = self.graph(levels)
        return HeadAnswer({level: found[name] for level, name in self._names.items()}, {})


def open_graph(path: Path, detector: OnnxDetector, outputs: Sequence[str]) -> DifferentiableGraph:
    """Convert the part of a server's graph that some outputs need.

    A graph exported for one image is made to take any batch where that can be done.

    Raises:
        ModelError: The graph lacks an output, onnx2torch cannot convert it, or torch does not
            give what onnxruntime gives.
        MissingDependency: onnx2torch is not installed.
    """
    onnx = import_onnx()
    if not path.is_file():
        raise ModelError(f"{path}: no such graph file; give the folder of the server's half")
    pruned = prune(path.read_bytes(), outputs)
    model = onnx.load_from_string(pruned)
    levels = {tensor: name for name, tensor in detector.config["tensors"].items()}
    weights = {item.name for item in model.graph.initializer}
    tensors = [item.name for item in model.graph.input if item.name not in weights]
    names = [levels[tensor] for tensor in tensors]
    found = [item.name for item in model.graph.output]
    spec = detector.spec
    noise = _noise(spec, detector.network_size)
    single = DifferentiableGraph(convert_graph(model, path), spec, names, found, one_by_one=True)
    complete = _complete(noise, spec)
    feeds = {t: complete[n][:1].numpy() for t, n in zip(tensors, names, strict=True)}
    _compare(single, noise, run_session(open_session(pruned, threads=1), feeds, found), path)
    batched = DifferentiableGraph(convert_graph(_any_batch(model), path), spec, names, found)
    return batched if _same(single, batched, noise) else single


def _silence(detector: OnnxDetector) -> dict[str, npt.NDArray[np.float32]]:
    """Levels of nothing, as the server's graph takes them."""
    spec, size = detector.spec, detector.network_size
    return {
        tensor: np.zeros((1, *spec.shape(name, size)), np.float32)
        for name, tensor in detector.config["tensors"].items()
    }


def _noise(spec: PyramidSpec, network_size: tuple[int, int]) -> dict[str, Tensor]:
    """Coded levels of two images."""
    random = torch.Generator().manual_seed(0)
    return {
        name: torch.randn(2, *spec.shape(name, network_size), generator=random)
        for name in spec.coded_names
    }


def _complete(levels: Levels, spec: PyramidSpec) -> dict[str, Tensor]:
    """The levels given, and those derived from them."""
    complete = dict(levels)
    for level in spec.levels:
        if level.derived_from is not None and level.name not in complete:
            complete[level.name] = complete[level.derived_from][..., ::2, ::2]
    return complete


def convert_graph(model: Any, path: Path) -> nn.Module:
    """An ONNX model as a torch module.

    Raises:
        ModelError: onnx2torch cannot convert it.
        MissingDependency: onnx2torch is not installed.
    """
    try:
        from onnx2torch import convert
    except ImportError as error:
        raise MissingDependency(
            "training through an ONNX head needs onnx2torch; pip install 'fpcodec[torch]'"
        ) from error
    try:
        module: nn.Module = convert(_readable(model)).eval()
    except Exception as error:  # onnx2torch's converters raise whatever they stumble on
        raise ModelError(
            f"{path}: onnx2torch cannot make it differentiable ({first_line(error)}); "
            f"{_WITHOUT_HEAD}"
        ) from error
    return module


def _readable(model: Any) -> Any:
    """The model as onnx2torch can read it.

    It is said to be of an opset whose operators onnx2torch knows: since then most have changed in
    name of their version alone, and where one has changed in meaning, what comes out is not
    onnxruntime's and is refused. Weights that torch's exporter found equal are named directly.
    """
    for opset in model.opset_import:
        if not opset.domain:
            opset.version = min(opset.version, _OPSET)
    graph = model.graph
    weights = {item.name: item.name for item in graph.initializer}
    for node in list(graph.node):
        if node.op_type == "Identity" and node.input[0] in weights:
            weights[node.output[0]] = weights[node.input[0]]
            graph.node.remove(node)
    for node in graph.node:
        node.input[:] = [weights.get(name, name) for name in node.input]
    return model


def _any_batch(model: Any) -> Any:
    """Let reshapes of a graph exported for one image keep whatever batch they are given."""
    from onnx import numpy_helper

    fixed = {item.name: item for item in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            values = [a.t for a in node.attribute if a.name == "value"]
            fixed.update(zip(node.output, values, strict=False))
    for node in model.graph.node:
        if node.op_type != "Reshape" or node.input[0] in fixed or node.input[1] not in fixed:
            continue
        tensor = fixed[node.input[1]]
        shape = numpy_helper.to_array(tensor)
        if len(shape) and shape[0] == 1:
            # Zero is the input's own size there.
            tensor.CopyFrom(numpy_helper.from_array(np.asarray([0, *shape[1:]]), tensor.name))
    return model


@torch.no_grad()
def _compare(
    graph: DifferentiableGraph,
    levels: Levels,
    expected: Mapping[str, npt.NDArray[Any]],
    path: Path,
) -> None:
    found = graph({name: x[:1] for name, x in levels.items()})
    for name, wanted in expected.items():
        values = found[name].numpy()
        limit = TOLERANCE * max(1.0, float(np.abs(wanted).max()))
        if values.shape != wanted.shape or not np.abs(values - wanted).max() <= limit:
            raise ModelError(
                f"{path}: output {name} of the graph as converted by onnx2torch is not "
                f"onnxruntime's; {_WITHOUT_HEAD}"
            )


@torch.no_grad()
def _same(single: DifferentiableGraph, batched: DifferentiableGraph, levels: Levels) -> bool:
    """Whether a batch through one gives what its images through the other do."""
    try:
        found, wanted = batched(levels), single(levels)
    except Exception:  # a batch where the graph counts on one image fails in any way
        return False
    return all(
        found[name].shape == x.shape and torch.allclose(found[name], x, TOLERANCE, TOLERANCE)
        for name, x in wanted.items()
    )
