"""Putting a profile in the place of the one that ships with an embedded detector."""

from __future__ import annotations

import importlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fpcodec import Profile, embedded_profile_path
from fpcodec.errors import InputError
from fpcodec.profile_folder import MANIFEST


@pytest.fixture
def script(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script, which finds a copy of the assets."""
    for name in ("tiny", "bccd"):
        shutil.copytree(embedded_profile_path(name), tmp_path / "assets" / name)
    monkeypatch.syspath_prepend(str(repository / "scripts"))
    module = importlib.import_module("embed_profile")
    monkeypatch.setattr(module, "embedded_folder", lambda name: tmp_path / "assets" / name)
    return module


def test_codec_and_manifest_change_and_the_detector_stays(script: Any, tmp_path: Path) -> None:
    asset = tmp_path / "assets" / "tiny"
    # As a learned profile leaves it, which a pca one has no use for.
    (asset / "synthesis.onnx").write_bytes(b"of another profile")
    shipped = Profile.load(embedded_profile_path())
    own = replace(shipped, name="mine", measured={"images": 7}).save(tmp_path / "mine")
    kept = {x: (asset / x).read_bytes() for x in ("card.json", "weights.safetensors", "edge.onnx")}
    made = script.embed(own, "tiny")
    assert (made.name, made.stream_id) == ("tiny", own.stream_id)
    assert made.measured == {"images": 7}
    assert {x: (asset / x).read_bytes() for x in kept} == kept
    files = json.loads((asset / MANIFEST).read_text())["files"]
    assert {"edge.onnx", "server.onnx"} <= set(files)
    assert {x.name for x in asset.iterdir()} == {MANIFEST, *kept, *files}


def test_another_detector_s_profile_is_refused(script: Any, tmp_path: Path) -> None:
    asset = tmp_path / "assets" / "tiny"
    before = {x.name: x.read_bytes() for x in asset.iterdir()}
    with pytest.raises(InputError, match="--detector tiny:tiny"):
        script.embed(Profile.load(embedded_profile_path("bccd")), "tiny")
    assert {x.name: x.read_bytes() for x in asset.iterdir()} == before
