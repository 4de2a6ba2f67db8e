"""A recipe: a profile without its detector, completed from a file or from its publisher."""

from __future__ import annotations

import hashlib
import importlib
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from core_kit import write_images
from onnx_kit import LEVELS, write_model
from typer.testing import CliRunner

from fpcodec import EdgeHalf, Profile, ServerHalf, embedded_profile_path
from fpcodec.calibration import calibrate
from fpcodec.cli.app import app
from fpcodec.detectors.factory import open_detector
from fpcodec.embedded import RECIPES, recipe_folder
from fpcodec.errors import (
    InputError,
    MissingDependency,
    ModelError,
    ProfileError,
    Timeout,
    TransportError,
    Unavailable,
)
from fpcodec.recipes import RECIPE, PublishedModel, Recipe, complete

pytest.importorskip("onnx", reason="cutting a graph needs the onnx package")

QUERY = "&".join(f"{level}={tensor}" for level, tensor in LEVELS.items())
DETECTOR = f"onnx:toy.onnx?{QUERY}&decode=yolox&labels=a,b,c"


class Publisher(BaseHTTPRequestHandler):
    """Serves ``body``; claims ``claimed`` bytes; waits for ``gate`` before it answers."""

    body = b""
    claimed: int | None = None
    status = 200
    gate: threading.Event | None = None

    def do_GET(self) -> None:
        if self.gate is not None:
            self.gate.wait(10)
        self.send_response(self.status)
        if self.claimed is not None:
            self.send_header("Content-Length", str(self.claimed))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def publisher(**answers: Any) -> Iterator[str]:
    """A publisher on the loopback interface; the address of its one file."""
    handler = type("Answering", (Publisher,), answers)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.02])
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/toy.onnx"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "toy.onnx")


@pytest.fixture(scope="module")
def whole(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Profile:
    """A calibrated profile of the toy detector."""
    folder = tmp_path_factory.mktemp("whole")
    detector = open_detector(DETECTOR.replace("toy.onnx", str(model)), threads=1)
    images = write_images(folder / "images", 6)
    return calibrate(detector, images, folder / "profile", key_level_seconds=0.1)


@pytest.fixture(scope="module")
def recipe(
    whole: Profile, model: Path, repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Recipe:
    """A recipe of ``whole``, as the script makes one."""
    folder = tmp_path_factory.mktemp("recipe") / "toy"
    arguments = [str(whole.path), str(folder), "--model", str(model), "--publisher", "nobody",
                 "--url", "https://nowhere.invalid/toy.onnx", "--detector", DETECTOR]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(repository / "scripts"))
        patch.setattr(sys, "argv", ["make_recipe.py", *arguments])
        importlib.import_module("make_recipe").main()
    return Recipe.load(folder)


def offered_at(recipe: Recipe, url: str) -> Recipe:
    return replace(recipe, model=replace(recipe.model, url=url))


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["profiles", *map(str, arguments)])


def test_a_recipe_holds_all_but_the_detector(recipe: Recipe, whole: Profile) -> None:
    files = {x.name for x in recipe.folder.iterdir()}
    assert files == {"profile.json", "codec.safetensors", RECIPE}
    assert Profile.load(recipe.folder).stream_id == whole.stream_id
    with pytest.raises(ModelError):
        Profile.load(recipe.folder).open_detector()


def test_completed_from_a_file_it_works(recipe: Recipe, model: Path, tmp_path: Path) -> None:
    renamed = tmp_path / "renamed.onnx"
    renamed.write_bytes(model.read_bytes())
    made = complete(recipe, tmp_path / "profile", renamed)
    made.verify()
    assert made.stream_id == Profile.load(recipe.folder).stream_id
    assert not (tmp_path / "profile" / RECIPE).exists()
    image = np.random.default_rng(2).integers(0, 256, (48, 90, 3), np.uint8)
    frame = EdgeHalf(made).encode(image, quality=0.5)
    assert ServerHalf(made).infer(frame.data).levels_used


