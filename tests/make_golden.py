"""Makes the golden files once; never over them: a format that changed is a new codec id.

    python tests/make_golden.py tests/golden [CODEC...]

writes, for each codec, a profile folder (its tensors and graphs packed with xz), frames, the
integers that they decode to, and for ``learned``, which needs torch, the features of some of them.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import sys
import tempfile
from pathlib import Path

import numpy as np
from core_kit import FakeDetector, make_pyramid, write_images

from fpcodec.calibration import calibrate
from fpcodec.codecs.base import Decoded
from fpcodec.codecs.chunks import QuantisedLevel
from fpcodec.codecs.coefficients import group_bounds
from fpcodec.profile import Profile
from fpcodec.profile_folder import MANIFEST
from fpcodec.pyramid import ImageGeometry, LevelSpec, PyramidSpec

NETWORK = (96, 64)
GEOMETRY = ImageGeometry((123, 77), NETWORK, (96, 60), (0, 2))
# Seventy-two components make eight groups, so that every table layout is held still.
SPEC = PyramidSpec(
    (
        LevelSpec("p3", 8, 8),
        LevelSpec("p4", 16, 8),
        LevelSpec("p5", 32, 72),
        LevelSpec("p6", 64, 72, derived_from="p5"),
    )
)
KINDS = ("uniform", "pca", "learned")
FEATURES = "features.npz"
FRAMES = {
    "all": (None, 200),
    "low": (None, 10),
    "best": (None, 255),
    "ends": (("p3", "p5"), 90),
    "one": (("p4",), 130),
    "none": ((), 0),
}


def whole(level: QuantisedLevel) -> QuantisedLevel:
    """The level with all its components, those that are zero too."""
    missing = (level.components or len(level.symbols)) - len(level.symbols)
    symbols = np.pad(level.symbols, ((0, missing), (0, 0), (0, 0)))
    return QuantisedLevel(symbols, level.classes)


def with_escapes(levels: dict[str, QuantisedLevel]) -> dict[str, QuantisedLevel]:
    """The levels with values of every size put in."""
    large = [16, -17, 32, -33, 255, -256, 4000, -70_000, (1 << 22) - 1, 1 - (1 << 22)]
    out = {}
    for name, level in levels.items():
        symbols = level.symbols.copy()
        flat = symbols.reshape(len(symbols), -1)
        for index, value in enumerate(large):
            flat[index * 7 % len(flat), index * 5 % flat.shape[1]] = value
        out[name] = QuantisedLevel(symbols, level.classes)
    return out


def digest(decoded: Decoded) -> str:
    """sha256 over the integers in a fixed order."""
    total = hashlib.sha256()
    for name in sorted(decoded.symbols):
        total.update(name.encode())
        total.update(np.ascontiguousarray(decoded.symbols[name], "<i4").tobytes())
        if name in decoded.step_maps:
            total.update(np.ascontiguousarray(decoded.step_maps[name], "u1").tobytes())
    return total.hexdigest()


def fit_learned(start: Profile, out: Path) -> Profile:
    """A learned profile that has its path beside the closed form, as after some training."""
    import torch

    from fpcodec.training.export import export_profile
    from fpcodec.training.initial import initial_network
    from fpcodec.training.network import NetworkConfig

    torch.manual_seed(7)
    tensors = start.codec.tensors
    counts = tuple(tensors[f"{x}.basis"].shape[1] for x in start.spec.coded_names)
    width = (4,) * len(counts)
    config = NetworkConfig(counts, width, 8, classes=tensors["steps"].shape[1])
    network = initial_network(start.spec, tensors, config)
    with torch.no_grad():
        for part in (*network.analysis.levels.values(), *network.synthesis.leave.values()):
            last = getattr(part, "leave", part)
            last.weight.normal_(0, 0.03)
        for gain in network.quantiser.gain.values():
            gain.uniform_(-0.1, 0.1)
    pyramids = [make_pyramid(seed, start.spec, GEOMETRY) for seed in range(900, 916)]
    return export_profile(network, start, pyramids, out)


def make(kind: str, folder: Path) -> None:
    """Write one codec's golden files."""
    folder.mkdir(parents=True)  # fails where it is: golden files are never made anew
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        images = write_images(scratch / "images", 16)
        detector = FakeDetector(SPEC, NETWORK)
        detector.export_files = {}
        closed_form = "pca" if kind == "learned" else kind
        profile = calibrate(
            detector, images, scratch / closed_form, codec=closed_form, name=f"golden-{kind}",
            keep_variance=1.0, key_level_seconds=0.0,
        )  # fmt: skip
        if kind == "learned":
            profile = fit_learned(profile, scratch / kind)
        if len(group_bounds(profile.codec.coder.components["p5"])) != 8:
            sys.exit(f"{kind} does not have all eight groups on p5")
        for file in (scratch / kind).iterdir():
            if file.name == MANIFEST:
                (folder / MANIFEST).write_bytes(file.read_bytes())
            else:
                packed = lzma.compress(file.read_bytes(), preset=9)
                (folder / f"{file.name}.xz").write_bytes(packed)
        write_frames(profile, folder)
        if kind == "learned":
            np.savez_compressed(folder / FEATURES, **features_of(profile, folder))


def features_of(profile: Profile, folder: Path) -> dict[str, np.ndarray]:
    """What a learned profile makes of two golden frames, by frame and level."""
    codec, out = profile.codec, {}
    for frame in ("best", "ends"):
        decoded = codec.decode((folder / f"{frame}.fpc").read_bytes())
        levels = codec.reconstruct([decoded], [GEOMETRY])[0].levels
        out |= {f"{frame}.{name}": levels[name] for name in SPEC.coded_names}
    return out


def write_frames(profile: Profile, folder: Path) -> None:
    """Write frames, their integers, and what is to be known of them."""
    codec = profile.codec
    facts = {}
    for index, (frame_name, (levels, quality)) in enumerate(FRAMES.items()):
        names = SPEC.coded_names if levels is None else levels
        quantised = codec.quantise(make_pyramid(500 + index, SPEC, GEOMETRY), quality, names)
        quantised = {x: whole(level) for x, level in quantised.items()}
        if frame_name in ("all", "one"):
            quantised = with_escapes(quantised)
        data = codec.coder.write(quantised, quality, GEOMETRY.image_size, NETWORK)
        decoded = codec.decode(data)
        (folder / f"{frame_name}.fpc").write_bytes(data)
        arrays = {f"symbols.{x}": level.symbols for x, level in quantised.items()}
        arrays |= {f"map.{x}": v.classes for x, v in quantised.items() if v.classes is not None}
        np.savez_compressed(folder / f"{frame_name}.npz", **arrays)
        facts[frame_name] = {
            "quality": quality,
            "image_size": list(GEOMETRY.image_size),
            "network_size": list(NETWORK),
            "levels": list(names),
            "frame_sha256": hashlib.sha256(data).hexdigest(),
            "integers_sha256": digest(decoded),
        }
    (folder / "frames.json").write_text(json.dumps(facts, indent=1) + "\n")


def main() -> None:
    """Make the named codecs' files, or all, under the folder named on the command line."""
    target, kinds = Path(sys.argv[1]), sys.argv[2:] or KINDS
    for kind in kinds:
        if (target / kind).exists():
            sys.exit(f"{target / kind} exists; golden files are made once: a changed format takes "
                     "a new codec id, and its own folder")  # fmt: skip
    for kind in kinds:
        make(kind, target / kind)


if __name__ == "__main__":
    main()
