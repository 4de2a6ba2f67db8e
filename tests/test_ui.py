"""What the live page computes and draws, without a browser."""

from __future__ import annotations

import re
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from core_kit import golden_learned, kit_profile, make_pyramid
from typer.testing import CliRunner

from fpcodec import EdgeHalf, Profile, ServerHalf, embedded_profile_path
from fpcodec.bitstream import chunk_bytes
from fpcodec.cli.app import app
from fpcodec.codecs.bit_maps import bit_maps
from fpcodec.data import generate_scene
from fpcodec.errors import InputError, MissingDependency
from fpcodec.evaluation.profile_curve import carried_curve
from fpcodec.pyramid import ImageGeometry
from fpcodec.ui.clips import MAX_CLIP_FRAMES
from fpcodec.ui.inputs import SCENES, Picked, scene
from fpcodec.ui.markup import image, text
from fpcodec.ui.operating_point import OperatingPoint
from fpcodec.ui.results import SHOWN_SIDE, Subject
from fpcodec.ui.rivals import FORMATS, PictureFile, choose_rivals
from fpcodec.ui.visit import PARTS, Studio, Visit, failure, told
from fpcodec.ui.workbench import Workbench


@pytest.fixture(scope="module")
def profile() -> Profile:
    return Profile.load(embedded_profile_path())


@pytest.fixture(scope="module")
def bench(profile: Profile) -> Workbench:
    return Workbench(profile, threads=1)


@pytest.fixture(scope="module")
def subject(bench: Workbench) -> Subject:
    return bench.open("scene", generate_scene(11).image)


@pytest.fixture(scope="module")
def studio(bench: Workbench, profile: Profile) -> Studio:
    return Studio(bench, carried_curve(profile.measured))


def test_a_result_is_what_both_halves_give(
    bench: Workbench, subject: Subject, profile: Profile
) -> None:
    result = bench.run(subject, OperatingPoint(0.4))
    frame = EdgeHalf(profile, threads=1).encode(subject.image, quality=0.4)
    assert result.frame == frame.data
    assert {x.name: x.sent_bytes for x in result.levels if x.sent_bytes} == dict(frame.chunk_bytes)
    answer = ServerHalf(profile, threads=1).infer(frame.data)
    np.testing.assert_array_equal(result.found.boxes, answer.detections.boxes)
    assert {x.name: x.fate for x in result.levels} == {
        **dict.fromkeys(answer.levels_used, "sent"), "p6": "derived",
    }  # fmt: skip


def test_a_budget_is_kept_and_scales_choose_levels(
    bench: Workbench, subject: Subject, profile: Profile
) -> None:
    assert len(bench.run(subject, OperatingPoint(None, 1000)).frame) <= 1000
    large = bench.run(subject, OperatingPoint(levels="scales", scales=("large",)))
    sent = tuple(x.name for x in large.levels if x.fate == "sent")
    assert sent == profile.key_levels["large"]
    assert {x.name for x in large.levels if x.fate == "recovered"} == {"p2", "p3", "p4"}


def test_auto_sends_the_levels_of_what_a_full_frame_showed(
    bench: Workbench, subject: Subject, profile: Profile
) -> None:
    result = bench.run(subject, OperatingPoint(levels="auto"))
    full = bench.run(subject, OperatingPoint())
    wanted = {x for scale in full.found.scales() for x in profile.key_levels[scale]}
    assert {x.name for x in result.levels if x.fate == "sent"} == wanted


def test_a_server_elsewhere_is_asked(profile: Profile, subject: Subject) -> None:
    half, frames = ServerHalf(profile, threads=1), []

    def infer(frame: bytes) -> Any:
        frames.append(frame)
        return half.infer(frame)

    result = Workbench(profile, threads=1, infer=infer).run(subject, OperatingPoint(0.2))
    assert frames == [result.frame]


def test_a_budget_below_the_smallest_frame_gives_that_frame(
    studio: Studio, subject: Subject
) -> None:
    visit = Visit(subject)
    studio.draw(visit, OperatingPoint(None, 4))
    assert visit.result is not None
    assert [x.name for x in visit.result.levels if x.fate == "sent"] == ["p5"]
    assert "The budget is 4: no frame of this picture is smaller" in told(visit)


def gestures(studio: Studio) -> Any:
    pytest.importorskip("gradio", reason="needs gradio, of the extra ui")
    from fpcodec.ui.gestures import Gestures

    return Gestures(studio)


