"""``serve`` and ``detect`` with certificates, tokens, metrics and a configuration file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from tls_kit import OTHER_TOKEN, TOKEN, Authority, tokens_file, write_secret
from typer.testing import CliRunner
from wire_kit import FakeHalf, StartServer, free_port

from fpcodec import embedded_profile_path, errors
from fpcodec.cli.app import app
from fpcodec.cli.loopback import loopback_server
from fpcodec_edge import EdgeClient
from fpcodec_server.operations import Operations


def run(*arguments: object, **options: Any) -> Any:
    return CliRunner().invoke(app, [str(x) for x in arguments], **options)


def test_a_guarded_server_from_file_environment_and_flags(tmp_path: Path, photo: Path) -> None:
    authority = Authority(tmp_path / "ca")
    certificate, key = authority.issue("server")
    client_certificate, client_key = authority.issue("camera", "camera.example")
    metrics = f"127.0.0.1:{free_port()}"
    config = tmp_path / "serve.toml"
    config.write_text(f"""
listen = "127.0.0.1:0"
workers = 1
threads = 1
[tls]
certificate = "{certificate.relative_to(tmp_path)}"
key = "{key.relative_to(tmp_path)}"
client_ca = "ca/ca.pem"
[log]
format = "json"
""")
    command = [sys.executable, "-m", "fpcodec.cli", "serve", "--config", str(config)]
    command += ["--tokens", str(tokens_file(tmp_path)), "--set", f"metrics.listen={metrics}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "FPCODEC_SERVE_GRACE_S": "3"}
    with (
        (tmp_path / "log").open("w+") as log,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment
        ) as process,
    ):
        try:
            assert process.stdout is not None
            word, address, *_ = process.stdout.readline().split()
            assert word == "ready"
            detect = ["detect", photo, "--server", address, "--threads", "1"]
            secure = ["--tls-ca", authority.ca, "--tls-cert", client_certificate]
            secure += ["--tls-key", client_key]
            token = write_secret(tmp_path / "token", TOKEN.encode())
            good = run(*detect, *secure, "--token-file", token)
            assert good.exit_code == 0, good.stderr
            by_variable = run(*detect, *secure, env={"FPCODEC_TOKEN": TOKEN})
            assert by_variable.exit_code == 0, by_variable.stderr
            bad_token = write_secret(tmp_path / "bad", OTHER_TOKEN.encode())
            for arguments, says in (
                ([*secure], "bearer token"),
                ([*secure, "--token-file", bad_token], "not one of this server's"),
                (["--token-file", token], "--tls-ca"),
                (["--tls", "--token-file", token], "--tls-ca"),
            ):
                bad = run(*detect, "--deadline", "1", *arguments)
                assert bad.exit_code == 2
                assert bad.stderr.count("\n") == 1
                assert says in bad.stderr
            with urllib.request.urlopen(f"http://{metrics}/metrics", timeout=5) as answer:
                text = answer.read().decode()
            assert 'fpcodec_requests_total{code="OK",method="Infer"} 2.0' in text
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
        log.seek(0)
        written = log.read()
    lines = [json.loads(line) for line in written.splitlines() if line.startswith("{")]
    (shown,) = [x for x in lines if x["message"] == "configuration"]
    assert (shown["workers"], shown["grace_s"]) == (1, 3.0)
    clients = {x["client"] for x in lines if x["message"] == "request" and x["code"] == "OK"}
    assert clients == {"token:camera"}
    assert TOKEN not in written
    assert OTHER_TOKEN not in written


def test_a_failed_handshake_is_one_line_of_a_real_process(
    start_server: StartServer, tmp_path: Path, photo: Path
) -> None:
    tls = Authority(tmp_path / "ca").server_tls()
    server = start_server(FakeHalf(), operations=Operations(tls=tls))
    stranger = Authority(tmp_path / "stranger")
    command = [sys.executable, "-m", "fpcodec.cli", "detect", str(photo)]
    command += ["--server", server.address, "--tls-ca", str(stranger.ca)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 2
    assert result.stderr.startswith("error: no safe connection")
    assert result.stderr.count("\n") == 1


def test_print_config_prints_and_ends(tmp_path: Path) -> None:
    config = tmp_path / "serve.toml"
    config.write_text("[queue]\nmax_waiting = 5\n")
    config.chmod(0o600)
    result = run(
        "serve", "--config", config, "--print-config", "--workers", 3, "--set", "batch.most=4",
        "--profile", "a", "--profile", "b",
        env={"FPCODEC_SERVE_AUTH_TOKEN": TOKEN},
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    for line in (
        "workers = 3  # flag --workers",
        "batch.most = 4  # flag --set",
        'profiles = ["a", "b"]  # flag --profile',
        f"queue.max_waiting = 5  # file {config}",
        'auth.token = "***"  # variable FPCODEC_SERVE_AUTH_TOKEN',
        'listen = "127.0.0.1:50051"  # default',
    ):
        assert line in lines


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--workers", "0"], "flag --workers: workers is 0"),
        (["--set", "batch.mots=3"], "did you mean batch.most?"),
        (["--set", TOKEN], "KEY=VALUE"),
        (["--set", f"auth.token={TOKEN}"], "FPCODEC_SERVE_AUTH_TOKEN"),
        (["--log-level", "loud"], "log.level is 'loud'"),
        (["--tls-cert", __file__], "tls.key"),
        (["--tls-cert", __file__, "--tls-key", __file__], "cannot be used together"),
        (["--metrics", "nowhere"], "HOST:PORT"),
        (["--config", "absent.toml"], "absent.toml"),
    ],
)
def test_bad_settings_are_one_line(arguments: list[str], says: str) -> None:
    result = run("serve", *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("error: ")
    assert says in result.stderr
    assert TOKEN not in result.stderr


def test_an_operators_variables_are_not_meant_for_the_demos_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FPCODEC_SERVE_WORKERS", "many")
    monkeypatch.setenv("FPCODEC_SERVE_AUTH_TOKEN", TOKEN)
    with (
        loopback_server(embedded_profile_path(), threads=1) as address,
        EdgeClient(address) as client,
        pytest.raises(errors.ProfileMismatch),
    ):
        client.negotiate(bytes(32))


def test_a_token_is_not_sent_in_the_open(photo: Path) -> None:
    server = ("--server", "192.0.2.1:50051")
    result = run("detect", photo, *server, env={"FPCODEC_TOKEN": TOKEN})
    assert result.exit_code == 2
    assert "unencrypted" in result.stderr
    assert TOKEN not in result.stderr
