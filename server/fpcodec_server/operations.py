"""What an operator decides about a server: who is let in, over what, and what is counted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fpcodec_server.client_limits import ClientLimits, ClientRates
from fpcodec_server.config import ServerConfig
from fpcodec_server.interceptors import CallInterceptor, CallRules
from fpcodec_server.metrics import ServerMetrics
from fpcodec_server.page import ServerPage
from fpcodec_server.reflection import require_reflection
from fpcodec_server.tls import ReloadingTls
from fpcodec_server.tokens import OneToken, Tokens


@dataclass(frozen=True)
class Operations:
    """The parts that surround one server's calls.

    Attributes:
        tls: The server's certificate; None for plain text.
        tokens: Who is let in; None for everybody.
        rates: What each client may use; None for anything.
        metrics: What counts.
        metrics_listen: ``host:port`` for Prometheus; None for nowhere.
        reflection: Whether clients may list the calls.
        page: The page about the server; None for none.
    """

    tls: ReloadingTls | None = None
    tokens: Tokens | OneToken | None = None
    rates: ClientRates | None = None
    metrics: ServerMetrics = field(default_factory=ServerMetrics)
    metrics_listen: str | None = None
    reflection: bool = False
    page: ServerPage | None = None

    @classmethod
    def of(cls, config: ServerConfig) -> Operations:
        """What a configuration asks for; files are read now.

        Raises:
            InputError: A file cannot be used.
            MissingDependency: Reflection or the page is wanted and its package not installed.
        """
        metrics, page = ServerMetrics(), None
        if config.ui.listen is not None:
            page = ServerPage(config.ui.listen, config.profiles, metrics.registry)
        files, auth = config.tls.files, config.auth
        tokens: Tokens | OneToken | None = None
        if auth.tokens is not None:
            tokens = Tokens(auth.tokens)
        elif auth.token is not None:
            tokens = OneToken(auth.token)
        return cls(
            tls=None if files is None else ReloadingTls(files),
            tokens=tokens,
            rates=None if config.clients.unlimited else config.clients,
            metrics=metrics,
            metrics_listen=config.metrics.listen,
            reflection=config.reflection,
            page=page,
        )

    def __post_init__(self) -> None:
        if self.reflection:
            require_reflection()

    def credentials(self) -> Any:
        """For ``add_secure_port``; None for an insecure one."""
        return None if self.tls is None else self.tls.credentials()

    def interceptors(self) -> tuple[CallInterceptor, ...]:
        """For ``grpc.aio.server``."""
        limits = None if self.rates is None else ClientLimits(self.rates)
        return (CallInterceptor(CallRules(self.metrics, self.tokens, limits)),)

    def open(self) -> None:
        """Answer scrapes, and start the page, where that is wanted.

        Raises:
            InputError: The metrics' or the page's address cannot be listened on.
        """
        if self.metrics_listen is not None:
            self.metrics.serve(self.metrics_listen)
        if self.page is not None:
            self.page.open()

    def close(self) -> None:
        """Answer no more scrapes, and end the page."""
        if self.page is not None:
            self.page.close()
        self.metrics.close()
