"""The video state of one streaming call: inter frames, read in order at one place."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fpcodec.codecs.base import Decoded, Limits
from fpcodec.errors import FormatError, NeedsRefresh, Truncated
from fpcodec.video import VideoDecoder, is_inter
from fpcodec_server.catalog import ServedProfile


class StreamVideo:
    """Turns the inter frames of one call to integers, which any worker can go on with.

    Frames that stand for themselves pass through untouched, so that a call without inter frames
    costs nothing here: the last one is decoded only when the first inter frame leans on it.

    Args:
        profile_of: The profile that a frame which stands for itself names.
        limits: What a frame may ask for.
    """

    def __init__(self, profile_of: Callable[[bytes], ServedProfile], limits: Limits) -> None:
        self._profile_of, self._limits = profile_of, limits
        self._refresh: bytes | None = None
        self._decoder: VideoDecoder | None = None
        self._profile: ServedProfile | None = None
        self._in_order = asyncio.Lock()

    async def read(self, frame: bytes, partial: bool) -> tuple[ServedProfile, Decoded | None]:
        """The profile of the call's next frame, and its integers where it is an inter frame.

        To be called in the frames' order; the order is kept while it waits.

        Raises:
            FormatError: It is an inter frame that cannot be used.
            NeedsRefresh: It leans on a frame that did not come.
        """
        async with self._in_order:
            if not is_inter(frame):
                self._profile = self._profile_of(frame)
                # What did not come whole can be answered, but not leaned on.
                self._refresh, self._decoder = None if partial else frame, None
                return self._profile, None
            if partial:
                raise Truncated(
                    f"only {len(frame)} bytes of an inter frame came in time; it has no parts that "
                    "stand for themselves: send a refresh frame, or allow it more time"
                )
            if self._profile is None or (self._refresh is None and self._decoder is None):
                raise NeedsRefresh("the frame leans on one that did not come; send a refresh frame")
            return self._profile, await asyncio.to_thread(self._decode, self._profile, frame)

    def _decode(self, profile: ServedProfile, frame: bytes) -> Decoded:
        if self._decoder is None:
            decoder = VideoDecoder(profile.codec)
            try:
                decoder.decode(self._refresh or b"", self._limits)
            except FormatError as error:
                raise NeedsRefresh(
                    f"the frame leans on one that could not be read ({error})"
                ) from error
            self._decoder = decoder
        return self._decoder.decode(frame, self._limits)
