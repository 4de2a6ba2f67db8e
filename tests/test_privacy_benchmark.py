"""The benchmark of what frames reveal: whole runs that go on, what counts, and its table."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the torch extra")
pytest.importorskip("scipy", reason="needs the bench extra")

import torch
from training_kit import write_images

from fpcodec.detections import Detections
from fpcodec.embedded import embedded_folder
from fpcodec.errors import InputError
from fpcodec.evaluation.privacy.inverter import Inverter, InverterConfig
from fpcodec.evaluation.privacy.inverter_files import write_inverter
from fpcodec.profile import Profile

PICTURES = 3


@pytest.fixture(scope="module")
def modules(repository: Path) -> Iterator[dict[str, ModuleType]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(repository / "benchmarks"))
        names = ("privacy", "privacy_eyes", "privacy_words", "privacy_table")
        yield {name: importlib.import_module(name) for name in names}


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """An inverter that has learned nothing, and a few scenes."""
    folder = tmp_path_factory.mktemp("privacy")
    spec = Profile.load(embedded_folder("tiny")).spec
    torch.manual_seed(0)
    model = Inverter(InverterConfig.of(spec, 2, width=16, blocks=1))
    write_inverter(model, (0.5,), folder / "inverter")
    training = {"command": "python train.py", "processor_minutes": 1.0, "steps_done": 4}
    (folder / "inverter" / "training.json").write_text(json.dumps(training))
    write_images(folder / "images", PICTURES)
    return {
        "--profile": embedded_folder("tiny"), "--inverter": folder / "inverter",
        "--images": folder / "images", "--work": folder / "work", "--out": folder / "rows.json",
        "--scenes": 1, "--draws": 200,
    }  # fmt: skip


def run(module: ModuleType, arguments: dict[str, Any]) -> list[dict[str, Any]]:
    module.main([str(x) for pair in arguments.items() for x in pair])
    rows: list[dict[str, Any]] = json.loads(Path(arguments["--out"]).read_text())
    return rows


def test_every_way_is_measured_and_a_run_goes_on(
    modules: dict[str, ModuleType],
    arguments: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    privacy = modules["privacy"]
    missing = {x: _missing for x in ("FaceFinder", "TextReader")}
    for name, kind in missing.items():
        monkeypatch.setattr(privacy, name, kind)
    rows = run(privacy, arguments)
    assert "faces is not measured" in capsys.readouterr().err
    ways = [row["way"] for row in rows]
    assert ways[:2] == ["frame q0.5", privacy.UNCODED]
    assert ways[2].startswith("webp")
    assert ways[3:] == [privacy.MEAN_COLOUR]
    frame, uncoded, webp, flat = rows
    assert frame["bytes"]["value"] > 200
    assert uncoded["bytes"] is None
    assert webp["ssim"]["value"] > flat["ssim"]["value"]
    assert webp["top_1"]["value"] == 1
    assert frame["matched"]["value"] == uncoded["matched"]["value"] == 1
    assert webp["matched"] is None
    assert webp["objects"]["of"] == frame["objects"]["of"] > 0
    assert flat["objects"]["value"] == 0
    assert all(row["faces"] is None and row["words"] == [] for row in rows)

    kept = Path(arguments["--work"]) / "pictures.jsonl"
    lines = kept.read_text().splitlines()
    kept.write_text("\n".join([*lines[:-1], lines[-1][:40]]))
    again = run(privacy, {**arguments, "--out": Path(arguments["--out"]).with_name("again.json")})
    for row in (*rows, *again):
        del row["environment"]
    assert again == rows
    with pytest.raises(InputError, match="other settings"):
        run(privacy, {**arguments, "--limit": 1})

    table = modules["privacy_table"].privacy(Path(arguments["--out"]))
    assert table.count("| frame q0.5 |") == 2
    assert "faces (not measured)" in table
    absent = Path(arguments["--out"]).with_name("absent.json")
    assert modules["privacy_table"].privacy(absent) == "Not measured yet."


def _missing() -> None:
    raise ImportError("no such package")


def test_an_object_is_found_again_at_its_place_as_what_it_was(
    modules: dict[str, ModuleType],
) -> None:
    known = detections((0, 0, 10, 10, 1), (20, 0, 30, 10, 1), (40, 0, 50, 10, 2))
    found = detections((0, 1, 10, 11, 1), (40, 0, 50, 10, 1))
    assert modules["privacy"].objects_again(known, found).tolist() == [True, False, False]
    nothing = detections()
    assert modules["privacy"].objects_again(known, nothing).tolist() == [False] * 3
    assert not len(modules["privacy"].objects_again(nothing, found))


def detections(*boxes: tuple[float, ...]) -> Detections:
    """Boxes with their label last."""
    values = np.asarray(boxes, np.float32).reshape(-1, 5)
    scores = np.full(len(values), 0.9, np.float32)
    return Detections(values[:, :4], scores, values[:, 4].astype(np.int64))


def test_faces_count_at_their_place_and_elsewhere(modules: dict[str, ModuleType]) -> None:
    again = modules["privacy_eyes"].faces_again
    known = np.asarray([(0, 0, 10, 10), (20, 20, 40, 40)], np.float64)
    found = np.asarray([(1, 0, 11, 10), (60, 60, 70, 70)], np.float64)
    assert again(known, found) == (1, 1)
    assert again(known, np.zeros((0, 4))) == (0, 0)
    assert again(np.zeros((0, 4)), found) == (0, 2)


def test_letters_are_kept_in_their_order(modules: dict[str, ModuleType]) -> None:
    eyes = modules["privacy_eyes"]
    assert eyes.plain("Stop, 4-Way!") == "stop4way"
    assert eyes.letters_kept("stop4way", "stop4way") == 1
    assert eyes.letters_kept("", "stop") == 0
    assert eyes.letters_kept("sxop", "stop") == 0.75


def test_words_are_drawn_in_their_heights_and_alike_each_time(
    modules: dict[str, ModuleType],
) -> None:
    words = modules["privacy_words"]
    (scene,), (again,) = (list(words.word_scenes(1, 7)) for _ in range(2))
    assert (scene.picture == again.picture).all()
    assert scene.words == again.words
    assert [x.height for x in scene.words] == list(words.HEIGHTS)
    bottom = 0
    for word in scene.words:
        x1, y1, x2, y2 = word.box
        assert y1 >= bottom
        assert x1 >= 0
        assert max(x2, y2) <= words.SIDE
        assert y2 - y1 >= word.height
        bottom = y2
