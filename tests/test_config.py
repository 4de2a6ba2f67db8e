"""The server's configuration: where values come from, what they may be, and what is shown."""

from __future__ import annotations

import pickle
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from fpcodec import errors
from fpcodec.codecs.base import Limits
from fpcodec_server import QueueLimits
from fpcodec_server.client_limits import ClientRates
from fpcodec_server.config import (
    SECTIONS,
    AuthConfig,
    ServerConfig,
    TlsConfig,
    build_config,
    kinds,
    values_of,
)
from fpcodec_server.config_sources import PREFIX, LoadedConfig, load_config
from fpcodec_server.operations import Operations

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SECRET = "a-secret-of-many-characters"


def write(folder: Path, text: str) -> Path:
    path = folder / "serve.toml"
    path.write_text(text)
    path.chmod(0o600)
    return path


def complaint(**sources: Any) -> str:
    """The one line that says what is wrong with the sources."""
    with pytest.raises(errors.InputError) as caught:
        load_config(**sources)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_without_sources_everything_has_its_default() -> None:
    loaded = load_config()
    assert loaded.config == ServerConfig()
    assert {loaded.origin(key) for key in kinds()} == {"default"}


def test_later_sources_win(tmp_path: Path) -> None:
    file = write(tmp_path, "workers = 3\nthreads = 4\ngrace_s = 5\n[queue]\nmax_waiting = 6\n")
    loaded = load_config(
        file,
        {"FPCODEC_SERVE_THREADS": "40", "FPCODEC_SERVE_GRACE_S": "50", "PATH": "/bin"},
        {"grace_s": ("--grace", 500.0)},
    )
    config = loaded.config
    assert (config.workers, config.threads, config.grace_s) == (3, 40, 500.0)
    assert config.queue.max_waiting == 6
    assert loaded.origin("workers") == loaded.origin("queue.max_waiting") == f"file {file}"
    assert loaded.origin("threads") == "variable FPCODEC_SERVE_THREADS"
    assert loaded.origin("grace_s") == "flag --grace"
    assert loaded.origin("listen") == "default"


def test_the_environment_may_name_the_file(tmp_path: Path) -> None:
    file = write(tmp_path, "workers = 3\n")
    assert load_config(None, {"FPCODEC_SERVE_CONFIG": str(file)}).config.workers == 3


# One value of each kind, as text and as it is read.
TEXTS = {
    "listen": ("[::]:0", "[::]:0"),
    "profiles": ("tiny, bccd", ("tiny", "bccd")),
    "executor": ("threads", "threads"),
    "workers": ("1_0", 10),
    "threads": ("none", None),
    "batch.delay_ms": ("2.5", 2.5),
    "clients.requests_per_s": ("30", 30.0),
    "auth.token": (SECRET, SECRET),
    "reflection": ("yes", True),
    "metrics.listen": ("127.0.0.1:9464", "127.0.0.1:9464"),
    "log.level": ("debug", "debug"),
}


@pytest.mark.parametrize("key", TEXTS)
def test_every_kind_is_read_from_a_variable(key: str) -> None:
    text, value = TEXTS[key]
    name = PREFIX + key.replace(".", "_").upper()
    assert values_of(load_config(None, {name: text}).config)[key] == value


@pytest.mark.parametrize(
    ("toml", "says"),
    [
        ("workers = 0", "workers is 0; use a whole number of 1 or more"),
        ('workers = "2"', "workers is '2'"),
        ("workers = true", "workers is True"),
        ("workers = 2.0", "workers is 2.0"),
        ("grace_s = nan", "grace_s is nan; use a number of 0 or more"),
        ("grace_s = -0.1", "grace_s is -0.1"),
        ("deadline_s = 0", "deadline_s is 0; use a number above 0"),
        ('listen = "localhost"', "use HOST:PORT"),
        ("listen = 50051", "use HOST:PORT"),
        ('executor = "dask"', "use one of processes, threads, ray"),
        ('profiles = "tiny"', "use a list of names"),
        ("profiles = [1]", "use a list of names"),
        ('reflection = "yes"', "use true or false"),
        ("[log]\nlevel = 'loud'", "log.level is 'loud'; use one of debug, info"),
        ("[tls]\ncertificate = 'absent.pem'", "absent.pem'; use the path of a file"),
        ("[clients]\nbytes_per_s = 0", "use a number above 0, or none"),
        ("queue = 3", "queue is a section"),
        ("[queue]\nmax_wating = 3", "queue.max_wating; did you mean queue.max_waiting?"),
        ("max_waiting = 3", "did you mean queue.max_waiting?"),
        ("[que]\nmax_waiting = 3", "unknown setting que"),
        ("workers = ", "not a TOML file"),
    ],
)
def test_what_is_wrong_in_a_file_is_said_with_its_name(
    tmp_path: Path, toml: str, says: str
) -> None:
    message = complaint(file=write(tmp_path, toml))
    assert says in message
    assert str(tmp_path / "serve.toml") in message


def test_what_is_wrong_elsewhere_is_said_with_its_place(tmp_path: Path) -> None:
    wrong = complaint(environment={"FPCODEC_SERVE_WORKERS": "many"})
    assert wrong == (
        "variable FPCODEC_SERVE_WORKERS: workers is 'many'; use a whole number of 1 or more"
    )
    assert "did you mean FPCODEC_SERVE_QUEUE_MAX_WAITING?" in complaint(
        environment={"FPCODEC_SERVE_QUEUE_MAX_WAIT": "3"}
    )
    assert complaint(flags={"workers": ("--workers", 0)}).startswith("flag --workers: workers is 0")
    assert "did you mean batch.most?" in complaint(flags={"batch.mots": ("--set", "3")})
    assert "absent.toml" in complaint(file=tmp_path / "absent.toml")


