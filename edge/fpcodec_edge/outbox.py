"""The messages that a call has yet to send, in order; gRPC takes them from a thread of its own."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from fpcodec.v1 import codec_pb2


class Outbox(Iterator[codec_pb2.InferStreamRequest]):
    """An iterator that waits for messages until it is closed.

    Parts of a frame that was settled meanwhile are not sent: nobody wants them, and those behind
    them wait.

    Args:
        is_pending: Whether a frame still awaits its outcome.
        on_unsent: Called for each frame of which nothing was sent.
    """

    def __init__(self, is_pending: Callable[[int], bool], on_unsent: Callable[[], None]) -> None:
        self._is_pending, self._on_unsent = is_pending, on_unsent
        self._messages: deque[tuple[bool, codec_pb2.InferStreamRequest]] = deque()
        self._changed = threading.Condition()
        self._closed = False

    def put(self, parts: Sequence[codec_pb2.InferStreamRequest]) -> None:
        """Append the parts of one frame; the first begins it."""
        with self._changed:
            self._messages.extend((index == 0, part) for index, part in enumerate(parts))
            self._changed.notify_all()

    def close(self) -> None:
        """End the iteration; what was not sent is dropped."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def __next__(self) -> codec_pb2.InferStreamRequest:
        while True:
            with self._changed:
                while not self._messages and not self._closed:
                    self._changed.wait()
                if self._closed:
                    raise StopIteration
                first, message = self._messages.popleft()
            # Asked without the lock: who answers takes one of its own and may call `put`.
            if self._is_pending(message.frame_id):
                return message
            if first:
                self._on_unsent()


def to_parts(
    frame_id: int,
    frame: bytes,
    part_bytes: int,
    *,
    answer_within_ms: int = 0,
    expires_after_ms: int = 0,
    request_id: str = "",
) -> list[codec_pb2.InferStreamRequest]:
    """Cut a frame into messages. Its coarsest chunk comes first, as it does in the frame.

    Args:
        frame_id: The frame's number in its call.
        frame: One ``.fpc`` frame.
        part_bytes: Most bytes of the frame in one message.
        answer_within_ms: See codec.proto; 0 waits for the whole frame.
        expires_after_ms: See codec.proto; 0 leaves it to the server.
        request_id: For logs.
    """
    starts = range(0, max(len(frame), 1), part_bytes)
    parts = [
        codec_pb2.InferStreamRequest(frame_id=frame_id, data=frame[start : start + part_bytes])
        for start in starts
    ]
    parts[0].answer_within_ms = answer_within_ms
    parts[0].expires_after_ms = expires_after_ms
    parts[0].request_id = request_id
    parts[-1].last = True
    return parts