def test_numbers_while_they_are_typed_are_no_errors(studio: Studio, subject: Subject) -> None:
    does, visit = gestures(studio), Visit(subject)
    assert "bytes at quality" in does.draw(visit, "budget", 0.5, 1000, "all", [])[0]
    before = visit.result
    for same in (None, 1000):
        assert not isinstance(does.draw(visit, "budget", 0.5, same, "all", [])[0], str)
    assert visit.result is before
    does.draw(visit, "budget", 0.5, 900, "all", [])
    assert visit.result is not before


def test_sliders_clamp_what_they_are_sent() -> None:
    pytest.importorskip("gradio", reason="needs gradio, of the extra ui")
    from fpcodec.ui.controls import clamp

    sent = (4, None, "", 10**9, 500, float("nan"))
    assert [clamp(160, 18000)(x) for x in sent] == [160, None, None, 18000, 500, None]


def test_a_picture_that_was_brought_has_a_warning(studio: Studio, bench: Workbench) -> None:
    image = generate_scene(3).image
    brought = studio.draw(studio.open("mine.jpg", image, brought=True), OperatingPoint())["summary"]
    for words in (
        "Shown: <b>mine.jpg</b>", "ball, crate, star, ring, cross, cone", "mean nothing",
        "its own test images", "fpcodec profiles get yolox_nano --out yolox_nano",
        "fpcodec ui --profile yolox_nano",
    ):  # fmt: skip
        assert words in brought
    own = studio.draw(studio.open("a scene", image), OperatingPoint())["summary"]
    assert "Shown: <b>a scene</b>" in own
    assert "mean nothing" not in own


def test_nothing_found_on_both_sides_is_no_agreement(studio: Studio) -> None:
    visit = studio.open("grey", np.full((64, 64, 3), 128, np.uint8))
    parts = studio.draw(visit, OperatingPoint(0.5))
    assert visit.result is not None
    assert visit.result.agreed.count_a == visit.result.agreed.count_b == 0
    assert "nothing to compare" in parts["summary"]
    assert "1.00" not in parts["summary"] + parts["bytes"]


