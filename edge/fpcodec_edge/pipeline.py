"""A detector whose head is elsewhere: encode here, detect there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

from fpcodec.detections import Detections
from fpcodec_edge.client import EdgeClient
from fpcodec_edge.replies import Agreement, InferReply

if TYPE_CHECKING:
    from fpcodec.detectors.base import Image
    from fpcodec.profile import Profile


@dataclass(frozen=True)
class SplitReply:
    """What was found in one image, and what it cost.

    Attributes:
        reply: The server's answer.
        frame_bytes: Length of the frame that was sent.
        chunk_bytes: Bytes of each chunk in it.
        edge_ms: The device's milliseconds for ``extract`` and ``encode``.
    """

    reply: InferReply
    frame_bytes: int
    chunk_bytes: Mapping[str, int]
    edge_ms: Mapping[str, float]

    @property
    def detections(self) -> Detections:
        """What was found, in pixels of the original image."""
        return self.reply.detections


class SplitClient:
    """The edge half of a profile's detector, joined to a server with the same profile.

    Args:
        profile: The device's profile.
        address: ``host:port`` of the server.
        client: The connection; None for a new one with default deadline and retries. It is
            closed with this object in either case.
        threads: Threads of the inference runtime; None for its own choice.
        providers: Execution providers of the inference runtime; empty for its own choice.
    """

    def __init__(
        self,
        profile: Profile,
        address: str,
        *,
        client: EdgeClient | None = None,
        threads: int | None = None,
        providers: Sequence[str] = (),
    ) -> None:
        from fpcodec.split import EdgeHalf  # brings the inference runtime

        self._stream_id = profile.stream_id
        self._half = EdgeHalf(profile, threads=threads, providers=providers)
        self._client = client or EdgeClient(address)
        self._agreement: Agreement | None = None

    def connect(self) -> Agreement:
        """Negotiate, once; ``detect`` does it where it was not done.

        Raises:
            ProfileMismatch: The server has another profile.
            TransportError: No answer; the class says why.
        """
        if self._agreement is None:
            self._agreement = self._client.negotiate(self._stream_id)
        return self._agreement

    def detect(
        self,
        image: Image,
        *,
        quality: float | None = None,
        levels: Sequence[str] | None = None,
        max_bytes: int | None = None,
    ) -> SplitReply:
        """Find objects in one image.

        Args:
            image: Shape (H, W, 3), uint8, RGB.
            quality: In [0, 1]; more is more bytes; see ``Codec.encode``. None for 0.5, or for
                what ``max_bytes`` has room for.
            levels: Level names to send; None for all coded levels.
            max_bytes: Longest frame, in place of a quality.

        Raises:
            InputError: The image, the quality, a level or the budget cannot be used.
            ProfileMismatch: The server has another profile.
            TransportError: No answer; the class says why.
        """
        self.connect()
        frame = self._half.encode(image, quality=quality, levels=levels, max_bytes=max_bytes)
        reply = self._client.infer(frame.data)
        return SplitReply(reply, len(frame.data), frame.chunk_bytes, frame.timings_ms)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def __enter__(self) -> SplitClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
