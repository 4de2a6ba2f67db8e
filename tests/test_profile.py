"""Profile folders: written whole, checked when read, replaced only where a profile was."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from core_kit import FakeDetector, kit_profile, make_pyramid

from fpcodec.errors import FpcodecError, InputError, ProfileError
from fpcodec.profile import Profile, make_codec
from fpcodec.profile_folder import MANIFEST, TENSORS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the kit's profile that a test may break."""
    target = tmp_path / "profile"
    shutil.copytree(kit_profile("pca").path, target)
    return target


def change_manifest(folder: Path, **changes) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest.update(changes)
    (folder / MANIFEST).write_text(json.dumps(manifest))


@pytest.mark.parametrize("kind", ["pca", "uniform"])
def test_a_profile_reads_back_as_it_was_saved(tmp_path, kind):
    profile = kit_profile(kind)
    again = Profile.load(str(profile.save(tmp_path / "copy").path))
    assert again.stream_id == profile.stream_id
    assert again.spec == profile.spec
    assert again.labels == ("blob", "other")
    assert again.key_levels == profile.key_levels
    assert again.measured == profile.measured
    assert again.detector_config == {"kind": "fake"}
    for name, values in profile.codec.tensors.items():
        np.testing.assert_array_equal(again.codec.tensors[name], values)
        assert again.codec.tensors[name].dtype == values.dtype
    for name, values in profile.recovery.items():
        np.testing.assert_array_equal(again.recovery[name], values)
    assert (tmp_path / "copy" / "edge.bin").read_bytes() == b"edge half"
    pyramid = make_pyramid(1)
    assert again.codec.encode(pyramid, 0.5) == profile.codec.encode(pyramid, 0.5)
    again.verify()


def test_a_profile_says_what_was_measured():
    measured = kit_profile("pca").measured
    assert measured["calibration_images"] == 12
    rates = list(measured["mean_bytes_by_quality"].values())
    assert rates == sorted(rates)
    assert measured["edge_macs"] > 0


@pytest.mark.parametrize("name", [TENSORS, "edge.bin", "server.bin"])
@pytest.mark.parametrize("position", [0, -1])
def test_a_changed_byte_is_found_and_its_file_named(folder, name, position):
    profile = Profile.load(folder)
    data = bytearray((folder / name).read_bytes())
    data[position] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(ProfileError, match=name):
        profile.verify()
    if name == TENSORS:
        with pytest.raises(ProfileError, match=name):
            Profile.load(folder)


@pytest.mark.parametrize("name", [TENSORS, "edge.bin"])
def test_a_missing_file_is_found_and_named(folder, name):
    profile = Profile.load(folder)
    (folder / name).unlink()
    with pytest.raises(ProfileError, match=f"{name} is missing"):
        profile.verify()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format_version": 2}, "format version 2"),
        ({"format_version": None}, "format version None"),
        ({"codec_id": 77}, "codec id 77"),
        ({"codec_id": 1}, "missing or"),
        ({"stream_id": "00" * 32}, "stream id"),
        ({"spec": {}}, "incomplete"),
        ({"spec": 5}, "incomplete"),
        ({"labels": 5}, "incomplete"),
        ({"files": {}}, "incomplete"),
        ({"detector": None}, "incomplete"),
        ({"key_levels": [1]}, "incomplete"),
    ],
)
def test_a_changed_manifest_is_refused(folder, changes, words):
    change_manifest(folder, **changes)
    with pytest.raises(ProfileError, match=words):
        Profile.load(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "5", "null", "\udcff\udcfe"])
def test_a_manifest_that_is_none_is_refused(folder, text):
    (folder / MANIFEST).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ProfileError, match=MANIFEST):
        Profile.load(folder)


def test_a_tensor_file_that_is_none_is_refused(folder):
    import hashlib

    junk = b"\xff" * 100
    (folder / TENSORS).write_bytes(junk)
    change_manifest(folder, files={TENSORS: hashlib.sha256(junk).hexdigest()})
    with pytest.raises(ProfileError, match="safetensors"):
        Profile.load(folder)


