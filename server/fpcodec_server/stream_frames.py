"""Frames of a streaming call: charged as they come, counted and logged one by one, as calls are."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import grpc

from fpcodec.errors import FpcodecError
from fpcodec.status import status_of
from fpcodec_server.calls import Call, current_call, enter_call
from fpcodec_server.observed import size_of, stages_of
from fpcodec_server.request_log import RequestRecord

FRAME = "/frame"
"""After a streaming call's name: the method that its frames are counted and logged as."""


@dataclass
class FrameNote:
    """What its handler tells of a frame.

    Attributes:
        response: The answer; None for none.
    """

    response: Any = None


def charge_part(size_bytes: int, before_bytes: int | None, *, last: bool) -> None:
    """Count a part of a frame of the current streaming call against its client's limits.

    Args:
        size_bytes: The part's length, with all that it carries.
        before_bytes: Length of the frame's parts before; None for its first.
        last: Whether the frame ends with it.

    Raises:
        Overloaded: The client is above them.
    """
    stream = current_call()
    if stream is not None:
        stream.charge(size_bytes, before_bytes, whole=last)


def charge_late_part(size_bytes: int) -> None:
    """Count a part of a frame that has had its answer.

    It may have been on its way honestly and is not refused; free it is not, or parts without end
    could follow a frame.

    Args:
        size_bytes: The part's length, with all that it carries.
    """
    stream = current_call()
    if stream is not None:
        stream.owe(size_bytes)


def frame_refused(
    request_id: str, received_bytes: int, seconds: float, error: FpcodecError
) -> None:
    """Count and log a frame of the current streaming call that was refused while it arrived.

    Args:
        request_id: The frame's.
        received_bytes: Length of what came of it.
        seconds: Since it was begun.
        error: Why.
    """
    stream = current_call()
    if stream is not None:
        code = status_of(error).code.name
        call = _call_of_frame(stream, request_id)
        _tell(call, FrameNote(), code, type(error).__name__, seconds, received_bytes)


@contextmanager
def stream_frame(
    request_id: str, received_bytes: int, clock: Callable[[], float] = time.perf_counter
) -> Iterator[FrameNote]:
    """Answer one frame of the current streaming call inside this block, in a task of its own.

    ``current_call`` gives the frame's call in it. What the block raises goes on. The frame has
    been charged as it came.

    Args:
        request_id: The frame's.
        received_bytes: Its length.
        clock: Seconds for its duration.
    """
    stream = current_call()
    note = FrameNote()
    if stream is None:
        yield note
        return
    call = _call_of_frame(stream, request_id)
    enter_call(call)
    begun_s = clock()
    code, error = grpc.StatusCode.OK, ""
    try:
        yield note
    except FpcodecError as caught:
        code, error = status_of(caught).code, type(caught).__name__
        raise
    except asyncio.CancelledError:
        code = grpc.StatusCode.CANCELLED
        raise
    except Exception:
        code = grpc.StatusCode.INTERNAL
        raise
    finally:
        _tell(call, note, code.name, error, clock() - begun_s, received_bytes)


def _call_of_frame(stream: Call, request_id: str) -> Call:
    return replace(
        stream, method=stream.method + FRAME, request_id=request_id, stages_ms={},
        trace=stream.trace.child(),
    )  # fmt: skip


def _tell(
    call: Call, note: FrameNote, code: str, error: str, seconds: float, received_bytes: int
) -> None:
    call.stages_ms.update(stages_of(note.response))
    call.ended(
        RequestRecord.of(
            call, code, seconds, received_bytes=received_bytes,
            sent_bytes=size_of(note.response), error=error,
        )
    )  # fmt: skip
