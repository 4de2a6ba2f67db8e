"""What the page beside a server knows of it: lines that the server writes, and no way to answer."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from fpcodec.ui.markup import table, text

_SILENT_S = 10.0
_NICENESS = 15


def step_back() -> None:
    """Let the server go first: for the processor, and where memory runs out."""
    os.nice(_NICENESS)
    with contextlib.suppress(OSError):  # not everywhere, and not for everybody
        Path("/proc/self/oom_score_adj").write_text("1000")


class ServerStatus:
    """The last line that a server wrote.

    Args:
        lines: Its end ends this process: a page does not outlive its server.
        stream_id: Of the profile that the page works with.
    """

    def __init__(self, lines: TextIO, stream_id: bytes) -> None:
        self._lines, self._stream_id = lines, stream_id
        self._last: Mapping[str, Any] | None = None
        self._heard_s = time.monotonic()

    def follow(self) -> None:
        """Read in a thread from now on."""
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self._lines:
            with contextlib.suppress(ValueError):
                self._last, self._heard_s = json.loads(line), time.monotonic()
        os.kill(os.getpid(), signal.SIGTERM)

    def html(self) -> tuple[str, str]:
        """For the page: a line, and tables."""
        return status_html(self._last, time.monotonic() - self._heard_s, self._stream_id)


def status_html(
    last: Mapping[str, Any] | None, silent_s: float, stream_id: bytes
) -> tuple[str, str]:
    """A server's status: a line, and tables.

    Args:
        last: What it said last; None where it said nothing yet.
        silent_s: Seconds since then.
        stream_id: Of the profile that the page works with.
    """
    if last is None:
        return '<p class="fpc status">The server has not said anything yet.</p>', ""
    state = "serving" if last["serving"] else "not serving"
    if silent_s > _SILENT_S:
        state = f"silent for {silent_s:.0f} s; it was {state}"
    facts = (
        f"{last['uptime_s']:,} s up, {last['waiting']:.0f} frames waiting, "
        f"{last['open_streams']:.0f} streams open"
    )
    line = f"<b>This server is {text(state)}</b>: {text(facts)}."
    if stream_id.hex() not in last["profiles"].values():
        line += " It has changed its profiles since this page began, which shows the old one."
    served = table(
        "Profiles served", ("profile", "stream", "on this page"),
        [
            (name, stream[:12], "yes" if stream == stream_id.hex() else "no")
            for name, stream in last["profiles"].items()
        ],
    )  # fmt: skip
    calls = [(call, f"{number:,.0f}") for call, number in sorted(last["calls"].items())]
    counted = table("Calls since the start", ("call", "number"), calls) if calls else ""
    note = (
        '<p class="soft">This page is read-only: nothing on it reaches the server. The controls '
        "below work on copies of its networks in a process of their own.</p>"
    )
    tables = f'<div class="two"><div>{served}</div><div>{counted}</div></div>{note}'
    return f'<p class="fpc status">{line}</p>', f'<div class="fpc">{tables}</div>'
