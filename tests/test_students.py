"""A student beside its teacher: which losses there are, what they amount to, whom they move."""

from __future__ import annotations

import copy
import importlib
import json
import shutil
import sys
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the torch extra")
pytest.importorskip("torchvision", reason="needs the torch extra")

from script_kit import script_fixture  # noqa: E402

from fpcodec.detectors.factory import TINY_FOLDER  # noqa: E402
from fpcodec.detectors.small_family import build_small, load_small  # noqa: E402
from fpcodec.detectors.tiny import TinyConfig  # noqa: E402
from fpcodec.distill.frs import PUBLISHED, FrsWeights  # noqa: E402
from fpcodec.distill.students import Distiller, kind_of  # noqa: E402
from fpcodec.errors import InputError, ModelError  # noqa: E402

KINDS = ("fasterrcnn", "retinanet", "fcos")
OWN = {
    "fasterrcnn": {"loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg"},
    "retinanet": {"classification", "bbox_regression"},
    "fcos": {"classification", "bbox_regression", "bbox_ctrness"},
}
SIZE = (96, 64)
CONFIG = TinyConfig("small", ("a", "b", "c"), SIZE)
AFTER = 500
"""The step at which distillation counts in full."""

student_script = script_fixture("train_student")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small networks run fastest so, and always alike."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def build(kind: str, seed: int, width: float, config: TinyConfig = CONFIG) -> Any:
    """A detector whose class scores are not all about alike, as new ones' are."""
    torch.manual_seed(seed)
    model = build_small(kind, config, width)
    torch.nn.init.normal_(scorer(model).cls_logits.weight, std=0.3)
    return model


def scorer(model: Any) -> Any:
    return model.rpn.head if kind_of(model) == "fasterrcnn" else model.head.classification_head


def pair(kind: str) -> tuple[Any, Any]:
    """Teacher and student; FCOS's heads want 32 channels at least."""
    return build(kind, 0, 0.5), build(kind, 1, 0.5 if kind == "fcos" else 0.25)


def distiller(kind: str, loss: str, weights: FrsWeights | None = None) -> Distiller:
    teacher, student = pair(kind)
    torch.manual_seed(2)
    return Distiller(teacher, student, loss, weights).train()


def batch() -> tuple[list[torch.Tensor], list[dict[str, torch.Tensor]]]:
    random = torch.Generator().manual_seed(3)
    images = [255 * torch.rand(3, SIZE[1], SIZE[0], generator=random) for _ in "ab"]
    boxes = [[10.0, 10.0, 50.0, 60.0]], [[20.0, 5.0, 90.0, 40.0]]
    return images, [
        {"boxes": torch.tensor(box), "labels": torch.tensor([label + 1])}
        for label, box in enumerate(boxes)
    ]


def losses(learner: Distiller, step: int = AFTER) -> dict[str, torch.Tensor]:
    torch.manual_seed(4)
    return learner(*batch(), step)


def values(found: dict[str, torch.Tensor]) -> dict[str, float]:
    return {name: float(x.detach()) for name, x in found.items()}


def state(model: Any) -> dict[str, torch.Tensor]:
    return {name: x.clone() for name, x in model.state_dict().items()}


def pyramid_and_logits(model: Any) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Levels, and the score maps that the head's own convolutions give for each level alone."""
    head = scorer(model)
    tensors = model.transform(batch()[0])[0].tensors
    with torch.no_grad():
        levels = list(model.backbone(tensors).values())
        return levels, [head.cls_logits(head.conv(x)) for x in levels]


@pytest.mark.parametrize("kind", KINDS)
def test_each_loss_adds_its_own(kind: str) -> None:
    found = {loss: values(losses(distiller(kind, loss))) for loss in ("none", "mse", "frs")}
    assert set(found["none"]) == OWN[kind]
    assert set(found["mse"]) == OWN[kind] | {"distill_features"}
    assert set(found["frs"]) == OWN[kind] | {"distill_features", "distill_scores"}
    for name in OWN[kind]:
        assert found["mse"][name] == found["frs"][name] == pytest.approx(found["none"][name])
    assert found["mse"]["distill_features"] != found["frs"]["distill_features"]
    assert all(np.isfinite(x) for some in found.values() for x in some.values())