def test_after_a_failure_the_line_says_what_is_still_shown(
    studio: Studio, subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    does, visit = gestures(studio), Visit(subject)
    values = ("quality", 0.5, 1000, "all", [])
    does.draw(visit, *values)
    bad = tmp_path / "bad.jpg"
    bad.write_text("this is no picture")
    answer = does.open_file(visit, str(bad), *values)
    assert "Below is still scene." in answer[0]
    assert answer[-1]["label"].startswith("Refused: bad.jpg.")
    monkeypatch.setattr("fpcodec.ui.inputs.MAX_UPLOAD_BYTES", 10)
    assert "above the limit of 64 MB" in does.open_file(visit, str(bad), *values)[0]


def test_the_curve_shows_its_own_points_and_agrees_with_its_table(
    studio: Studio, subject: Subject
) -> None:
    def drawn(quality: float) -> str:
        return studio.draw(Visit(subject), OperatingPoint(quality))["curve"]

    assert studio.curve is not None
    for quality in (0.0, 0.3, 0.5):
        part = drawn(quality)
        marks = part.split("<figcaption")[0].split('class="legend"')[0]
        assert marks.count('<circle class="features"') == len(studio.curve.frames)
        ring = re.search(r'<circle class="here" cx="([\d.-]+)" cy="([\d.-]+)"', part)
        assert ring is not None
        assert 0 < float(ring[1]) < 520
        assert 0 < float(ring[2]) < 274
    half = next(x for x in studio.curve.frames if x.quality == 0.5)
    assert f"takes {half.mean_bytes:,.0f} bytes on average, at AP {half.ap:.1f}" in drawn(0.5)
    assert "1.4 below unsplit (measured)" in drawn(0.5)  # 74.8 and 73.4
    assert "(interpolated)" in drawn(0.3)
    assert "frame at quality 0.5" in drawn(0.5)
    assert "JPEG 4:4:4, quality 85" in drawn(0.5)


def test_bits_add_up_to_the_bytes_of_every_level(
    bench: Workbench, subject: Subject, profile: Profile
) -> None:
    result = bench.run(subject, OperatingPoint(0.8))
    assert list(result.bits) == ["p2", "p3", "p4", "p5"]
    for level in result.levels:
        if level.fate == "sent":
            bits = result.bits[level.name]
            assert bits.shape == level.server.shape
            assert bits.min() >= 0
            assert bits.sum() == pytest.approx(8 * level.sent_bytes, rel=1e-5)
    assert result.bits_per_pixel.shape == (SHOWN_SIDE, SHOWN_SIDE)
    network = subject.pyramid.geometry.network_size
    spread = float(result.bits_per_pixel.mean()) * network[0] * network[1]
    assert spread == pytest.approx(8 * sum(x.sent_bytes for x in result.levels), rel=0.05)


def test_bits_lie_where_values_do(subject: Subject, profile: Profile) -> None:
    codec: Any = profile.codec
    frame = codec.encode(subject.pyramid, 0.5)
    decoded = codec.decode(frame)
    for name, bits in bit_maps(codec, frame, decoded).items():
        busy = decoded.symbols[name].any(axis=0)
        assert bits[busy].mean() > 3 * bits[~busy].mean()


@pytest.mark.parametrize("kind", ["uniform", "pca", "learned"])
@pytest.mark.parametrize("rate", [{"quality": 0.0}, {"quality": 1.0}, {"max_bytes": 3000}])
def test_bits_of_every_codec_add_up(kind: str, rate: dict[str, Any]) -> None:
    codec: Any = (golden_learned() if kind == "learned" else kit_profile(kind)).codec
    pyramid = make_pyramid(1, codec.spec, ImageGeometry((640, 427), (384, 256), (384, 256)))
    frame = codec.encode(pyramid, **rate)
    maps = bit_maps(codec, frame, codec.decode(frame))
    sizes = chunk_bytes(frame, codec.spec.names)
    assert set(maps) == set(sizes)
    for name, bits in maps.items():
        assert bits.min() >= 0
        assert bits.sum() == pytest.approx(8 * sizes[name], rel=1e-4)


@pytest.mark.parametrize(
    "arguments",
    [
        {"quality": None},
        {"quality": 0.5, "max_bytes": 100},
        {"quality": 1.5},
        {"quality": None, "max_bytes": 0},
        {"levels": "some"},
        {"levels": "scales"},
        {"levels": "scales", "scales": ("huge",)},
    ],
)
def test_an_operating_point_that_cannot_be_is_an_error(arguments: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        OperatingPoint(**arguments)


def test_the_smallest_file_that_agrees_as_well_stands_beside_a_frame() -> None:
    files = [
        PictureFile("webp q10", "webp", 100, 0.8), PictureFile("webp q60", "webp", 300, 1.0),
        PictureFile("webp q90", "webp", 900, 1.0), PictureFile("jpeg q10", "jpeg", 150, 0.6),
        PictureFile("jpeg q90", "jpeg", 950, 0.7),
    ]  # fmt: skip
    chosen = {x.file.name: x.is_equal for x in choose_rivals(files, 0.9)}
    assert chosen == {"webp q60": True, "jpeg q90": False}
    assert choose_rivals(files, 0.5)[0].file.name == "webp q10"


def test_picture_files_are_made_once(bench: Workbench, subject: Subject) -> None:
    assert list(bench.compare(subject))
    assert list(bench.compare(subject)) == []
    assert {file.codec for file in subject.files} <= set(FORMATS)
    assert all(file.sent_bytes > 0 and 0 <= file.f1 <= 1 for file in subject.files)


def test_every_part_is_drawn_and_every_picture_has_words(studio: Studio, subject: Subject) -> None:
    visit = Visit(subject)
    parts = studio.draw(visit, OperatingPoint(0.5))
    assert tuple(parts) == PARTS
    page = "".join(parts.values())
    pictures = re.findall(r"<img [^>]*>", page)
    assert len(pictures) >= 2 + 1 + 2 * 4
    assert all(re.search(r'alt="[^"]{5,}"', picture) for picture in pictures)
    assert all('aria-label="' in button for button in re.findall(r"<button [^>]*>", page))
    assert "http" not in page
    assert f"{len(visit.result.frame):,} bytes" in told(visit)
    assert "When not to split" in parts["bytes"]
    assert len(studio.choices(visit)) == page.count("<button")


def test_without_a_curve_the_page_says_so_and_how_to_get_one(
    bench: Workbench, profile: Profile
) -> None:
    part = Studio(bench, None).first_parts()["curve"]
    assert "carries no measured AP" in part
    assert "bench rd" in part
    assert "held out" in part  # what the profile has instead


def test_a_box_that_is_not_there_is_an_error(studio: Studio, subject: Subject) -> None:
    visit = Visit(subject)
    studio.draw(visit, OperatingPoint(0.5))
    for key in ("split:99", "split:-1", "elsewhere:0", "", "split:x"):
        with pytest.raises(InputError):
            studio.explain(visit, key)
    with pytest.raises(InputError):
        studio.explain(Visit(subject), "split:0")


def test_reasons_lie_near_their_box(studio: Studio, subject: Subject) -> None:
    pytest.importorskip("torch", reason="ODAM takes gradients in torch")
    visit = Visit(subject)
    studio.draw(visit, OperatingPoint(0.5))
    words = studio.explain(visit, studio.choices(visit)[-1][1])
    inside = re.search(r"(\d+)% of what made it", words)
    assert inside is not None
    assert int(inside[1]) > 30


def test_without_torch_the_extra_is_named(
    studio: Studio, subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("fpcodec.explain.odam", "fpcodec.explain.predictions"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    visit = Visit(subject)
    studio.draw(visit, OperatingPoint(0.5))
    with pytest.raises(MissingDependency, match=r"fpcodec\[torch\]") as error:
        studio.explain(visit, studio.choices(visit)[0][1])
    assert "drise" not in str(error.value)


def test_names_from_a_profile_are_never_markup() -> None:
    assert (
        text("<b>{{x}}</b>&\"'") == "&lt;b&gt;&#123;&#123;x&#125;&#125;&lt;/b&gt;&amp;&quot;&#x27;"
    )
    assert '"><script' not in image(np.zeros((2, 2, 3), np.uint8), '"><script>')
    assert "<i>" not in failure(InputError("a <i> name"))


def png(width: int, height: int, rows: bytes) -> bytes:
    """A PNG of these sides, whatever its rows hold."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"
WHOLE = png(64, 64, (b"\0" + bytes(range(192))) * 64)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("text.jpg", b"this is no picture", "not an image file"),
        ("cut.png", WHOLE[: len(WHOLE) // 2], "is it whole"),
        ("bomb.png", png(60_000, 60_000, b""), "scale it down"),
        ("empty.webp", b"", "not an image file"),
        ("program.png", EPS, "not an image file"),
    ],
)
def test_bad_pictures_are_named_without_their_folder(
    tmp_path: Path, name: str, data: bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(InputError, match=message) as error:
        Picked.of(path).load()
    assert str(tmp_path) not in str(error.value)
    assert name in str(error.value)


def write_clip(path: Path, frames: int) -> None:
    """Frames that grow lighter by 50 each."""
    av = pytest.importorskip("av", reason="clips need the extra video")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(frames):
            pixels = np.full((48, 64, 3), 50 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


@pytest.mark.parametrize("name", ["one.mp4", "one.mkv", "one.avi"])
def test_a_clip_of_one_frame_is_a_clip(tmp_path: Path, name: str) -> None:
    write_clip(tmp_path / name, 1)
    picked = Picked.of(tmp_path / name)
    assert picked.frames == 1
    assert picked.load().shape == (48, 64, 3)


def test_a_playlist_opens_no_other_file(tmp_path: Path) -> None:
    write_clip(tmp_path / "secret.mkv", 2)
    write_clip(tmp_path / "secret.ts", 2)
    playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.ts\n#EXT-X-ENDLIST\n"
    for name, content in (
        ("list.mp4", playlist),
        ("join.mp4", "ffconcat version 1.0\nfile secret.mkv\n"),
    ):
        (tmp_path / name).write_text(content)
        with pytest.raises(InputError, match="cannot be read as video"):
            Picked.of(tmp_path / name)


def test_frames_of_a_clip(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    write_clip(path, 5)
    picked = Picked.of(path)
    assert picked.frames == 5 <= MAX_CLIP_FRAMES
    means = [picked.load(number).mean() for number in (0, 2, 4, 99)]
    assert means == pytest.approx([0, 100, 200, 200], abs=8)
    path.write_bytes(b"no clip")
    with pytest.raises(InputError, match=r"clip.mp4: cannot be read as video"):
        Picked.of(path)


def test_scenes_are_known_by_name() -> None:
    assert scene(next(iter(SCENES))).shape == (320, 320, 3)
    with pytest.raises(InputError):
        scene("another")


def test_without_gradio_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    for name in ("GRADIO_ANALYTICS_ENABLED", "HF_HUB_DISABLE_TELEMETRY", "HF_HUB_OFFLINE"):
        monkeypatch.setenv(name, "")  # so that what the page sets ends with the test
    result = CliRunner().invoke(app, ["ui", "--port", "0", "--no-open"])
    assert result.exit_code == 2
    assert "fpcodec[ui]" in result.stderr
    assert result.stdout == ""


def test_results_of_another_profile_are_refused(repository: Path) -> None:
    results = repository / "benchmarks/results/bccd_learned"
    result = CliRunner().invoke(app, ["ui", "--results", str(results), "--no-open"])
    assert result.exit_code == 2
    assert "no frame of profile tiny" in result.stderr
