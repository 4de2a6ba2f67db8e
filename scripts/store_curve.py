"""Put a measured rate-accuracy curve into a profile, for the live page to draw.

    fpcodec bench rd --profile my-profile --images val --annotations val.json --out runs/rd
    python scripts/store_curve.py my-profile runs/rd

The results must hold frames of this very profile: they are known by its stream id. Pictures and
boxes of the same run come along.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from fpcodec import Profile
from fpcodec.errors import FpcodecError, InputError
from fpcodec.evaluation.profile_curve import MEASURED_KEY, ProfileCurve
from fpcodec.evaluation.results import read_rows
from fpcodec.files import replacing
from fpcodec.profile_folder import MANIFEST, read_manifest


def store(folder: Path, results: Path) -> ProfileCurve:
    """Write the curve of a profile's stream into its manifest.

    Raises:
        InputError: The results hold no frame of the profile.
        ProfileError: The folder is no profile.
    """
    profile = Profile.load(folder)
    curve = ProfileCurve.of_rows(read_rows(results), profile.stream_id)
    if curve is None:
        raise InputError(f"{results} holds no frame of {folder} with an AP; measure it first")
    manifest = read_manifest(folder)
    manifest["measured"][MEASURED_KEY] = curve.to_dict()
    with replacing(folder / MANIFEST) as temporary:
        temporary.write_text(json.dumps(manifest, indent=1) + "\n")
    return curve


def main() -> None:
    """Read the flags, store the curve."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("profile", type=Path, help="a profile's folder")
    parser.add_argument("results", type=Path, help="what fpcodec bench rd wrote")
    options = parser.parse_args()
    try:
        curve = store(options.profile, options.results)
    except FpcodecError as error:
        sys.exit(f"error: {error}")
    print(f"{options.profile}: {len(curve.points)} settings on {curve.images} images")


if __name__ == "__main__":
    main()
