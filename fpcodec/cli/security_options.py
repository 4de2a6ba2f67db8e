"""How a command that calls a server is known to it, and knows it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fpcodec_edge import ChannelSecurity

TOKEN_VARIABLE = "FPCODEC_TOKEN"  # noqa: S105 (a name, not a token)
"""Variable of the environment that holds a token where no file is given."""

PANEL = "Connection"

Tls = Annotated[
    bool,
    typer.Option(
        "--tls", rich_help_panel=PANEL,
        help="Encrypt, and believe the authorities that gRPC brings; the flags below imply it.",
    ),
]  # fmt: skip
TlsCa = Annotated[
    Path | None,
    typer.Option(
        "--tls-ca", metavar="FILE", show_default=False, rich_help_panel=PANEL,
        help="Authorities that sign the server, PEM.",
    ),
]  # fmt: skip
TlsCert = Annotated[
    Path | None,
    typer.Option(
        "--tls-cert", metavar="FILE", show_default=False, rich_help_panel=PANEL,
        help="This device's certificate chain, PEM, for servers that want one.",
    ),
]  # fmt: skip
TlsKey = Annotated[
    Path | None,
    typer.Option(
        "--tls-key", metavar="FILE", show_default=False, rich_help_panel=PANEL,
        help="Its private key, PEM.",
    ),
]  # fmt: skip
TlsServerName = Annotated[
    str | None,
    typer.Option(
        "--tls-server-name", metavar="NAME", show_default=False, rich_help_panel=PANEL,
        help="Name in the server's certificate, where the address is another.",
    ),
]  # fmt: skip
TokenFile = Annotated[
    Path | None,
    typer.Option(
        "--token-file", metavar="FILE", show_default=False, rich_help_panel=PANEL,
        help=f"Bearer token, alone in a file; or set {TOKEN_VARIABLE}.",
    ),
]  # fmt: skip
TokenInPlainText = Annotated[
    bool,
    typer.Option(
        "--token-in-plain-text", rich_help_panel=PANEL,
        help="Send the token without TLS to another machine, for all on the way to read.",
    ),
]  # fmt: skip


def quiet_grpc() -> None:
    """Keep gRPC's own lines off a terminal: what they say, the error says too.

    Call it before anything imports gRPC. ``GRPC_VERBOSITY=INFO`` brings them back.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")


def channel_security(
    tls: bool,
    ca: Path | None,
    certificate: Path | None,
    key: Path | None,
    server_name: str | None,
    token_file: Path | None,
    token_in_plain_text: bool,
) -> ChannelSecurity | None:
    """What the flags say, for ``EdgeClient``; None for plain text without a token.

    Raises:
        InputError: The flags do not fit together, or the token's file cannot be read.
    """
    from fpcodec_edge.channel import ChannelSecurity, read_token

    token = os.environ.get(TOKEN_VARIABLE) if token_file is None else read_token(token_file)
    security = ChannelSecurity(
        tls, ca, certificate, key, token or None, server_name, token_in_plain_text
    )
    return None if security == ChannelSecurity() else security
