"""A thin body: whole pictures, and a start as a small detector's backbone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the torch extra")
pytest.importorskip("torchvision", reason="needs the torch extra")

from safetensors.torch import save_file  # noqa: E402

from fpcodec.detectors.small_family import build_small  # noqa: E402
from fpcodec.detectors.tiny import TinyConfig  # noqa: E402
from fpcodec.distill.settings import DistillConfig  # noqa: E402
from fpcodec.distill.thin_body import ThinBody  # noqa: E402
from fpcodec.errors import InputError, ModelError  # noqa: E402
from fpcodec.pyramid import LevelSpec, PyramidSpec  # noqa: E402

CONFIG = TinyConfig("small", ("a", "b"), (96, 64))
SPEC = PyramidSpec(tuple(LevelSpec(f"p{n}", 2**n, 8) for n in (2, 3, 4, 5)))
WIDTH = 0.5


def write(kind: str, width: float, folder: Path) -> torch.nn.Module:
    """A folder as ``scripts/train_student.py`` writes it; the detector in it."""
    torch.manual_seed(0)
    model = build_small(kind, CONFIG, width).eval()
    weights = {name: x.contiguous() for name, x in model.state_dict().items()}
    save_file(weights, folder / "weights.safetensors")
    card = {**CONFIG.to_card(), "kind": kind, "width": width}
    (folder / "card.json").write_text(json.dumps(card))
    return model


def test_a_body_as_wide_sees_what_the_detector_sees(tmp_path: Path) -> None:
    model = write("fasterrcnn", 0.5, tmp_path)
    body = ThinBody(SPEC, 0.5).eval()
    body.begin_as(str(tmp_path))
    image = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        wanted = model.get_submodule("backbone")(image)
        found = body(image)
    assert len(found) == len(body.names) == 4
    for name, level in zip(body.names, found, strict=True):
        assert torch.equal(level, wanted[name])


@pytest.mark.parametrize("kind", ["fasterrcnn", "retinanet"])
def test_a_narrower_body_takes_the_first_channels(kind: str, tmp_path: Path) -> None:
    model = write(kind, 0.5, tmp_path)
    body = ThinBody(SPEC, 0.375)
    body.begin_as(str(tmp_path))
    prefix = "backbone." if kind == "fasterrcnn" else "backbone.body."
    theirs = model.state_dict()[f"{prefix}stages.0.first.0.weight"]
    ours = body.network.state_dict()["stages.0.first.0.weight"]
    assert torch.equal(ours, theirs[: len(ours), : ours.shape[1]])
    assert len(ours) < len(theirs)


def test_a_wider_body_cannot_begin_as_a_narrower_detector(tmp_path: Path) -> None:
    write("fasterrcnn", 0.25, tmp_path)
    with pytest.raises(InputError, match="lower --macs-share or start from a wider"):
        ThinBody(SPEC, 0.5).begin_as(str(tmp_path))


def test_a_start_that_is_no_detector(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"card\.json"):
        ThinBody(SPEC, 0.5).begin_as(str(tmp_path))


def test_a_small_picture_begins_as_the_detector_itself() -> None:
    with pytest.raises(InputError, match="leave the start out"):
        DistillConfig(body="small-picture", start="folder")
