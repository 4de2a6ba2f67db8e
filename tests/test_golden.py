"""Golden files: frames of codec ids 1, 2 and 3 decode to the same integers for ever, everywhere."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from core_kit import GOLDEN, backends, golden_learned, kit_profile, make_pyramid, unpack_golden
from independent_decoder import decode as independent_decode
from make_golden import FEATURES, FRAMES, GEOMETRY, KINDS, SPEC, digest

from fpcodec.bitstream import read_frame
from fpcodec.codecs.chunks import CODEC_NAMES, QuantisedLevel
from fpcodec.codecs.coefficients import group_bounds
from fpcodec.profile import Profile

CASES = [(kind, frame) for kind in KINDS for frame in FRAMES]
each_frame = pytest.mark.parametrize(("kind", "frame"), CASES, ids=lambda x: str(x))
each_backend = pytest.mark.parametrize("backend", backends(), ids=lambda x: type(x).__name__)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The golden profiles with their tensors unpacked."""
    return {kind: unpack_golden(kind, tmp_path_factory.mktemp(kind)) for kind in KINDS}


@pytest.fixture(scope="module")
def profiles(folders: dict[str, Path]) -> dict[str, Profile]:
    return {kind: Profile.load(folder) for kind, folder in folders.items()}


def facts(kind: str, frame: str) -> dict:
    return json.loads((GOLDEN / kind / "frames.json").read_text())[frame]


def integers(kind: str, frame: str) -> dict[str, QuantisedLevel]:
    with np.load(GOLDEN / kind / f"{frame}.npz") as arrays:
        return {
            key[8:]: QuantisedLevel(arrays[key], arrays.get(f"map.{key[8:]}"))
            for key in arrays
            if key.startswith("symbols.")
        }


def assert_integers(found: dict, maps: dict, kind: str, frame: str) -> None:
    expected = integers(kind, frame)
    assert set(found) == set(expected) == set(facts(kind, frame)["levels"])
    for name, level in expected.items():
        assert found[name].dtype == np.int32
        np.testing.assert_array_equal(found[name], level.symbols)
        assert (name in maps) == (level.classes is not None)
        if level.classes is not None:
            np.testing.assert_array_equal(maps[name], level.classes)


def test_the_codec_ids_are_those_of_the_format(profiles):
    for codec_id, kind in ((1, "uniform"), (2, "pca"), (3, "learned")):
        assert CODEC_NAMES[codec_id] == kind
        assert profiles[kind].codec.codec_id == codec_id


@each_frame
def test_golden_files_are_as_they_were_made(kind, frame):
    data = (GOLDEN / kind / f"{frame}.fpc").read_bytes()
    assert hashlib.sha256(data).hexdigest() == facts(kind, frame)["frame_sha256"]


@each_backend
@each_frame
def test_bytes_decode_to_the_golden_integers(profiles, kind, frame, backend):
    data = (GOLDEN / kind / f"{frame}.fpc").read_bytes()
    decoded = profiles[kind].codec.coder.read(data, backend=backend)
    assert_integers(decoded.symbols, decoded.step_maps, kind, frame)
    expected = facts(kind, frame)
    assert digest(decoded) == expected["integers_sha256"]
    assert list(decoded.image_size) == expected["image_size"]
    assert list(decoded.network_size) == expected["network_size"]
    assert decoded.quality == expected["quality"]


@each_backend
@each_frame
def test_golden_integers_encode_to_the_bytes(profiles, kind, frame, backend):
    said = facts(kind, frame)
    data = profiles[kind].codec.coder.write(
        integers(kind, frame), said["quality"], tuple(said["image_size"]),
        tuple(said["network_size"]), backend,
    )  # fmt: skip
    assert data == (GOLDEN / kind / f"{frame}.fpc").read_bytes()


def test_learned_integers_give_the_golden_features(profiles):
    codec = profiles["learned"].codec
    with np.load(GOLDEN / "learned" / FEATURES) as expected:
        assert {key.split(".")[0] for key in expected} == {"best", "ends"}
        for key in expected:
            frame, name = key.split(".")
            decoded = codec.decode((GOLDEN / "learned" / f"{frame}.fpc").read_bytes())
            found = codec.reconstruct([decoded], [GEOMETRY])[0].levels[name]
            scale = float(np.abs(expected[key]).max())
            np.testing.assert_allclose(found, expected[key], rtol=0, atol=1e-4 * scale)


