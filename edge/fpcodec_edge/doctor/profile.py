"""The profile: whole, and good for a frame on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from fpcodec.data import generate_scene
from fpcodec.errors import FpcodecError
from fpcodec.profile import Profile
from fpcodec.split import EdgeHalf
from fpcodec_edge.doctor.check import Check, State

Found = Callable[[Profile], None]


def check_profile(
    load: Callable[[], Profile],
    found: Found,
    *,
    threads: int | None = None,
    providers: Sequence[str] = (),
) -> Iterator[Check]:
    """Load and verify a profile, and run one frame.

    Args:
        load: Loads it.
        found: Told of the profile once it is loaded.
        threads: Of the networks.
        providers: Execution providers of the networks.
    """
    try:
        profile = load()
        profile.verify(skip_absent=True)
    except FpcodecError as error:
        yield Check("profile", State.fail, str(error), "copy the folder from where it was made")
        return
    found(profile)
    text = f"{profile.name}, stream {profile.stream_id.hex()[:12]}, every file as written"
    yield Check("profile", State.ok, text)
    yield frame_check(profile, threads, providers)


def frame_check(profile: Profile, threads: int | None, providers: Sequence[str]) -> Check:
    """Encode a generated scene twice; the second has warm caches."""
    image = generate_scene(0).image
    try:
        edge = EdgeHalf(profile, threads=threads, providers=providers)
        edge.encode(image)
        start = time.perf_counter()
        frame = edge.encode(image)
    except FpcodecError as error:
        return Check("frame", State.fail, str(error), "fix what is named; then run this again")
    spent_ms = 1e3 * (time.perf_counter() - start)
    took = ", ".join(f"{name} {ms:.0f}" for name, ms in frame.timings_ms.items())
    return Check("frame", State.ok, f"{len(frame.data):,} bytes in {spent_ms:.0f} ms ({took})")
