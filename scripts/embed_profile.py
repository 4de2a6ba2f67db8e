"""Put a profile of an embedded detector in the place of the one that ships with it.

    fpcodec train --detector tiny:bccd --images runs/bccd-data/train/images --out runs/learned_bccd
    python scripts/embed_profile.py bccd runs/learned_bccd

The detector in ``fpcodec/assets/NAME`` stays as it is; the profile must have been made for it.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from fpcodec import Profile
from fpcodec.codecs.graphs import ANALYSIS_FILE, SYNTHESIS_FILE
from fpcodec.detectors.factory import open_detector
from fpcodec.detectors.onnx import EDGE_FILE, SERVER_FILE
from fpcodec.embedded import EMBEDDED, embedded_folder
from fpcodec.errors import FpcodecError, InputError
from fpcodec.files import file_sha256
from fpcodec.profile_folder import MANIFEST, TENSORS


def embed(profile: Profile, name: str) -> Profile:
    """Write a profile's codec and manifest beside an embedded detector.

    Raises:
        InputError: It was made for another detector.
    """
    asset, source = embedded_folder(name), profile.path or Path()
    for file in (EDGE_FILE, SERVER_FILE):
        if file_sha256(source / file) != file_sha256(asset / file):
            raise InputError(f"{source / file} is not that of {name}; make the profile for "
                             f"--detector tiny:{name}")  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder) / "profile"
        # Of the detector's folder only its two halves are the profile's.
        detector = open_detector(f"tiny:{name}", threads=1)
        replace(profile, name=name).save(fresh, detector)
        for file in (TENSORS, ANALYSIS_FILE, SYNTHESIS_FILE, MANIFEST):
            (asset / file).unlink(missing_ok=True)
            if (fresh / file).is_file():
                shutil.copyfile(fresh / file, asset / file)
    made = Profile.load(asset)
    made.verify()
    return made


def main() -> None:
    """Read the flags, put the profile in its place."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=EMBEDDED)
    parser.add_argument("profile", type=Path, help="a profile of this detector")
    options = parser.parse_args()
    try:
        profile = Profile.load(options.profile)
        profile.verify()
        made = embed(profile, options.name)
    except (FpcodecError, OSError) as error:
        sys.exit(f"error: {error}")
    print(f"{made.path}: codec id {made.codec.codec_id}, stream {made.stream_id.hex()[:12]}")


if __name__ == "__main__":
    main()
