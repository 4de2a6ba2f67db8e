"""The server's log: one line per request, as JSON for programs or as text for people."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import IO, Any

from fpcodec_server.calls import Call, current_call

FORMATS = ("text", "json")
LEVELS = ("debug", "info", "warning", "error")

REQUEST_LOGGER = "fpcodec_server.requests"

_FIELDS = "fpcodec_fields"
"""Attribute of a log record that holds its structured fields."""

# These are somebody's fault and worth a look; all others are the daily life of a server.
_LEVEL_OF_CODE = {
    "INTERNAL": logging.ERROR,
    "UNKNOWN": logging.ERROR,
    "UNAUTHENTICATED": logging.WARNING,
}

_log = logging.getLogger(REQUEST_LOGGER)


@dataclass(frozen=True)
class RequestRecord:
    """What the log keeps of one request; never its payload, never credentials.

    Attributes:
        method: Short name, as ``Infer``.
        code: Name of the gRPC status code.
        seconds: From the request's arrival to its answer.
        client: Who asked.
        trace_id: The caller's trace, or one that began here.
        span_id: This server's step of it.
        request_id: The client's name for the request; may be empty.
        profile: The profile that answered; may be empty.
        received_bytes: Length of the request.
        sent_bytes: Length of the answer.
        stages_ms: Milliseconds per stage.
        error: Name of the error class; empty for success.
    """

    method: str
    code: str
    seconds: float
    client: str
    trace_id: str
    span_id: str
    request_id: str = ""
    profile: str = ""
    received_bytes: int = 0
    sent_bytes: int = 0
    stages_ms: Mapping[str, float] = field(default_factory=dict)
    error: str = ""

    @classmethod
    def of(cls, call: Call, code: str, seconds: float, **more: Any) -> RequestRecord:
        """The record of a call; ``more`` are further fields, over the call's own."""
        known: dict[str, Any] = {
            "client": call.client,
            "trace_id": call.trace.trace_id,
            "span_id": call.trace.span_id,
            "request_id": call.request_id,
            "profile": call.profile,
            "stages_ms": dict(call.stages_ms),
        }
        return cls(method=call.method, code=code, seconds=seconds, **{**known, **more})

    def fields(self) -> dict[str, Any]:
        """What is logged: times in milliseconds, nothing empty."""
        everything = {
            "method": self.method,
            "code": self.code,
            "error": self.error,
            "duration_ms": round(self.seconds * 1000, 3),
            "client": self.client,
            "request_id": self.request_id,
            "trace_id": self.trace_id,
            "span_id": self.span_id,
            "profile": self.profile,
            "received_bytes": self.received_bytes,
            "sent_bytes": self.sent_bytes,
            "stages_ms": {name: round(ms, 3) for name, ms in self.stages_ms.items()},
        }
        return {key: value for key, value in everything.items() if value not in ("", {})}


def log_request(record: RequestRecord) -> None:
    """Write one line about a request."""
    level = _LEVEL_OF_CODE.get(record.code, logging.INFO)
    if _log.isEnabledFor(level):
        log_fields(_log, level, "request", record.fields())


def log_fields(logger: logging.Logger, level: int, message: str, fields: Mapping[str, Any]) -> None:
    """Write a line with fields of its own."""
    logger.log(level, message, extra={_FIELDS: dict(fields)})


class JsonFormatter(logging.Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line = {
            "time": _time_of(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields_of(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class TextFormatter(logging.Formatter):
    """Time, level and message, then ``key=value``; tracebacks follow on lines of their own."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        values = (f"{key}={_plain(value)}" for key, value in _fields_of(record).items())
        message = _escaped(record.getMessage())
        text = " ".join([_time_of(record), record.levelname, message, *values])
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


def configure_logging(form: str, level: str, stream: IO[str] | None = None) -> None:
    """Set up this process's log; for programs, not for libraries.

    Args:
        form: One of ``FORMATS``.
        level: One of ``LEVELS``, for fpcodec's own lines; other packages speak from warnings up.
        stream: Where to write; None for stderr.
    """
    handler = _Handler(stream)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers = [x for x in root.handlers if not isinstance(x, _Handler)] + [handler]
    for name in ("fpcodec", "fpcodec_server"):
        logging.getLogger(name).setLevel(level.upper())


class _Handler(logging.Handler):
    """The handler of ``configure_logging``, which a second configuration replaces."""

    def __init__(self, stream: IO[str] | None) -> None:
        super().__init__()
        self._stream = stream

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        try:
            # Not remembered: whoever redirects stderr later means this log too.
            stream = self._stream or sys.stderr
            stream.write(self.format(record) + "\n")
            stream.flush()
        except Exception:
            self.handleError(record)


def _fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """A request's fields; for other lines those that say which request they belong to."""
    fields = getattr(record, _FIELDS, None)
    if isinstance(fields, dict):
        return fields
    call = current_call()
    if call is None:
        return {}
    names = {"request_id": call.request_id, "trace_id": call.trace.trace_id}
    return {key: value for key, value in names.items() if value}


def _time_of(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ",".join(f"{name}:{number:g}" for name, number in value.items())
    text = _escaped(str(value))
    return json.dumps(text) if " " in text or '"' in text or not text else text


def _escaped(text: str) -> str:
    """One printable line: a client chooses its request ids, and must not forge lines with them."""
    return "".join(x if x.isprintable() else x.encode("unicode_escape").decode() for x in text)
