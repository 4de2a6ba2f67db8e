"""What the gates measure: exact bytes, rates and AP on generated scenes, times as ratios."""

from __future__ import annotations

import hashlib
import json
import lzma
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import __version__ as PILLOW

from fpcodec.codecs.base import Decoded
from fpcodec.codecs.chunked import ChunkedCodec
from fpcodec.codecs.chunks import QuantisedLevel
from fpcodec.data import SceneConfig, write_coco
from fpcodec.data.coco import CocoDataset, load_coco
from fpcodec.errors import FpcodecError, InputError
from fpcodec.evaluation.bootstrap import average_precision
from fpcodec.evaluation.matching import match_detections
from fpcodec.evaluation.runner import measure
from fpcodec.evaluation.ways import FeaturesWay, Workplace
from fpcodec.evaluation.ways.picture import PictureWay
from fpcodec.images import load_image
from fpcodec.profile import Profile, embedded_profile_path
from fpcodec.profile_folder import MANIFEST, TENSORS

SCENES = range(60)
"""Seeds; below a million they are held out."""

QUALITIES = (0.3, 0.6, 1.0)
WEBP_QUALITIES = (80, 90)
GOOD_QUALITY, GOOD_WEBP = 1.0, 90
"""Compared in bytes at an AP that is not lower."""

SPEED_QUALITY, SPEED_IMAGES, SPEED_ROUNDS = 0.5, 10, 6
SYNTHETIC_FRAMES = {
    "all q64": (None, 64),
    "all q128": (None, 128),
    "all q255": (None, 255),
    "ends q90": (("p3", "p5"), 90),
}
"""Name to levels (None for all) and wire quality."""

BASE = "base install:"
"""Gates that begin with it need an environment of their own: see ``device_install.py``."""

SYNTHETIC_IMAGE, SYNTHETIC_NETWORK = (131, 67), (128, 64)


@dataclass(frozen=True)
class Measured:
    """One value, and how it is held to what is expected.

    Attributes:
        name: What it is.
        value: A digest or a number.
        rule: ``equal``, ``relative``, ``absolute`` or ``at_most``.
        limit: Of the rule, where no gate says another.
        made_with: Package to version that the value depends on; elsewhere it is only reported.
    """

    name: str
    value: str | float
    rule: str
    limit: float | None = None
    made_with: Mapping[str, str] | None = None


def golden(folder: Path) -> Iterator[Measured]:
    """Digests of what the golden files decode to, and of what their integers encode to."""
    for kind in sorted(x.name for x in folder.iterdir() if x.is_dir()):
        with tempfile.TemporaryDirectory() as scratch:
            (Path(scratch) / MANIFEST).write_bytes((folder / kind / MANIFEST).read_bytes())
            packed = (folder / kind / f"{TENSORS}.xz").read_bytes()
            (Path(scratch) / TENSORS).write_bytes(lzma.decompress(packed))
            codec = chunked(Profile.load(scratch))
        decoded, encoded = hashlib.sha256(), hashlib.sha256()
        for name, facts in sorted(json.loads((folder / kind / "frames.json").read_text()).items()):
            frame = codec.decode((folder / kind / f"{name}.fpc").read_bytes())
            decoded.update(integers_digest(frame))
            encoded.update(_encode_again(codec, folder / kind / f"{name}.npz", facts))
        yield Measured(f"golden {kind}: integers", decoded.hexdigest(), "equal")
        yield Measured(f"golden {kind}: bytes", encoded.hexdigest(), "equal")


def _encode_again(codec: ChunkedCodec, path: Path, facts: Mapping[str, list[int]]) -> bytes:
    """The frame of a golden file's integers."""
    with np.load(path) as arrays:
        levels = {
            key[8:]: QuantisedLevel(arrays[key], arrays.get(f"map.{key[8:]}"))
            for key in arrays
            if key.startswith("symbols.")
        }
    sizes = tuple(facts["image_size"]), tuple(facts["network_size"])
    return codec.coder.write(levels, facts["quality"], *sizes)


def synthetic() -> Iterator[Measured]:
    """Digests of frames of the shipped profile, made from integers that need no network."""
    codec = chunked(Profile.load(embedded_profile_path()))
    for name, (chosen, quality) in SYNTHETIC_FRAMES.items():
        levels = synthetic_levels(codec, chosen or codec.spec.coded_names, name)
        data = codec.coder.write(levels, quality, SYNTHETIC_IMAGE, SYNTHETIC_NETWORK)
        value = hashlib.sha256(data).hexdigest()
        try:
            came_back = same_integers(codec.decode(data), levels)
        except FpcodecError as error:
            came_back, value = True, f"cannot be decoded: {error}"
        yield Measured(
            f"tiny {name}: bytes", value if came_back else "decodes to other integers", "equal"
        )


def synthetic_levels(
    codec: ChunkedCodec, names: Sequence[str], seed: str
) -> dict[str, QuantisedLevel]:
    """Sparse integers and step maps that are the same everywhere: no generator stands between."""
    levels = {}
    for name in names:
        _, height, width = codec.spec.shape(name, SYNTHETIC_NETWORK)
        shape = (codec.components[name], height, width)
        raw = _bytes(f"{seed} {name}", int(np.prod(shape))).reshape(shape).astype(np.int32)
        # One in eight is not zero; a few are large enough for escapes.
        values = np.where(raw >= 224, raw - 240, 0)
        values = np.where(raw == 255, 5_000, values)
        classes = _bytes(f"{seed} {name} map", height * width).reshape(height, width)
        levels[name] = QuantisedLevel(
            values.astype(np.int32), (classes % codec.step_classes).astype(np.uint8)
        )
    return levels


