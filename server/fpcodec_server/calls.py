"""The call that the current task answers: who asked, in which trace, and what is known of it."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from fpcodec_server.trace import TraceContext

if TYPE_CHECKING:
    from fpcodec_server.request_log import RequestRecord

_current: ContextVar[Call | None] = ContextVar("fpcodec_call", default=None)


class Charge(Protocol):
    """Counts one request against its client's limits, or a further part of one."""

    def __call__(
        self, size_bytes: int, before_bytes: int | None = None, *, whole: bool = True
    ) -> None:
        """See ``ClientLimits.charge``, which says what is raised."""


def _no_charge(size_bytes: int, before_bytes: int | None = None, *, whole: bool = True) -> None:
    """Without limits, everything is free."""


def _not_owed(size_bytes: int) -> None:
    """As above."""


def _not_told(record: RequestRecord) -> None:
    """Outside of a server, nobody counts."""


@dataclass
class Call:
    """One call, as its handlers see it and as they add to it.

    Attributes:
        method: Short name, as ``Infer``.
        client: Who asks: ``token:NAME``, ``cert:NAME``, or an address.
        trace: This server's step of the caller's trace; pass ``traceparent`` on to workers.
        request_id: The client's name for the request.
        profile: The profile that answers, once it is known.
        stages_ms: Milliseconds per stage, once they are known.
        charge: Counts a frame against the client's limits; raises ``Overloaded``. Done already
            for calls of one request; a stream's frames are charged as they come.
        owe: Counts bytes that come too late to be refused.
        ended: Counts and logs what became of the call, or of one frame of it.
    """

    method: str
    client: str
    trace: TraceContext
    request_id: str = ""
    profile: str = ""
    stages_ms: dict[str, float] = field(default_factory=dict)
    charge: Charge = _no_charge
    owe: Callable[[int], None] = _not_owed
    ended: Callable[[RequestRecord], None] = _not_told


def current_call() -> Call | None:
    """The call that the current task answers; None outside of calls."""
    return _current.get()


def enter_call(call: Call) -> None:
    """Make a call the current one, for this task and those it starts.

    There is no way back: each call has a task of its own, which ends with it.
    """
    _current.set(call)
