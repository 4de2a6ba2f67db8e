"""Graphs of a network: what torch computes, at any size, one level at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fpcodec.codecs.graphs import ANALYSIS_FILE, SYNTHESIS_FILE, LearnedGraphs
from fpcodec.errors import ModelError

torch = pytest.importorskip("torch", reason="needs torch: pip install fpcodec[torch]")

from fpcodec.training import export_graphs  # noqa: E402
from fpcodec.training.network import LearnedNetwork, NetworkConfig  # noqa: E402

NAMES, CHANNELS = ("p3", "p4"), (8, 12)


@pytest.fixture(scope="module")
def network() -> LearnedNetwork:
    torch.manual_seed(3)
    network = LearnedNetwork(NAMES, CHANNELS, NetworkConfig((6, 6), (4, 4), 8))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return network


@pytest.fixture(scope="module")
def graphs(network: LearnedNetwork, tmp_path_factory: pytest.TempPathFactory) -> LearnedGraphs:
    folder = tmp_path_factory.mktemp("graphs")
    export_graphs.export_analysis(network, folder / ANALYSIS_FILE)
    export_graphs.export_synthesis(network, folder / SYNTHESIS_FILE)
    assert {x.name for x in folder.iterdir()} == {ANALYSIS_FILE, SYNTHESIS_FILE}
    return LearnedGraphs(folder)


def features(size: tuple[int, int]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(size[0])
    sizes = (size, (-(-size[0] // 2), -(-size[1] // 2)))
    return {
        name: rng.normal(0, 1, (count, *side)).astype(np.float32)
        for name, count, side in zip(NAMES, CHANNELS, sizes, strict=True)
    }


@pytest.mark.parametrize("size", [(1, 1), (5, 9), (20, 12)])
@pytest.mark.parametrize("names", [("p3",), ("p4",), NAMES])
def test_analysis_is_what_torch_computes(network, graphs, size, names):
    levels = {name: features(size)[name] for name in names}
    with torch.no_grad():
        wanted = network.analysis({k: torch.from_numpy(v)[None] for k, v in levels.items()})
    for name, (components, importance) in graphs.analyse(levels).items():
        np.testing.assert_allclose(components, wanted[0][name][0], atol=1e-4)
        np.testing.assert_allclose(importance, wanted[1][name][0, 0], atol=1e-4)


@pytest.mark.parametrize("size", [(1, 1), (5, 9), (20, 12)])
def test_synthesis_is_what_torch_computes(network, graphs, size):
    rng = np.random.default_rng(1)
    feeds = {}
    for name, values in features(size).items():
        side = values.shape[1:]
        feeds[f"components_{name}"] = rng.normal(0, 1, (3, 6, *side)).astype(np.float32)
        feeds[f"log_steps_{name}"] = rng.normal(0, 1, (3, 1, *side)).astype(np.float32)
        feeds[f"presence_{name}"] = np.float32([1, 0, 1]).reshape(3, 1, 1, 1)
    parts = [
        {name: torch.from_numpy(feeds[f"{what}_{name}"]) for name in NAMES}
        for what in ("components", "log_steps", "presence")
    ]
    with torch.no_grad():
        wanted = network.synthesis(*parts)
    for name, values in graphs.synthesise(feeds, NAMES).items():
        np.testing.assert_allclose(values, wanted[name], atol=1e-4)


def test_an_export_changes_neither_the_network_nor_what_is_drawn_after_it(network, tmp_path):
    network.train()
    torch.manual_seed(5)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    expected = torch.randn(3)
    torch.manual_seed(5)
    export_graphs.export_analysis(network, tmp_path / "a.onnx")
    assert torch.equal(torch.randn(3), expected)
    assert network.training
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())


def test_a_graph_that_differs_from_torch_is_not_written(network, tmp_path, monkeypatch):
    old: Path = tmp_path / "a.onnx"
    old.write_bytes(b"the last good one")
    monkeypatch.setattr(export_graphs, "TOLERANCE", -1.0)
    with pytest.raises(ModelError, match="differs by"):
        export_graphs.export_analysis(network, old)
    assert old.read_bytes() == b"the last good one"
    assert list(tmp_path.iterdir()) == [old]
