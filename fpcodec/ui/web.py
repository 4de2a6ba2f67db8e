"""The page as a web server: on one address, from one host, with nothing fetched from elsewhere."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any

from fpcodec.address import join_address
from fpcodec.errors import InputError, MissingDependency
from fpcodec.ui.inputs import MAX_UPLOAD_BYTES
from fpcodec.ui.style import CSS

if TYPE_CHECKING:
    from fpcodec.ui.page import Page

# Scripts of gradio make functions of templates, hence unsafe-eval; other hosts are shut out.
_POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; connect-src 'self'; frame-ancestors 'self'; "
    "form-action 'self'; base-uri 'self'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
# The page itself says that a file is too large; above this gradio's own notice does.
_REFUSED_UPLOAD_BYTES = 4 * MAX_UPLOAD_BYTES
_MOST_SESSIONS = 32
_MOST_WAITING = 32

Call = Callable[[Any], Awaitable[Any]]


def require_gradio() -> None:
    """Import gradio with its telemetry off.

    Raises:
        MissingDependency: It is not installed.
    """
    # Read at import; a page of one's own machine reports to nobody.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        import gradio  # noqa: F401
    except ImportError as error:
        raise MissingDependency(
            "the page needs gradio; install it with pip install 'fpcodec[ui]'"
        ) from error


@contextlib.contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that is bound before the slow start, so that a taken port is an error at once.

    Raises:
        InputError: The address cannot be listened on.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
    except OSError as error:
        raise _cannot_listen(host, port, error) from error
    with bound:
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
        except OSError as error:
            raise _cannot_listen(host, port, error) from error
        yield bound


def run(page: Page, bound: socket.socket, ready: Callable[[], None], *, uploads: bool) -> None:
    """Serve the page until SIGTERM or Ctrl-C.

    Args:
        page: What is served.
        bound: Where.
        ready: Called once it answers.
        uploads: Whether visitors may hand in files.
    """
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            ready()

    with tempfile.TemporaryDirectory(prefix="fpcodec-ui-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        # At its end it would log a traceback for every page that is still open somewhere.
        config = uvicorn.Config(
            _application(page, uploads=uploads), log_level="critical", access_log=False,
            timeout_graceful_shutdown=1, server_header=False,
        )  # fmt: skip
        # Uvicorn hands a signal on once it has stopped: the process then ends as asked, with 0.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: sys.exit(0))
        with contextlib.suppress(SystemExit):
            Server(config).run([bound])


def _application(page: Page, *, uploads: bool) -> Any:
    import gradio as gr
    from fastapi import FastAPI, Request
    from fastapi.responses import PlainTextResponse

    outer = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @outer.middleware("http")
    async def guard(request: Request, call: Call) -> Any:
        if not uploads and "/upload" in request.url.path:
            return PlainTextResponse("this page takes no files", status_code=403)
        response = await call(request)
        response.headers.update(_HEADERS)
        return response

    blocks = page.blocks()
    blocks.queue(max_size=_MOST_WAITING, default_concurrency_limit=1)
    blocks.state_session_capacity = _MOST_SESSIONS
    font = ("system-ui", "sans-serif")
    theme = gr.themes.Default(
        primary_hue=gr.themes.colors.blue, font=font, font_mono=("ui-monospace", "monospace")
    ).set(
        # Lighter ones are too faint to read.
        body_text_color_subdued="*neutral_600", body_text_color_subdued_dark="*neutral_300",
        block_info_text_color="*neutral_600", block_info_text_color_dark="*neutral_300",
        color_accent="*primary_700",
    )  # fmt: skip
    return gr.mount_gradio_app(
        outer, blocks, "/", footer_links=[], run_history=False, show_error=False,
        max_file_size=_REFUSED_UPLOAD_BYTES, ssr_mode=False, mcp_server=False, pwa=False,
        theme=theme, css=CSS,
    )  # fmt: skip


def _cannot_listen(host: str, port: int, error: OSError) -> InputError:
    return InputError(
        f"cannot listen on {join_address(host, port)} ({error.strerror or error}); choose another "
        "host or port, 0 for any free one"
    )
