"""``fpcodec distill``: a folder that is a detector, and one line where there is none."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the torch extra")
pytest.importorskip("torchvision", reason="needs the torch extra")
pytest.importorskip("onnx2torch", reason="needs the torch extra")

from onnx_kit import LEVELS, write_model  # noqa: E402
from training_kit import write_images  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from fpcodec.cli.app import app  # noqa: E402
from fpcodec.data.coco_export import write_coco  # noqa: E402
from fpcodec.detectors.factory import TINY_FOLDER  # noqa: E402
from fpcodec.evaluation.results import read_rows  # noqa: E402
from fpcodec.profile import Profile, embedded_profile_path  # noqa: E402

SHORT = ("--steps", 3, "--batch", 2, "--held-out", 2, "--threads", 1, "--loss", "mse")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """``--threads`` lasts for the whole process."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Four generated scenes."""
    return write_images(tmp_path_factory.mktemp("images"), 4)


@pytest.fixture(scope="module")
def folder(images: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``light`` and what the command printed, ``report.json``."""
    found = tmp_path_factory.mktemp("distilled")
    result = distil(images, found / "light", *SHORT, "--json")
    assert result.exit_code == 0, result.stderr
    (found / "report.json").write_text(result.stdout)
    return found


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A detector of 64 pixels a side, which is taught faster."""
    model = write_model(tmp_path_factory.mktemp("toy") / "toy.onnx")
    query = "&".join(f"{level}={tensor}" for level, tensor in LEVELS.items())
    return f"onnx:{model}?{query}&decode=yolox"


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(x) for x in arguments])


def distil(images: list[Path], out: Path, *arguments: object) -> Any:
    """Distil ``tiny`` at 96 pixels a side unless told otherwise."""
    base = ["distill", "--detector", "tiny", "--images", images[0].parent, "--out", out]
    size = [] if "--size" in arguments or "--macs-share" in arguments else ["--size", "96x96"]
    return run(*base, *size, *arguments)


def refusal(images: list[Path], out: Path, *arguments: object) -> str:
    """The one line with which the command refuses."""
    result = distil(images, out, *arguments)
    assert result.exit_code == 2, (result.stdout, result.stderr)
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    return str(result.stderr)


def run_json(*arguments: object) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_the_command_writes_a_detector(folder: Path) -> None:
    report = json.loads((folder / "report.json").read_text())
    assert report["detector"] == str(folder / "light")
    assert (report["steps"], report["images"]) == (3, 2)
    assert 0 < report["edge_macs"] < 0.2 * report["full_edge_macs"]
    assert 0 <= report["agreement"] <= 1
    assert report["seconds"] > 0
    names = {x.name for x in (folder / "light").iterdir()}
    assert names == {"edge.onnx", "server.onnx", "detector.json"}
    server = (folder / "light" / "server.onnx").read_bytes()
    assert server == (TINY_FOLDER / "server.onnx").read_bytes()
    assert (folder / "light.training" / "checkpoint.pt").is_file()


def test_the_folder_is_calibrated_and_coded_with(
    folder: Path, images: list[Path], tmp_path: Path
) -> None:
    spec, profile = f"onnx:{folder / 'light'}", tmp_path / "profile"
    report = run_json(
        "calibrate", "--detector", spec, "--images", images[0].parent, "--out", profile,
        "--threads", 1,
    )  # fmt: skip
    assert report["images"] == len(images)
    Profile.load(profile).verify()
    encoded = run_json("encode", images[0], "--profile", profile, "--out", tmp_path, "-q", 1)
    answer = run_json("decode", encoded["frame"], "--profile", profile)
    assert set(answer["levels_used"]) == {"p2", "p3", "p4", "p5"}
    assert isinstance(answer["detections"], list)
    # What the profile carries is the light edge, not the full one.
    light = (folder / "light" / "edge.onnx").read_bytes()
    assert light in {x.read_bytes() for x in profile.rglob("*.onnx")}


