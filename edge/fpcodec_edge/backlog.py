"""Frames that will be sent again or later: in memory, or in a spool on disk."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import replace

from fpcodec.errors import FpcodecError, InputError
from fpcodec_edge.accounts import Accounts
from fpcodec_edge.frames import CodedFrame
from fpcodec_edge.spool import DamagedSpoolFile, Spool


class Backlog:
    """Frames in the order in which they will be sent.

    Args:
        accounts: Where frames are counted.
        spool: Keeps frames on disk; None to keep those of ``keep_in_memory`` alone.
        max_attempts: Times that a frame is sent in all.
    """

    def __init__(self, accounts: Accounts, spool: Spool | None, max_attempts: int) -> None:
        self._accounts, self._spool, self._max_attempts = accounts, spool, max_attempts
        self._again: deque[CodedFrame] = deque()
        self._attempts: dict[int, int] = {}

    @property
    def has_spool(self) -> bool:
        """Whether frames can be kept on disk."""
        return self._spool is not None

    def __len__(self) -> int:
        """Frames in memory and on disk, those on their way from disk included."""
        return len(self._again) + (0 if self._spool is None else len(self._spool))

    def spool(self, frame: CodedFrame) -> None:
        """Put a frame on disk; one that cannot be written has failed."""
        if self._spool is None:
            raise InputError("there is no spool; name a folder for it")
        try:
            evicted = self._spool.put(frame.data, frame.facts)
        except InputError as error:
            self._accounts.failed(frame.facts, error)
            return
        self._accounts.spooled(frame.facts, evicted)

    def take_in_memory(self) -> CodedFrame | None:
        """The first of the frames that were lost on their way, taken out."""
        return self._again.popleft() if self._again else None

    def take_spooled(self, flying: Collection[CodedFrame]) -> CodedFrame | None:
        """The oldest frame on disk that is not on its way; it stays there until its end.

        Args:
            flying: Frames on their way.
        """
        while self._spool is not None:
            besides = [frame.sequence for frame in flying if frame.sequence is not None]
            try:
                kept = self._spool.oldest(besides)
            except DamagedSpoolFile as error:
                self._accounts.unspooled()
                self._accounts.failed({}, error, "DamagedSpoolFile")
                continue
            if kept is None:
                break
            facts = {**kept.facts, "from_spool": True}
            attempts = self._attempts.get(kept.sequence, 0)
            return CodedFrame(kept.frame, facts, {}, None, kept.sequence, attempts)
        return None

    def settle(self, frame: CodedFrame) -> bool:
        """Forget a frame whose end is known; False where it was given up, and counted, before."""
        if frame.sequence is None:
            return True
        self._attempts.pop(frame.sequence, None)
        if self._spool is None or not self._spool.remove(frame.sequence):
            return False
        self._accounts.unspooled()
        return True

    def lose(
        self, frame: CodedFrame, *, to_disk: bool, in_memory: bool, counts: bool = True
    ) -> bool:
        """Take back a frame that did not arrive, if it may be sent again.

        Args:
            frame: With the attempts that were made.
            to_disk: Whether it may wait on disk, where there is a spool.
            in_memory: Whether it may wait in memory.
            counts: Whether the attempt may have failed for the frame's own sake.

        Returns:
            False where it has had all its attempts, or may wait nowhere: it has failed then.
        """
        if frame.attempts >= self._max_attempts:
            return False
        if frame.sequence is not None:
            # It waits on disk anyway: a server that is busy or away says nothing against it.
            self._attempts[frame.sequence] = frame.attempts - (0 if counts else 1)
        elif to_disk and self._spool is not None:
            self.spool(replace(frame, attempts=0))
        elif in_memory:
            self._again.append(frame)
        else:
            return False
        return True

    def give_up(self, error: FpcodecError) -> None:
        """Put on disk what waits in memory, or fail it where there is no spool."""
        while self._again:
            frame = self._again.popleft()
            if self._spool is None:
                self._accounts.failed(frame.facts, error)
            else:
                self.spool(frame)
