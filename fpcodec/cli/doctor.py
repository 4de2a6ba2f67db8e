"""``fpcodec doctor``: can this machine do an edge's work, and what is to be mended?"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fpcodec.cli.colour import GREEN, RED, YELLOW, painted
from fpcodec.cli.options import Json, ProfileFolder, Providers, Threads, open_profile
from fpcodec.cli.output import print_json
from fpcodec.cli.security_options import (
    TOKEN_VARIABLE,
    Tls,
    TlsCa,
    TlsCert,
    TlsKey,
    TlsServerName,
    TokenFile,
    TokenInPlainText,
    quiet_grpc,
)

if TYPE_CHECKING:
    from fpcodec.profile import Profile
    from fpcodec_edge.doctor import Check, Machine, ServerWanted

FAILED_EXIT = 1
_STYLES = {"ok": GREEN, "warn": YELLOW, "fail": RED}


def doctor(
    server: Annotated[
        str | None,
        typer.Option("--server", "-s", metavar="HOST:PORT", show_default=False,
                     help="Also check the way to a running `fpcodec serve`, and its profile."),
    ] = None,
    profile: ProfileFolder = None,
    spool: Annotated[
        Path | None,
        typer.Option(metavar="DIR", show_default=False, help="Also check the spool's folder."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", show_default=False, help="Also check a folder for results."),
    ] = None,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.1, help="Of each step towards the server.")
    ] = 5.0,
    threads: Threads = None,
    provider: Providers = None,
    as_json: Json = False,
    tls: Tls = False,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    tls_server_name: TlsServerName = None,
    token_file: TokenFile = None,
    token_in_plain_text: TokenInPlainText = False,
) -> None:  # fmt: skip
    """Check a machine and its way to a server; say what to mend, one line per check.

    Exit code 0, or 1 where something fails. A warning works, for now. Give the flags that
    fpcodec edge is to get.

    Example:  fpcodec doctor --profile my-profile --server 10.0.0.5:50051 --spool /var/spool/fpcodec
    """
    quiet_grpc()
    from fpcodec.address import split_address
    from fpcodec_edge.channel import ChannelSecurity
    from fpcodec_edge.doctor import Machine, ServerWanted, State

    wanted = None
    if server is not None:
        split_address(server)
        wanted = ServerWanted(
            server,
            ChannelSecurity(
                tls, tls_ca, tls_cert, tls_key, None, tls_server_name, token_in_plain_text
            ),
            token_file, os.environ.get(TOKEN_VARIABLE) or None, timeout_s=timeout,
        )  # fmt: skip
    folders = {use: path for use, path in (("spool", spool), ("results", out)) if path is not None}
    checks = []
    for check in _checks(Machine(tuple(provider or ()), folders), profile, threads, wanted):
        checks.append(check)
        if not as_json:
            _show(check)
    failed = sum(check.state is State.fail for check in checks)
    if as_json:
        print_json({"ok": not failed, "checks": [check.to_dict() for check in checks]})
    else:
        print(f"{failed} of {len(checks)} checks fail" if failed else "nothing fails")
    if failed:
        raise typer.Exit(FAILED_EXIT)


def _checks(
    machine: Machine, profile: Path | None, threads: int | None, wanted: ServerWanted | None
) -> Iterator[Check]:
    from dataclasses import replace

    from fpcodec_edge.doctor import check_machine, check_profile, check_server

    found: list[Profile] = []
    yield from check_machine(machine)
    yield from check_profile(
        lambda: open_profile(profile), found.append, threads=threads, providers=machine.providers
    )
    if wanted is not None:
        stream_id = found[0].stream_id if found else None
        yield from check_server(replace(wanted, stream_id=stream_id))


def _show(check: Check) -> None:
    state = painted(f"{check.state.value:4}", _STYLES[check.state.value], sys.stdout)
    fix = f"; {check.fix}" if check.fix else ""
    print(f"{state}  {check.name:11} {check.text}{fix}")
