"""The receiving end of a video stream: frames in order, integers out."""

from __future__ import annotations

from fpcodec.codecs.base import Codec, Decoded, Limits
from fpcodec.codecs.chunked import ChunkedCodec
from fpcodec.errors import InputError, NeedsRefresh
from fpcodec.video.frame import is_inter, read_inter
from fpcodec.video.stream import StreamState


class VideoDecoder:
    """Decodes one stream, at one place; whoever has the integers can reconstruct and detect.

    Its state is the last frame's integers and a few tables. It is not for several threads at once.

    Args:
        codec: Any of the codecs.

    Raises:
        InputError: The codec has no inter frames.
    """

    def __init__(self, codec: Codec) -> None:
        self._codec = require_chunked(codec)
        self._state: StreamState | None = None

    @property
    def frames(self) -> int:
        """Frames decoded since the last refresh, it included; 0 where there was none."""
        return 0 if self._state is None else self._state.frames

    def decode(self, frame: bytes, limits: Limits | None = None) -> Decoded:
        """Read the next frame of the stream to integers, exactly.

        A frame that is refused changes nothing: the right one can still follow.

        Args:
            frame: The bytes of one frame: of version 1, which is a refresh, or an inter frame.
            limits: What this receiver accepts; None for the defaults.

        Returns:
            What ``Codec.reconstruct`` takes. Its arrays are read-only.

        Raises:
            FormatError: The bytes are not a usable frame; the subclass says why.
            ProfileMismatch: A refresh frame was made with other tables.
            NeedsRefresh: The frame leans on one that did not come, or came after others.
        """
        if not is_inter(frame):
            decoded = self._codec.decode(frame, limits)
            self._state = StreamState.of_refresh(self._codec.coder, decoded, frame)
            return decoded
        if self._state is None:
            read_inter(frame, limits or Limits())
            raise NeedsRefresh("an inter frame came before any other; send a refresh frame")
        self._state = self._state.read(frame, limits, self._codec.backend)
        return self._state.decoded()


def require_chunked(codec: Codec) -> ChunkedCodec:
    """The codec, if inter frames can be made of its integers.

    Raises:
        InputError: They cannot.
    """
    if not isinstance(codec, ChunkedCodec):
        raise InputError(f"a {type(codec).__name__} has no inter frames; use uniform, pca or "
                         "learned")  # fmt: skip
    return codec