def same_integers(decoded: Decoded, levels: Mapping[str, QuantisedLevel]) -> bool:
    """Whether a frame holds exactly these levels."""
    return decoded.symbols.keys() == levels.keys() and all(
        np.array_equal(decoded.symbols[name], level.symbols)
        and level.classes is not None
        and np.array_equal(decoded.step_maps[name], level.classes)
        for name, level in levels.items()
    )


def integers_digest(decoded: Decoded) -> bytes:
    """sha256 over levels and maps in a fixed order."""
    total = hashlib.sha256()
    for name in sorted(decoded.symbols):
        total.update(name.encode())
        total.update(np.ascontiguousarray(decoded.symbols[name], "<i4").tobytes())
        if name in decoded.step_maps:
            total.update(np.ascontiguousarray(decoded.step_maps[name], "u1").tobytes())
    return total.digest()


def rates(folder: Path, progress: Callable[[int, int], None] | None = None) -> Iterator[Measured]:
    """Bytes and AP of the shipped profile on generated scenes, WebP beside it.

    Args:
        folder: Where the scenes are written.
        progress: Called with scenes done and scenes in all.
    """
    annotations = write_coco(folder, SCENES, SceneConfig())
    dataset = load_coco(annotations, folder / "images")
    workplace = Workplace.open({"fpc": embedded_profile_path()}, threads=1)
    ours = {quality: FeaturesWay(quality) for quality in QUALITIES}
    webp = {quality: PictureWay.parse(f"webp:{quality}") for quality in WEBP_QUALITIES}
    traces = measure(workplace, dataset, (*ours.values(), *webp.values()), progress)
    labels = tuple(workplace.detector.labels)
    ap = {
        name: average_precision(match_detections(dataset, trace.detections, labels))
        for name, trace in traces.items()
    }
    size = {name: float(np.mean(trace.sent_bytes)) for name, trace in traces.items()}
    yield Measured("unsplit: AP", ap["unsplit"], "absolute", 0.3)
    for way in ours.values():
        yield Measured(f"{way.name}: mean bytes", size[way.name], "relative", 0.01)
        yield Measured(f"{way.name}: AP", ap[way.name], "absolute", 0.3)
    pillow = {"pillow": PILLOW}
    for rival in webp.values():
        yield Measured(f"{rival.name}: mean bytes", size[rival.name], "relative", 0.01, pillow)
    good, rival_name = ours[GOOD_QUALITY].name, webp[GOOD_WEBP].name
    yield Measured(
        f"{good} / {rival_name}: mean bytes", size[good] / size[rival_name], "at_most", 0.5
    )
    yield Measured(f"{rival_name} - {good}: AP", ap[rival_name] - ap[good], "at_most", 0.0)


def speeds(folder: Path) -> Iterator[Measured]:
    """Encoding and decoding as shares of the extraction before them, in interleaved runs.

    Args:
        folder: Where ``rates`` wrote the scenes.
    """
    dataset: CocoDataset = load_coco(folder / "annotations.json", folder / "images")
    profile = Profile.load(embedded_profile_path())
    codec, detector = profile.codec, profile.open_detector("edge", threads=1)
    images = [load_image(path) for path in list(dataset.paths())[:SPEED_IMAGES]]
    times = np.zeros((SPEED_ROUNDS, len(images), 3))
    for line in times:
        for image, cells in zip(images, line, strict=True):
            start = time.perf_counter()
            pyramid = detector.extract(image)
            extracted = time.perf_counter()
            frame = codec.encode(pyramid, SPEED_QUALITY)
            encoded = time.perf_counter()
            codec.decode(frame)
            cells[:] = np.diff((start, extracted, encoded, time.perf_counter()))
    # The first round warms caches and the runtime's memory.
    extract, encode, decode = np.median(times[1:], axis=(0, 1))
    name = f"q{SPEED_QUALITY:g}"
    yield Measured(f"{name}: encode time / extract time", encode / extract, "at_most", 0.7)
    yield Measured(f"{name}: decode time / extract time", decode / extract, "at_most", 0.7)


def base_install(path: Path) -> Iterator[Measured]:
    """What ``device_install.py`` wrote of the base install.

    Raises:
        InputError: The file cannot be read.
    """
    try:
        row = json.loads(path.read_text("utf-8"))
        heavy, peak = ", ".join(row["heavy"]), row["peak_mb"]
        frame_mb = max(value for name, value in peak.items() if name.startswith("frame "))
        yield Measured(f"{BASE} MB on disk", row["disk_mb"], "at_most", 400.0)
        yield Measured(f"{BASE} torch, onnx, ray", heavy or "absent", "equal")
        yield Measured(f"{BASE} packages", row["packages"], "at_most", 35.0)
        yield Measured(f"{BASE} peak MB of a frame", frame_mb, "at_most", 200.0)
        yield Measured(f"{BASE} import / Python's start", row["import_by_start"], "at_most", 10.0)
        by_libraries = row["answer_by_libraries"]
        yield Measured(f"{BASE} first answer / libraries' import", by_libraries, "at_most", 10.0)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} cannot be read ({error}); write it with benchmarks/device_install.py"
        ) from error


def chunked(profile: Profile) -> ChunkedCodec:
    """The profile's codec, which must code integers in chunks.

    Raises:
        InputError: It does not.
    """
    if not isinstance(profile.codec, ChunkedCodec):
        raise InputError(f"{profile.name}: codec id {profile.codec.codec_id} has no chunks")
    return profile.codec


def _bytes(seed: str, count: int) -> np.ndarray:
    return np.frombuffer(hashlib.shake_256(seed.encode()).digest(count), np.uint8)
