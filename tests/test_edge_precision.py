"""Edge graphs in fp16 and INT8: near the float ones, and read by the server that has those."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from fpcodec import EdgeHalf, Profile, ServerHalf, embedded_profile_path, load_image
from fpcodec.cli.app import app
from fpcodec.data import write_coco
from fpcodec.detectors.onnx import EDGE_PRECISION
from fpcodec.errors import InputError, MissingDependency, ModelError, ProfileError
from fpcodec.evaluation.results import read_rows
from fpcodec.evaluation.ways.base import detector_identity, load_profiles, reference_profile
from fpcodec.precision.edge import quantise_profile
from fpcodec.precision.integer import quantise_graph

onnx = pytest.importorskip("onnx", reason="needs fpcodec[bench]")

FULL = embedded_profile_path()


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(x) for x in arguments])


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    write_coco(folder, range(200, 204))
    return folder


@pytest.fixture(scope="module")
def made(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The embedded profile by precision."""
    folder = tmp_path_factory.mktemp("profiles")
    for precision in ("fp16", "int8"):
        result = run(
            "profiles", "quantise", "tiny", "--precision", precision, "--max-error", 0.003,
            "--images", scenes / "images", "--limit", 2, "--out", folder / precision, "--json",
        )  # fmt: skip
        assert result.exit_code == 0, result.stderr
        told = json.loads(result.stdout)
        assert told["precision"] == precision
        assert told["edge_bytes"] < 0.6 * told["full_edge_bytes"]
        assert told["stream_id"] == Profile.load(FULL).stream_id.hex()
        if precision == "int8":
            assert told["images"] == 2
            assert told["error"] <= 0.003
            assert told["quantised"] + len(told["kept"]) == 25
    return {precision: folder / precision for precision in ("fp16", "int8")}


@pytest.mark.parametrize(("precision", "most"), [("fp16", 1e-4), ("int8", 0.02)])
@pytest.mark.parametrize("levels", [None, ["p3", "p5"]])
def test_features_stay_near_and_the_old_server_answers(
    precision: str, most: float, levels: list[str] | None, made: dict[str, Path], scenes: Path
) -> None:
    full, other = Profile.load(FULL), Profile.load(made[precision])
    other.verify()
    image = load_image(sorted((scenes / "images").iterdir())[-1])
    wanted = EdgeHalf(full, threads=1).encode(image, levels=levels)
    found = EdgeHalf(other, threads=1).encode(image, levels=levels)
    for name, values in wanted.pyramid.levels.items():
        error = ((found.pyramid.levels[name] - values) ** 2).mean() / values.var()
        assert error < most, name
    server = ServerHalf(full, threads=1)
    expected, answer = server.infer(wanted.data).detections, server.infer(found.data).detections
    assert abs(len(answer) - len(expected)) <= 2
    assert abs(len(found.data) - len(wanted.data)) < 0.05 * len(wanted.data)


def test_it_counts_as_the_detector_that_it_was_made_of(made: dict[str, Path], scenes: Path) -> None:
    profiles = load_profiles({"int8": made["int8"], "fp32": FULL})
    assert reference_profile(profiles).path == FULL
    with pytest.raises(InputError, match="lower precision"):
        reference_profile({"int8": profiles["int8"]})
    assert detector_identity(profiles["int8"]) == detector_identity(profiles["fp32"])
    out = scenes / "rows"
    result = run(
        "bench", "rd", "--images", scenes / "images", "--annotations", scenes / "annotations.json",
        "--limit", 1, "--profile", f"fp32={FULL}", "--profile", f"int8={made['int8']}",
        "--codecs", "fpc", "--no-parts", "-q", 0.5, "--draws", 200, "--out", out,
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    told = {x.parameters["profile"]: x for x in read_rows(out) if x.kind == "features"}
    assert told["int8"].parameters[EDGE_PRECISION] == "int8"
    assert EDGE_PRECISION not in told["fp32"].parameters
    assert told["int8"].sent_bytes != told["fp32"].sent_bytes


def test_a_profile_says_of_itself_what_its_edge_computes_with(made: dict[str, Path]) -> None:
    assert "int8, in place of the detector's own" in run("profiles", "show", made["int8"]).stdout
    assert "edge graph" not in run("profiles", "show", "tiny").stdout


def test_what_harms_most_stays_float(scenes: Path, tmp_path: Path) -> None:
    detector = Profile.load(FULL).open_detector("edge", threads=1)
    paths = sorted((scenes / "images").iterdir())[:2]
    inputs = [detector.preprocess(load_image(path))[0] for path in paths]  # type: ignore[attr-defined]
    told: list[tuple[str, int, int]] = []
    strict = quantise_graph(
        FULL / "edge.onnx", inputs, max_error=0.0003, progress=lambda *a: told.append(a)
    )
    assert 0 < strict.quantised < 25
    assert strict.quantised + len(strict.kept) == 25
    assert strict.error <= 0.0003
    assert "/backbone/stem/stem.0/stem.0.0/Conv" in strict.kept
    assert {stage for stage, _, _ in told} == {"ranges", "convolutions"}
    with pytest.raises(ModelError, match=r"no convolution can be in INT8.*or use fp16"):
        quantise_graph(FULL / "edge.onnx", inputs[:1], max_error=1e-9)


def test_graphs_and_limits_of_no_use(tmp_path: Path) -> None:
    tensor = np.zeros((1, 3, 8, 8), np.float32)
    value = onnx.helper.make_tensor_value_info
    shape = [1, 3, 8, 8]
    node = onnx.helper.make_node("Relu", ["image"], ["p3"])
    graph = onnx.helper.make_graph([node], "g", [value("image", 1, shape)], [value("p3", 1, shape)])
    path = tmp_path / "relu.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)]), path)
    with pytest.raises(ModelError, match="no convolution to quantise"):
        quantise_graph(path, [tensor])
    with pytest.raises(InputError, match="no calibration images"):
        quantise_graph(path, [])
    for limit in (0.0, 1.0, float("nan")):
        with pytest.raises(InputError, match="--max-error"):
            quantise_graph(path, [tensor], max_error=limit)


def test_a_quantised_profile_is_not_quantised_again(
    made: dict[str, Path], scenes: Path, tmp_path: Path
) -> None:
    result = run(
        "profiles", "quantise", made["int8"], "--precision", "fp16", "--out", tmp_path / "x"
    )
    assert result.exit_code == 2
    assert "int8 already; start from the profile that it was made of" in result.stderr
    with pytest.raises(ProfileError, match="int8 already"):
        quantise_profile(Profile.load(made["int8"]), tmp_path / "x", "fp16")
    with pytest.raises(InputError, match="precision 'int4' is not one of fp16, int8"):
        quantise_profile(Profile.load(FULL), tmp_path / "x", "int4")
    assert list(tmp_path.iterdir()) == []


def test_int8_needs_images(tmp_path: Path) -> None:
    result = run("profiles", "quantise", "tiny", "--out", tmp_path / "x")
    assert (result.exit_code, "--images" in result.stderr) == (2, True)


def test_without_onnx_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(MissingDependency, match=r"fpcodec\[bench\]"):
        quantise_profile(Profile.load(FULL), tmp_path / "x", "fp16")


def test_people_are_told_what_was_written(tmp_path: Path) -> None:
    result = run("profiles", "quantise", "tiny", "--precision", "fp16", "--out", tmp_path / "half")
    assert result.stdout == ""
    assert result.stderr.startswith(f"{tmp_path / 'half'}: edge graph fp16, ")
    assert "as before" in result.stderr