def test_a_light_edge_is_measured_beside_the_full_one(folder: Path, tmp_path: Path) -> None:
    spec, profile, scenes = f"onnx:{folder / 'light'}", tmp_path / "light", tmp_path / "scenes"
    annotations = write_coco(scenes, range(2))
    run_json("calibrate", "--detector", spec, "--images", scenes / "images", "--out", profile)
    result = run(
        "bench", "rd", "--images", scenes / "images", "--annotations", annotations,
        "--profile", f"full={embedded_profile_path()}", "--profile", f"light={profile}",
        "--codecs", "fpc", "--no-parts", "-q", 1, "--workers", 1, "--draws", 200,
        "--out", tmp_path / "rows",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    rows = {x.name.split()[0]: x for x in read_rows(tmp_path / "rows") if x.kind == "features"}
    assert "light_edge" not in rows["full"].parameters
    assert rows["light"].parameters["light_edge"] is True
    full, light = (sum(rows[x].macs["edge"].values()) for x in ("full", "light"))
    assert light < full / 2


def test_a_share_of_the_work_may_be_asked_for(toy: str, images: list[Path], tmp_path: Path) -> None:
    flags = ("--macs-share", 0.6, *SHORT, "--steps", 1, "--detector", toy)
    result = distil(images, tmp_path / "light", *flags)
    assert result.exit_code == 0, result.stderr
    assert "1 steps on 2 images" in result.stderr
    assert "agreement with the full detector" in result.stderr
    described = json.loads((tmp_path / "light" / "detector.json").read_text())
    assert described["light_edge"]["size"] == [32, 32]
    assert result.stdout == ""


def test_a_run_goes_on_from_its_folder(toy: str, images: list[Path], tmp_path: Path) -> None:
    flags = ("--checkpoint-dir", tmp_path / "run", "--detector", toy, "--size", "32x32", *SHORT)
    assert distil(images, tmp_path / "one", *flags).exit_code == 0
    again = distil(images, tmp_path / "two", *flags)
    assert again.exit_code == 0
    assert "going on from step 3" in again.stderr
    graphs = [(tmp_path / name / "edge.onnx").read_bytes() for name in ("one", "two")]
    assert graphs[0] == graphs[1]
    line = refusal(images, tmp_path / "three", *flags, "--seed", 1)
    assert "other options (seed 0 is now 1)" in line


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--size", "96"), "--size 96 is not WIDTHxHEIGHT"),
        (("--size", "x96"), "is not WIDTHxHEIGHT"),
        (("--size", "96x-96"), "is not WIDTHxHEIGHT"),
        (("--size", "16x16"), "use 32 or more"),
        (("--steps", 3, "--minutes", 1), "give one of them"),
        (("--minutes", 0), "0.0 minutes"),
        (("--macs-share", 0), "--macs-share 0.0 is not a share"),
        (("--macs-share", 1), "--macs-share 1.0 is not a share"),
        (("--macs-share", "nan"), "is not a share"),
        (("--macs-share", 0.0001), "no picture is small enough"),
        (("--learning-rate", -1), "learning rate -1.0 must be above 0"),
        (("--held-out", 4), "4 images leave none to train on beside 4 held out"),
        (("--detector", "onnx:nowhere.onnx?p3=a&decode=yolox"), "nowhere.onnx: no such file"),
        (("--detector", "onnx:nowhere"), "nowhere"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line(
    flags: tuple[object, ...], told: str, images: list[Path], tmp_path: Path
) -> None:
    base = () if "--held-out" in flags else ("--held-out", 1)
    assert told in refusal(images, tmp_path / "out", *base, *flags)
    assert not (tmp_path / "out").exists()


def test_a_size_that_does_not_fit_is_refused_in_one_line(
    images: list[Path], tmp_path: Path
) -> None:
    line = refusal(images, tmp_path / "out", *SHORT, "--size", "100x100")
    assert "does not run on 100 x 100 pixels" in line


def test_a_folder_that_is_there_already(images: list[Path], folder: Path) -> None:
    before = (folder / "light" / "edge.onnx").read_bytes()
    assert "exists" in refusal(images, folder / "light", *SHORT)
    assert (folder / "light" / "edge.onnx").read_bytes() == before
    assert "exists" in refusal(images, images[0].parent, *SHORT)
    assert "is a file" in refusal(images, images[0] / "out", *SHORT)


def test_a_profile_is_not_written_over(toy: str, images: list[Path], tmp_path: Path) -> None:
    profile = shutil.copytree(embedded_profile_path(), tmp_path / "profile")
    flags = ("--detector", toy, "--size", "32x32", *SHORT)
    assert "exists" in refusal(images, profile, *flags)
    Profile.load(profile).verify()


def test_a_detector_of_torchvision_is_to_be_exported_first(
    images: list[Path], tmp_path: Path
) -> None:
    spec = "torchvision:retinanet_resnet18_fpn?num_classes=3&min_size=96&max_size=96"
    line = refusal(images, tmp_path / "out", *SHORT, "--detector", spec)
    assert "export it first" in line
