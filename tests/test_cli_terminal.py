"""What the command line does for people: completion, colour, ``--version``."""

from __future__ import annotations

import json
import os
import platform
import pty
import re
import select
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

import fpcodec
from fpcodec.cli.app import app
from fpcodec.cli.version import EXTRAS

FPCODEC = (sys.executable, "-m", "fpcodec.cli")


def environment(**changes: str) -> dict[str, str]:
    """This process's, without what decides on colour, and with the changes."""
    unwanted = ("NO_COLOR", "FORCE_COLOR", "CI", "GITHUB_ACTIONS", "PY_COLORS", "COLUMNS")
    kept = {k: v for k, v in os.environ.items() if k not in unwanted}
    return {**kept, "TERM": "xterm-256color", "COLUMNS": "100", **changes}


def said(*arguments: str, **changes: str) -> str:
    """What a command writes to pipes, both of them."""
    done = subprocess.run(
        [*FPCODEC, *arguments], env=environment(**changes), text=True, timeout=60,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    return done.stdout


def said_on_a_terminal(*arguments: str, **changes: str) -> str:
    """What a command writes to a terminal."""
    master, slave = pty.openpty()
    with subprocess.Popen(
        [*FPCODEC, *arguments], stdin=slave, stdout=slave, stderr=slave, env=environment(**changes)
    ) as process:
        os.close(slave)
        text = b""
        while select.select([master], [], [], 60)[0]:
            try:
                text += os.read(master, 65536)
            except OSError:  # the other end has closed
                break
        process.wait(60)
    os.close(master)
    return text.decode()


def coloured(text: str) -> bool:
    return re.search(r"\x1b\[[\d;]*3\dm", text) is not None


@pytest.mark.parametrize("arguments", [("--help",), ("encode", "nowhere.jpg")])
def test_colour_on_a_terminal_and_none_in_a_pipe(arguments: tuple[str, ...]) -> None:
    assert coloured(said_on_a_terminal(*arguments))
    assert "\x1b" not in said(*arguments)
    assert coloured(said(*arguments, FORCE_COLOR="1"))
    assert not coloured(said_on_a_terminal(*arguments, NO_COLOR="1"))
    assert not coloured(said_on_a_terminal(*arguments, TERM="dumb"))


def test_forced_colour_draws_no_moving_bars_into_a_pipe(photo: Path) -> None:
    text = said("encode", str(photo), FORCE_COLOR="1")
    assert "\r" not in text
    assert text.count("\n") == 1


def test_tables_are_plain_in_a_pipe() -> None:
    assert "\x1b" not in said("profiles", "list")


def test_version_begins_with_the_release() -> None:
    lines = said("--version").splitlines()
    assert lines[0] == f"fpcodec {fpcodec.__version__}"
    rest = "\n".join(lines[1:])
    for fact in ("onnxruntime", "CPUExecutionProvider", "entropy coder", platform.python_version()):
        assert fact in rest


def test_version_as_json_names_the_extras_at_hand() -> None:
    facts = json.loads(said("--version", "--json"))
    assert facts["fpcodec"] == fpcodec.__version__
    assert set(facts["extras"]) <= set(EXTRAS)
    assert facts["commit"] is None or re.fullmatch(r"[0-9a-f]{40}\+?", facts["commit"])


def test_version_knows_every_extra(repository: Path) -> None:
    declared = re.findall(r"^([a-z]+) = \[", (repository / "pyproject.toml").read_text(), re.M)
    tools = {"keywords", "classifiers", "dependencies", "dev", "docs", "all"}
    start = declared.index("torch")
    stop = declared.index("all")
    assert set(declared[start:stop]) - tools == set(EXTRAS)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_gets_a_script(shell: str) -> None:
    script = said(_FPCODEC_COMPLETE=f"source_{shell}")
    assert "_FPCODEC_COMPLETE=complete_" in script
    if (program := shutil.which(shell)) is not None:
        subprocess.run([program, "-n"], input=script, text=True, check=True)


def completions(line: str, folder: Path) -> list[str]:
    """What bash offers at the end of a line, through the script that it was given."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("needs bash")
    program = folder / ".bin" / "fpcodec"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f'#!/bin/sh\nexec {" ".join(FPCODEC)} "$@"\n')
    program.chmod(0o755)
    asked = f"""
PATH={program.parent}:$PATH
{said(_FPCODEC_COMPLETE="source_bash")}
COMP_WORDS=({line.replace("|", "''")})
COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
_fpcodec_completion fpcodec
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(
        [bash, "-c", asked], cwd=folder, env=environment(), text=True, capture_output=True,
        check=True, timeout=60,
    )  # fmt: skip
    return done.stdout.split()


def test_bash_completes_commands_options_and_profiles(tmp_path: Path) -> None:
    shutil.copytree(fpcodec.embedded_profile_path(), tmp_path / "mine")
    (tmp_path / "pictures").mkdir()
    names = set(get_command(app).commands)  # type: ignore[attr-defined]
    assert set(completions("fpcodec |", tmp_path)) == names
    assert completions("fpcodec cal", tmp_path) == ["calibrate"]
    assert completions("fpcodec encode --max", tmp_path) == ["--max-bytes"]
    assert completions("fpcodec encode --profile |", tmp_path) == ["tiny", "bccd", "mine"]
    assert completions("fpcodec profiles show yo", tmp_path) == ["yolox_nano"]
    assert completions("fpcodec profiles remove |", tmp_path) == ["mine"]
    assert completions("fpcodec encode --profile pict", tmp_path) == []  # left to the shell


@pytest.mark.parametrize("arguments", [(), ("--help",)])
def test_help_names_the_exit_codes(arguments: tuple[str, ...]) -> None:
    text = " ".join(said(*arguments).split())
    assert "Exit codes: 0 done, as serve and edge are after Ctrl-C; 2 an error" in text
    assert "130 stopped by Ctrl-C" in text
    places = [text.index(f"{i}. fpcodec") for i in range(1, 6)]
    assert places == sorted(places)
