"""W3C trace context: whose request this is part of, across machines."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"

MAX_TRACESTATE_CHARS = 512
"""What the standard asks everybody to pass on; a longer list is dropped."""

_HEADER = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


@dataclass(frozen=True)
class TraceContext:
    """One step of a trace (https://www.w3.org/TR/trace-context/).

    Attributes:
        trace_id: The whole trace, 32 hex digits.
        span_id: This step of it, 16 hex digits.
        flags: Two hex digits; the last bit says that somebody upstream records the trace.
        state: The vendors' ``tracestate``, passed on as it came.
    """

    trace_id: str
    span_id: str
    flags: str = "00"
    state: str = ""

    @property
    def traceparent(self) -> str:
        """The header that names this step as the parent of the next."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags}"

    def child(self) -> TraceContext:
        """A new step of the same trace."""
        return replace(self, span_id=_random_id(8))


def new_trace() -> TraceContext:
    """A trace that begins here, recorded by nobody upstream."""
    return TraceContext(_random_id(16), _random_id(8))


def continue_trace(metadata: Iterable[tuple[str, Any]]) -> TraceContext:
    """This server's step of the caller's trace; of a new one where the caller sent none.

    A header that the standard does not allow counts as none, as the standard wants.

    Args:
        metadata: The call's metadata, keys in lower case.
    """
    found: dict[str, list[str]] = {TRACEPARENT: [], TRACESTATE: []}
    for key, value in metadata:
        if key in found and isinstance(value, str):
            found[key].append(value)
    parents = found[TRACEPARENT]
    parent = parse_traceparent(parents[0]) if len(parents) == 1 else None
    if parent is None:
        return new_trace()
    state = ",".join(found[TRACESTATE])
    return replace(parent.child(), state=state if len(state) <= MAX_TRACESTATE_CHARS else "")


def parse_traceparent(header: str) -> TraceContext | None:
    """The step that a ``traceparent`` names; None where it breaks the standard."""
    match = _HEADER.fullmatch(header)
    if match is None:
        return None
    version, trace_id, span_id, flags, rest = match.groups()
    # Later versions may add fields; this one may not. All zeros is "none" by definition.
    if version == "ff" or (version == "00" and rest):
        return None
    if set(trace_id) == {"0"} or set(span_id) == {"0"}:
        return None
    # Of the flags, only those of version 00 are known here, and only they may be passed on.
    return TraceContext(trace_id, span_id, f"{int(flags, 16) & 0x03:02x}")


def _random_id(length_bytes: int) -> str:
    while True:
        text = secrets.token_hex(length_bytes)
        if set(text) != {"0"}:
            return text