def test_completed_it_finds_what_the_original_finds(
    recipe: Recipe, whole: Profile, model: Path, tmp_path: Path
) -> None:
    made = complete(recipe, tmp_path / "profile", model)
    image = np.random.default_rng(2).integers(0, 256, (48, 90, 3), np.uint8)
    frames = [EdgeHalf(x).encode(image, quality=0.5).data for x in (made, whole)]
    assert frames[0] == frames[1]
    answers = [ServerHalf(x).infer(frames[0]).detections for x in (made, whole)]
    np.testing.assert_allclose(answers[0].boxes, answers[1].boxes, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("claimed", [True, False])
def test_downloaded_it_is_the_same(
    recipe: Recipe, model: Path, tmp_path: Path, claimed: bool
) -> None:
    body, seen = model.read_bytes(), []
    with publisher(body=body, claimed=len(body) if claimed else None) as url:
        made = complete(
            offered_at(recipe, url), tmp_path / "profile",
            progress=lambda done, total: seen.append((done, total)),
        )  # fmt: skip
    assert made.stream_id == Profile.load(recipe.folder).stream_id
    assert seen[-1] == (len(body), len(body))
    assert [x.name for x in tmp_path.iterdir()] == ["profile"]


def test_another_file_is_refused_by_both_hashes(
    recipe: Recipe, model: Path, tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong.onnx"
    wrong.write_bytes(model.read_bytes()[:-1] + b"\0")
    found = hashlib.sha256(wrong.read_bytes()).hexdigest()
    with pytest.raises(ModelError, match=f"{found}.*{recipe.model.sha256}"):
        complete(recipe, tmp_path / "profile", wrong)
    with (
        publisher(body=wrong.read_bytes()) as url,
        pytest.raises(ModelError, match=f"{found}.*{recipe.model.sha256}"),
    ):
        complete(offered_at(recipe, url), tmp_path / "profile")
    assert [x.name for x in tmp_path.iterdir()] == ["wrong.onnx"]


@pytest.mark.parametrize("claimed", [True, False])
def test_a_download_that_ends_early_is_named(
    recipe: Recipe, model: Path, tmp_path: Path, claimed: bool
) -> None:
    body = model.read_bytes()
    answer = {"body": body[:-100], "claimed": len(body) if claimed else None}
    with publisher(**answer) as url, pytest.raises(TransportError, match="ended after"):
        complete(offered_at(recipe, url), tmp_path / "profile")
    assert not list(tmp_path.iterdir())


def test_no_byte_above_the_size_is_kept(recipe: Recipe, model: Path, tmp_path: Path) -> None:
    body = model.read_bytes() + bytes(10_000_000)
    seen = []
    with publisher(body=body) as url, pytest.raises(TransportError, match="more than"):
        offered_at(recipe, url).fetch(
            tmp_path / "toy.onnx", progress=lambda done, _: seen.append(done)
        )
    assert max(seen, default=0) <= recipe.model.size_bytes
    assert not list(tmp_path.iterdir())


def test_a_refusal_names_the_code_and_the_way_out(recipe: Recipe, tmp_path: Path) -> None:
    with publisher(status=404) as url, pytest.raises(Unavailable, match=r"404.*--model"):
        complete(offered_at(recipe, url), tmp_path / "profile")


def test_nobody_there_is_named(recipe: Recipe, tmp_path: Path) -> None:
    with publisher() as url:
        gone = offered_at(recipe, url)
    with pytest.raises(Unavailable, match=r"cannot be reached.*--model"):
        complete(gone, tmp_path / "profile")


def test_a_silent_publisher_is_left(recipe: Recipe, tmp_path: Path) -> None:
    gate = threading.Event()
    with publisher(gate=gate) as url:
        try:
            with pytest.raises(Timeout, match=r"silent for 0\.2 s"):
                complete(offered_at(recipe, url), tmp_path / "profile", timeout_s=0.2)
        finally:
            gate.set()


def test_only_the_web_is_fetched_from(recipe: Recipe, model: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="http"):
        complete(offered_at(recipe, model.as_uri()), tmp_path / "profile")


def test_without_onnx_the_extra_is_named_before_anything_is_fetched(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingDependency, match=r"fpcodec\[bench\]"):
        complete(recipe, tmp_path / "profile")


def test_what_is_in_the_way_stays(recipe: Recipe, model: Path, tmp_path: Path) -> None:
    (tmp_path / "work.txt").write_text("mine")
    with pytest.raises(InputError, match="not a profile"):
        complete(recipe, tmp_path, model)
    assert [x.name for x in tmp_path.iterdir()] == ["work.txt"]


def test_another_cut_is_refused(recipe: Recipe, model: Path, tmp_path: Path) -> None:
    other = replace(recipe, detector=DETECTOR.replace("labels=a,b,c", "labels=a,b,d"))
    with pytest.raises(ProfileError, match="otherwise"):
        complete(other, tmp_path / "profile", model)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"model": {}, "detector": "x"}', '{"model": 3, "detector": "x"}']
)
def test_a_damaged_recipe_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / RECIPE).write_text(text)
    with pytest.raises(ProfileError, match=RECIPE):
        Recipe.load(tmp_path)


