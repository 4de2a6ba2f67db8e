"""The server's configuration, as an operator writes it."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, get_type_hints

from fpcodec.codecs.base import Limits
from fpcodec.errors import InputError
from fpcodec.explain.odam_nms import MAX_CANDIDATES, OdamRule
from fpcodec_server.admission import QueueLimits
from fpcodec_server.client_limits import ClientRates
from fpcodec_server.dispatcher import BatchLimits
from fpcodec_server.request_log import FORMATS, LEVELS
from fpcodec_server.settings import (
    ADDRESS,
    OPTIONAL_ADDRESS,
    OPTIONAL_FILE,
    OPTIONAL_SECRET,
    SWITCH,
    Kind,
    Section,
    choice,
    number,
    whole,
    words,
)
from fpcodec_server.streams import StreamLimits
from fpcodec_server.tls import TlsFiles
from fpcodec_server.workers import EXECUTORS

ODAM_MODES = ("off", "offered", "always")


@dataclass(frozen=True)
class FramesConfig(Section, Limits, name="frames"):
    """What a frame may ask for: the decoder's limits."""

    @classmethod
    def kinds(cls) -> dict[str, Kind]:
        """The decoder knows no kinds; all its limits are of one."""
        return {limit.name: whole(1) for limit in fields(Limits)}


@dataclass(frozen=True)
class TlsConfig(Section, name="tls"):
    """TLS; off without a certificate.

    Attributes:
        certificate: The certificate chain, PEM.
        key: Its private key, PEM.
        client_ca: Authorities whose clients are let in, PEM; no others are.

    Raises:
        InputError: A value is out of its range, or a file is missing.
    """

    certificate: Annotated[Path | None, OPTIONAL_FILE] = None
    key: Annotated[Path | None, OPTIONAL_FILE] = None
    client_ca: Annotated[Path | None, OPTIONAL_FILE] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.files is None and (self.certificate or self.key or self.client_ca):
            raise InputError(
                "TLS needs tls.certificate and tls.key, and tls.client_ca besides where clients "
                "need certificates; give what is missing"
            )

    @property
    def files(self) -> TlsFiles | None:
        """The files; None for plain text."""
        if self.certificate is None or self.key is None:
            return None
        return TlsFiles(self.certificate, self.key, self.client_ca)


