"""Which settings a rate-accuracy run measures unless told otherwise."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import combinations

import numpy as np

from fpcodec.codecs.uniform import UniformCodec
from fpcodec.errors import InputError
from fpcodec.evaluation.rivals.pictures import PICTURE_CODECS, PICTURE_GRID, PictureFormat
from fpcodec.evaluation.rivals.video_coding import encode_still
from fpcodec.evaluation.ways import (
    BoxesWay,
    FeaturesWay,
    MosaicWay,
    PictureWay,
    SeedWay,
    Way,
)
from fpcodec.evaluation.ways.mosaic import MOSAIC_QPS
from fpcodec.evaluation.ways.seed import SEED_LEVELS
from fpcodec.profile import Profile
from fpcodec.reconstruct.interpolation import CANDIDATES

QUALITIES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Qualities at which all levels are sent."""

SUBSET_QUALITIES = (0.2, 0.4, 0.6, 0.8)
"""Qualities at which parts of the levels are sent."""

PICTURE_SIZES = tuple(dict.fromkeys(x.size for x in PICTURE_GRID))
"""Sizes at which pictures are sent."""

SEED_QUALITIES = (0.2, 0.5)
"""Qualities of the ``uniform`` codec."""

CODECS = ("fpc", *PICTURE_CODECS, "boxes", *MOSAIC_QPS, "seed")
"""What ``default_ways`` knows: our codecs, pictures, boxes, and two baselines."""


def default_ways(
    profiles: Mapping[str, Profile],
    codecs: Sequence[str] = CODECS,
    qualities: Sequence[float] = QUALITIES,
    sizes: Collection[str | float] = PICTURE_SIZES,
    *,
    parts: bool = True,
) -> tuple[Way, ...]:
    """The settings of the named codecs.

    Args:
        profiles: Label to profile. Those of the ``uniform`` codec carry the seed's method too.
        codecs: Out of ``CODECS``.
        qualities: In [0, 1], for our own codecs with all levels.
        sizes: Of pictures: ``network``, ``original`` or a factor of the network's.
        parts: Whether parts of the levels are measured too.

    Raises:
        InputError: A codec is unknown.
        MissingDependency: A codec's package is not installed.
    """
    for name in codecs:
        require_codec(name)
    ways: list[Way] = []
    for label, profile in profiles.items():
        if "fpc" in codecs:
            ways += own_ways(label, profile, qualities)
            ways += part_ways(label, profile) if parts else []
        if "seed" in codecs and isinstance(profile.codec, UniformCodec):
            ways += seed_ways(label, profile)
    ways += [PictureWay(x) for x in PICTURE_GRID if x.codec in codecs and x.size in sizes]
    if "boxes" in codecs:
        ways += [BoxesWay(score) for score in (0.05, 0.3)]
    ways += [MosaicWay(x, qp) for x in MOSAIC_QPS if x in codecs for qp in MOSAIC_QPS[x]]
    return tuple(ways)


def parse_size(text: str) -> str | float:
    """One of ``PICTURE_SIZES`` from text.

    Raises:
        InputError: It is none of them.
    """
    for size in PICTURE_SIZES:
        if text.strip() == str(size):
            return size
    raise InputError(
        f"picture size {text!r} is not one of {', '.join(str(size) for size in PICTURE_SIZES)}"
    )


def require_codec(name: str) -> None:
    """Find out before a long run whether a codec's package is there, by coding a grey square.

    Raises:
        InputError: The codec is unknown.
        MissingDependency: Its package is not installed; the message names the extra.
    """
    if name not in CODECS:
        raise InputError(f"codec {name!r} is not one of {', '.join(CODECS)}")
    if name in PICTURE_CODECS:
        PictureFormat(name, 50).encode(np.full((64, 64, 3), 128, np.uint8))
    if name in MOSAIC_QPS:
        encode_still(name, np.full((64, 64), 512, np.uint16), MOSAIC_QPS[name][-1])


def own_ways(label: str, profile: Profile, qualities: Sequence[float]) -> list[Way]:
    """All levels at every quality."""
    # Far above every picture's bytes: a few points show it.
    chosen = SEED_QUALITIES if isinstance(profile.codec, UniformCodec) else qualities
    return [FeaturesWay(q, profile.spec.coded_names, label) for q in chosen]


def part_ways(label: str, profile: Profile) -> list[Way]:
    """Each choice of key levels at a few qualities."""
    if isinstance(profile.codec, UniformCodec):
        return []
    choices = level_choices(profile)
    return [FeaturesWay(q, levels, label) for levels in choices for q in SUBSET_QUALITIES]


def level_choices(profile: Profile) -> list[tuple[str, ...]]:
    """Parts of the levels worth sending: all but one, and the key levels of scales together."""
    names = profile.spec.coded_names
    choices = [tuple(x for x in names if x != left) for left in names]
    scales = list(profile.key_levels.values())
    for count in (1, 2):
        for several in combinations(scales, count):
            wanted = {name for levels in several for name in levels}
            choices.append(tuple(x for x in names if x in wanted))
    return [x for x in dict.fromkeys(choices) if x and x != names]


def seed_ways(label: str, profile: Profile) -> list[Way]:
    """{p3, p5} by each candidate for p4, as raw elements and entropy-coded."""
    if not set(SEED_LEVELS) < set(profile.spec.coded_names):
        return []
    return [
        SeedWay(candidate=candidate, quality=quality, levels=SEED_LEVELS, profile=label)
        for candidate in CANDIDATES
        for quality in (None, *SEED_QUALITIES)
    ]