def test_a_folder_that_is_no_profile_says_how_to_make_one(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere", tmp_path / "file"):
        (tmp_path / "file").write_text("x")
        with pytest.raises(ProfileError, match="fpcodec calibrate"):
            Profile.load(path)


def test_a_folder_that_is_no_profile_is_never_overwritten(tmp_path):
    target = tmp_path / "mine"
    target.mkdir()
    (target / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="not a profile"):
        kit_profile("pca").save(target)
    assert (target / "thesis.txt").read_text() == "years of work"


def test_a_folder_whose_profile_json_is_something_else_is_never_overwritten(tmp_path):
    target = tmp_path / "mine"
    target.mkdir()
    (target / MANIFEST).write_text('{"name": "my web site"}')
    (target / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="not a profile"):
        kit_profile("pca").save(target)
    assert (target / "thesis.txt").read_text() == "years of work"


def test_a_file_is_never_overwritten(tmp_path):
    target = tmp_path / "mine"
    target.write_text("years of work")
    with pytest.raises(InputError, match="not a profile"):
        kit_profile("pca").save(target)
    assert target.read_text() == "years of work"


def test_an_old_profile_and_an_empty_folder_are_replaced(tmp_path):
    target = tmp_path / "profile"
    target.mkdir()
    kit_profile("pca").save(target)
    saved = kit_profile("uniform").save(target)
    assert saved.stream_id == kit_profile("uniform").stream_id
    assert os.listdir(tmp_path) == ["profile"], "no temporary folder is left"


def test_a_failing_export_leaves_the_old_profile(folder):
    class Broken(FakeDetector):
        def export(self, folder: Path) -> dict:
            (folder / "edge.bin").write_bytes(b"half")
            raise InputError("the disk is full")

    before = Profile.load(folder).stream_id
    with pytest.raises(InputError, match="disk is full"):
        kit_profile("uniform").save(folder, Broken())
    assert Profile.load(folder).stream_id == before
    assert os.listdir(folder.parent) == ["profile"]


def test_a_detectors_files_are_listed_with_their_hashes(folder):
    manifest = json.loads((folder / MANIFEST).read_text())
    assert set(manifest["files"]) == {TENSORS, "edge.bin", "server.bin"}
    assert manifest["codec"] == "pca"
    assert bytes.fromhex(manifest["stream_id"]) == kit_profile("pca").stream_id


def test_a_damaged_detector_file_is_found_when_it_is_opened(folder):
    profile = Profile.load(folder)
    file = next(x for x in folder.iterdir() if x.name not in (MANIFEST, TENSORS))
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(ProfileError, match=file.name):
        profile.open_detector()


def test_a_failing_replacement_leaves_the_old_profile(folder, monkeypatch):
    profile = Profile.load(folder)
    before = (folder / MANIFEST).read_bytes()
    rename = Path.rename

    def fail(self, target):
        if self.name == "profile":
            raise OSError("disk full")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(InputError, match="disk full"):
        profile.save(folder)
    assert (folder / MANIFEST).read_bytes() == before


@pytest.mark.parametrize("key", ["mean.p3", "mix.p4.p3.p5"])
def test_a_missing_recovery_tensor_is_named(key):
    profile = kit_profile("pca")
    kept = {k: v for k, v in profile.recovery.items() if k != key}
    with pytest.raises(ProfileError, match=key):
        make_codec(2, profile.spec, profile.codec.tensors, kept)


def test_an_unsaved_profile_cannot_be_verified():
    import dataclasses

    with pytest.raises(ProfileError, match="save it first"):
        dataclasses.replace(kit_profile("pca"), path=None).verify()


def test_a_detector_that_no_release_knows_is_a_typed_error(folder):
    with pytest.raises(FpcodecError, match="fake"):
        Profile.load(folder).open_detector()
