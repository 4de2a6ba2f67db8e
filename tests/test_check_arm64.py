"""The check that Linux arm64 gets wheels alone: what is asked of pip, and what it answers."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from script_kit import script_fixture

check_arm64 = script_fixture("check_arm64")


class Answer:
    """In place of pip: writes a report, or fails."""

    def __init__(self, packages: dict[str, list[str]], stderr: str = "") -> None:
        self._packages, self._stderr, self.commands = packages, stderr, []  # type: ignore[var-annotated]

    def __call__(self, command: list[str], **options: Any) -> Any:
        self.commands.append(command)
        items = [
            {"metadata": {"name": name, "version": "1.0", "requires_dist": needs},
             "download_info": {"url": f"https://host/{name}-1.0-py3-none-any.whl#sha256=ab"}}
            for name, needs in self._packages.items()
        ]  # fmt: skip
        Path(command[command.index("--report") + 1]).write_text(json.dumps({"install": items}))
        answer = type("Done", (), {"returncode": int(bool(self._stderr)), "stderr": self._stderr})
        return answer


def test_requirements_are_read_as_the_other_machine_does(check_arm64: ModuleType) -> None:
    texts = ["a>=1; platform_machine != 'aarch64' or sys_platform != 'linux'", "b; extra == 'x'",
             "c>=2; python_version < '3.11'", "d==4"]  # fmt: skip
    names = [str(x) for x in check_arm64.wanted(texts, "3.10")]
    assert names == ["c>=2", "d==4"]
    assert [x.name for x in check_arm64.wanted(texts, "3.12")] == ["d"]


def test_every_wheel_is_named_and_no_dependency_left_out(
    check_arm64: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    pip = Answer({"a": ["b>=1", "c; platform_machine == 'x86_64'"], "B": []})
    monkeypatch.setattr(check_arm64.subprocess, "run", pip)
    found = check_arm64.resolve(["a", "constriction"], "3.11")
    assert (found.packages, found.problem) == ({"a": "1.0  any", "b": "1.0  any"}, None)
    assert found.coder == "native"
    (command,) = pip.commands
    assert "--only-binary=:all:" in command
    assert "--python-version=3.11" in command
    assert "--platform=manylinux2014_aarch64" in command
    lacking = Answer({"a": ["d; platform_machine == 'aarch64'"]})
    monkeypatch.setattr(check_arm64.subprocess, "run", lacking)
    found = check_arm64.resolve(["a"], "3.11")
    assert (found.problem, found.coder) == ("pip left out d (of a)", "python")


def test_without_a_wheel_it_fails_and_without_a_network_it_says_so(
    check_arm64: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    refusal = "ERROR: Could not find\nERROR: No matching distribution found for a"
    monkeypatch.setattr(check_arm64.subprocess, "run", Answer({}, refusal))
    assert check_arm64.main(["--python", "3.11"]) == 1
    assert "No matching distribution found for a" in capsys.readouterr().out
    away = "WARNING: Failed to establish a new connection\nERROR: No matching distribution"
    monkeypatch.setattr(check_arm64.subprocess, "run", Answer({}, away))
    assert check_arm64.main(["--python", "3.11"]) == 3
    assert "cannot be reached" in capsys.readouterr().err


@pytest.mark.slow
def test_this_release_resolves_to_wheels(check_arm64: ModuleType, tmp_path: Path) -> None:
    python = ".".join(map(str, sys.version_info[:2]))
    code = check_arm64.main(["--python", python, "--out", str(tmp_path / "arm64.json")])
    if code == check_arm64.UNREACHABLE:
        pytest.skip("the package index cannot be reached")
    assert code == 0
    (found,) = json.loads((tmp_path / "arm64.json").read_text())["pythons"]
    assert {"numpy", "onnxruntime", "grpcio", "pillow"} <= found["packages"].keys()
    assert found["coder"] == "python"
