"""Fit the embedded profile to the tiny detector's graphs, on generated scenes.

    python scripts/calibrate_tiny.py

Reads ``edge.onnx`` and ``server.onnx`` in ``fpcodec/assets/tiny`` (``scripts/train_tiny.py`` makes
them) and puts ``profile.json`` and ``codec.safetensors`` beside them.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

from rich.progress import Progress

from fpcodec.calibration import calibrate
from fpcodec.data import write_coco
from fpcodec.data.coco import load_coco
from fpcodec.detectors.factory import open_detector
from fpcodec.profile import MANIFEST, TENSORS, embedded_profile_path

FIRST_SEED = 5_000_000
"""Apart from the scenes of training (from one million) and of tests (from zero)."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=400)
    options = parser.parse_args()
    detector = open_detector("tiny", threads=1)
    with tempfile.TemporaryDirectory() as folder, Progress() as progress:
        annotations = write_coco(Path(folder), range(FIRST_SEED, FIRST_SEED + options.scenes))
        task = progress.add_task("calibrating")
        profile = calibrate(
            detector,
            list(load_coco(annotations, annotations.parent / "images").paths()),
            Path(folder) / "profile",
            name="tiny",
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
        for name in (TENSORS, MANIFEST):
            shutil.copyfile(Path(folder) / "profile" / name, embedded_profile_path() / name)
    print(f"tiny: stream {profile.stream_id.hex()[:12]}, key levels {dict(profile.key_levels)}")
    print(f"bytes by quality: {profile.measured['mean_bytes_by_quality']}")


if __name__ == "__main__":
    main()
