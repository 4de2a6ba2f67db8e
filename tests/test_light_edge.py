"""A light edge: small enough, what it learns, what is written, and a run that was killed."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the torch extra")
pytest.importorskip("torchvision", reason="needs the torch extra")
pytest.importorskip("onnx2torch", reason="needs the torch extra")

from onnx_kit import LEVELS, write_model  # noqa: E402
from training_kit import KillAt, Killed, Recorder, write_images  # noqa: E402

from fpcodec.detectors import torch_export  # noqa: E402
from fpcodec.detectors.factory import TINY_FOLDER, open_detector  # noqa: E402
from fpcodec.detectors.onnx import OnnxDetector  # noqa: E402
from fpcodec.distill.export import write_light_detector  # noqa: E402
from fpcodec.distill.fitting import fit_light_edge, fit_thin_edge, torch_macs  # noqa: E402
from fpcodec.distill.least_squares import LeastSquares  # noqa: E402
from fpcodec.distill.light_edge import (  # noqa: E402
    LightEdge,
    LightEdgeConfig,
    cut_light_edge,
)
from fpcodec.distill.run import Distilled, distill  # noqa: E402
from fpcodec.distill.settings import DistillConfig  # noqa: E402
from fpcodec.distill.thin_body import ThinBody  # noqa: E402
from fpcodec.errors import InputError, ModelError  # noqa: E402
from fpcodec.files import file_sha256  # noqa: E402
from fpcodec.images import load_image  # noqa: E402
from fpcodec.pyramid import LevelSpec, PyramidSpec  # noqa: E402
from fpcodec.training.settings import RunConfig  # noqa: E402

SIZE = (96, 96)
HELD_OUT = 2


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small networks run fastest so, and always alike."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Six generated scenes."""
    return write_images(tmp_path_factory.mktemp("images"), 6)


def onnx_detector(spec: str) -> OnnxDetector:
    opened = open_detector(spec, threads=1)
    assert isinstance(opened, OnnxDetector)
    return opened


@pytest.fixture(scope="module")
def tiny() -> OnnxDetector:
    """The embedded detector."""
    return onnx_detector("tiny")


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> OnnxDetector:
    """Three levels and YOLOX's output, 64 pixels a side."""
    model = write_model(tmp_path_factory.mktemp("toy") / "toy.onnx")
    query = "&".join(f"{level}={tensor}" for level, tensor in LEVELS.items())
    return onnx_detector(f"onnx:{model}?{query}&decode=yolox&labels=a,b,c")


def settings(**changes: Any) -> DistillConfig:
    """A run of a few steps."""
    short = {"size": SIZE, "steps": 4, "batch": 2, "loss": "mse", "held_out": HELD_OUT,
             "start_views": 2, "warm_steps": 2}  # fmt: skip
    return DistillConfig(**{**short, **changes})


