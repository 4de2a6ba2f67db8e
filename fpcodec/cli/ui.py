"""``fpcodec ui``: the live page."""

from __future__ import annotations

import contextlib
import sys
import threading
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fpcodec.cli.options import ProfileFolder, Threads, open_profile
from fpcodec.cli.output import note
from fpcodec.cli.security_options import (
    Tls,
    TlsCa,
    TlsCert,
    TlsKey,
    TlsServerName,
    TokenFile,
    TokenInPlainText,
    channel_security,
    quiet_grpc,
)

if TYPE_CHECKING:
    from fpcodec.evaluation.profile_curve import ProfileCurve
    from fpcodec.profile import Profile

_DEADLINE_S = 20.0


def ui(
    profile: ProfileFolder = None,
    host: Annotated[
        str, typer.Option(metavar="HOST", help="Where to listen; 0.0.0.0 lets other machines in.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(metavar="PORT", min=0, max=65535, help="0 takes a free one.")
    ] = 7860,
    open_browser: Annotated[
        bool, typer.Option("--open/--no-open", help="Show the page in a browser.")
    ] = True,
    results: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", show_default=False,
            help="What `fpcodec bench rd` measured, for the curve; else the profile's own.",
        ),
    ] = None,
    server: Annotated[
        str | None,
        typer.Option(
            "--server", "-s", metavar="HOST:PORT", show_default=False,
            help="Answer by a running `fpcodec serve`, not in this process.",
        ),
    ] = None,
    threads: Threads = None,
    beside_server: Annotated[
        bool, typer.Option("--beside-server", hidden=True, help="Status lines come on stdin.")
    ] = False,
    tls: Tls = False,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    tls_server_name: TlsServerName = None,
    token_file: TokenFile = None,
    token_in_plain_text: TokenInPlainText = False,
) -> None:  # fmt: skip
    """Show what a picture costs and what is found, live, as a page in the browser.

    It needs gradio, the extra ui: pip install "fpcodec\\[ui]".

    Prints one line when it answers: "ready http://HOST:PORT/".

    Example:  fpcodec ui --profile my-profile --port 7860
    """
    quiet_grpc()
    from fpcodec.ui.server_status import ServerStatus, step_back
    from fpcodec.ui.web import listening, require_gradio

    if beside_server:
        step_back()
    loaded = open_profile(profile)
    curve = _curve(loaded, results)
    security = channel_security(
        tls, tls_ca, tls_cert, tls_key, tls_server_name, token_file, token_in_plain_text
    )
    require_gradio()
    with contextlib.ExitStack() as stack:
        bound = stack.enter_context(listening(host, port))
        infer = None
        if server is not None:
            from fpcodec_edge import EdgeClient

            client = stack.enter_context(
                EdgeClient(server, deadline_s=_DEADLINE_S, security=security)
            )
            client.negotiate(loaded.stream_id)
            infer = client.infer
        note("starting the page ..")
        from fpcodec.ui.page import Page
        from fpcodec.ui.visit import Studio
        from fpcodec.ui.web import run
        from fpcodec.ui.workbench import Workbench

        status = None
        if beside_server:
            status = ServerStatus(sys.stdin, loaded.stream_id)
            status.follow()
        studio = Studio(Workbench(loaded, threads=threads, infer=infer), curve)
        page = Page(studio, None if status is None else status.html)
        url = _url(host, bound.getsockname()[1])
        run(page, bound, _announce(url, open_browser), uploads=not beside_server)


def _curve(profile: Profile, results: Path | None) -> ProfileCurve | None:
    """What was measured of a profile, from results or from itself.

    Raises:
        InputError: The results cannot be read, or hold no frame of it.
    """
    from fpcodec.errors import InputError
    from fpcodec.evaluation.profile_curve import ProfileCurve, carried_curve
    from fpcodec.evaluation.results import read_rows

    if results is None:
        return carried_curve(profile.measured)
    curve = ProfileCurve.of_rows(read_rows(results), profile.stream_id)
    if curve is None:
        raise InputError(
            f"{results} holds no frame of profile {profile.name} (stream "
            f"{profile.stream_id.hex()[:12]}); measure it with fpcodec bench rd"
        )
    return curve


def _announce(url: str, open_browser: bool) -> Callable[[], None]:
    def ready() -> None:
        from fpcodec.cli.serve import READY

        print(f"{READY} {url}", flush=True)
        if open_browser:
            # Some browsers come back only when they are closed.
            threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()

    return ready


def _url(host: str, port: int) -> str:
    from fpcodec.address import join_address

    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"http://{join_address(shown, port)}/"
