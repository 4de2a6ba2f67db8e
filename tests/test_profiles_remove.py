"""``fpcodec profiles remove`` deletes a profile and nothing else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

import fpcodec
from fpcodec.cli.app import app


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A profile in a folder of one's own."""
    folder = tmp_path / "mine"
    fpcodec.Profile.load(fpcodec.embedded_profile_path()).save(folder)
    return folder


def remove(*arguments: object, answer: str = "") -> tuple[int, str]:
    """Exit code, and what stands on stderr."""
    result = CliRunner().invoke(app, ["profiles", "remove", *map(str, arguments)], input=answer)
    return result.exit_code, result.stderr


def test_removes_a_profile(mine: Path) -> None:
    assert remove(mine, "--yes")[0] == 0
    assert list(mine.parent.iterdir()) == []


def test_says_what_went_as_json(mine: Path) -> None:
    count = len(list(mine.iterdir()))
    result = CliRunner().invoke(app, ["profiles", "remove", str(mine), "--yes", "--json"])
    assert json.loads(result.stdout)["files"] == count


@pytest.mark.parametrize(("answer", "code", "stays"), [("y\n", 0, False), ("n\n", 0, True)])
def test_asks_first(mine: Path, answer: str, code: int, stays: bool) -> None:
    exit_code, said = remove(mine, answer=answer)
    assert exit_code == code
    assert ("kept" in said) is stays
    assert str(mine) in said
    assert mine.exists() is stays


def test_without_an_answer_it_stays(mine: Path) -> None:
    code, said = remove(mine)
    assert (code, "give --yes" in said) == (2, True)
    assert mine.exists()


@pytest.mark.parametrize("other", ["notes.txt", "rates/notes.txt"])
def test_a_folder_with_other_things_stays(mine: Path, other: str) -> None:
    (mine / other).parent.mkdir(exist_ok=True)
    (mine / other).write_text("mine")
    code, said = remove(mine, "--yes")
    assert (code, other.split("/")[0] in said) == (2, True)
    assert (mine / other).exists()
    assert (mine / "profile.json").exists()


def test_its_own_rates_go_too(mine: Path) -> None:
    (mine / "rates" / "shards" / "ab").mkdir(parents=True)
    for name in ("rows.json", "shards/ab/0.json"):
        (mine / "rates" / name).write_text("[]")
    assert remove(mine, "--yes")[0] == 0
    assert not mine.exists()


def test_other_folders_stay(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").touch()
    (tmp_path / "profile.json").write_text('{"format_version": 1, "name": "of another program"}')
    assert remove(tmp_path, "--yes")[0] == 2
    assert len(list(tmp_path.iterdir())) == 2
    assert remove(tmp_path / "nowhere", "--yes")[0] == 2


def test_a_link_stays_with_what_it_leads_to(mine: Path) -> None:
    link = mine.with_name("link")
    link.symlink_to(mine)
    assert remove(link, "--yes")[0] == 2
    assert link.is_symlink()
    assert (mine / "profile.json").exists()


def test_what_ships_with_the_package_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assets = tmp_path / "assets"
    embedded = assets / "tiny"
    shutil.copytree(fpcodec.embedded_profile_path(), embedded)
    monkeypatch.setattr("fpcodec.embedded.asset_folder", lambda: assets)
    for name in ("tiny", "yolox_nano", embedded):
        code, said = remove(name, "--yes")
        assert (code, "ships with fpcodec" in said) == (2, True)
    assert (embedded / "profile.json").exists()