@each_frame
def test_a_decoder_written_from_the_specification_reads_the_same(folders, kind, frame):
    data = (GOLDEN / kind / f"{frame}.fpc").read_bytes()
    found = independent_decode(data, folders[kind])
    assert_integers(found["symbols"], found["step_maps"], kind, frame)
    assert list(found["image_size"]) == facts(kind, frame)["image_size"]
    assert list(found["network_size"]) == facts(kind, frame)["network_size"]
    assert (found["codec_id"], found["quality"]) == (KINDS.index(kind) + 1, data[11])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("quality", [0.0, 0.3, 0.77, 1.0])
def test_a_decoder_written_from_the_specification_reads_fresh_frames(kind, quality):
    profile = golden_learned() if kind == "learned" else kit_profile(kind)
    for seed, levels in enumerate((None, ("p3", "p5"), ("p4",), ("p3",))):
        pyramid = make_pyramid(600 + seed, profile.spec)
        data = profile.codec.encode(pyramid, quality, levels)
        own, found = profile.codec.decode(data), independent_decode(data, profile.path)
        assert own.symbols.keys() == found["symbols"].keys()
        assert own.step_maps.keys() == found["step_maps"].keys()
        for name in own.symbols:
            np.testing.assert_array_equal(found["symbols"][name], own.symbols[name])
        for name in own.step_maps:
            np.testing.assert_array_equal(found["step_maps"][name], own.step_maps[name])


@pytest.mark.parametrize("kind", KINDS)
def test_the_decoder_written_from_the_specification_is_as_strict(folders, profiles, kind):
    data = (GOLDEN / kind / "low.fpc").read_bytes()
    header = read_frame(data).overhead_bytes
    broken = [data[:length] for length in {0, 2, 3, 14, header - 1, header, len(data) - 1}]
    broken += [data + b"\1", b"GIF" + data[3:], data[:3] + b"\2" + data[4:]]
    for position in range(0, len(data), 3):
        broken.append(data[:position] + bytes([data[position] ^ 16]) + data[position + 1 :])
    for bad in broken:
        with pytest.raises(ValueError, match=r": |BadMagic|UnsupportedVersion|UnknownCodec"):
            independent_decode(bad, folders[kind])


CHILD = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from core_kit import backends
from make_golden import FRAMES, digest
from fpcodec.profile import Profile
out = []
for kind, folder in json.loads(sys.argv[2]).items():
    codec = Profile.load(folder).codec
    for frame in FRAMES:
        data = (Path(sys.argv[3]) / kind / f"{frame}.fpc").read_bytes()
        for backend in backends():
            out.append([kind, frame, digest(codec.coder.read(data, backend=backend))])
print(json.dumps(out))
"""


@pytest.mark.parametrize("threads", [1, 2])
def test_another_process_with_other_threads_decodes_the_same(folders, repository, threads):
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    run = subprocess.run(
        [sys.executable, "-c", CHILD, str(repository / "tests"),
         json.dumps({kind: str(folder) for kind, folder in folders.items()}), str(GOLDEN)],
        env={**os.environ, **dict.fromkeys(names, str(threads))},
        cwd=repository, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert len(found) == len(CASES) * len(backends())
    for kind, frame, said in found:
        assert said == facts(kind, frame)["integers_sha256"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_golden_frames_reach_every_part_of_the_format(profiles, kind):
    frames = [read_frame((GOLDEN / kind / f"{x}.fpc").read_bytes()) for x in FRAMES]
    chunks = [chunk for frame in frames for chunk in frame.chunks]
    assert {chunk.has_parent for chunk in chunks} == {False, True}
    assert {chunk.has_map for chunk in chunks} == {kind != "uniform"}
    largest = max(int(abs(x.symbols).max()) for x in integers(kind, "all").values())
    assert largest == (1 << 22) - 1, "escapes of every length"
    assert profiles[kind].spec == SPEC
    assert len(group_bounds(profiles[kind].codec.coder.components["p5"])) == 8


def test_golden_files_are_never_made_over(repository, tmp_path):
    (tmp_path / "pca").mkdir()
    run = subprocess.run(
        [sys.executable, str(repository / "tests" / "make_golden.py"), str(tmp_path)],
        cwd=repository, capture_output=True, text=True, check=False, timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )  # fmt: skip
    assert run.returncode != 0
    assert "made once" in run.stderr
    assert list((tmp_path / "pca").iterdir()) == []


def test_golden_files_are_small() -> None:
    assert sum(x.stat().st_size for x in _files()) < 1_500_000


def _files() -> Iterator[Path]:
    return (path for path in GOLDEN.rglob("*") if path.is_file())
