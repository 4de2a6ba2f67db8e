"""Sources and results: files, videos, pacing, reopening, JSON lines, drawn video."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fpcodec import errors
from fpcodec.detections import Detections
from fpcodec_edge import RetryPolicy, choose_source
from fpcodec_edge.recording import DrawnVideo, JsonLines, Recorders
from fpcodec_edge.sources import ImageFiles, Limited, Paced, Reopened, SourceImage, open_source

BOX = Detections(
    np.array([[4, 4, 40, 30]], np.float32), np.array([0.9], np.float32), np.array([1], np.int64)
)
NOTHING = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))


def picture(number: int, width: int = 64, height: int = 48) -> np.ndarray:
    image = np.full((height, width, 3), 40, np.uint8)
    image[:, : 8 * number + 8] = 200
    return image


def write_video(path: Path, count: int, fps: int = 10) -> None:
    av = pytest.importorskip("av", reason="needs fpcodec[video]")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=fps)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.bit_rate = 2_000_000
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


class Still:
    """A source of so many images."""

    is_live = True

    def __init__(self, count: int, fail: bool = False) -> None:
        self.count, self.fail = count, fail

    def __iter__(self) -> Iterator[SourceImage]:
        for number in range(self.count):
            yield SourceImage(number, f"{number}", number / 5, picture(number))
        if self.fail:
            raise errors.InputError("gone")


def test_a_folder_gives_its_images_by_name_and_says_which_it_cannot_read(tmp_path: Path) -> None:
    for number in (2, 0, 1):
        Image.fromarray(picture(number)).save(tmp_path / f"{number}.png")
    (tmp_path / "0b.jpg").write_text("no image")
    (tmp_path / "notes.txt").write_text("ignored")
    source = open_source(str(tmp_path), fps=4)
    images = list(source)
    assert not source.is_live
    assert [x.name for x in images] == ["0.png", "0b.jpg", "1.png", "2.png"]
    assert [x.time_s for x in images] == [0, 0.25, 0.5, 0.75]
    assert [x.image is None for x in images] == [False, True, False, False]
    assert "0b.jpg" in str(images[1].error)
    assert np.array_equal(images[3].image, picture(2))


def test_one_image_is_a_source_too(tmp_path: Path) -> None:
    Image.fromarray(picture(0)).save(tmp_path / "a.PNG")
    assert [x.name for x in open_source(str(tmp_path / "a.PNG"))] == ["a.PNG"]


def test_a_video_file_is_read_in_order_with_its_times(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.mp4", 7)
    source = open_source(str(tmp_path / "clip.mp4"))
    images = list(source)
    assert not source.is_live
    assert [x.number for x in images] == list(range(7))
    assert [round(x.time_s, 3) for x in images] == [n / 10 for n in range(7)]
    assert images[0].name == "clip.mp4#0"
    for number, item in enumerate(images):
        assert item.image is not None
        assert item.image.dtype == np.uint8
        assert np.abs(item.image.astype(int) - picture(number)).mean() < 12


@pytest.mark.parametrize("name", ["missing.mp4", "rtsp://user:secret@127.0.0.1:1/x", "text.mp4"])
def test_what_cannot_be_read_is_one_line_without_secrets(tmp_path: Path, name: str) -> None:
    pytest.importorskip("av", reason="needs fpcodec[video]")
    (tmp_path / "text.mp4").write_text("no video")
    location = name if "://" in name else str(tmp_path / name)
    with pytest.raises(errors.InputError) as caught:
        list(open_source(location))
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(errors.InputError, match="holds no images"):
        open_source(str(tmp_path))


def test_without_pyav_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    (tmp_path / "clip.mp4").write_bytes(b"x")
    with pytest.raises(errors.MissingDependency, match=r"fpcodec\[video\]"):
        list(open_source(str(tmp_path / "clip.mp4")))
    with pytest.raises(errors.MissingDependency, match=r"fpcodec\[video\]"):
        DrawnVideo(tmp_path / "out.mp4")


@pytest.mark.parametrize(("fps", "interval_s"), [(None, 0.2), (4.0, 0.25)])
def test_a_paced_source_shows_images_when_they_are_due(
    fps: float | None, interval_s: float
) -> None:
    now_s, shown_s = [50.0], []

    def sleep(seconds: float) -> None:
        now_s[0] += seconds

    for item in Paced(Still(4), fps, clock=lambda: now_s[0], sleep=sleep):
        shown_s.append(now_s[0])
        now_s[0] += 0.6 if item.number == 0 else 0.01
    # The second is late because of who took the first so long; the others are on time again.
    assert shown_s == pytest.approx(
        [50.0, 50.6, 50 + max(0.61, 2 * interval_s), 50 + max(0.62, 3 * interval_s)]
    )


def test_a_live_source_is_opened_again_but_not_one_that_never_was() -> None:
    told: list[errors.FpcodecError] = []
    waits: list[float] = []
    policy = RetryPolicy(initial_backoff_s=1.0, max_backoff_s=4.0, jitter=0.0)
    source = Reopened(Still(2, fail=True), policy, told.append, sleep=waits.append)
    assert len(list(Limited(source, 5))) == 5
    assert [str(x) for x in told] == ["gone", "gone"]
    assert waits == [1.0, 1.0]
    with pytest.raises(errors.InputError, match="gone"):
        list(Reopened(Still(0, fail=True), policy, told.append, sleep=waits.append))


def test_sources_are_shown_as_asked_for(tmp_path: Path) -> None:
    Image.fromarray(picture(0)).save(tmp_path / "a.png")
    assert isinstance(choose_source(str(tmp_path)), ImageFiles)
    assert choose_source(str(tmp_path), realtime=True).is_live
    assert choose_source(str(tmp_path), fps=5, limit=3).is_live
    with pytest.raises(errors.InputError, match="frame rate"):
        choose_source("rtsp://camera/x", fps=5)


def test_lines_are_json_whatever_became_of_a_frame() -> None:
    file = io.StringIO()
    lines = JsonLines(file, ("cat", "dog"))
    lines.sent(0, 0.0, picture(0))
    lines.answered({"frame": 0}, BOX)
    lines.ended({"frame": 1, "dropped": "queue_full"})
    first, second = (json.loads(x) for x in file.getvalue().splitlines())
    assert first["detections"][0]["label"] == "dog"
    assert second == {"frame": 1, "dropped": "queue_full"}


def test_a_drawn_video_has_the_answered_frames_in_order(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="needs fpcodec[video]")
    video = DrawnVideo(tmp_path / "new" / "out.mp4", ("cat", "dog"))
    both = Recorders(video, JsonLines(io.StringIO()))
    for number in range(6):
        both.sent(number, number / 5, picture(number, 65, 49))
    for number in (1, 0, 3, 5):
        both.answered({"frame": number}, BOX if number == 3 else NOTHING)
    both.ended({"frame": 2, "error": "Timeout"})
    both.answered({"frame": 4, "from_spool": True}, BOX)
    video.close()
    images = list(open_source(str(tmp_path / "new" / "out.mp4")))
    assert [round(x.time_s, 2) for x in images] == [0, 0.2, 0.6, 1.0]
    plain, drawn = images[1].image, images[2].image
    assert plain is not None
    assert drawn is not None
    assert plain.shape == (48, 64, 3)
    assert np.abs(plain.astype(int) - picture(1)).mean() < 15
    assert np.abs(drawn.astype(int) - picture(3)).mean() > 15


def test_a_video_that_nothing_was_written_to_is_closed_quietly(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="needs fpcodec[video]")
    DrawnVideo(tmp_path / "out.mp4").close()
    with pytest.raises(errors.InputError, match=r"\.mp4 or \.mkv"):
        DrawnVideo(tmp_path / "out.unknown")
