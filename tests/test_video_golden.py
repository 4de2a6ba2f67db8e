"""Golden streams: inter frames decode to the same integers for ever, everywhere."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from core_kit import backends, unpack_golden
from independent_video_decoder import Stream
from make_golden import KINDS, digest
from video_kit import STREAMS

from fpcodec.codecs.base import Codec
from fpcodec.profile import Profile
from fpcodec.video import VideoDecoder
from fpcodec.video.adaptive import first_tables
from fpcodec.video.frame import QualityChange, is_inter
from fpcodec.video.residuals import LevelState
from fpcodec.video.stream import StreamState

FIRST_TABLES_SHA256 = "4c7afa05d8403f4c4e205021114152ccd53e988a8243db42ac29534721ac5744"

each_kind = pytest.mark.parametrize("kind", KINDS)
each_backend = pytest.mark.parametrize("backend", backends(), ids=lambda x: type(x).__name__)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: unpack_golden(kind, tmp_path_factory.mktemp(kind)) for kind in KINDS}


@pytest.fixture(scope="module")
def codecs(folders: dict[str, Path]) -> dict[str, Codec]:
    return {kind: Profile.load(folder).codec for kind, folder in folders.items()}


def stream(kind: str) -> list[tuple[bytes, dict]]:
    folder = STREAMS / kind
    facts = json.loads((folder / "frames.json").read_text())
    return [((folder / f"{number}.fpc").read_bytes(), said) for number, said in facts.items()]


def assert_integers(symbols, maps, kind: str, number: int) -> None:
    with np.load(STREAMS / kind / "integers.npz") as arrays:
        keys = {key for key in arrays if key.startswith(f"{number:02}.")}
        assert keys == {f"{number:02}.symbols.{x}" for x in symbols} | {
            f"{number:02}.map.{x}" for x in maps
        }
        for name in symbols:
            np.testing.assert_array_equal(symbols[name], arrays[f"{number:02}.symbols.{name}"])
        for name in maps:
            np.testing.assert_array_equal(maps[name], arrays[f"{number:02}.map.{name}"])


@each_kind
def test_golden_streams_are_as_they_were_made_and_hold_every_kind_of_frame(kind):
    frames = stream(kind)
    for frame, said in frames:
        assert hashlib.sha256(frame).hexdigest() == said["frame_sha256"]
        assert is_inter(frame) == said["inter"]
    assert [n for n, (_, said) in enumerate(frames) if not said["inter"]] == [0, 11]
    flags = {frame[4] for frame, said in frames if said["inter"]}
    assert flags == {0, 1, 2, 3}


@each_kind
@each_backend
def test_bytes_decode_to_the_golden_integers(codecs, kind, backend, monkeypatch):
    monkeypatch.setattr(codecs[kind], "backend", backend)
    decoder = VideoDecoder(codecs[kind])
    for number, (frame, said) in enumerate(stream(kind)):
        decoded = decoder.decode(frame)
        assert_integers(decoded.symbols, decoded.step_maps, kind, number)
        assert digest(decoded) == said["integers_sha256"]
        assert decoded.quality == said["quality"]
        assert list(decoded.symbols) == said["levels"]


@each_kind
@each_backend
def test_golden_integers_encode_to_the_bytes(codecs, kind, backend):
    coder, state = codecs[kind].coder, None
    frames = stream(kind)
    with np.load(STREAMS / kind / "integers.npz") as arrays:
        for number, (frame, said) in enumerate(frames):
            if not said["inter"]:
                state = StreamState.of_refresh(coder, coder.read(frame), frame)
                continue
            target = {}
            for name in said["levels"]:
                plane = arrays.get(f"{number:02}.map.{name}")
                plane = None if plane is None else plane.astype(np.int32)
                target[name] = LevelState.still(arrays[f"{number:02}.symbols.{name}"], plane)
            change = None
            if frame[4] & 2:
                counts = [1 if x.classes is None else coder.step_classes for x in target.values()]
                body = frame[11 + 2 * (frame[4] & 1) :]
                ratios, at = [], 1
                for count in counts:
                    ratios.append(tuple(body[at : at + count]))
                    at += count
                change = QualityChange(body[0], tuple(ratios))
            data, state = state.write(target, change, backend)
            assert data == frame


@each_kind
def test_a_decoder_written_from_the_specification_reads_the_same(folders, kind):
    decoder = Stream(folders[kind])
    for number, (frame, said) in enumerate(stream(kind)):
        found = decoder.decode(frame)
        assert_integers(found["symbols"], found["step_maps"], kind, number)
        assert found["quality"] == said["quality"]


@each_kind
def test_the_decoder_written_from_the_specification_is_as_strict(folders, kind):
    frames = [frame for frame, _ in stream(kind)]
    decoder = Stream(folders[kind])
    decoder.decode(frames[0])
    for bad in (frames[2], frames[1][:-1], frames[1][:7], b"FPC\3" + frames[1][4:]):
        with pytest.raises(ValueError, match=r"[A-Z][a-z]+"):
            decoder.decode(bad)
    decoder.decode(frames[1])


def test_first_tables_never_change():
    total = hashlib.sha256()
    for components in (8, 72, 256):
        for name, one in sorted(first_tables(components).items()):
            total.update(name.encode() + one.table.counts.astype("<i4").tobytes())
    assert total.hexdigest() == FIRST_TABLES_SHA256


CHILD = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from video_kit import STREAMS
from make_golden import KINDS, digest
from fpcodec.profile import Profile
from fpcodec.video import VideoDecoder
out = {}
for kind, folder in zip(KINDS, sys.argv[2:]):
    decoder = VideoDecoder(Profile.load(Path(folder)).codec)
    for path in sorted((STREAMS / kind).glob("*.fpc")):
        out[f"{kind}/{path.stem}"] = digest(decoder.decode(path.read_bytes()))
print(json.dumps(out))
"""


@pytest.mark.parametrize("threads", ["1", "4"])
def test_another_process_with_other_threads_decodes_the_same(folders, repository, threads):
    environment = os.environ | {"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
    run = subprocess.run(
        [sys.executable, "-c", CHILD, str(repository / "tests"), *map(str, folders.values())],
        capture_output=True, text=True, check=True, cwd=repository, env=environment,
    )  # fmt: skip
    found = json.loads(run.stdout)
    for kind in KINDS:
        for number, (_, said) in enumerate(stream(kind)):
            assert found[f"{kind}/{number:02}"] == said["integers_sha256"]