def test_what_kubernetes_says_of_a_service_is_no_setting() -> None:
    environment = {
        "FPCODEC_SERVE_SERVICE_HOST": "10.0.0.1",
        "FPCODEC_SERVE_SERVICE_PORT": "50051",
        "FPCODEC_SERVE_SERVICE_PORT_GRPC": "50051",
        "FPCODEC_SERVE_PORT": "tcp://10.0.0.1:50051",
        "FPCODEC_SERVE_PORT_50051_TCP_ADDR": "10.0.0.1",
    }
    assert load_config(None, environment).config == ServerConfig()


@pytest.mark.parametrize(
    "text",
    [
        "[tls]\ncertificate = 'a.pem'",
        "[tls]\nclient_ca = 'a.pem'",
        f"[auth]\ntokens = 'a.pem'\ntoken = '{SECRET}'",
    ],
)
def test_values_that_do_not_fit_together_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.pem").touch()
    message = complaint(file=write(tmp_path, text))
    assert "give" in message
    assert SECRET not in message


def test_a_program_is_held_to_the_same_limits(tmp_path: Path) -> None:
    for make in (
        lambda: ServerConfig(workers=0),
        lambda: QueueLimits(max_waiting=-1),
        lambda: ServerConfig(tls=TlsConfig(certificate=tmp_path)),
        lambda: ClientRates(requests_per_s=0),
    ):
        with pytest.raises(errors.InputError):
            make()
    with pytest.raises(errors.InputError) as caught:
        AuthConfig(token="short")
    assert "short" not in str(caught.value)
    assert "auth.token" in str(caught.value)


def test_paths_in_a_file_start_from_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "etc"
    (folder / "my-profile").mkdir(parents=True)
    (folder / "tokens").touch()
    text = 'profiles = ["my-profile", "tiny"]\n[auth]\ntokens = "tokens"\n'
    config = load_config(write(folder, text)).config
    assert config.auth.tokens == folder / "tokens"
    assert config.profiles == (str(folder / "my-profile"), "tiny")


def with_secret(tmp_path: Path) -> LoadedConfig:
    return load_config(write(tmp_path, f"workers = 7\n[auth]\ntoken = '{SECRET}'\n"))


def test_secrets_are_shown_nowhere(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    loaded = with_secret(tmp_path)
    assert loaded.config.auth.token == SECRET
    for text in (loaded.describe(), repr(loaded), str(loaded.shown()), caplog.text):
        assert SECRET not in text
    assert 'auth.token = "***"' in loaded.describe()
    message = complaint(environment={"FPCODEC_SERVE_AUTH_TOKEN": "short-one"})
    assert "short-one" not in message
    message = complaint(flags={"auth.token": ("--set", SECRET)})
    assert "FPCODEC_SERVE_AUTH_TOKEN" in message
    assert SECRET not in message


def test_a_file_with_a_secret_that_all_can_read_is_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with_secret(tmp_path)
    assert not caplog.records
    path = tmp_path / "serve.toml"
    path.chmod(0o644)
    load_config(path)
    assert "chmod" in caplog.text
    caplog.clear()
    other = write(tmp_path, "workers = 3\n")
    other.chmod(0o644)
    load_config(other)
    assert not caplog.records


def test_what_is_shown_can_be_loaded_again(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("")
    loaded = load_config(
        None,
        {"FPCODEC_SERVE_PROFILES": "a,b", "FPCODEC_SERVE_BATCH_DELAY_MS": "1.5"},
        {"auth.tokens": ("--tokens", str(tmp_path / "t")), "reflection": ("--reflection", True)},
    )
    shown = loaded.describe()
    assert 'profiles = ["a", "b"]  # variable FPCODEC_SERVE_PROFILES' in shown
    assert set(tomllib.loads(shown)) >= set(SECTIONS)
    assert load_config(write(tmp_path, shown)).config == loaded.config


def test_the_decoder_gets_its_limits() -> None:
    assert asdict(ServerConfig().frames) == asdict(Limits())
    changed: Limits = build_config({"frames.max_frame_bytes": 1000}).frames
    assert asdict(changed) == asdict(Limits(max_frame_bytes=1000))
    assert pickle.loads(pickle.dumps(changed)) == changed  # to workers


@pytest.mark.parametrize("key", [key for key, kind in kinds().items() if not kind.optional])
def test_a_message_names_a_setting_as_files_do(key: str) -> None:
    with pytest.raises(errors.InputError) as caught:
        build_config({key: None})
    assert str(caught.value).startswith(f"{key} is None; use ")


def test_operations_follow_the_configuration(tmp_path: Path) -> None:
    plain = Operations.of(ServerConfig())
    assert (plain.tls, plain.tokens, plain.rates, plain.metrics_listen) == (None,) * 4
    config = build_config(
        {"auth.token": SECRET, "clients.bytes_per_s": 1000, "metrics.listen": "127.0.0.1:0"}
    )
    operations = Operations.of(config)
    assert operations.tokens is not None
    assert operations.tokens.name_of(SECRET) == "default"
    assert operations.rates is not None
    assert operations.rates.bytes_per_s == 1000
    assert operations.metrics_listen == "127.0.0.1:0"
