"""A bounded queue between camera and encoder that drops the oldest when it is full."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from fpcodec.errors import InputError

T = TypeVar("T")


class FrameQueue(Generic[T]):
    """Hands items from one thread to another, the oldest first.

    Args:
        capacity: Most items that wait.
        on_change: Called, in the thread that puts, after an item was put or the queue was closed.

    Raises:
        InputError: The capacity is not positive.
    """

    def __init__(self, capacity: int, on_change: Callable[[], None] = lambda: None) -> None:
        if capacity < 1:
            raise InputError(f"a queue of {capacity} frames holds none; use 1 or more")
        self._capacity, self._on_change = capacity, on_change
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._closed = False

    def put_newest(self, item: T) -> T | None:
        """Put an item; what it displaces, for the caller to count.

        Returns:
            The oldest item where the queue was full, the item itself where it was closed.
        """
        with self._changed:
            if self._closed:
                return item
            displaced = self._items.popleft() if len(self._items) >= self._capacity else None
            self._items.append(item)
        self._on_change()
        return displaced

    def put_when_free(self, item: T) -> bool:
        """Wait for room and put an item; False where the queue was closed instead."""
        with self._changed:
            while len(self._items) >= self._capacity and not self._closed:
                self._changed.wait()
            if self._closed:
                return False
            self._items.append(item)
        self._on_change()
        return True

    def take(self) -> T | None:
        """The oldest item; None where none waits."""
        with self._changed:
            item = self._items.popleft() if self._items else None
            self._changed.notify_all()
        return item

    def close(self) -> None:
        """Accept no more items; what waits can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._on_change()

    def __len__(self) -> int:
        with self._changed:
            return len(self._items)
