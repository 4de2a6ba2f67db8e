"""onnxruntime sessions, and one edge graph run for any set of its outputs.

onnxruntime computes every node of a graph whatever outputs are asked for, so a graph is pruned
to the nodes that the wanted outputs need. That takes protobuf, which the base install has, and a
sliver of ONNX's schema; the ``onnx`` package is not needed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from fpcodec.detectors.providers import choose_providers, full_name
from fpcodec.errors import ModelError

MAX_SUBGRAPH_BYTES = 256 * 1024 * 1024
"""Most model bytes that pruned sessions of one graph may hold together."""

# Message -> (field, number, type or message name, repeated): what is read of onnx.proto here.
# Everything else passes through protobuf as unknown fields, unchanged.
_SCHEMA: dict[str, tuple[tuple[str, int, str, bool], ...]] = {
    "Model": (("graph", 7, "Graph", False),),
    "Graph": (
        ("node", 1, "Node", True),
        ("initializer", 5, "Tensor", True),
        ("input", 11, "Value", True),
        ("output", 12, "Value", True),
    ),
    "Node": (
        ("input", 1, "string", True),
        ("output", 2, "string", True),
        ("op_type", 4, "string", False),
        ("attribute", 5, "Attribute", True),
    ),
    "Attribute": (("g", 6, "Graph", False), ("graphs", 11, "Graph", True)),
    "Tensor": (("dims", 1, "int64", True), ("name", 8, "string", False)),
    "Value": (("name", 1, "string", False),),
}


def open_session(
    model: Path | bytes, threads: int | None = None, providers: Sequence[str] = ()
) -> ort.InferenceSession:
    """Open a graph.

    Args:
        model: A file, or its bytes.
        threads: Threads within an operator; None for onnxruntime's choice.
        providers: Execution providers in order of preference, by short names or onnxruntime's;
            none means the CPU's. What one cannot run falls to the next, at last to the CPU.

    Raises:
        ModelError: The file is absent or not a usable graph, or a provider is not available, or
            does not start on this machine.
    """
    wanted = choose_providers(providers, ort.get_available_providers())
    if threads is not None and threads < 1:
        raise ModelError(f"{threads} threads cannot run a graph; give 1 or more")
    if isinstance(model, Path) and not model.is_file():
        raise ModelError(f"{model}: no such graph file; export the profile again")
    options = ort.SessionOptions()
    options.inter_op_num_threads = 1
    if threads is not None:
        options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Spinning workers would eat the cores that the next frame's coding wants.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    source = str(model) if isinstance(model, Path) else model
    try:
        session = ort.InferenceSession(source, options, providers=wanted)
    except Exception as error:  # onnxruntime's exceptions share no base class
        name = model if isinstance(model, Path) else "pruned graph"
        raise ModelError(f"{name}: onnxruntime cannot load it: {first_line(error)}") from error
    # A provider whose driver is missing is left out without a word, and the CPU does its work.
    silent = [name for name in providers if full_name(name) not in session.get_providers()]
    if silent:
        raise ModelError(
            f"execution provider {', '.join(silent)} does not start on this machine: its driver or "
            "libraries are missing, or of another version; use --provider cpu until they fit"
        )
    return session


def run_session(
    session: ort.InferenceSession,
    feeds: Mapping[str, npt.NDArray[Any]],
    outputs: Sequence[str] | None = None,
) -> dict[str, npt.NDArray[Any]]:
    """Run a session; half-precision inputs are cast.

    Args:
        session: What to run.
        feeds: Input name to float32 array.
        outputs: Output names; None for all.

    Returns:
        Output name to array.

    Raises:
        ModelError: An input has another type or shape, or the graph fails.
    """
    half = {item.name for item in session.get_inputs() if item.type == "tensor(float16)"}
    names = list(outputs) if outputs else [item.name for item in session.get_outputs()]
    ready = {k: v.astype(np.float16) if k in half else v for k, v in feeds.items()}
    try:
        values = session.run(names, ready)
    except Exception as error:  # onnxruntime's exceptions share no base class
        raise ModelError(f"the graph cannot be run: {first_line(error)}") from error
    return dict(zip(names, values, strict=True))


class SubgraphSessions:
    """One graph, run for any set of its outputs and only the nodes that these need.

    Sessions are made when first asked for and kept, the least used leaving first, so switching
    levels from frame to frame costs one load per set of levels.
    """

    def __init__(
        self, path: Path, threads: int | None = None, providers: Sequence[str] = ()
    ) -> None:
        self._path = path
        self._threads = threads
        self._providers = tuple(providers)
        self._full = open_session(path, threads, providers)
        self._computed: dict[frozenset[str], frozenset[str]] = {}
        self._pruned: OrderedDict[frozenset[str], ort.InferenceSession] = OrderedDict()
        self._limit = max(2, min(32, MAX_SUBGRAPH_BYTES // max(1, path.stat().st_size)))
        self._lock = Lock()

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the graph's inputs."""
        return tuple(item.name for item in self._full.get_inputs())

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the graph's outputs."""
        return tuple(item.name for item in self._full.get_outputs())

    def run(
        self, feeds: Mapping[str, npt.NDArray[Any]], outputs: Sequence[str]
    ) -> dict[str, npt.NDArray[Any]]:
        """Run for some outputs; see ``run_session``. Inputs that they do not need are left out."""
        session = self.session(outputs)
        taken = {item.name for item in session.get_inputs()}
        return run_session(session, {k: v for k, v in feeds.items() if k in taken}, outputs)

    def session(self, outputs: Sequence[str]) -> ort.InferenceSession:
        """The session that computes these outputs and nothing besides.

        Raises:
            ModelError: The graph has no such output.
        """
        wanted = frozenset(outputs)
        if wanted == frozenset(self.outputs):
            return self._full
        with self._lock:
            model = self._path.read_bytes() if wanted not in self._computed else b""
            if wanted not in self._computed:
                self._computed[wanted] = computed_outputs(model, wanted)
            computed = self._computed[wanted]
            if computed == frozenset(self.outputs):
                return self._full
            if computed not in self._pruned:
                pruned = prune(model or self._path.read_bytes(), computed)
                self._pruned[computed] = open_session(pruned, self._threads, self._providers)
                if len(self._pruned) > self._limit:
                    self._pruned.popitem(last=False)
            self._pruned.move_to_end(computed)
            return self._pruned[computed]


