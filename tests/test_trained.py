"""Going on from a learned profile: the network comes back as it was exported."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install fpcodec[torch]")
pytest.importorskip("torchvision", reason="needs the torch extra")

from core_kit import kit_profile, make_pyramid  # noqa: E402
from training_kit import Recorder, run_training, settings, write_images  # noqa: E402

from fpcodec.codecs.learned import LearnedCodec  # noqa: E402
from fpcodec.errors import InputError, ModelError, ProfileError  # noqa: E402
from fpcodec.profile import Profile  # noqa: E402
from fpcodec.training.trained import trained_network  # noqa: E402


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def first(images: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with its profile."""
    folder = tmp_path_factory.mktemp("first")
    run_training(folder, images, settings(steps=6, learning_rate=1e-2, frozen_steps=0))
    return folder


def test_the_network_is_the_one_that_was_exported(first: Path) -> None:
    averaged = torch.load(first / "run" / "checkpoint.pt", weights_only=True)["average"]
    codec = Profile.load(first / "profile").codec
    assert isinstance(codec, LearnedCodec)
    found = trained_network(codec).state_dict()
    assert found.keys() == averaged.keys()
    for name, values in averaged.items():
        if name.startswith("quantiser.threshold"):
            values = values.sort(dim=1).values
        if not name.startswith("rate."):
            torch.testing.assert_close(found[name], values, atol=1e-4, rtol=1e-4)


def test_training_goes_on_from_a_learned_profile(
    first: Path, images: list[Path], tmp_path: Path
) -> None:
    start, watcher = Profile.load(first / "profile"), Recorder()
    still = settings(steps=1, learning_rate=1e-9)
    profile = run_training(tmp_path, images, still, start=start, watcher=watcher).profile
    pyramid = make_pyramid(3)
    before = start.codec.decode(start.codec.encode(pyramid, 0.5))
    after = profile.codec.decode(profile.codec.encode(pyramid, 0.5))
    for name, symbols in before.symbols.items():
        size = min(len(symbols), len(after.symbols[name]))
        differing = np.count_nonzero(symbols[:size] != after.symbols[name][:size])
        assert differing <= 0.02 * symbols.size


def test_a_start_whose_graph_is_another_versions_is_refused(
    first: Path, images: list[Path], tmp_path: Path
) -> None:
    import onnx

    start = Profile.load(first / "profile").save(tmp_path / "start")
    path = tmp_path / "start" / "synthesis.onnx"
    model = onnx.load(path)
    for weights in model.graph.initializer:
        if weights.name.startswith("synthesis.stand_in"):
            weights.name += "_old"
    onnx.save(model, path)
    assert isinstance(start.codec, LearnedCodec)
    codec = LearnedCodec(start.spec, start.codec.tensors, tmp_path / "start")
    with pytest.raises(ProfileError, match="start from the pca profile"):
        trained_network(codec)


def test_a_damaged_graph_is_named(first: Path, tmp_path: Path) -> None:
    codec = Profile.load(first / "profile").save(tmp_path / "start").codec
    assert isinstance(codec, LearnedCodec)
    path = tmp_path / "start" / "synthesis.onnx"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ModelError, match=r"synthesis\.onnx: not an ONNX model"):
        trained_network(codec)


def test_a_profile_of_another_codec_is_no_start(images: list[Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a pca or learned profile of this detector"):
        run_training(tmp_path, images, start=kit_profile("uniform"))
