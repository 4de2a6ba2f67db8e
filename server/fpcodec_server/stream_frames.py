"""Frames of a streaming call: charged, counted and logged one by one, as calls are."""

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


@contextmanager
def stream_frame(
    request_id: str, received_bytes: int, clock: Callable[[], float] = time.perf_counter
) -> Iterator[FrameNote]:
    """Answer one frame of the current streaming call inside this block, in a task of its own.

    ``current_call`` gives the frame's call in it. What the block raises goes on.

    Args:
        request_id: The frame's.
        received_bytes: Its length.
        clock: Seconds for its duration.

    Raises:
        Overloaded: The client is above its limits.
    """
    stream = current_call()
    note = FrameNote()
    if stream is None:
        yield note
        return
    call = replace(
        stream, method=stream.method + FRAME, request_id=request_id, stages_ms={},
        trace=stream.trace.child(),
    )  # fmt: skip
    enter_call(call)
    begun_s = clock()
    code, error = grpc.StatusCode.OK, ""
    try:
        call.charge(received_bytes)
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
