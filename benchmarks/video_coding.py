"""The video mode beside frame-by-frame coding and beside x264, x265 and SVT-AV1 at low delay.

    PYTHONPATH=.:edge:server python benchmarks/video_coding.py --profile runs/learned_nano \\
        --clips ../shared/data/video --work runs/video --out benchmarks/results/video_yolox_nano

Features go through the codec and the head; pictures of the same frames, at the size that the
network takes them and at three quarters of it, go through a video coder and the whole detector.
Agreement is with the unsplit detector on the original pictures. Every way gets a refresh, or a key
picture, as often. Bytes are those of frames and of packets, without containers or transport.

What was measured is kept in ``--work``, so that a run can be taken up again.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from video_agreement import Floats, Track, compare, scores_of
from video_plot import draw
from video_ways import Clip, frame_by_frame, load_clip, video_coder, video_mode

from fpcodec.detections import Detections
from fpcodec.errors import FpcodecError, InputError
from fpcodec.evaluation.environment import Environment
from fpcodec.evaluation.rivals.video_stream import PRESETS, StreamSetting
from fpcodec.files import replacing
from fpcodec.profile import Profile
from fpcodec.video import VideoConfig

VIDEO, ALONE = "video mode", "frame by frame"
QUALITIES = {
    ALONE: (0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8),
    VIDEO: (0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 1.0),
}
CRFS = {"x264": (18, 23, 28, 33, 38), "x265": (18, 23, 28, 33, 38), "svtav1": (20, 30, 40, 50, 60)}
LEVELS = (0.8, 0.85, 0.88, 0.9, 0.92)
SCALES = (1.0, 0.75)


@dataclass(frozen=True)
class Setting:
    """One point of a curve.

    Attributes:
        family: The curve.
        value: Its quality, or crf.
        step: Of the clip's frames, every so-many-th.
        scale: Of the pictures; features have 1.
    """

    family: str
    value: float
    step: int
    scale: float = 1.0

    @property
    def name(self) -> str:
        """For people and for files."""
        size = f" at {self.scale:g}" if self.scale != 1 else ""
        return f"{self.family}{size} {self.value:g}"


@dataclass(frozen=True)
class Bench:
    """What does not change from setting to setting."""

    clips: Sequence[Clip]
    profile: Profile
    detector: Any
    config: VideoConfig
    refresh_seconds: float
    work: Path

    def tracks(self, setting: Setting) -> list[Track]:
        """The setting on every clip; from the work folder where it was measured before."""
        return [self._track(clip, setting) for clip in self.clips]

    def _track(self, clip: Clip, setting: Setting) -> Track:
        path = self.work / f"{clip.name} {setting.name} every {setting.step}.npz"
        if path.is_file():
            with np.load(path) as kept:
                return Track(kept["sizes"], kept["counts"], kept["seconds"])
        if setting.family == ALONE and setting.step > 1:
            whole = Setting(setting.family, setting.value, 1)
            return self._track(clip, whole).every(setting.step)
        some = clip.every(setting.step)
        sizes, found = self._run(some, setting)
        track = Track.of(sizes, found, some.wanted, some.rate)
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, sizes=track.sizes, counts=track.counts, seconds=track.seconds)
        return track

    def _run(self, clip: Clip, setting: Setting) -> tuple[list[int], list[Detections]]:
        codec, refresh = self.profile.codec, max(1, round(self.refresh_seconds * clip.rate))
        if setting.family == ALONE:
            return frame_by_frame(clip, codec, self.detector, setting.value)
        if setting.family == VIDEO:
            config = VideoConfig(refresh, self.config.tolerance, self.config.rise, self.config.fall)
            return video_mode(clip, codec, self.detector, setting.value, config)
        stream = StreamSetting(setting.family, int(setting.value), clip.rate, refresh)
        return video_coder(clip, self.detector, stream, setting.scale)


def settings(steps: Sequence[int]) -> list[Setting]:
    """Every point, the dear ones last."""
    out = []
    for step in steps:
        out += [Setting(family, x, step) for family, xs in QUALITIES.items() for x in xs]
    for step in steps:
        # At a lower rate the smaller pictures are left out: full size is ahead at the full rate.
        for scale in SCALES if step == steps[0] else SCALES[:1]:
            out += [Setting(family, x, step, scale) for family, xs in CRFS.items() for x in xs]
    return out


def point_rows(
    setting: Setting, tracks: Sequence[Track], clips: Sequence[Clip], block_seconds: float
) -> tuple[list[dict[str, Any]], Floats]:
    """Rows per clip and of all together, and the blocks of all."""
    blocks = [track.blocks(block_seconds) for track in tracks]
    together = np.concatenate(blocks)
    rows = []
    for name, part in [(clip.name, x) for clip, x in zip(clips, blocks, strict=True)] + [
        ("all", together)
    ]:
        size, f1, mean_f1 = scores_of(part.sum(axis=0))
        rows.append({
            "name": setting.name, "family": setting.family, "setting": setting.value,
            "scale": setting.scale, "every": setting.step, "clip": name,
            "frames": int(part[:, 0].sum()), "mean_bytes": round(float(size), 2),
            "f1": round(float(f1), 4), "mean_f1": round(float(mean_f1), 4),
        })  # fmt: skip
    return rows, together


def comparison_rows(
    measured: Mapping[tuple[int, str, float], Mapping[float, Mapping[str, Floats]]],
    clips: Sequence[str], draws: int, seed: int,
) -> list[dict[str, Any]]:  # fmt: skip
    """Bytes of the video mode by those of every other curve, at several agreements."""
    rows = []
    for (step, family, scale), curve in measured.items():
        if family == VIDEO:
            continue
        ours = measured[step, VIDEO, 1.0]
        for clip in [*clips, "all"]:
            for mean in (False, True):
                for level in LEVELS:
                    found = compare(
                        {x: one[clip] for x, one in ours.items()},
                        {x: one[clip] for x, one in curve.items()},
                        level, mean=mean, draws=draws, seed=seed,
                    )  # fmt: skip
                    if found is None:
                        continue
                    values = {k: round(v, 4) for k, v in asdict(found).items()}
                    rows.append({
                        "name": f"{VIDEO} by {family}" + (f" at {scale:g}" if scale != 1 else ""),
                        "every": step, "clip": clip, "agreement": "mean_f1" if mean else "f1",
                        "level": level, **values,
                    })  # fmt: skip
    return rows


def run(bench: Bench, steps: Sequence[int], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure everything; rows of points, then of comparisons."""
    rows: list[dict[str, Any]] = []
    measured: dict[tuple[int, str, float], dict[float, dict[str, Floats]]] = {}
    for setting in settings(steps):
        start = time.perf_counter()
        tracks = bench.tracks(setting)
        found, together = point_rows(setting, tracks, bench.clips, options.block_seconds)
        rows += found
        blocks = {
            clip.name: track.blocks(options.block_seconds)
            for clip, track in zip(bench.clips, tracks, strict=True)
        }
        curve = measured.setdefault((setting.step, setting.family, setting.scale), {})
        curve[setting.value] = blocks | {"all": together}
        print("  ".join(
            [f"{setting.name:24} every {setting.step}"]
            + [f"{x['mean_bytes']:8.1f} B F1 {x['f1']:.3f} mean {x['mean_f1']:.3f}" for x in found]
            + [f"{time.perf_counter() - start:.0f} s"]
        ), flush=True)  # fmt: skip
    names = [clip.name for clip in bench.clips]
    return rows + comparison_rows(measured, names, options.draws, options.seed)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--profile", type=Path, required=True)
    parser.add_argument("--clips", type=Path, required=True, help="a folder of .mp4 files")
    parser.add_argument("--limit", type=int, default=600, help="frames of a clip at most")
    parser.add_argument("--every", type=int, action="append", help="every so-many-th frame; 1")
    parser.add_argument("--refresh-seconds", type=float, default=10.0)
    parser.add_argument("--tolerance", type=float, default=VideoConfig.tolerance)
    parser.add_argument("--block-seconds", type=float, default=2.0)
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, required=True, help="keeps what was measured")
    parser.add_argument("--out", type=Path, required=True, help="a folder")
    return parser.parse_args(arguments)


