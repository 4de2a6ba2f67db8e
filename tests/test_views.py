"""Views of photographs: drawn by chance, the same again from the same chance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fpcodec.data import generate_scene
from fpcodec.distill.views import ViewConfig, Views
from fpcodec.errors import InputError

SIZE = (96, 64)
RED, GREY = (200, 10, 10), (114, 114, 114)
KINDS = {"plain": (1.0, 0.0), "mosaics": (0.0, 1.0), "scattered": (0.0, 0.0)}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three photographs of different shapes."""
    folder = tmp_path_factory.mktemp("scenes")
    paths = []
    for number, shape in enumerate([(120, 90), (64, 128), (200, 200)]):
        paths.append(folder / f"{number}.png")
        Image.fromarray(generate_scene(number).image).resize(shape).save(paths[-1])
    return paths


@pytest.fixture(scope="module")
def red(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photograph of one colour."""
    path = tmp_path_factory.mktemp("red") / "red.png"
    Image.new("RGB", (80, 80), RED).save(path)
    return path


def views(paths: list[Path], kind: str = "scattered", **changes: Any) -> Views:
    plain, mosaics = KINDS[kind]
    return Views(paths, ViewConfig(SIZE, plain=plain, mosaics=mosaics, **changes))


def draw(drawn: Views, seed: int = 0) -> np.ndarray:
    return drawn.draw(np.random.default_rng(seed))


def test_a_view_has_the_size_asked_for(scenes: list[Path]) -> None:
    drawn = Views(scenes, ViewConfig(SIZE))
    for seed in range(12):
        view = draw(drawn, seed)
        assert view.shape == (64, 96, 3)
        assert view.dtype == np.uint8


def test_the_same_chance_draws_the_same_view(scenes: list[Path]) -> None:
    first, second = (Views(scenes, ViewConfig(SIZE)) for _ in "ab")
    kept = [draw(first, seed) for seed in range(12)]
    for seed in reversed(range(12)):
        assert np.array_equal(draw(second, seed), kept[seed])
    assert len({view.tobytes() for view in kept}) == 12


@pytest.mark.parametrize("kind", KINDS)
def test_what_no_photograph_covers_is_grey(kind: str, red: Path) -> None:
    drawn = views([red], kind, colour=0.0)
    colours = [np.unique(draw(drawn, seed).reshape(-1, 3), axis=0) for seed in range(8)]
    for found in colours:
        assert {tuple(x) for x in found.tolist()} <= {RED, GREY}
    assert any(len(found) == 2 for found in colours)


def test_another_grey_may_be_asked_for(red: Path) -> None:
    view = draw(views([red], "plain", colour=0.0, grey=7))
    assert (view[:, :64] == RED).all()
    assert (view[:, 64:] == 7).all()


def test_a_plain_view_is_the_photograph_mirrored_or_not(scenes: list[Path]) -> None:
    drawn = views(scenes[2:], "plain", colour=0.0)
    with Image.open(scenes[2]) as picture:
        wanted = np.asarray(picture.resize((64, 64), Image.Resampling.BILINEAR)).astype(int)
    turned = set()
    for seed in range(8):
        found = draw(drawn, seed)[:, :64]
        errors = [np.abs(found - x).mean() for x in (wanted, wanted[:, ::-1])]
        assert min(errors) < 1
        turned.add(int(np.argmin(errors)))
    assert turned == {0, 1}


def test_a_mosaic_shows_four_photographs(tmp_path: Path) -> None:
    colours = [(250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 250, 0)]
    paths = [tmp_path / f"{i}.png" for i in range(4)]
    for path, colour in zip(paths, colours, strict=True):
        Image.new("RGB", SIZE, colour).save(path)
    drawn = views(paths, "mosaics", colour=0.0)
    seen = set()
    for seed in range(12):
        view = draw(drawn, seed)
        corners = {tuple(view[y, x].tolist()) for y in (8, -8) for x in (12, -12)}
        seen.add(len(corners - {GREY}))
    assert max(seen) >= 3


def test_colours_go_as_far_as_asked_for(red: Path) -> None:
    drawn = views([red], "plain", colour=0.2)
    found = {int(draw(drawn, seed)[0, 0, 0]) for seed in range(20)}
    assert len(found) > 3
    # Brightness, contrast and colour may each go a fifth.
    assert all(200 * 0.8**3 - 1 <= value <= 255 for value in found)


def test_a_broken_photograph_is_named(scenes: list[Path], tmp_path: Path) -> None:
    cut, text = tmp_path / "cut.png", tmp_path / "text.jpg"
    cut.write_bytes(scenes[0].read_bytes()[:400])
    text.write_text("no photograph")
    for path in (cut, text, tmp_path / "gone.png"):
        with pytest.raises(InputError) as caught:
            draw(views([path]))
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_photograph_broken_within_is_named(tmp_path: Path) -> None:
    """Pillow raises a SyntaxError at the second of a PNG's data chunks."""
    pixels = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    path = tmp_path / "broken.png"
    Image.fromarray(pixels).save(path)
    data = path.read_bytes()
    second = data.index(b"IDAT", data.index(b"IDAT") + 4)
    path.write_bytes(data[:second] + b"\x82" + data[second + 1 :])
    with pytest.raises(InputError, match=r"broken\.png"):
        draw(views([path]))


def test_a_photograph_of_16_bits_is_scaled(tmp_path: Path) -> None:
    path = tmp_path / "deep.png"
    Image.fromarray(np.full((64, 96), 100 * 256, np.uint16)).save(path)
    view = draw(views([path], "plain", colour=0.0))
    assert (view == 100).all()


def test_a_photograph_held_sideways_is_turned_upright(tmp_path: Path) -> None:
    path = tmp_path / "sideways.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (64, 96), RED).save(path, exif=exif)
    view = draw(views([path], "plain", colour=0.0)).astype(int)
    # Upright it is as wide as the view, sideways grey would stand beside it.
    assert np.abs(view - RED).max() < 8


@pytest.mark.parametrize(
    "wrong",
    [{"plain": -0.1}, {"mosaics": -0.1}, {"plain": 0.6, "mosaics": 0.5}, {"plain": float("nan")},
     {"scale": 0.9}, {"colour": 1.0}, {"colour": -0.1}],
)  # fmt: skip
def test_shares_that_are_none(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError):
        ViewConfig(SIZE, **wrong)  # type: ignore[arg-type]


def test_no_photograph_at_all() -> None:
    with pytest.raises(InputError, match="no photograph"):
        Views([], ViewConfig(SIZE))