@pytest.mark.parametrize("kind", KINDS)
def test_distillation_begins_with_nothing(kind: str) -> None:
    learner = distiller(kind, "frs")
    found = [values(losses(learner, step)) for step in (0, AFTER // 2, AFTER, 4 * AFTER)]
    for name in ("distill_features", "distill_scores"):
        start, half, whole, later = (x[name] for x in found)
        assert start == 0
        assert half == pytest.approx(whole / 2, rel=1e-4)
        assert later == pytest.approx(whole, rel=1e-4)
        assert whole > 0


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_compared_where_they_lie(kind: str) -> None:
    """The loss is what score maps of each level, asked for alone, give."""
    learner = distiller(kind, "frs", FrsWeights(0.0, 1.0, 0))
    teacher, student = pair(kind)
    student.train()
    wanted = 0.0
    asked = zip(pyramid_and_logits(teacher.eval())[1], pyramid_and_logits(student)[1], strict=True)
    for zt, zs in asked:
        t, p = zt.double().sigmoid(), zs.double().sigmoid()
        s = t.amax(1, keepdim=True)
        cross_entropy = -(t * p.log() + (1 - t) * (1 - p).log())
        wanted += float((s * cross_entropy).sum() / s.sum())
    assert float(losses(learner)["distill_scores"].detach()) == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_features_are_compared_through_the_adapters(kind: str) -> None:
    """MSE is a mean over positions, its weight the published one per channel."""
    learner = distiller(kind, "mse")
    teacher, student = pair(kind)
    theirs = pyramid_and_logits(teacher.eval())[0]
    mine = pyramid_and_logits(student.train())[0]
    wanted = 0.0
    for t, x, adapter in zip(theirs, mine, learner.adapters, strict=True):
        error = ((t - adapter(x)) ** 2).sum(dim=1).mean()
        wanted += float(error.detach()) * PUBLISHED[kind].features * 256 / t.shape[1]
    assert float(losses(learner)["distill_features"].detach()) == pytest.approx(wanted, rel=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_the_student_learns_and_the_teacher_stays(kind: str) -> None:
    teacher, student = pair(kind)
    learner = Distiller(teacher, student, "frs").train()
    before = state(teacher), state(student), state(learner.adapters)
    optimiser = torch.optim.SGD(learner.parameters(), 0.01)
    for _ in range(2):
        optimiser.zero_grad()
        torch.stack(list(losses(learner).values())).sum().backward()
        optimiser.step()
    assert not teacher.training
    assert all(x.grad is None and not x.requires_grad for x in teacher.parameters())
    assert all(torch.equal(x, before[0][name]) for name, x in state(teacher).items())
    for model, old in ((student, before[1]), (learner.adapters, before[2])):
        assert any(not torch.equal(x, old[name]) for name, x in state(model).items())
    assert not {id(x) for x in learner.parameters()} & {id(x) for x in teacher.parameters()}


def test_the_taught_network_is_moved_by_either_distillation_loss() -> None:
    for name in ("distill_features", "distill_scores"):
        learner = distiller("retinanet", "frs")
        losses(learner)[name].backward()
        body = learner.student.backbone
        assert any(x.grad is not None and x.grad.abs().sum() > 0 for x in body.parameters())


def test_a_distiller_can_be_saved_without_its_teacher() -> None:
    learner = distiller("fcos", "frs")
    names = set(learner.state_dict())
    assert {name.partition(".")[0] for name in names} == {"student", "adapters"}
    again = distiller("fcos", "frs")
    again.load_state_dict(learner.state_dict())
    assert values(losses(again)) == values(losses(learner))


def test_a_student_can_be_used_alone_after_it() -> None:
    learner = distiller("retinanet", "frs")
    losses(learner)
    found = copy.deepcopy(pair("retinanet")[1])
    found.load_state_dict(learner.student.state_dict())
    images = batch()[0]
    with torch.no_grad():
        wanted, same = (model.eval()(images) for model in (learner.student, found))
    for a, b in zip(wanted, same, strict=True):
        torch.testing.assert_close(a["boxes"], b["boxes"])


class Fewer(torch.nn.Module):
    """A pyramid without its coarsest level."""

    def __init__(self, whole: Any) -> None:
        super().__init__()
        self.whole, self.out_channels = whole, whole.out_channels

    def forward(self, image: torch.Tensor) -> Any:
        return OrderedDict(list(self.whole(image).items())[:-1])


def refused(teacher: Any, student: Any, error: type[Exception], loss: str = "frs") -> str:
    with pytest.raises(error) as caught:
        Distiller(teacher, student, loss)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_cannot_be_taught() -> None:
    teacher, student = pair("retinanet")
    assert "loss 'l1' is not one of none, mse, frs" in refused(teacher, student, InputError, "l1")
    line = refused(pair("fasterrcnn")[0], student, ModelError)
    assert "a RetinaNet cannot learn from a FasterRCNN" in line
    ssd = build_small("ssd", CONFIG, 0.5)
    assert "SSD cannot be distilled" in refused(ssd, ssd, ModelError)
    other = TinyConfig("small", CONFIG.classes, SIZE, mean=(1.0, 2.0, 3.0))
    line = refused(teacher, build("retinanet", 0, 0.25, other), InputError)
    assert "normalise pictures differently" in line
    student.backbone = Fewer(student.backbone)
    assert "student has levels ['p3', 'p4', 'p5']" in refused(teacher, student, ModelError)


@pytest.mark.parametrize("kind", ["retinanet", "fcos"])
def test_scores_of_other_classes_cannot_be_taught(kind: str) -> None:
    more = TinyConfig("small", (*CONFIG.classes, "d"), SIZE)
    with pytest.raises((InputError, ModelError), match="class"):
        Distiller(build(kind, 0, 0.5, more), pair(kind)[1], "frs")


@pytest.fixture
def pictures(tmp_path: Path) -> list[str]:
    """Flags of a small data set for the script."""
    pytest.importorskip("faster_coco_eval", reason="needs fpcodec[bench]")
    from fpcodec.data import write_coco

    data = write_coco(tmp_path / "data", range(3))
    return ["--data", str(data), "--images", str(tmp_path / "data" / "images"), "--size", "96x64"]


class Stopped(Exception):
    """Ends a run as a signal would, in this process."""


def train(script: ModuleType, monkeypatch: pytest.MonkeyPatch, *flags: object) -> None:
    arguments = ["train_student.py", "--batch", "1", "--kind", "retinanet", *map(str, flags)]
    monkeypatch.setattr(sys, "argv", arguments)
    script.main()


def stop_at(script: ModuleType, patch: pytest.MonkeyPatch, last: int) -> None:
    keep = script.keep

    def stopping(*arguments: Any) -> None:
        keep(*arguments)
        if arguments[4] == last:
            raise Stopped

    patch.setattr(script, "keep", stopping)


def test_the_script_trains_teacher_and_student(
    student_script: ModuleType, pictures: list[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    teacher = tmp_path / "teacher"
    flags = [*pictures, "--save-minutes", 0]
    train(student_script, monkeypatch, *flags, "--steps", 1, "--width", 0.5, "--out", teacher)
    taught = [*flags, "--steps", 3, "--width", 0.25, "--teacher", teacher, "--loss", "frs"]
    train(student_script, monkeypatch, *taught, "--out", tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_at(student_script, patch, 2)
        with pytest.raises(Stopped):
            train(student_script, patch, *taught, "--out", tmp_path / "parts")
    assert not (tmp_path / "parts" / "card.json").exists()
    train(student_script, monkeypatch, *taught, "--out", tmp_path / "parts")

    # Killed and called again, it ends as if nothing had happened.
    whole, parts = (load_small(tmp_path / name)[0].state_dict() for name in ("whole", "parts"))
    assert all(torch.equal(x, parts[name]) for name, x in whole.items())
    card = json.loads((tmp_path / "parts" / "card.json").read_text())
    assert (card["kind"], card["width"]) == ("retinanet", 0.25)
    facts = json.loads((tmp_path / "parts" / "training.json").read_text())
    assert (facts["steps"], facts["loss"], facts["teacher"]) == (3, "frs", str(teacher))
    # What it is for is what its teacher is for.
    assert load_small(tmp_path / "parts")[1] == load_small(teacher)[1]
    assert load_small(teacher)[1].size == SIZE


def test_the_script_trains_on_generated_scenes(
    student_script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(student_script, monkeypatch, "--steps", 2, "--width", 0.25, "--out", tmp_path / "new")
    assert load_small(tmp_path / "new")[1] == TinyConfig()
    facts = json.loads((tmp_path / "new" / "training.json").read_text())
    assert (facts["steps"], facts["batch"], facts["teacher"]) == (2, 1, None)


def test_the_benchmark_compares_a_student_with_its_teacher(
    student_script: ModuleType, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("faster_coco_eval", reason="needs fpcodec[bench]")
    if not (repository / "benchmarks").is_dir():
        pytest.skip("benchmarks/ is not part of an installed package")
    from fpcodec.data import write_coco

    monkeypatch.syspath_prepend(str(repository / "benchmarks"))
    benchmark = importlib.import_module("distilled")
    data = write_coco(tmp_path / "data", range(3))
    student, out = tmp_path / "student", tmp_path / "results" / "rows.json"
    twin = shutil.copytree(TINY_FOLDER, tmp_path / "twin")
    (twin / "training.json").write_text("{}")
    train(student_script, monkeypatch, "--steps", 1, "--width", 0.5, "--out", student)
    flags = ["--images", str(tmp_path / "data" / "images"), "--annotations", str(data),
             "--out", str(out)]  # fmt: skip
    names = ["--detector", "teacher=tiny", "--detector", f"student=small:{student}"]
    benchmark.main([*flags, *names, "--detector", f"twin=small:{twin}", "--base", "student"])
    rows = json.loads(out.read_text())
    assert [row["name"] for row in rows] == ["teacher", "student", "twin"]
    teacher, taught, same = rows
    assert all(row["images"] == 3 and row["environment"]["command"] for row in rows)
    assert {"value", "low", "high"} <= set(teacher["drop"]) == set(teacher["gain"])
    assert teacher["drop"]["value"] == taught["gain"]["value"] == 0
    assert teacher["ap"]["ap"] > 20 > taught["ap"]["ap"]
    assert taught["drop"]["value"] == pytest.approx(teacher["gain"]["value"])
    assert taught["drop"]["low"] <= taught["drop"]["value"] <= taught["drop"]["high"]
    # The same network in torch finds the same, and costs the same.
    assert same["ap"]["ap"] == pytest.approx(teacher["ap"]["ap"], abs=0.5)
    assert same["edge_macs"] == pytest.approx(teacher["edge_macs"], rel=0.1)
    assert taught["training"]["steps"] == 1
    with pytest.raises(InputError, match="--base nobody is none of teacher"):
        benchmark.main([*flags, "--detector", "teacher=tiny", "--base", "nobody"])