@dataclass(frozen=True)
class AuthConfig(Section, name="auth"):
    """Who is let in; everybody, where neither is given.

    Attributes:
        tokens: File of bearer tokens; see docs/operations.md.
        token: A single token. A secret: from a file or a variable, never a flag.

    Raises:
        InputError: A value is out of its range, or both are given.
    """

    tokens: Annotated[Path | None, OPTIONAL_FILE] = None
    token: Annotated[str | None, OPTIONAL_SECRET] = field(default=None, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tokens is not None and self.token is not None:
            raise InputError("auth.tokens and auth.token exclude each other; give one of them")


@dataclass(frozen=True)
class MetricsConfig(Section, name="metrics"):
    """Where Prometheus finds the server's metrics; nowhere without an address."""

    listen: Annotated[str | None, OPTIONAL_ADDRESS] = None


@dataclass(frozen=True)
class UiConfig(Section, name="ui"):
    """Where people find the read-only page about the server; nowhere without an address."""

    listen: Annotated[str | None, OPTIONAL_ADDRESS] = None


@dataclass(frozen=True)
class LogConfig(Section, name="log"):
    """The log, on stderr.

    Attributes:
        format: ``text`` or ``json``.
        level: The least important lines that are written.
    """

    format: Annotated[str, choice(*FORMATS)] = "text"
    level: Annotated[str, choice(*LEVELS)] = "info"


@dataclass(frozen=True)
class OdamConfig(Section, name="odam"):
    """Odam-NMS, which selects boxes by their overlap and by their reasons; slow.

    Attributes:
        mode: ``off``; ``offered`` to calls that ask for it; or ``always``, streams too.
        low: Likeness of heat maps below which boxes that overlap much both stay.
        high: Likeness from which on the lower of two that overlap little goes.
        candidates: Boxes of an image that get heat maps.

    Raises:
        InputError: A value is out of its range.
    """

    mode: Annotated[str, choice(*ODAM_MODES)] = "off"
    low: Annotated[float, number(0)] = OdamRule.low
    high: Annotated[float, number(0)] = OdamRule.high
    candidates: Annotated[int, whole(1, MAX_CANDIDATES)] = OdamRule.candidates

    def __post_init__(self) -> None:
        super().__post_init__()
        self._thresholds()

    @property
    def rule(self) -> OdamRule | None:
        """None where it is off."""
        return None if self.mode == "off" else self._thresholds()

    def _thresholds(self) -> OdamRule:
        return OdamRule(self.low, self.high, self.candidates)


@dataclass(frozen=True)
class ServerConfig(Section):
    """Everything that an operator can decide.

    Attributes:
        listen: ``host:port``; port 0 takes a free one.
        profiles: Profile folders, or names of embedded ones; empty for the embedded default.
        executor: Where workers are: ``processes``, ``threads`` or ``ray``.
        workers: Batches in work at the same time.
        threads: Threads of the inference runtime per worker; None for its own choice.
        providers: Execution providers of the inference runtime; empty for its own choice.
        deadline_s: Seconds for a call whose client names no deadline.
        hang_s: Seconds after which a worker that does not answer is ended and replaced.
        notice_s: Seconds between saying NOT_SERVING and refusing calls at a stop: what load
            balancers take to notice.
        grace_s: Seconds that requests in flight get at a stop.
        reflection: Whether clients may list the calls.

    Raises:
        InputError: A value is out of its range.
    """

    listen: Annotated[str, ADDRESS] = "127.0.0.1:50051"
    profiles: Annotated[tuple[str, ...], words()] = ()
    executor: Annotated[str, choice(*EXECUTORS)] = "processes"
    workers: Annotated[int, whole(1)] = 2
    threads: Annotated[int | None, whole(1, optional=True)] = None
    providers: Annotated[tuple[str, ...], words()] = ()
    deadline_s: Annotated[float, number(0, above=True)] = 10.0
    hang_s: Annotated[float, number(0, above=True)] = 60.0
    notice_s: Annotated[float, number(0)] = 0.0
    grace_s: Annotated[float, number(0)] = 10.0
    reflection: Annotated[bool, SWITCH] = False
    queue: QueueLimits = field(default_factory=QueueLimits)
    batch: BatchLimits = field(default_factory=BatchLimits)
    streams: StreamLimits = field(default_factory=StreamLimits)
    frames: FramesConfig = field(default_factory=FramesConfig)
    tls: TlsConfig = field(default_factory=TlsConfig)
    auth: AuthConfig = field(default_factory=AuthConfig)
    clients: ClientRates = field(default_factory=ClientRates)
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    ui: UiConfig = field(default_factory=UiConfig)
    log: LogConfig = field(default_factory=LogConfig)
    odam: OdamConfig = field(default_factory=OdamConfig)


SECTIONS: dict[str, type[Section]] = {
    name: kind
    for name, kind in get_type_hints(ServerConfig).items()
    if isinstance(kind, type) and issubclass(kind, Section)
}
"""Section name to its class."""


def kinds() -> dict[str, Kind]:
    """Every setting by its key, as ``queue.max_waiting``, in the order of the definition."""
    found = ServerConfig.kinds()
    for section, kind in SECTIONS.items():
        found |= {f"{section}.{name}": inner for name, inner in kind.kinds().items()}
    return found


def values_of(config: ServerConfig) -> dict[str, Any]:
    """Every value by its setting's key."""
    found = {}
    for key in kinds():
        section, _, name = key.rpartition(".")
        found[key] = getattr(getattr(config, section) if section else config, name)
    return found


def build_config(values: dict[str, Any]) -> ServerConfig:
    """A configuration of these values by key; what is not named has its default.

    Raises:
        InputError: A value is out of its range, or values do not fit together.
    """
    parts: dict[str, dict[str, Any]] = {name: {} for name in ("", *SECTIONS)}
    for key, value in values.items():
        section, _, name = key.rpartition(".")
        parts[section][name] = value
    sections: dict[str, Any] = {x: section(**parts[x]) for x, section in SECTIONS.items()}
    return ServerConfig(**parts[""], **sections)