def prune(model: bytes, outputs: Iterable[str]) -> bytes:
    """Keep only what some outputs of a serialised ONNX graph need.

    Args:
        model: A serialised ``ModelProto``.
        outputs: Names of graph outputs to keep.

    Raises:
        ModelError: The bytes are no ONNX model, or an output is not in it.
    """
    wanted = frozenset(outputs)
    message = parse_model(model, wanted)
    graph = message.graph
    nodes = needed_nodes(graph.node, wanted)
    used = {name for node in nodes for name in node_inputs(node)} | wanted
    _keep(graph.node, nodes)
    _keep(graph.initializer, [item for item in graph.initializer if item.name in used])
    _keep(graph.input, [item for item in graph.input if item.name in used])
    _keep(graph.output, [item for item in graph.output if item.name in wanted])
    return bytes(message.SerializeToString())


def computed_outputs(model: bytes, outputs: Iterable[str]) -> frozenset[str]:
    """Graph outputs that come for nothing with some others, these included.

    YOLOX's ``p5`` is computed from ``p4`` and that from ``p3``: whoever asks for ``p5`` pays for
    all three.

    Raises:
        ModelError: The bytes are no ONNX model, or an output is not in it.
    """
    wanted = frozenset(outputs)
    graph = parse_model(model, wanted).graph
    made = {name for node in needed_nodes(graph.node, wanted) for name in node.output}
    return frozenset(value.name for value in graph.output if value.name in made | wanted)


def parse_model(model: bytes, outputs: frozenset[str]) -> Any:
    """Read of a model what ``_SCHEMA`` names, and check that it has some outputs.

    Raises:
        ModelError: The bytes are no ONNX model, or an output is not in it.
    """
    message = _model_class()()
    try:
        message.ParseFromString(model)
    except DecodeError as error:
        raise ModelError(f"not an ONNX model: {first_line(error)}") from error
    absent = outputs - {value.name for value in message.graph.output}
    if absent:
        raise ModelError(f"the graph has no output {', '.join(sorted(absent))}")
    return message


def needed_nodes(
    nodes: Sequence[Any], outputs: Iterable[str], stop: Sequence[str] = ()
) -> list[Any]:
    """Nodes that some tensors need, in the graph's order.

    Args:
        nodes: ``NodeProto`` messages in topological order, as ONNX demands.
        outputs: Tensor names to compute.
        stop: Tensor names that are given: what lies before them is not needed.
    """
    wanted = set(outputs) - set(stop)
    kept = []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            kept.append(node)
            wanted.update(name for name in node_inputs(node) if name not in stop)
    return kept[::-1]


def node_inputs(node: Any) -> Iterator[str]:
    """Tensors a node reads, those its subgraphs take from around it included."""
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        graphs = list(attribute.graphs)
        if attribute.HasField("g"):
            graphs.append(attribute.g)
        for graph in graphs:
            for inner in graph.node:
                yield from node_inputs(inner)
            yield from (value.name for value in graph.output)


def first_line(error: BaseException) -> str:
    """The first line of an exception's text: messages are one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _keep(field: Any, items: list[Any]) -> None:
    copies = [type(item).FromString(item.SerializeToString()) for item in items]
    del field[:]
    field.extend(copies)


@cache
def _model_class() -> Any:
    """Message class of the sliver of ``ModelProto`` that pruning reads."""
    types = descriptor_pb2.FieldDescriptorProto
    scalars = {"string": types.TYPE_STRING, "int64": types.TYPE_INT64}
    file = descriptor_pb2.FileDescriptorProto(name="sliver.proto", package="sliver")
    file.syntax = "proto2"
    for name, fields in _SCHEMA.items():
        message = file.message_type.add(name=name)
        for field_name, number, kind, repeated in fields:
            field = message.field.add(name=field_name, number=number)
            field.label = types.LABEL_REPEATED if repeated else types.LABEL_OPTIONAL
            field.type = scalars.get(kind, types.TYPE_MESSAGE)
            if kind not in scalars:
                field.type_name = f".sliver.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("sliver.Model"))
