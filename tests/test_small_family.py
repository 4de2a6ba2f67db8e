"""The small detectors of studies: each kind builds, learns, detects and can be loaded again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the torch extra")
pytest.importorskip("torchvision", reason="needs the torch extra")

from safetensors.torch import save_file  # noqa: E402

from fpcodec.data import CLASS_NAMES, generate_scene  # noqa: E402
from fpcodec.detectors.factory import open_detector  # noqa: E402
from fpcodec.detectors.small_family import KINDS, build_small, load_small  # noqa: E402
from fpcodec.detectors.tiny import TinyConfig  # noqa: E402
from fpcodec.errors import InputError, ModelError  # noqa: E402

CONFIG = TinyConfig("small", ("a", "b", "c"), (96, 64), mean=(90.0, 100.0, 110.0))
WIDTH = 0.5


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small networks run fastest so, and always alike."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def build(kind: str, width: float = WIDTH) -> Any:
    torch.manual_seed(0)
    return build_small(kind, CONFIG, width)


def pictures(count: int = 2) -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(1)
    return [255 * torch.rand(3, 64, 96, generator=random) for _ in range(count)]


def write(model: Any, folder: Path, **card: Any) -> Path:
    """A folder as ``scripts/train_student.py`` writes it."""
    folder.mkdir(exist_ok=True)
    weights = {name: x.contiguous() for name, x in model.state_dict().items()}
    save_file(weights, folder / "weights.safetensors")
    (folder / "card.json").write_text(json.dumps({**CONFIG.to_card(), **card}))
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_one_step_moves_every_part(kind: str) -> None:
    model = build(kind).train()
    boxes = torch.tensor([[10.0, 10.0, 50.0, 60.0]])
    targets = [{"boxes": boxes, "labels": torch.tensor([label])} for label in (1, 3)]
    losses = model(pictures(), targets)
    total = torch.stack(list(losses.values())).sum()
    total.backward()
    assert torch.isfinite(total)
    assert all(torch.isfinite(x.grad).all() for x in model.parameters() if x.grad is not None)
    silent = {name for name, x in model.named_parameters() if x.grad is None}
    # The finest level belongs to Faster R-CNN alone.
    assert silent == {x for x in silent if "body.outputs.0" in x or "body.laterals.0" in x}
    assert bool(silent) is (kind != "fasterrcnn")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_detects_and_comes_back_from_its_files(kind: str, tmp_path: Path) -> None:
    model = build(kind).eval()
    folder = write(model, tmp_path / "new", kind=kind, width=WIDTH)
    loaded, config = load_small(folder)
    assert config == CONFIG
    assert not loaded.training
    for found in (model, loaded):
        # New RetinaNets and FCOS's are sure of nothing.
        found.score_thresh = 0.0
    with torch.no_grad():
        wanted, same = model(pictures()), loaded(pictures())
    for a, b in zip(wanted, same, strict=True):
        assert 0 < len(a["boxes"]) <= 100
        assert set(a["labels"].tolist()) <= {0, 1, 2, 3}
        assert (a["boxes"] >= 0).all()
        assert (a["boxes"] <= torch.tensor([96.0, 64.0] * 2)).all()
        assert all(torch.equal(a[name], b[name]) for name in ("boxes", "scores", "labels"))


@pytest.mark.parametrize("kind", KINDS)
def test_less_width_is_a_smaller_network(kind: str) -> None:
    narrow, wide = (
        sum(x.numel() for x in build(kind, width).backbone.parameters()) for width in (0.5, 1.0)
    )
    assert 0.2 * wide < narrow < 0.3 * wide


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", [0.25, 0.75])
def test_every_kind_has_other_widths(kind: str, width: float) -> None:
    with torch.no_grad():
        assert len(build(kind, width).eval()(pictures(1))) == 1


@pytest.mark.parametrize("source", ["tiny", "tiny:bccd"])
def test_embedded_detectors_are_of_the_family(source: str) -> None:
    model, config = load_small(source)
    assert not model.training
    if source == "tiny":
        assert config.classes == CLASS_NAMES
        image = generate_scene(3).image
        graphs = open_detector("tiny", threads=1)
        wanted = graphs.detect(graphs.extract(image))
        with torch.no_grad():
            found = model([torch.from_numpy(image.copy()).permute(2, 0, 1).float()])[0]
        assert len(wanted) == len(found["boxes"]) > 0
        np.testing.assert_allclose(found["scores"].numpy(), wanted.scores, atol=1e-3)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(InputError, match="'yolo' is not one of fasterrcnn, retinanet, fcos, ssd"):
        build_small("yolo", CONFIG)


def refused(folder: Path | str) -> str:
    with pytest.raises(ModelError) as caught:
        load_small(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_folders_that_hold_no_detector(tmp_path: Path) -> None:
    assert "nowhere" in refused(tmp_path / "nowhere")
    assert "nothing" in refused("tiny:nothing")
    (tmp_path / "card.json").write_text("[]")
    assert "not a detector's card" in refused(tmp_path)
    (tmp_path / "card.json").write_text(json.dumps(CONFIG.to_card()))
    assert "not a small detector's weights" in refused(tmp_path)
    (tmp_path / "weights.safetensors").write_bytes(b"nothing of the kind")
    assert "not a small detector's weights" in refused(tmp_path)


def test_weights_of_another_network(tmp_path: Path) -> None:
    model = build("retinanet")
    for number, card in enumerate(
        [{"kind": "fcos", "width": WIDTH}, {"kind": "retinanet", "width": 1}, {"width": WIDTH}]
    ):
        folder = write(model, tmp_path / str(number), **card)
        assert "not a small detector's weights" in refused(folder)


@pytest.mark.parametrize(
    "card", [{"kind": "yolo"}, {"kind": None}, {"width": "wide"}, {"width": None}, {"width": -1}]
)
def test_cards_that_name_no_network(card: dict[str, Any], tmp_path: Path) -> None:
    refused(write(build("ssd"), tmp_path / "new", **{"kind": "ssd", "width": WIDTH, **card}))
