"""``fpcodec doctor``: what it says of a machine, and of real servers on the loopback."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tls_kit import OTHER_TOKEN, TOKEN, Authority, with_tokens, write_secret
from typer.testing import CliRunner
from wire_kit import FakeHalf, FakeProfile, StartServer, free_port

from fpcodec import Profile, embedded_profile_path
from fpcodec.cli.app import app
from fpcodec_edge.doctor import State, machine, server
from fpcodec_server.operations import Operations

MIB = 2**20
STREAM_ID = Profile.load(embedded_profile_path()).stream_id


def run(*arguments: object, **more: Any) -> Any:
    result = CliRunner().invoke(app, ["doctor", "--threads", "1", *map(str, arguments)], **more)
    assert result.exit_code in (0, 1), result.output
    return result


def found(*arguments: object, **more: Any) -> dict[str, dict[str, str]]:
    """The checks by name, the last where there are several of one name."""
    result = run(*arguments, "--json", **more)
    told = json.loads(result.stdout)
    failed = [x for x in told["checks"] if x["state"] == "fail"]
    assert told["ok"] == (not failed) == (result.exit_code == 0)
    assert all(x["fix"] for x in failed)
    return {x["name"]: x for x in told["checks"]}


@pytest.fixture
def start(start_server: StartServer) -> Callable[..., str]:
    """Starts a server of the embedded profile; returns its address."""

    def start(stream_id: bytes = STREAM_ID, **operations: Any) -> str:
        made = start_server(
            FakeHalf(), profile=FakeProfile(stream_id), operations=Operations(**operations)
        )
        return str(made.address)

    return start


def test_a_machine_without_a_server_is_checked_line_by_line(tmp_path: Path) -> None:
    result = run("--spool", tmp_path / "spool", "--out", tmp_path)
    assert result.exit_code == 0, result.stdout
    lines = result.stdout.splitlines()
    names = [line.split()[1] for line in lines[:-1]]
    assert names == ["python", "packages", "onnxruntime", "coder", "memory", "write", "write",
                     "write", "clock", "profile", "frame"]  # fmt: skip
    assert {line.split()[0] for line in lines[:-1]} <= {"ok", "warn"}
    assert lines[-1] == "nothing fails"
    assert list(tmp_path.iterdir()) == []


def test_the_way_to_a_server_with_tls_and_a_token(
    start: Callable[..., str], tmp_path: Path
) -> None:
    authority = Authority(tmp_path / "ca")
    guarded = with_tokens(tmp_path)
    address = start(tls=authority.server_tls(days=(-1, 100)), tokens=guarded.tokens)
    token = write_secret(tmp_path / "token", TOKEN.encode())
    checks = found("--server", address, "--tls-ca", authority.ca, "--token-file", token)
    for name in ("server", "tls", "token", "clock", "match"):
        assert checks[name]["state"] == "ok", checks[name]
    assert "valid for 99 more days" in checks["tls"]["text"]
    assert "as fake" in checks["match"]["text"]
    assert TOKEN not in json.dumps(checks)
    by_variable = found("--server", address, "--tls-ca", authority.ca, env={"FPCODEC_TOKEN": TOKEN})
    assert by_variable["match"]["state"] == "ok"


@pytest.mark.parametrize(
    ("days", "says"),
    [((-9, -2), "has expired"), ((2, 9), "not valid yet")],
)
def test_certificates_out_of_date(
    days: tuple[int, int], says: str, start: Callable[..., str], tmp_path: Path
) -> None:
    authority = Authority(tmp_path / "ca")
    address = start(tls=authority.server_tls(days=days))
    checks = found("--server", address, "--tls-ca", authority.ca)
    assert checks["tls"]["state"] == "fail"
    assert says in checks["tls"]["text"]
    assert "clock" in checks["tls"]["fix"]
    assert "match" not in checks


def test_a_certificate_that_ends_soon(start: Callable[..., str], tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    address = start(tls=authority.server_tls(days=(-1, 3)))
    checks = found("--server", address, "--tls-ca", authority.ca)
    assert checks["tls"]["state"] == "warn"
    assert "renew it" in checks["tls"]["fix"]


def test_a_certificate_for_another_name(start: Callable[..., str], tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    address = start(tls=authority.server_tls("detector.example"))
    wrong = found("--server", address, "--tls-ca", authority.ca)
    assert (wrong["tls"]["state"], "--tls-server-name" in wrong["tls"]["fix"]) == ("fail", True)
    named = ["--tls-server-name", "detector.example"]
    right = found("--server", address, "--tls-ca", authority.ca, *named)
    assert right["match"]["state"] == "ok"


def test_a_certificate_of_strangers_and_a_server_without_tls(
    start: Callable[..., str], tmp_path: Path
) -> None:
    authority, stranger = Authority(tmp_path / "ca"), Authority(tmp_path / "stranger")
    signed = found("--server", start(tls=authority.server_tls()), "--tls-ca", stranger.ca)
    assert "signed by nobody in the CA file" in signed["tls"]["text"]
    plain = found("--server", start(), "--tls-ca", authority.ca)
    assert "does not speak TLS" in plain["tls"]["text"]


def test_a_server_that_wants_tls_or_a_client_certificate(
    start: Callable[..., str], tmp_path: Path
) -> None:
    authority = Authority(tmp_path / "ca")
    address = start(tls=authority.server_tls(mutual=True))
    assert "--tls-ca" in found("--server", address)["server"]["text"]
    checks = found("--server", address, "--tls-ca", authority.ca)
    assert "--tls-cert" in checks["server"]["text"]
    certificate, key = authority.issue("camera", "camera.example")
    mine = ["--tls-cert", certificate, "--tls-key", key]
    assert found("--server", address, "--tls-ca", authority.ca, *mine)["match"]["state"] == "ok"


def test_no_server_there() -> None:
    checks = found("--server", f"127.0.0.1:{free_port()}")
    assert checks["server"]["state"] == "fail"
    assert "fpcodec serve" in checks["server"]["fix"]
    assert not {"tls", "token", "match"} & checks.keys()
    assert "no such name" in found("--server", "nowhere.invalid:50051")["server"]["text"]


def test_another_profile(start: Callable[..., str]) -> None:
    address = start(bytes(32))
    checks = found("--server", address)
    assert checks["match"]["state"] == "fail"
    assert "deploy the same profile" in checks["match"]["text"]
    assert found("--server", address, "--profile", "bccd")["match"]["state"] == "fail"


def test_tokens_that_are_refused_missing_or_open(start: Callable[..., str], tmp_path: Path) -> None:
    address = start(tokens=with_tokens(tmp_path).tokens)
    none = found("--server", address)
    assert "bearer token" in none["token"]["text"]
    other = write_secret(tmp_path / "other", OTHER_TOKEN.encode())
    wrong = found("--server", address, "--token-file", other)
    assert (wrong["token"]["state"], "not one of" in wrong["token"]["text"]) == ("fail", True)
    assert OTHER_TOKEN not in json.dumps(wrong)
    absent = found("--server", address, "--token-file", tmp_path / "absent")
    assert "cannot read the token" in absent["token"]["text"]
    open_to_all = write_secret(tmp_path / "open", TOKEN.encode())
    open_to_all.chmod(0o644)
    text = run("--server", address, "--token-file", open_to_all).stdout
    assert f"chmod 600 {open_to_all}" in text
    assert "match" in text


def test_a_damaged_profile(tmp_path: Path) -> None:
    folder = tmp_path / "profile"
    shutil.copytree(embedded_profile_path(), folder)
    with (folder / "edge.onnx").open("ab") as file:
        file.write(b"\0")
    checks = found("--profile", folder)
    assert (checks["profile"]["state"], "edge.onnx" in checks["profile"]["text"]) == ("fail", True)
    assert "frame" not in checks
    assert found("--profile", tmp_path / "none")["profile"]["state"] == "fail"


def test_a_provider_that_is_not_here() -> None:
    checks = found("--provider", "tensorrt")
    assert "pip install onnxruntime-gpu" in checks["onnxruntime"]["text"]
    assert checks["frame"]["state"] == "fail"


@pytest.mark.parametrize(
    "arguments", [["--server", "nowhere"], ["--tls-cert", "a", "--server", "a:1"]]
)
def test_usage_errors_stay_usage_errors(arguments: list[str]) -> None:
    result = CliRunner().invoke(app, ["doctor", *arguments])
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")


def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    checks = found("--spool", tmp_path / "file" / "spool")
    assert checks["write"]["state"] == "fail"


def test_limits_of_the_machine(tmp_path: Path) -> None:
    assert machine.python_check((3, 9, 1)).state is State.fail
    assert machine.clock_check(0.0).state is State.fail
    assert machine.coder_check(False).state is State.warn
    for free, state in ((64 * MIB, State.fail), (256 * MIB, State.warn), (None, State.warn)):
        assert machine.memory_check(free).state is state
    assert machine.packages_check("no-such-package").state is State.warn


def test_memory_is_the_containers_where_that_is_less(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 9000 kB\nMemAvailable: 4000 kB\n")
    assert machine.available_memory(meminfo, tmp_path) == 4000 * 1024
    (tmp_path / "memory.max").write_text("3000000\n")
    (tmp_path / "memory.current").write_text("1000000\n")
    assert machine.available_memory(meminfo, tmp_path) == 2_000_000
    (tmp_path / "memory.max").write_text("max\n")
    assert machine.available_memory(meminfo, tmp_path) == 4000 * 1024
    assert machine.available_memory(tmp_path / "absent", tmp_path) is None


@pytest.mark.parametrize(
    ("offset_s", "state"), [(0, State.ok), (-60, State.warn), (60, State.warn), (9000, State.fail)]
)
def test_this_clock_against_the_servers(
    offset_s: float, state: State, start: Callable[..., str]
) -> None:
    import time

    wanted = server.ServerWanted(start(), clock=lambda: time.time() + offset_s)
    (check,) = [x for x in server.check_server(wanted) if x.name == "clock"]
    assert check.state is state
    assert ("ahead of" if offset_s > 1 else "the server's") in check.text


def test_a_server_of_before_says_nothing_of_the_time() -> None:
    assert list(server._clock(None, 0.0, 1.0)) == []


def test_the_help_has_an_example() -> None:
    text = CliRunner().invoke(app, ["doctor", "--help"], env={"COLUMNS": "200"}).stdout
    assert "Example:  fpcodec doctor --profile my-profile" in text
    assert sys.version_info >= machine.OLDEST_PYTHON
