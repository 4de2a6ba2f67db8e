"""``tiny`` in torch against the ONNX graphs that ship, and the promises of its card."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import fpcodec
from fpcodec.data import CLASS_NAMES, generate_scene
from fpcodec.errors import InputError, ModelError

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")

from fpcodec.detectors import tiny  # noqa: E402

ASSETS = Path(fpcodec.__file__).parent / "assets" / "tiny"
SEEDS = range(300, 306)
CONFIG = tiny.TinyConfig()
BLANK = np.full((320, 320, 3), 112, dtype=np.uint8)


@pytest.fixture(scope="module")
def detector() -> torch.nn.Module:
    return tiny.load_tiny(ASSETS)


@pytest.fixture(scope="module")
def sessions() -> dict[str, onnxruntime.InferenceSession]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return {
        half: onnxruntime.InferenceSession(
            ASSETS / f"{half}.onnx", options, providers=["CPUExecutionProvider"]
        )
        for half in ("edge", "server")
    }


def network_input(image: np.ndarray) -> np.ndarray:
    pixels = (image.astype(np.float32) - CONFIG.mean) / np.array(CONFIG.std)
    return np.ascontiguousarray(pixels.astype(np.float32).transpose(2, 0, 1)[None])


def run_split(
    sessions: dict[str, onnxruntime.InferenceSession], image: np.ndarray
) -> dict[str, np.ndarray]:
    levels = dict(
        zip(
            tiny.CODED_LEVELS,
            sessions["edge"].run(list(tiny.CODED_LEVELS), {"image": network_input(image)}),
            strict=True,
        )
    )
    levels["p6"] = np.ascontiguousarray(levels["p5"][:, :, ::2, ::2])
    names = [output.name for output in sessions["server"].get_outputs()]
    return dict(zip(names, sessions["server"].run(names, levels), strict=True))


def run_unsplit(detector: torch.nn.Module, image: np.ndarray) -> dict[str, np.ndarray]:
    with torch.no_grad():
        found = detector([torch.from_numpy(image).permute(2, 0, 1).float()])[0]
    return {name: value.numpy() for name, value in found.items()}


@pytest.mark.parametrize("seed", SEEDS)
def test_split_graphs_find_what_the_unsplit_detector_finds(
    detector: torch.nn.Module, sessions: dict[str, onnxruntime.InferenceSession], seed: int
) -> None:
    image = generate_scene(seed).image
    wanted, found = run_unsplit(detector, image), run_split(sessions, image)
    assert len(wanted["boxes"]) > 0
    assert np.array_equal(found["labels"] + 1, wanted["labels"])
    np.testing.assert_allclose(found["boxes"], wanted["boxes"], rtol=1e-4, atol=320 * 1e-4)
    np.testing.assert_allclose(found["scores"], wanted["scores"], rtol=1e-3, atol=1e-4)


def test_picture_without_objects(
    detector: torch.nn.Module, sessions: dict[str, onnxruntime.InferenceSession]
) -> None:
    wanted, found = run_unsplit(detector, BLANK), run_split(sessions, BLANK)
    assert found["boxes"].shape == wanted["boxes"].shape == (0, 4)
    assert found["scores"].shape == (0,)
    assert found["labels"].shape == (0,)


def test_objectness_is_the_rpn_maximum_and_marks_the_objects(
    detector: torch.nn.Module, sessions: dict[str, onnxruntime.InferenceSession]
) -> None:
    image = generate_scene(SEEDS[0]).image
    found = run_split(sessions, image)
    with torch.no_grad():
        levels = detector.backbone(torch.from_numpy(network_input(image)))
        logits, _ = detector.rpn.head(list(levels.values()))
    for name, logit in zip(tiny.LEVELS, logits, strict=True):
        wanted = torch.sigmoid(logit).amax(dim=1, keepdim=True).numpy()
        np.testing.assert_allclose(found[f"objectness_{name}"], wanted, rtol=1e-3, atol=1e-5)
    assert max(found[f"objectness_{name}"].max() for name in tiny.LEVELS) > 0.5


def test_graph_names_and_shapes(sessions: dict[str, onnxruntime.InferenceSession]) -> None:
    shapes = {
        name: [1, tiny.CHANNELS, 320 // stride, 320 // stride]
        for name, stride in zip(tiny.LEVELS, tiny.STRIDES, strict=True)
    }
    assert {i.name: i.shape for i in sessions["edge"].get_inputs()} == {"image": [1, 3, 320, 320]}
    assert {o.name: o.shape for o in sessions["edge"].get_outputs()} == {
        name: shapes[name] for name in tiny.CODED_LEVELS
    }
    assert {i.name: i.shape for i in sessions["server"].get_inputs()} == shapes
    outputs = {o.name: o for o in sessions["server"].get_outputs()}
    assert outputs["labels"].type == "tensor(int64)"
    assert list(outputs) == [
        "boxes", "scores", "labels", *(f"objectness_{name}" for name in tiny.LEVELS)
    ]  # fmt: skip


def test_p6_is_every_second_position_of_p5(detector: torch.nn.Module) -> None:
    with torch.no_grad():
        levels = detector.backbone(torch.from_numpy(network_input(generate_scene(1).image)))
    assert torch.equal(levels["p6"], levels["p5"][:, :, ::2, ::2])
    pooled = torch.nn.functional.max_pool2d(levels["p5"], 1, 2, 0)
    assert torch.equal(levels["p6"], pooled)


def test_objects_of_each_size_are_pooled_from_another_level(detector: torch.nn.Module) -> None:
    pool = detector.roi_heads.box_roi_pool
    with torch.no_grad():
        levels = detector.backbone(torch.from_numpy(network_input(BLANK)))
        boxes = [torch.tensor([[0.0, 0.0, s, s] for s in (16.0, 50.0, 100.0, 200.0)])]
        pool(levels, boxes, [(320, 320)])
    assert pool.map_levels(boxes).tolist() == [0, 1, 2, 3]


def test_size_of_network_and_files() -> None:
    parameters = sum(p.numel() for p in tiny.build_tiny().parameters())
    files = [ASSETS / name for name in ("edge.onnx", "server.onnx", "weights.safetensors")]
    assert parameters <= 1_200_000
    assert sum(file.stat().st_size for file in files) < 12_000_000


def test_card_states_the_measured_accuracy() -> None:
    card = json.loads((ASSETS / "card.json").read_text())
    accuracy = card["evaluation"]["coco"]
    assert card["classes"] == list(CLASS_NAMES)
    assert card["parameters"] == sum(p.numel() for p in tiny.build_tiny().parameters())
    assert card["evaluation"]["images"] >= 1000
    assert card["evaluation"]["seeds"][1] <= card["training"]["first_training_seed"]
    assert 40 <= accuracy["AP"] <= 80
    assert min(accuracy[name] for name in ("APs", "APm", "APl")) >= 20


def test_training_step_reaches_every_weight() -> None:
    torch.manual_seed(0)
    model = tiny.build_tiny().train()
    scene = generate_scene(2)
    target = {
        "boxes": torch.from_numpy(scene.boxes),
        "labels": torch.from_numpy(scene.labels) + 1,
    }
    losses = model([torch.from_numpy(scene.image).permute(2, 0, 1).float()], [target])
    sum(losses.values()).backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None]
    assert not silent
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_damaged_or_foreign_weights_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    with pytest.raises(ModelError, match="train or reinstall"):
        tiny.load_tiny(tmp_path / "absent.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((ASSETS / "weights.safetensors").read_bytes()[:999])
    with pytest.raises(ModelError, match="not tiny's weights"):
        tiny.load_tiny(tmp_path / "cut.safetensors")
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ModelError, match="not tiny's weights"):
        tiny.load_tiny(tmp_path / "other.safetensors")


@pytest.mark.slow
def test_training_script_stops_resumes_and_leaves_loadable_weights(tmp_path: Path) -> None:
    script = Path(fpcodec.__file__).parents[1] / "scripts" / "train_detector.py"
    if not script.exists():
        pytest.skip("scripts/ is not part of an installed package")
    command = [sys.executable, str(script), "--batch", "2", "--minutes", "0", "--workers", "0"]
    command += ["--threads", "1", "--out", str(tmp_path)]
    subprocess.run([*command, "--steps", "2"], check=True, capture_output=True)
    resume = ["--resume", str(tmp_path / "checkpoint.pt")]
    subprocess.run([*command, "--steps", "3", *resume], check=True, capture_output=True)
    facts = json.loads((tmp_path / "training.json").read_text())
    assert (facts["steps"], facts["images"]) == (3, 6)
    assert not tiny.load_tiny(tmp_path).training


@pytest.mark.slow
def test_training_on_photographs_resumes_exactly(tmp_path: Path) -> None:
    from fpcodec.data import write_coco

    script = Path(fpcodec.__file__).parents[1] / "scripts" / "train_detector.py"
    if not script.exists():
        pytest.skip("scripts/ is not part of an installed package")
    pytest.importorskip("faster_coco_eval")
    data = write_coco(tmp_path, range(3))
    command = [sys.executable, str(script), "--batch", "1", "--minutes", "0", "--workers", "0"]
    command += ["--threads", "1", "--size", "128x96", "--data", str(data), "--heldout", "1"]
    command += [
        "--images",
        str(tmp_path / "images"),
        "--start",
        str(ASSETS / "weights.safetensors"),
    ]

    def run(out: Path, *flags: str) -> None:
        subprocess.run([*command, "--out", str(out), *flags], check=True, capture_output=True)

    # The learning rate looks ahead to the last step, so both runs are told of the same one.
    run(tmp_path / "whole", "--steps", "2")
    run(tmp_path / "split", "--steps", "2", "--stop-after", "1")
    resume = tmp_path / "split" / "checkpoint.pt"
    run(tmp_path / "split", "--steps", "2", "--resume", str(resume))
    whole, split = (tiny.load_tiny(tmp_path / name).state_dict() for name in ("whole", "split"))
    assert all(torch.equal(value, split[name]) for name, value in whole.items())
    assert tiny.TinyConfig.from_card(tmp_path / "whole" / "card.json").size == (128, 96)


def test_a_card_describes_rectangles_and_refuses_what_it_is_not(tmp_path: Path) -> None:
    config = tiny.TinyConfig("cells", ("red", "white"), (128, 96), (9.0, 8.0, 7.0), (3.0, 2.0, 1.0))
    (tmp_path / "card.json").write_text(json.dumps(config.to_card()))
    assert tiny.TinyConfig.from_card(tmp_path / "card.json") == config
    (tmp_path / "card.json").write_text("{}")
    with pytest.raises(ModelError, match="not a detector's card"):
        tiny.TinyConfig.from_card(tmp_path / "card.json")
    with pytest.raises(InputError, match="multiples of 32"):
        tiny.TinyConfig(size=(100, 100))
