"""The inverter: shapes, what it can learn, and a run that is stopped and goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the train extra")

import torch
from safetensors.torch import load_file
from script_kit import script_fixture
from training_kit import write_images

from fpcodec.data import generate_scene
from fpcodec.embedded import embedded_folder
from fpcodec.errors import InputError
from fpcodec.evaluation.privacy.inverter import Inverter, InverterConfig, recover
from fpcodec.evaluation.privacy.inverter_files import read_inverter, write_inverter
from fpcodec.evaluation.privacy.received import ReceivedPyramids
from fpcodec.profile import Profile
from fpcodec.pyramid import LevelSpec, PyramidSpec

QUALITY = 0.5
LEVELS = {"p3": 4, "p4": 6, "p5": 8}

script = script_fixture("train_inverter")


@pytest.fixture(scope="module")
def profile() -> Profile:
    return Profile.load(embedded_folder("tiny"))


@pytest.mark.parametrize("pixel", [1, 2, 4])
def test_a_picture_has_the_size_that_the_strides_say(pixel: int) -> None:
    model = Inverter(InverterConfig(2, LEVELS, 8, pixel, width=16, blocks=1))
    features = {
        name: torch.randn(3, channels, 12 >> i, 20 >> i)
        for i, (name, channels) in enumerate(LEVELS.items())
    }
    picture = model(features, torch.tensor([0, 1, 1]))
    assert picture.shape == (3, 3, 12 * 8 // pixel, 20 * 8 // pixel)


def test_rates_are_told_apart_once_they_are_learned() -> None:
    model = Inverter(InverterConfig(2, LEVELS, width=16, blocks=1))
    features = {
        name: torch.randn(1, channels, 8 >> i, 8 >> i)
        for i, (name, channels) in enumerate(LEVELS.items())
    }
    first, second = (model(features, torch.tensor([rate])) for rate in (0, 1))
    assert torch.equal(first, second)
    torch.nn.init.normal_(model.trust["p4"].weight)
    first, second = (model(features, torch.tensor([rate])) for rate in (0, 1))
    assert not torch.equal(first, second)


def test_pyramids_and_pixels_it_cannot_be_built_for_are_refused() -> None:
    spec = PyramidSpec((LevelSpec("p3", 8, 4), LevelSpec("p5", 32, 4)))
    with pytest.raises(InputError, match="do not double"):
        InverterConfig.of(spec, 1)
    spec = PyramidSpec((LevelSpec("p3", 8, 4), LevelSpec("p4", 16, 4)))
    for pixel in (0, 3, 8):
        with pytest.raises(InputError, match="power of two"):
            InverterConfig.of(spec, 1, pixel=pixel)


def test_what_arrives_is_what_the_server_decodes(profile: Profile) -> None:
    image = generate_scene(3).image
    uncoded, nothing = ReceivedPyramids(profile, None, 1).receive(image)
    coarse, few_bytes = ReceivedPyramids(profile, 0.1, 1).receive(image)
    fine, many_bytes = ReceivedPyramids(profile, 0.9, 1).receive(image)
    assert nothing is None
    assert 0 < few_bytes < many_bytes

    def error(pyramid: Any) -> float:
        return sum(float(np.abs(pyramid.levels[x] - y).sum()) for x, y in uncoded.levels.items())

    assert error(fine) < error(coarse)


def test_it_learns_to_show_a_picture_by_its_features(profile: Profile, script: ModuleType) -> None:
    """One scene by heart, and not the same whatever arrives."""
    torch.manual_seed(0)
    source = ReceivedPyramids(profile, None, 1)
    pyramid = source.extract(generate_scene(3).image)
    config = InverterConfig.of(source.spec, 1, pixel=2, width=16, blocks=1)
    model = Inverter(config)
    features = {x: torch.from_numpy(pyramid.levels[x])[None] for x in config.levels}
    rate = torch.zeros(1, dtype=torch.long)
    target = torch.rand(1, 3, 5, 5).repeat_interleave(32, 2).repeat_interleave(32, 3)
    mask = torch.ones(1, 1, 160, 160)
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    losses = []
    for _ in range(60):
        loss = script.difference(model(features, rate), target, mask, 0.3)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    shown = recover(model.eval(), pyramid, 0)
    assert shown.shape == (320, 320, 3)
    assert shown.dtype == np.uint8
    other = recover(model, source.extract(generate_scene(4).image), 0)
    assert (other != shown).any()


def test_padding_is_not_learned(script: ModuleType) -> None:
    picture, mask = torch.rand(1, 3, 64, 64), torch.ones(1, 1, 64, 64)
    mask[:, :, 32:] = 0
    wrong = picture.clone()
    wrong[:, :, 32:] = 0
    assert script.difference(wrong, picture, mask, 0.3).item() == pytest.approx(0, abs=1e-6)
    wrong[:, :, :32] = 0
    assert script.difference(wrong, picture, mask, 0.3).item() > 0.1


@pytest.fixture
def run(script: ModuleType, tmp_path: Path) -> Callable[..., Path]:
    """A run of a few steps on generated scenes."""
    write_images(tmp_path / "scenes", 4)

    def go(name: str, steps: int = 4, stop_after: int | None = None, **changes: Any) -> Path:
        settings = script.Settings(**{
            "profile": embedded_folder("tiny"), "images": tmp_path / "scenes",
            "quality": (QUALITY,), "steps": steps, "stop_after": stop_after, "batch": 2,
            "lr": 1e-3, "pixel": 2, "width": 16, "blocks": 1, "structure": 0.3, "seed": 0,
            "bfloat16": False, "threads": 1, "cache": tmp_path / "cache", "save_minutes": 9.0,
            "out": tmp_path / name, **changes,
        })  # fmt: skip
        script.train(settings)
        return settings.out

    return go


def test_a_run_that_is_stopped_ends_with_the_same_bits(run: Callable[..., Path]) -> None:
    whole = run("whole")
    run("parts", stop_after=2)
    facts = json.loads((whole.parent / "parts" / "training.json").read_text())
    assert facts["steps_done"] == 2
    parts = run("parts")
    mine, theirs = (load_file(x / "weights.safetensors") for x in (parts, whole))
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        assert torch.equal(tensor, theirs[name]), name


def test_a_run_of_other_settings_does_not_go_on(run: Callable[..., Path]) -> None:
    run("some", stop_after=1)
    with pytest.raises(InputError, match="other settings"):
        run("some", seed=1)


def test_one_picture_is_too_few(run: Callable[..., Path], tmp_path: Path) -> None:
    write_images(tmp_path / "one", 1)
    with pytest.raises(InputError, match="1 pictures"):
        run("none", images=tmp_path / "one")


def test_an_inverter_is_read_as_it_was_written(tmp_path: Path) -> None:
    model = Inverter(InverterConfig(2, LEVELS, width=16, blocks=1))
    write_inverter(model, (QUALITY,), tmp_path)
    again, qualities = read_inverter(tmp_path)
    assert qualities == (QUALITY, None)
    assert again.config == model.config
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name])


@pytest.mark.parametrize("damage", ["absent", "card", "weights"])
def test_a_folder_without_a_whole_inverter_is_refused(damage: str, tmp_path: Path) -> None:
    if damage != "absent":
        write_inverter(Inverter(InverterConfig(1, LEVELS, width=16, blocks=1)), (), tmp_path)
        name = "inverter.json" if damage == "card" else "weights.safetensors"
        (tmp_path / name).write_bytes(b"{}")
    with pytest.raises(InputError, match="train_inverter"):
        read_inverter(tmp_path)
