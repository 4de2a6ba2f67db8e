"""What a graph of convolutions costs at some size; the ``onnx`` package is not needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy.typing as npt

from fpcodec.detectors.onnx_session import (
    needed_nodes,
    open_session,
    parse_model,
    prune,
    run_session,
)
from fpcodec.errors import ModelError


def convolution_macs(
    path: Path, feeds: Mapping[str, npt.NDArray[Any]], outputs: Sequence[str]
) -> int:
    """Multiply-accumulates of the convolutions that some outputs need, found by running them.

    Args:
        path: An ONNX file whose convolutions have constant weights.
        feeds: Input name to an array of the size to count at; only shapes matter.
        outputs: What is computed.

    Raises:
        ModelError: The file is absent, no ONNX model, or lacks an output.
    """
    if not path.is_file():
        raise ModelError(f"{path}: no such graph file; copy the profile again")
    message = parse_model(path.read_bytes(), frozenset(outputs))
    graph = message.graph
    weights = {item.name: tuple(item.dims) for item in graph.initializer}
    needed = needed_nodes(graph.node, outputs)
    # Exporters keep equal weights once and name the others through Identity.
    for node in needed:
        if node.op_type == "Identity" and node.input[0] in weights:
            weights[node.output[0]] = weights[node.input[0]]
    nodes = [node for node in needed if node.op_type == "Conv"]
    del graph.output[:]
    for node in nodes:
        graph.output.add(name=node.output[0])
    probe = prune(bytes(message.SerializeToString()), [node.output[0] for node in nodes])
    session = open_session(probe, threads=1)
    taken = {item.name for item in session.get_inputs()}
    found = run_session(session, {k: v for k, v in feeds.items() if k in taken})
    # A weight is (out, in / groups, k, k): what one position of one output channel costs.
    return sum(found[n.output[0]].size * prod(weights[n.input[1]][1:]) for n in nodes)
