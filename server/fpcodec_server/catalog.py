"""The profiles that are served, and which of them a frame belongs to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from fpcodec.bitstream import STREAM_PREFIX_BYTES, stream_prefix_of
from fpcodec.codecs.base import Codec
from fpcodec.errors import InputError


class ServedProfile(Protocol):
    """What the service tells clients about a profile; ``fpcodec.profile.Profile`` is one."""

    @property
    def stream_id(self) -> bytes:
        """Identity of the streams it reads, 32 bytes."""

    @property
    def codec(self) -> Codec:
        """Reads its streams."""

    @property
    def labels(self) -> Sequence[str]:
        """Class names."""

    @property
    def name(self) -> str:
        """The profile's name."""


class Catalog:
    """Profiles by stream; the first is the one that speaks where none fits.

    Args:
        profiles: One or more.

    Raises:
        InputError: There is none, or two read the same streams.
    """

    def __init__(self, profiles: Sequence[ServedProfile]) -> None:
        if not profiles:
            raise InputError("there is no profile to serve; name one or more")
        self._profiles = {profile.stream_id: profile for profile in profiles}
        self._of_prefix = {x.stream_id[:STREAM_PREFIX_BYTES]: x for x in profiles}
        self.first = profiles[0]
        if len(self._of_prefix) < len(profiles):
            names = ", ".join(profile.name for profile in profiles)
            raise InputError(
                f"two of the profiles {names} read the same streams; serve one of them"
            )

    def __iter__(self) -> Iterator[ServedProfile]:
        return iter(self._profiles.values())

    def choose(self, stream_ids: Sequence[bytes]) -> ServedProfile | None:
        """The profile of the first stream that is served; None where none is."""
        return next((self._profiles[x] for x in stream_ids if x in self._profiles), None)

    def of_frame(self, frame: bytes) -> ServedProfile:
        """The profile that a frame names; the first, whose decoder says what is wrong, if none."""
        return self._of_prefix.get(stream_prefix_of(frame), self.first)
