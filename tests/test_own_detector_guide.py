"""docs/your-own-detector.md: its commands run, on random weights, small pictures and few steps."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from guide_kit import Reader, blocks, commands, section
from PIL import Image

from fpcodec.data import write_coco
from fpcodec.data.scenes import SceneConfig

torch = pytest.importorskip("torch", reason="needs fpcodec[train]")
pytest.importorskip("torchvision", reason="needs fpcodec[train]")
pytest.importorskip("faster_coco_eval", reason="needs fpcodec[bench]")
pytest.importorskip("matplotlib", reason="needs fpcodec[bench]")

# The commands stay what they are; these settings in them become small ones.
SMALLER = {
    "--steps 4000": "--steps 2 --batch 2 --held-out 1 --measure-steps 0 --threads 1",
    "--limit 200": "--limit 2 --threads 1",
    "bench rd ": "bench rd --limit 2 -q 0.5 --sizes network --no-parts --draws 200 ",
    "-q 0.3 -q 0.6": "-q 0.5 --limit 2",
    "fasterrcnn_resnet50_fpn": "fasterrcnn_resnet18_fpn",
    "min_size=480&max_size=640": "min_size=96&max_size=96",
    "longest=512": "longest=128",
    "weights=model_final.pth": "weights=model_final.pth&MODEL.RESNETS.DEPTH=18"
    "&MODEL.RESNETS.RES2_OUT_CHANNELS=64&INPUT.MIN_SIZE_TEST=96&INPUT.MAX_SIZE_TEST=96",
}
CLASSES = ("Platelets", "RBC", "WBC")


@pytest.fixture(scope="module")
def guide(repository: Path) -> str:
    return (repository / "docs" / "your-own-detector.md").read_text("utf-8")


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with what the reader brings but weights: photos, val and val.json."""
    drawn = write_coco(tmp_path / "drawn", range(5), SceneConfig(size=128))
    document = json.loads(drawn.read_text())
    document["categories"] = [{"id": i, "name": name} for i, name in enumerate(CLASSES)]
    for row in document["annotations"]:
        row["category_id"] %= len(CLASSES)
    (tmp_path / "val.json").write_text(json.dumps(document))
    (drawn.parent / "images").rename(tmp_path / "val")
    (tmp_path / "photos").mkdir()
    for number, path in enumerate(sorted((tmp_path / "val").iterdir())):
        name = "one.jpg" if number == 0 else f"{number}.jpg"
        Image.open(path).save(tmp_path / "photos" / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def save_random_weights(model: Any, path: Path) -> Any:
    """What the reader's training wrote."""
    torch.save(model.state_dict(), path)
    return model.eval()


def assert_detected(answer: str, drawn: Path) -> None:
    assert json.loads(answer)["bytes"] > 0
    assert np.asarray(Image.open(drawn)).shape == (1280, 1280, 3)


def test_links_lead_somewhere(guide: str, repository: Path) -> None:
    links = [x for x in re.findall(r"\]\(([^)]+)\)", guide) if "://" not in x]
    assert links
    for link in links:
        file, _, place = link.partition("#")
        text = (repository / "docs" / file).read_text("utf-8") if file else guide
        headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
        places = {re.sub(r"[^\w -]", "", x).lower().replace(" ", "-") for x in headings}
        assert not place or place in places, link


@pytest.mark.slow  # pytest -m slow tests/test_own_detector_guide.py
def test_a_torchvision_detector(guide: str, desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

    torch.manual_seed(0)
    backbone = resnet_fpn_backbone(backbone_name="resnet18", weights=None)
    for module in backbone.body.modules():
        if hasattr(module, "eps"):
            module.eps = 0.0  # as torchvision does it with weights="DEFAULT"
    model = save_random_weights(
        FasterRCNN(backbone, 4, min_size=96, max_size=96), desk / "cells.pth"
    )
    text = section(guide, "A torchvision detector you have")
    with Reader(SMALLER) as types:
        lines = commands(text)
        types.type(lines[0])
        (check,) = blocks(text, "python")
        exec(compile(check, "guide", "exec"), {"SPEC": types.variables["SPEC"], "model": model})
        count, difference = capsys.readouterr().out.split()
        assert int(count) > 0
        assert float(difference) < 0.01
        for line in lines[1:]:
            answer = types.type(line)
    assert_detected(answer, desk / "found" / "one.png")
    assert (desk / "report" / "report.html").is_file()


def test_a_builder_of_your_own(guide: str, desk: Path) -> None:
    text = section(guide, "A builder of your own")
    (code,) = blocks(text, "python")
    (desk / "cells_model.py").write_text(code)
    built: dict[str, Any] = {}
    exec(compile(code, "guide", "exec"), built)
    torch.manual_seed(0)
    save_random_weights(built["build"](128), desk / "cells18.pth")
    with Reader(SMALLER) as types:
        for line in commands(text):
            answer = types.type(line)
    assert_detected(answer, desk / "found18" / "one.png")
    config = json.loads((desk / "cells18-learned" / "profile.json").read_text())
    assert config["detector"]["kind"] == "onnx"


@pytest.mark.detectron2
@pytest.mark.skipif(
    not importlib.util.find_spec("detectron2"), reason="detectron2 is not installed"
)
@pytest.mark.filterwarnings("ignore:torch.meshgrid:UserWarning")
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:FutureWarning")
def test_a_detectron2_detector(guide: str, desk: Path) -> None:
    from detectron2 import model_zoo
    from detectron2.config import get_cfg

    from fpcodec.detectors.factory import open_detector

    cfg = get_cfg()
    cfg.merge_from_file(model_zoo.get_config_file("COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml"))
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = len(CLASSES)
    text = section(guide, "A detectron2 detector you have")
    (dump,) = blocks(text, "python")
    exec(compile(dump, "guide", "exec"), {"cfg": cfg})
    lines = commands(text)
    with Reader(SMALLER) as types:
        types.type(lines[0])
        # Random weights of the same configuration, in the form that a checkpoint of detectron2 has.
        model = open_detector(types.variables["SPEC"].replace("weights=model_final.pth&", "")).model
        torch.save({"model": model.state_dict(), "iteration": 1}, desk / "model_final.pth")
        for line in lines[1:]:
            answer = types.type(line)
    assert_detected(answer, desk / "found-d2" / "one.png")
    assert (desk / "report-d2" / "report.html").is_file()