def main() -> None:
    options = parse()
    profile = Profile.load(options.profile)
    detector = profile.open_detector("both", 1)
    paths = sorted(options.clips.glob("*.mp4"))
    if not paths:
        raise InputError(f"{options.clips} holds no .mp4 files; give a folder of clips")
    clips = [load_clip(path, detector, options.limit) for path in paths]
    options.work.mkdir(parents=True, exist_ok=True)
    config = VideoConfig(tolerance=options.tolerance)
    bench = Bench(clips, profile, detector, config, options.refresh_seconds, options.work)
    rows = run(bench, options.every or [1], options)
    facts = {
        "profile": profile.name,
        "data": {x.name: {"frames": len(x.pictures), "rate": x.rate} for x in clips},
        "refresh_seconds": options.refresh_seconds,
        "tolerance": options.tolerance,
        "block_seconds": options.block_seconds,
        "draws": options.draws,
        "seed": options.seed,
        "presets": PRESETS,
        "environment": asdict(Environment.capture(shlex.join(["python", *sys.argv]), threads=1)),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    with replacing(options.out / "rows.json") as temporary:
        document = {"facts": facts, "rows": rows}
        temporary.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", "utf-8")
    draw(rows, options.out)


if __name__ == "__main__":
    try:
        main()
    except FpcodecError as error:
        sys.exit(f"error: {error}")
