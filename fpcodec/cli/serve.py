"""``fpcodec serve``: answer edge devices."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fpcodec.cli.completion import profiles_to_run
from fpcodec.cli.options import PROVIDER_HELP, open_profile

if TYPE_CHECKING:
    from fpcodec.profile import Profile
    from fpcodec_server.config_sources import LoadedConfig

READY = "ready"
"""First word of the line that ``serve`` prints once it answers; the second is its address."""

_log = logging.getLogger(__name__)

_SECURITY = "Who is let in"
_RUNNING = "Watching it"


def _option(name: str, metavar: str | None, help_text: str, panel: str | None = None) -> Any:
    return typer.Option(
        name, metavar=metavar, help=help_text, show_default=False, rich_help_panel=panel
    )


def serve(
    profile: Annotated[
        list[str] | None,
        typer.Option(
            "--profile",
            "-p",
            metavar="DIR",
            show_default=False,
            autocompletion=profiles_to_run,
            help="Profile folder, or an embedded one: tiny (the default), bccd; "
            "give it several times to serve several.",
        ),
    ] = None,
    listen: Annotated[
        str | None,
        _option(
            "--listen",
            "HOST:PORT",
            "Where to listen, 127.0.0.1:50051 unless told; 0.0.0.0:50051 lets other machines in, "
            "port 0 takes a free one.",
        ),
    ] = None,
    threads: Annotated[int | None, _option("--threads", "N", "Threads per network.")] = None,
    provider: Annotated[
        list[str] | None,
        _option(
            "--provider",
            "NAME",
            PROVIDER_HELP,
        ),
    ] = None,
    workers: Annotated[
        int | None, _option("--workers", "N", "Batches in work at the same time.")
    ] = None,
    max_waiting: Annotated[
        int | None, _option("--max-waiting", "N", "Requests that may wait; more are refused.")
    ] = None,
    config: Annotated[
        Path | None, _option("--config", "FILE", "TOML file of settings; --print-config shows one.")
    ] = None,
    settings: Annotated[
        list[str] | None, _option("--set", "KEY=VALUE", "Any setting of the file, as batch.most=8.")
    ] = None,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print all settings, with their origin, and end.")
    ] = False,
    tls_cert: Annotated[
        str | None, _option("--tls-cert", "FILE", "Certificate chain, PEM.", _SECURITY)
    ] = None,
    tls_key: Annotated[
        str | None, _option("--tls-key", "FILE", "Its private key, PEM.", _SECURITY)
    ] = None,
    tls_client_ca: Annotated[
        str | None,
        _option("--tls-client-ca", "FILE", "Let in only clients that it signed, PEM.", _SECURITY),
    ] = None,
    tokens: Annotated[
        str | None, _option("--tokens", "FILE", "Bearer tokens: NAME TOKEN per line.", _SECURITY)
    ] = None,
    reflection: Annotated[
        bool | None,
        typer.Option(
            "--reflection/--no-reflection",
            show_default=False,
            help="Let clients list the calls.",
            rich_help_panel=_SECURITY,
        ),
    ] = None,
    metrics: Annotated[
        str | None, _option("--metrics", "HOST:PORT", "Where Prometheus may ask.", _RUNNING)
    ] = None,
    ui: Annotated[
        str | None,
        _option(
            "--ui", "HOST:PORT", "Where people see a read-only page; needs the extra ui.", _RUNNING
        ),
    ] = None,
    log_format: Annotated[
        str | None, _option("--log-format", "FORM", "text or json.", _RUNNING)
    ] = None,
    log_level: Annotated[
        str | None, _option("--log-level", "LEVEL", "debug, info, warning or error.", _RUNNING)
    ] = None,
    stop_with_stdin: Annotated[
        bool, typer.Option("--stop-with-stdin", hidden=True, help="End when stdin is closed.")
    ] = False,
) -> None:
    """Serve a profile until SIGTERM or Ctrl-C.

    Prints one line when it answers: "ready HOST:PORT ..". Settings come from --config, then from
    variables FPCODEC_SERVE_.., then from flags; later ones win.

    Example:  fpcodec serve --profile my-profile --listen 0.0.0.0:50051
    """
    flags = {
        "profiles": ("--profile", profile),
        "listen": ("--listen", listen),
        "threads": ("--threads", threads),
        "providers": ("--provider", provider),
        "workers": ("--workers", workers),
        "queue.max_waiting": ("--max-waiting", max_waiting),
        "tls.certificate": ("--tls-cert", tls_cert),
        "tls.key": ("--tls-key", tls_key),
        "tls.client_ca": ("--tls-client-ca", tls_client_ca),
        "auth.tokens": ("--tokens", tokens),
        "reflection": ("--reflection", reflection),
        "metrics.listen": ("--metrics", metrics),
        "ui.listen": ("--ui", ui),
        "log.format": ("--log-format", log_format),
        "log.level": ("--log-level", log_level),
    }
    from fpcodec_server.config_sources import load_config

    given = {**_parse_settings(settings or ()), **_given(flags)}
    loaded = load_config(config, os.environ, given)
    if print_config:
        print(loaded.describe())
        return
    if stop_with_stdin:
        threading.Thread(target=_stop_at_end_of_stdin, daemon=True).start()
    _run(loaded)


def _given(flags: dict[str, tuple[str, Any]]) -> dict[str, tuple[str, Any]]:
    """The flags that were given."""
    return {key: (flag, value) for key, (flag, value) in flags.items() if value is not None}


def _parse_settings(settings: Sequence[str]) -> dict[str, tuple[str, Any]]:
    """What several ``--set`` say.

    Raises:
        InputError: One is not KEY=VALUE.
    """
    from fpcodec.errors import InputError

    parsed = {}
    for text in settings:
        key, equals, value = text.partition("=")
        if not equals:
            # Not quoted whole: it may hold a secret.
            raise InputError("--set wants KEY=VALUE, as batch.most=8; see --print-config for keys")
        parsed[key.strip()] = ("--set", value.strip())
    return parsed


def _run(loaded: LoadedConfig) -> None:
    config = loaded.config
    from fpcodec_server import serve as run_server
    from fpcodec_server.request_log import configure_logging, log_fields
    from fpcodec_server.server_config import server_of

    configure_logging(config.log.format, config.log.level)
    profiles = _open_profiles(config.profiles)
    server = server_of(config, profiles)

    def announce(address: str) -> None:
        log_fields(_log, logging.INFO, "configuration", loaded.shown())
        served = " ".join(f"profile {x.name} stream {x.stream_id.hex()[:12]}" for x in profiles)
        print(f"{READY} {address} {served}", flush=True)

    run_server(server, on_ready=announce, load_profiles=lambda: _open_profiles(config.profiles))


def _open_profiles(names: Sequence[str]) -> list[Profile]:
    return [open_profile(Path(name)) for name in names] or [open_profile(None)]


def _stop_at_end_of_stdin() -> None:
    """A parent that dies, however it dies, closes the pipe: no server is left behind."""
    while sys.stdin.buffer.read(4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
