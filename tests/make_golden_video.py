"""Makes the golden streams once; never over them: a format that changed is a new version.

    python tests/make_golden_video.py tests/golden_streams

writes, for each codec's golden profile, the frames of a stream, the integers that they decode to,
and what is to be known of them.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from core_kit import unpack_golden
from make_golden import GEOMETRY, KINDS, SPEC, digest, with_escapes
from video_kit import clip

from fpcodec.codecs.base import Decoded
from fpcodec.codecs.chunks import QuantisedLevel
from fpcodec.profile import Profile
from fpcodec.video import VideoConfig, VideoDecoder, VideoEncoder
from fpcodec.video.frame import is_inter
from fpcodec.video.residuals import LevelState

STREAM = (
    (0.8, None), (0.8, None), (0.8, None), (0.8, ("p3", "p5")), (0.8, ("p3", "p5")), (0.3, None),
    (1.0, None), (1.0, ()), (0.5, None), (0.5, None),
)  # fmt: skip
"""Quality and levels of each frame."""


def facts_of(decoded: Decoded, frame: bytes) -> dict:
    return {
        "inter": is_inter(frame),
        "quality": decoded.quality,
        "levels": list(decoded.symbols),
        "frame_sha256": hashlib.sha256(frame).hexdigest(),
        "integers_sha256": digest(decoded),
    }


def arrays_of(number: int, decoded: Decoded) -> dict[str, np.ndarray]:
    out = {f"{number:02}.symbols.{x}": v for x, v in decoded.symbols.items()}
    return out | {f"{number:02}.map.{x}": v for x, v in decoded.step_maps.items()}


def make(kind: str, folder: Path) -> None:
    """Write one codec's stream."""
    folder.mkdir(parents=True)  # fails where it is: golden files are never made anew
    with tempfile.TemporaryDirectory() as name:
        codec = Profile.load(unpack_golden(kind, Path(name))).codec
        encoder, decoder = VideoEncoder(codec, VideoConfig(refresh_interval=0)), VideoDecoder(codec)
        frames = [
            encoder.encode(pyramid, quality, levels)
            for pyramid, (quality, levels) in zip(
                clip(len(STREAM), 700, SPEC, GEOMETRY), STREAM, strict=True
            )
        ]
        frames.append(_with_escapes(encoder))
        # A stream goes on after a refresh, with the first tables.
        encoder.request_refresh()
        frames += [encoder.encode(x, 0.6) for x in clip(3, 800, SPEC, GEOMETRY)]
        facts, arrays = {}, {}
        for number, frame in enumerate(frames):
            decoded = decoder.decode(frame)
            (folder / f"{number:02}.fpc").write_bytes(frame)
            facts[f"{number:02}"] = facts_of(decoded, frame)
            arrays |= arrays_of(number, decoded)
        np.savez_compressed(folder / "integers.npz", **arrays)
        (folder / "frames.json").write_text(json.dumps(facts, indent=1) + "\n")


def _with_escapes(encoder: VideoEncoder) -> bytes:
    state = encoder._state
    levels = with_escapes({x: QuantisedLevel(v.symbols) for x, v in state.levels.items()})
    target = {
        x: LevelState.still(levels[x].symbols, level.classes) for x, level in state.levels.items()
    }
    frame, encoder._state = state.write(target, None)
    return frame


def main() -> None:
    """Make all codecs' streams under the folder named on the command line."""
    target = Path(sys.argv[1])
    if target.exists():
        sys.exit(f"{target} exists; golden files are made once")
    for kind in KINDS:
        make(kind, target / kind)


if __name__ == "__main__":
    main()