def teach(
    detector: OnnxDetector,
    images: list[Path],
    folder: Path,
    config: DistillConfig | None = None,
    watcher: Recorder | None = None,
    **run: Any,
) -> Distilled:
    """Distil in ``folder/run`` and write ``folder/light``."""
    place = {"checkpoint_minutes": 0.0, "measure_steps": 0, "device": "cpu", **run}
    return distill(
        detector, images, folder / "light", config or settings(),
        RunConfig(folder / "run", **place), watcher=watcher,
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(
    tiny: OnnxDetector, images: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A finished run for ``tiny``."""
    found = tmp_path_factory.mktemp("finished")
    teach(tiny, images, found, settings(loss="frs"))
    return found


def weights(folder: Path) -> dict[str, np.ndarray]:
    """The trained and the averaged weights of the last checkpoint of ``folder/run``."""
    found = torch.load(folder / "run" / "checkpoint.pt", weights_only=True)
    return {
        f"{kind}.{name}": values.detach().numpy()
        for kind in ("network", "average")
        for name, values in found[kind].items()
    }


def named(student: LightEdge, image: torch.Tensor) -> dict[str, torch.Tensor]:
    """The levels of a network input."""
    with torch.no_grad():
        return dict(zip(student.names, student(image), strict=True))


def moved(student: LightEdge) -> LightEdge:
    """Every weight a little off where it began."""
    random = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for x in student.parameters():
            x += 0.05 * x.std(correction=0) * torch.randn(x.shape, generator=random)
    return student


@pytest.mark.parametrize("share", [0.1, 0.25, 0.6])
def test_a_light_edge_keeps_within_its_share(tiny: OnnxDetector, share: float) -> None:
    light = fit_light_edge(tiny, None, share)
    full = tiny.macs()
    assert full is not None
    # As much of it is used as whole multiples of 32 pixels allow.
    assert 0.4 * share * full < torch_macs(light, tiny.network_size) <= share * full
    assert all(side % 32 == 0 for side in light.config.size)


@pytest.mark.parametrize("share", [0.1, 0.25])
def test_a_thin_body_sees_the_whole_picture_for_its_share(tiny: OnnxDetector, share: float) -> None:
    light = fit_thin_edge(tiny, share)
    full = tiny.macs()
    assert full is not None
    assert 0.8 * share * full < torch_macs(light, tiny.network_size) <= share * full
    levels = named(light, torch.rand(1, 3, 320, 320))
    for name in tiny.spec.coded_names:
        assert tuple(levels[name].shape[1:]) == tiny.spec.shape(name, tiny.network_size)


def test_a_body_that_cannot_be_thin_enough(tiny: OnnxDetector) -> None:
    with pytest.raises(ModelError, match=r"no body is thin enough for 0\.0001"):
        fit_thin_edge(tiny, 0.0001)


def test_a_thin_body_has_no_levels_of_other_strides(tiny: OnnxDetector) -> None:
    other = PyramidSpec((LevelSpec("p1", 2, 8),))
    with pytest.raises(ModelError, match="no level of stride 2"):
        ThinBody(other, 0.5)


def test_torch_counts_what_the_full_graph_is_known_to_cost(
    tiny: OnnxDetector, folder: Path
) -> None:
    light = fit_light_edge(tiny, SIZE, 0.5)
    counted = onnx_detector(f"onnx:{folder / 'light'}").macs()
    assert torch_macs(light, tiny.network_size) == pytest.approx(counted, rel=0.1)


def test_a_light_edge_gives_every_coded_level(tiny: OnnxDetector) -> None:
    light = fit_light_edge(tiny, (128, 64), 0.5)
    image = torch.rand(2, 3, 320, 320)
    found = light(image)
    shapes = [tuple(x.shape) for x in found]
    wanted = [tiny.spec.shape(name, tiny.network_size) for name in tiny.spec.coded_names]
    assert shapes == [(2, *shape) for shape in wanted]
    sum(x.mean() for x in found).backward()
    silent = [name for name, x in light.named_parameters() if x.grad is None]
    assert silent == []


def test_no_size_is_small_enough(tiny: OnnxDetector) -> None:
    with pytest.raises(ModelError, match=r"no picture is small enough for 0\.0001"):
        fit_light_edge(tiny, None, 0.0001)


def test_sizes_that_see_nothing(toy: OnnxDetector) -> None:
    with pytest.raises(InputError, match="use 32 or more"):
        fit_light_edge(toy, (31, 64), 0.5)


def test_sizes_that_do_not_fit_the_strides_say_so_in_one_line(
    toy: OnnxDetector, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ModelError, match="does not run on 50 x 50 pixels") as caught:
        fit_light_edge(toy, (50, 50), 0.5)
    assert "\n" not in str(caught.value)
    # torch's own tracer prints a traceback.
    assert capfd.readouterr() == ("", "")


def test_a_light_edge_is_cut_out_of_a_traced_graph(toy: OnnxDetector) -> None:
    with pytest.raises(ModelError, match="traced graph"):
        cut_light_edge(torch.nn.Identity(), toy.spec, toy.network_size, LightEdgeConfig((32, 32)))


def noise(seed: int) -> torch.Tensor:
    """Two network inputs for ``toy``."""
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(seed))


def test_lifts_are_fitted_to_a_linear_relation(toy: OnnxDetector) -> None:
    wanted, fitted = (fit_light_edge(toy, (32, 32), 0.5) for _ in "ab")
    # The scale is not fitted, and what it can be multiplied by the mixes can.
    squares = LeastSquares(fitted, ridge=1e-9)
    for seed in (1, 2, 3, 4):
        levels = named(wanted, noise(seed))
        weights = {name: torch.rand_like(x[:, :1]) for name, x in levels.items()}
        # Where a weight is nothing, anything may stand.
        for name, x in levels.items():
            weights[name][..., 0] = 0
            x[..., 0] = 1e3
        squares.add(noise(seed), levels, weights)
    squares.solve()
    expected, found = named(wanted, noise(9)), named(fitted, noise(9))
    for name, values in expected.items():
        torch.testing.assert_close(found[name], values, rtol=1e-2, atol=1e-2)


def test_lifts_cannot_be_fitted_to_nothing(toy: OnnxDetector) -> None:
    with pytest.raises(ModelError, match="nothing was taken in"):
        LeastSquares(fit_light_edge(toy, (32, 32), 0.5)).solve()


@pytest.mark.parametrize(("which", "size"), [("tiny", SIZE), ("toy", (32, 32))])
def test_what_is_written_gives_what_was_trained(
    which: str, size: tuple[int, int], request: pytest.FixtureRequest, images: list[Path],
    tmp_path: Path,
) -> None:  # fmt: skip
    detector = request.getfixturevalue(which)
    student = moved(fit_light_edge(detector, size, 0.5))
    write_light_detector(student, detector, tmp_path, settings(size=size))
    light = onnx_detector(f"onnx:{tmp_path}")
    pyramid = light.extract(load_image(images[0]))
    tensor, geometry = detector.preprocess(load_image(images[0]))
    for name, wanted in named(student, torch.from_numpy(tensor)).items():
        limit = 1e-3 * max(1.0, float(wanted.abs().max()))
        np.testing.assert_allclose(pyramid.levels[name], wanted[0].numpy(), atol=limit)
    assert pyramid.geometry == geometry
    assert (light.spec, light.labels) == (detector.spec, detector.labels)
    assert len(light.detect(pyramid)) >= 0


def test_the_head_is_the_detectors_own(
    tiny: OnnxDetector, folder: Path, images: list[Path]
) -> None:
    light = onnx_detector(f"onnx:{folder / 'light'}")
    pyramid = tiny.extract(load_image(images[0]))
    wanted, found = tiny.detect(pyramid), light.detect(pyramid)
    assert len(found) > 0
    np.testing.assert_array_equal(found.boxes, wanted.boxes)
    assert light.server_macs == tiny.server_macs


def test_costs_are_counted_for_each_choice_of_levels(folder: Path) -> None:
    light = onnx_detector(f"onnx:{folder / 'light'}")
    costs = [light.macs(names) for names in (["p5"], ["p4", "p5"], None)]
    assert None not in costs
    assert costs == sorted(costs)  # type: ignore[type-var]
    described = json.loads((folder / "light" / "detector.json").read_text())
    assert described["light_edge"]["size"] == list(SIZE)
    assert described["light_edge"]["loss"] == "frs"
    assert described["light_edge"]["stands_for"]["edge.onnx"] == file_sha256(
        TINY_FOLDER / "edge.onnx"
    )


def test_the_summary_counts_what_happened(
    tiny: OnnxDetector, images: list[Path], tmp_path: Path
) -> None:
    watcher = Recorder()
    found = teach(tiny, images, tmp_path, settings(steps=2), watcher, measure_steps=1)
    assert (found.steps, found.images) == (2, len(images) - HELD_OUT)
    assert found.seconds > 0
    assert found.macs[1] == tiny.macs()
    assert 0 < found.macs[0] < 0.25 * found.macs[1]
    assert found.agreement is not None
    assert 0 <= found.agreement <= 1
    assert [note.partition(":")[0] for note in watcher.notes] == [
        "held out after step 1", "held out after step 2",
    ]  # fmt: skip
    assert found.detector.macs() == found.macs[0]


def test_without_held_out_images_there_is_no_agreement(
    toy: OnnxDetector, images: list[Path], tmp_path: Path
) -> None:
    config = settings(size=(32, 32), steps=1, held_out=0)
    found = teach(toy, images, tmp_path, config, measure_steps=1)
    assert found.agreement is None
    assert found.images == len(images)


@pytest.mark.parametrize(
    ("which", "changes"),
    [("tiny", {}), ("toy", {"loss": "frs", "size": (32, 32)}),
     ("tiny", {"body": "thin", "size": None, "macs_share": 0.05})],
)  # fmt: skip
def test_a_run_resumed_ends_with_the_same_weights(
    which: str, changes: dict[str, Any], images: list[Path], tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:  # fmt: skip
    detector = request.getfixturevalue(which)

    def run(name: str, watcher: Recorder) -> bytes:
        teach(detector, images, tmp_path / name, settings(**changes), watcher)
        return (tmp_path / name / "light" / "edge.onnx").read_bytes()

    whole = run("whole", Recorder())
    with pytest.raises(Killed):
        run("parts", KillAt(3))
    assert not (tmp_path / "parts" / "light").exists()
    watcher = Recorder()
    assert run("parts", watcher) == whole
    assert [report.step for report in watcher.steps] == [3, 4]
    assert watcher.notes == [f"going on from step 2 in {tmp_path / 'parts' / 'run'}"]
    a, b = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert a.keys() == b.keys()
    assert all(np.array_equal(a[name], b[name]) for name in a)


def test_a_finished_run_called_again_writes_the_same(
    toy: OnnxDetector, images: list[Path], tmp_path: Path
) -> None:
    config = settings(size=(32, 32), steps=2)
    teach(toy, images, tmp_path, config)
    path = tmp_path / "light" / "edge.onnx"
    before = path.read_bytes()
    path.unlink()
    watcher = Recorder()
    assert teach(toy, images, tmp_path, config, watcher).steps == 2
    assert watcher.steps == []
    assert path.read_bytes() == before


def test_distillation_lowers_the_loss(
    tiny: OnnxDetector, images: list[Path], tmp_path: Path
) -> None:
    def last(rate: float) -> float:
        watcher = Recorder()
        config = settings(steps=20, learning_rate=rate, warm_steps=0)
        teach(tiny, images, tmp_path / str(rate), config, watcher, checkpoint_minutes=9)
        return float(np.mean([report.loss for report in watcher.steps[-6:]]))

    # The same steps see the same views, whatever is learned.
    assert last(2e-2) < 0.92 * last(1e-9)


def test_a_checkpoint_of_another_run(
    toy: OnnxDetector, tiny: OnnxDetector, images: list[Path], tmp_path: Path
) -> None:
    short = {"size": (32, 32), "steps": 3}
    with pytest.raises(Killed):
        teach(toy, images, tmp_path, settings(**short), KillAt(2))
    with pytest.raises(InputError, match=r"other options \(seed 0 is now 1\)"):
        teach(toy, images, tmp_path, settings(**short, seed=1))
    with pytest.raises(InputError, match=r"other options .*size"):
        teach(toy, images, tmp_path, settings(steps=3, size=None))
    with pytest.raises(InputError, match="from another images"):
        teach(toy, images[1:], tmp_path, settings(**short))
    with pytest.raises(InputError, match="from another detector"):
        teach(tiny, images, tmp_path, settings(**short))


def test_too_few_images(toy: OnnxDetector, images: list[Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="2 images leave none to train on beside 2 held out"):
        teach(toy, images[:2], tmp_path)


def test_a_damaged_photograph_is_named(toy: OnnxDetector, tmp_path: Path) -> None:
    paths = write_images(tmp_path / "images", 4)
    for path in paths:
        path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(InputError, match=r"\d\d\.png: cannot be read"):
        teach(toy, paths, tmp_path, settings(size=(32, 32), held_out=0))


def test_a_loss_that_is_not_finite_keeps_the_last_checkpoint(
    toy: OnnxDetector, images: list[Path], tmp_path: Path
) -> None:
    config = settings(size=(32, 32), learning_rate=1e30)
    with pytest.raises(ModelError, match=r"not finite at step .*--learning-rate"):
        teach(toy, images, tmp_path, config)
    assert all(np.isfinite(x).all() for x in weights(tmp_path).values())


def test_an_edge_that_runs_otherwise_is_not_written(
    toy: OnnxDetector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = fit_light_edge(toy, (32, 32), 0.5)
    run = torch_export.run_session
    monkeypatch.setattr(
        torch_export, "run_session", lambda *a: {name: 1.1 * x for name, x in run(*a).items()}
    )
    with pytest.raises(ModelError, match="onnxruntime does not give what was trained"):
        write_light_detector(student, toy, tmp_path / "light", settings(size=(32, 32)))
    assert list((tmp_path / "light").iterdir()) == []


@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence:UserWarning")
def test_a_graph_that_asks_for_shapes_can_be_exported(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """onnx2torch exports some operators in a way of its own; a light edge's graph has them."""
    common = importlib.import_module("onnx2torch.utils.common")
    # What onnx2torch finds wherever torchvision was imported before it.
    shim = importlib.import_module("torch.onnx.symbolic_helper")
    monkeypatch.setattr(common, "symbolic_helper", shim)
    described = onnx_detector(f"onnx:{folder / 'light'}").config
    plain = {key: value for key, value in described.items() if key != "light_edge"}
    light = OnnxDetector(plain, folder / "light")
    student = fit_light_edge(light, (64, 64), 0.5)
    config = settings(size=(64, 64))
    again, _ = write_light_detector(student, light, tmp_path / "again", config)
    assert again.spec == light.spec


def test_a_light_edge_is_not_distilled_again(folder: Path) -> None:
    with pytest.raises(ModelError, match="light one already"):
        fit_light_edge(onnx_detector(f"onnx:{folder / 'light'}"), None, 0.2)


@pytest.mark.parametrize(
    "wrong",
    [{"loss": "l1"}, {"steps": 0}, {"batch": 0}, {"start_views": 0}, {"minutes": 0.0},
     {"minutes": float("nan")}, {"seed": -1}, {"held_out": -1}, {"warm_steps": -1},
     {"learning_rate": 0.0}, {"macs_share": 0.0}, {"macs_share": 1.0},
     {"macs_share": float("nan")}, {"body": "thick"}, {"body": "thin", "size": (64, 64)}],
)  # fmt: skip
def test_options_that_cannot_be_used(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        settings(**wrong)
