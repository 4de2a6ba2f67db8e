"""``scripts/own_detector.py``: its commands are the guide's, and they work, on generated scenes."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from guide_kit import commands, section
from PIL import Image
from script_kit import SCRIPTS, script_fixture
from voc_kit import write_voc

from fpcodec import Profile
from fpcodec.data import CLASS_NAMES, generate_scene
from fpcodec.data.scenes import SceneConfig
from fpcodec.errors import InputError

pytest.importorskip("torch", reason="needs fpcodec[train]")
pytest.importorskip("torchvision", reason="needs fpcodec[train]")
pytest.importorskip("faster_coco_eval", reason="needs fpcodec[bench]")
pytest.importorskip("matplotlib", reason="needs fpcodec[bench]")

plan = script_fixture("own_stages")
SIDE = 128


def draw_voc(root: Path, counts: dict[str, int]) -> Path:
    """Scenes in the layout in which BCCD is published."""
    lists: dict[str, list[str]] = {}
    rows, drawn = {}, {}
    for name, count in counts.items():
        lists[name] = [f"{name}_{number}" for number in range(count)]
        for picture in lists[name]:
            scene = generate_scene(len(rows), SceneConfig(size=SIDE))
            boxes = zip(scene.labels, scene.boxes.tolist(), strict=True)
            rows[picture] = ((SIDE, SIDE), [(CLASS_NAMES[x], box) for x, box in boxes])
            drawn[picture] = Image.fromarray(scene.image)
    return write_voc(root, lists, rows, drawn)


def call(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SCRIPTS / "own_detector.py", *map(str, arguments)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_guide_shows_the_commands_that_the_script_runs(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plan: ModuleType
) -> None:
    draw_voc(tmp_path / "BCCD_Dataset" / "BCCD", {"train": 1, "val": 1, "test": 1})
    monkeypatch.chdir(tmp_path)
    planned = plan.stages(Path("BCCD_Dataset"), Path("runs/own"), "384x288", plan.FULL, 2)
    found = [shlex.join(command) for stage in planned for command in stage.commands]
    picture = Path("runs/own/data/heldout/images/BloodImage_00000.png")
    found += [shlex.join(command) for command in plan.serving(Path("runs/own"), picture)]
    guide = (repository / "docs" / "your-own-detector.md").read_text("utf-8")
    shown = commands(section(guide, "Stage by stage"))
    if not importlib.util.find_spec("pyjpegxl"):
        shown = [re.sub(r",jxl:\d+", "", line) for line in shown]
    assert shown == found


def test_the_guides_own_calls_are_understood(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_voc(tmp_path / "BCCD_Dataset" / "BCCD", {"train": 1, "val": 1, "test": 1})
    monkeypatch.chdir(tmp_path)
    guide = (repository / "docs" / "your-own-detector.md").read_text("utf-8")
    calls = [x for x in commands(section(guide, "In one go")) if "own_detector.py" in x]
    assert len(calls) == 2
    for line in calls:
        shown = call(*shlex.split(line)[2:], "--show")
        assert shown.returncode == 0, shown.stderr
        assert "scripts/train_detector.py" in shown.stdout
    assert list(tmp_path.iterdir()) == [tmp_path / "BCCD_Dataset"]


def test_pictures_in_cocos_format_are_found(plan: ModuleType, tmp_path: Path) -> None:
    for name in ("train", "test"):
        (tmp_path / f"{name}.json").touch()
    training, held_out, option = plan.find_data(tmp_path)
    assert (training, held_out) == (tmp_path / "train.json", (tmp_path / "test.json",))
    assert option == ("--images", str(tmp_path / "images"))
    (tmp_path / "test.json").unlink()
    with pytest.raises(InputError, match="For BCCD: git clone https://"):
        plan.find_data(tmp_path)


@pytest.mark.usefixtures("plan")
def test_from_pictures_to_detections(tmp_path: Path) -> None:
    data = draw_voc(tmp_path / "data", {"train": 10, "val": 2, "test": 2})
    out = tmp_path / "own"
    # What --quick takes some minutes for, with less of everything that counts.
    asked = (data, "--out", out, "--quick", "--size", f"{SIDE}x{SIDE}", "--threads", 1,
             "--detector-steps", 2, "--limit", 4)  # fmt: skip
    broken_off = call(*asked, "--codec-steps", 1, "--until", "detector")
    assert broken_off.returncode == 0, broken_off.stderr
    assert set(json.loads((out / "stages.json").read_text())["minutes"]) == {"data", "detector"}

    other = call(*asked, "--codec-steps", 2)
    assert other.returncode == 1
    assert "holds a run with other codec steps; name another --out" in other.stderr

    whole = call(*asked, "--codec-steps", 1)
    assert whole.returncode == 0, whole.stdout + whole.stderr
    assert "2/8 detector: train a small Faster R-CNN: done before" in whole.stdout
    assert "train_detector" not in whole.stdout
    profile = Profile.load(out / "profile")
    assert set(profile.labels) <= set(CLASS_NAMES)
    assert profile.codec.codec_id != Profile.load(out / "pca").codec.codec_id
    assert (out / "report" / "report.html").is_file()
    lines = whole.stdout.splitlines()
    answer = json.loads(next(line for line in lines if line.startswith('{"image": ')))
    assert answer["bytes"] > 0
    assert (out / "found" / Path(answer["image"]).name).is_file()

    shutil.rmtree(data)
    absent = call(*asked, "--codec-steps", 1)
    assert absent.returncode == 1
    assert "no data set; give a folder with" in absent.stderr
