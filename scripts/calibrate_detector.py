"""Fit a pca profile to an embedded detector's graphs, on generated scenes or on photographs.

    python scripts/calibrate_detector.py --out runs/tiny
    python scripts/calibrate_detector.py --name bccd --images runs/bccd-data/train/images --embed

Reads ``edge.onnx`` and ``server.onnx`` in ``fpcodec/assets/NAME`` (``export_detector.py`` makes
them). With ``--embed`` the profile takes the place of the one that ships; without, it is what the
shipped ``learned`` ones started from and are compared with.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from embed_profile import embed
from rich.progress import Progress

from fpcodec.calibration import calibrate
from fpcodec.data import write_coco
from fpcodec.detectors.factory import open_detector
from fpcodec.embedded import EMBEDDED

FIRST_SEED = 5_000_000
"""Apart from the scenes of training (from one million) and of tests (from zero)."""


def main() -> None:
    """Read the flags, calibrate, put the profile in its place."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--name", choices=EMBEDDED, default="tiny")
    parser.add_argument("--scenes", type=int, default=400, help="generated scenes to fit to")
    parser.add_argument("--images", type=Path, help="a folder of pictures to fit to instead")
    parser.add_argument("--out", type=Path, help="the profile folder to write")
    parser.add_argument("--embed", action="store_true", help="put it beside the detector's graphs")
    options = parser.parse_args()
    if not options.out and not options.embed:
        parser.error("give --out, --embed or both")
    detector = open_detector(f"tiny:{options.name}", threads=1)
    with tempfile.TemporaryDirectory() as temporary, Progress() as progress:
        folder = options.images
        if folder is None:
            seeds = range(FIRST_SEED, FIRST_SEED + options.scenes)
            folder = write_coco(Path(temporary), seeds).parent / "images"
        task = progress.add_task("calibrating")
        profile = calibrate(
            detector,
            sorted(path for path in folder.iterdir() if path.is_file()),
            options.out or Path(temporary) / "profile",
            name=options.name,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
        if options.embed:
            profile = embed(profile, options.name)
    levels = dict(profile.key_levels)
    print(f"{profile.name}: stream {profile.stream_id.hex()[:12]}, key levels {levels}")
    print(f"bytes by quality: {profile.measured['mean_bytes_by_quality']}")


if __name__ == "__main__":
    main()