def test_a_damaged_codec_is_found_first(recipe: Recipe, model: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in recipe.folder.iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    data = bytearray((broken / "codec.safetensors").read_bytes())
    data[-1] ^= 1
    (broken / "codec.safetensors").write_bytes(data)
    with pytest.raises(ProfileError, match="changed"):
        complete(Recipe.load(broken), tmp_path / "profile", model)


@pytest.mark.parametrize(
    "wrong", [{"file": "../x"}, {"file": ""}, {"sha256": "12"}, {"size_bytes": 0}]
)
def test_a_model_without_sense_is_refused(recipe: Recipe, wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        replace(recipe.model, **wrong)


@pytest.mark.parametrize("name", RECIPES)
def test_shipped_recipes_are_whole(name: str) -> None:
    recipe = Recipe.load(recipe_folder(name))
    profile = Profile.load(recipe.folder)
    profile.verify(skip_absent=True)
    assert profile.name == name
    assert profile.detector_config["source"]["sha256"] == recipe.model.sha256
    assert recipe.model.url.startswith("https://")
    assert isinstance(recipe.model, PublishedModel)


def test_yolox_nano_is_completed_by_one_command(shared_folder: Path, tmp_path: Path) -> None:
    model = shared_folder / "models" / "yolox_nano.onnx"
    if not model.is_file():
        pytest.skip("needs ../shared/models/yolox_nano.onnx")
    out = tmp_path / "nano"
    result = run("get", "yolox_nano", "--out", out, "--model", model, "--json")
    assert result.exit_code == 0, result.stderr
    facts = json.loads(result.stdout)
    shipped = json.loads(run("show", "yolox_nano", "--json").stdout)
    assert facts["stream_id"] == shipped["stream_id"]
    assert facts["recipe"] is None
    assert run("verify", out).exit_code == 0
    Profile.load(out).open_detector(threads=1)


def test_get_copies_an_embedded_profile(tmp_path: Path) -> None:
    result = run("get", "tiny", "--out", tmp_path / "mine")
    assert result.exit_code == 0, result.stderr
    wanted = Profile.load(embedded_profile_path()).stream_id
    assert Profile.load(tmp_path / "mine").stream_id == wanted


def test_get_replaces_no_profile_unasked(tmp_path: Path) -> None:
    out = tmp_path / "mine"
    assert run("get", "bccd", "--out", out).exit_code == 0
    again = run("get", "tiny", "--out", out)
    assert (again.exit_code, "--replace" in again.stderr) == (2, True)
    assert Profile.load(out).name == "bccd"
    assert run("get", "tiny", "--out", out, "--replace").exit_code == 0
    assert Profile.load(out).name == "tiny"


def test_get_means_what_ships_whatever_lies_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Profile.load(embedded_profile_path("tiny")).save("bccd")
    assert run("get", "bccd", "--out", "fresh").exit_code == 0
    wanted = Profile.load(embedded_profile_path("bccd")).stream_id
    assert Profile.load("fresh").stream_id == wanted


def test_get_from_a_recipe_folder(recipe: Recipe, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "toy"
    result = run("get", recipe.folder, "--out", out, "--model", model)
    assert result.exit_code == 0, result.stderr
    assert str(out) in result.stderr


def test_list_has_every_shipped_profile() -> None:
    listed = {x["name"]: x for x in json.loads(run("list", "--json").stdout)}
    assert set(listed) == {"tiny", "bccd", "yolox_nano"}
    assert listed["tiny"]["recipe"] is None
    assert listed["yolox_nano"]["files"]["edge.onnx"] is None
    table = run("list").stdout
    assert "person" in table
    assert all(x["stream_id"][:12] in table for x in listed.values())


def test_show_names_model_and_hash() -> None:
    shown = run("show", "yolox_nano").stdout
    recipe = Recipe.load(recipe_folder("yolox_nano"))
    assert recipe.model.sha256 in shown
    assert recipe.model.url in shown
    assert "absent" in shown


def test_verify_names_the_changed_file(tmp_path: Path) -> None:
    assert run("get", "tiny", "--out", tmp_path / "mine").exit_code == 0
    (tmp_path / "mine" / "server.onnx").unlink()
    missing = run("verify", tmp_path / "mine")
    assert missing.exit_code == 2
    assert "server.onnx is missing" in missing.stderr
    allowed = json.loads(run("verify", tmp_path / "mine", "--allow-absent", "--json").stdout)
    assert allowed["absent"] == ["server.onnx"]
    edge = tmp_path / "mine" / "edge.onnx"
    edge.write_bytes(edge.read_bytes()[:-1] + b"\0")
    changed = run("verify", tmp_path / "mine", "--allow-absent")
    assert changed.exit_code == 2
    assert "edge.onnx was changed" in changed.stderr


@pytest.mark.parametrize("command", ["show", "verify"])
def test_unknown_profiles_are_named_with_those_there_are(command: str) -> None:
    result = run(command, "nothing")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: nothing")
    assert "yolox_nano" in result.stderr


@pytest.mark.parametrize("named", ["yolox_nano", str(recipe_folder("yolox_nano"))])
def test_other_commands_say_how_to_complete_a_recipe(photo: Path, named: str) -> None:
    result = CliRunner().invoke(app, ["encode", str(photo), "--profile", named])
    assert result.exit_code == 2
    assert f"fpcodec profiles get {named}" in result.stderr


def test_model_beside_a_whole_profile_is_refused(model: Path, tmp_path: Path) -> None:
    result = run("get", "tiny", "--out", tmp_path / "mine", "--model", model)
    assert result.exit_code == 2
    assert "--model" in result.stderr
