"""Export: the profile does what the network does, or is not written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the torch extra")
pytest.importorskip("torchvision", reason="needs the torch extra")

from core_kit import SPEC, kit_profile, make_pyramid  # noqa: E402

from fpcodec.errors import InputError, ModelError  # noqa: E402
from fpcodec.profile import Profile  # noqa: E402
from fpcodec.training import export  # noqa: E402
from fpcodec.training.initial import initial_network  # noqa: E402
from fpcodec.training.network import LearnedNetwork  # noqa: E402

PYRAMIDS = [make_pyramid(seed) for seed in range(4)]


@pytest.fixture
def network() -> LearnedNetwork:
    """A network that left the closed form: every weight a little off, thresholds out of order."""
    torch.manual_seed(0)
    found = initial_network(SPEC, kit_profile("pca").codec.tensors)
    with torch.no_grad():
        for values in found.parameters():
            values += 0.05 * torch.randn_like(values)
        for threshold in found.quantiser.threshold.values():
            threshold -= 3.0
            threshold[::2] = threshold[::2].flip(1)
    return found


def test_the_profile_does_what_the_network_does(network: LearnedNetwork, tmp_path: Path) -> None:
    before = {name: values.clone() for name, values in network.state_dict().items()}
    profile = export.export_profile(network, kit_profile("pca"), PYRAMIDS, tmp_path / "out")
    pyramid, quality = make_pyramid(9), torch.tensor([160 / 255])
    features = {x: torch.from_numpy(pyramid.levels[x])[None] for x in SPEC.coded_names}
    present = {x: torch.ones(1, 1, 1, 1) for x in SPEC.coded_names}
    with torch.no_grad():
        wanted, _, _ = network.eval()(features, quality, present)
    codec = Profile.load(tmp_path / "out").codec
    decoded = codec.decode(codec.encode(pyramid, 160 / 255))
    assert max(int(x.max()) for x in decoded.step_maps.values()) == 2
    found = codec.reconstruct([decoded], [pyramid.geometry])[0]
    for name, levels in wanted.items():
        np.testing.assert_allclose(found.levels[name], levels[0].numpy(), rtol=1e-3, atol=1e-3)
    assert profile.labels == kit_profile("pca").labels
    assert all(torch.equal(before[name], x) for name, x in network.state_dict().items())


@pytest.mark.parametrize("tensor", ["steps", "gains", "thresholds"])
def test_a_profile_that_codes_otherwise_is_not_written(
    tensor: str, network: LearnedNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = export.codec_tensors

    def wrong(given: LearnedNetwork) -> dict[str, Any]:
        found = usual(given)
        return {k: v * 1.3 if k.endswith(tensor) else v for k, v in found.items()}

    monkeypatch.setattr(export, "codec_tensors", wrong)
    with pytest.raises(ModelError, match="nothing was written"):
        export.export_profile(network, kit_profile("pca"), PYRAMIDS, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_exported(network: LearnedNetwork, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least one"):
        export.export_profile(network, kit_profile("pca"), [], tmp_path / "out")
    network.channels = (8, 8, 16)
    with pytest.raises(InputError, match="other levels"):
        export.export_profile(network, kit_profile("pca"), PYRAMIDS, tmp_path / "out")
