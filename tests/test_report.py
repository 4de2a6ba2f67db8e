"""Reports of made-up rows: what the page, the plots and the tables say, and that they say it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from result_kit import (
    UNSPLIT_AP,
    curve,
    feature_rows,
    made_up_draws,
    made_up_rows,
    picture_rows,
    row,
    write_folder,
)

pytest.importorskip("matplotlib", reason="needs the bench extra")
pytest.importorskip("scipy", reason="needs the bench extra")

from fpcodec.errors import InputError
from fpcodec.evaluation.environment import Environment
from fpcodec.evaluation.report import (
    Comparisons,
    ResultSet,
    bd_markdown,
    load_results,
    operating_points_markdown,
    rows_markdown,
    source_markdown,
    verdict,
    write_report,
)
from fpcodec.evaluation.report.html import page
from fpcodec.evaluation.report.plots import area_figure, svg_text
from fpcodec.evaluation.report.source import load_all
from fpcodec.evaluation.results import ResultRow, write_rows

VOID = {"meta", "br", "hr", "img", "link", "input"}
LOADING = {"src", "href", "xlink:href", "srcset", "data", "action", "poster", "formaction"}
OURS = "fpc p3+p4+p5"


class Page(HTMLParser):
    """A page's elements, checked for nesting, with the cells of its tables."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[tuple[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag == "td":
            self.rows[-1].append(("", dict(attrs).get("data-v")))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.text += data
        if "td" in self.open:
            said, value = self.rows[-1][-1]
            self.rows[-1][-1] = (said + data, value)


@pytest.fixture(scope="module")
def results() -> ResultSet:
    """All kinds of rows, with draws."""
    rows = made_up_rows()
    mosaics = [
        replace(x, name=f"x265 mosaic {n}", kind="mosaic", family="x265 mosaic")
        for n, x in enumerate(picture_rows("any", curve(30000)))
    ]
    full = replace(
        rows[1], payload_bytes=rows[1].sent_bytes, bpp=0.125, bits_per_element=0.0625,
        level_bytes={"p3": 700.0, "p4": 300.0},
        macs={"edge": {"network": 5_000_000, "codec": 1_500_000}},
    )  # fmt: skip
    rows = [rows[0], full, *rows[2:], *mosaics]
    return ResultSet("made-up", tuple(rows), made_up_draws(rows))


@pytest.fixture(scope="module")
def comparisons(results: ResultSet) -> Comparisons:
    return Comparisons(results)


@pytest.fixture(scope="module")
def parsed(comparisons: Comparisons) -> Page:
    return Page(page([comparisons]))


def test_the_page_is_well_formed_and_loads_nothing(parsed: Page) -> None:
    assert parsed.open == []
    assert not {"img", "link", "iframe", "object", "video", "image"} & {
        x for x, _ in parsed.elements
    }
    for tag, attributes in parsed.elements:
        for name in LOADING & set(attributes):
            assert (attributes[name] or "").startswith("#"), (tag, name, attributes[name])


def test_the_page_has_no_address_at_all(comparisons: Comparisons) -> None:
    text = page([comparisons])
    assert not re.search(r"https?:|//[a-z]|@import|url\((?!#)", text)


def test_no_two_elements_share_an_id() -> None:
    rows = (*feature_rows(["p3"], curve(900)), *picture_rows("webp", curve(3000)))
    both = page([Comparisons(ResultSet(name, rows)) for name in ("one", "two")])
    ids = [attributes["id"] for _, attributes in Page(both).elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = set(re.findall(r'(?:href="|url\()#([^")]+)', both))
    assert targets <= set(ids)


def test_every_row_stands_in_the_page_with_its_own_numbers(
    parsed: Page, results: ResultSet
) -> None:
    for measured in results.rows:
        found = [cells for cells in parsed.rows if cells and cells[0][0] == measured.name]
        assert found, measured.name
        values = {float(value) for cells in found for _, value in cells if value is not None}
        assert measured.ap["ap"] in values
        assert measured.agreement_f1 in values
        if measured.sent_bytes is not None and measured.drop is not None:
            spread = measured.sent_bytes
            assert {spread.mean, spread.p50, spread.p95, measured.drop.value} <= values
            said = {text for cells in found for text, _ in cells}
            assert f"{spread.mean:,.0f}" in said
        assert measured.times_ms["encode"].p50 in values


def test_optional_numbers_are_shown_where_there_are_some(parsed: Page) -> None:
    values = {value for cells in parsed.rows for _, value in cells}
    assert {"0.125", "0.0625", "5000000", "1500000", "700.0"} <= values
    assert "edge network MMAC" in parsed.text
    assert "server head MMAC" not in parsed.text


def test_texts_from_rows_are_escaped() -> None:
    evil = "<script>alert(1)</script>&\"'"
    rows = [
        replace(x, name=f"{x.name}{evil}", family=f"{x.family}{evil}", data=evil,
                environment=Environment(evil, evil, {evil: evil}, evil, 1))
        for x in (*feature_rows(["p3"], curve(900)), *picture_rows("webp", curve(3000)))
    ]  # fmt: skip
    text = page([Comparisons(ResultSet(evil, tuple(rows)))])
    parsed = Page(text)
    assert parsed.open == []
    assert [x for x, _ in parsed.elements].count("script") == 1
    assert evil in parsed.text


def test_figures_show_every_family_and_the_unsplit_ap(comparisons: Comparisons) -> None:
    axis = area_figure(comparisons, "ap").axes[0]
    drawn = {tuple(line.get_xdata()) for line in axis.lines}
    for rows in comparisons.results.families.values():
        assert tuple(sorted(x.sent_bytes.mean for x in rows if x.sent_bytes)) in drawn
    said = {text.get_text() for text in axis.texts}
    assert {"unsplit 40.0", OURS, "webp", "jpeg", "x265 mosaic", "boxes"} <= said
    assert axis.get_xscale() == "log"


def test_names_beside_curves_do_not_cover_each_other(comparisons: Comparisons) -> None:
    figure: Any = area_figure(comparisons, "ap")
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas: Any = FigureCanvasAgg(figure)
    boxes = [x.get_window_extent(canvas.get_renderer()) for x in figure.axes[0].texts]
    pairs = [(a, b) for i, a in enumerate(boxes) for b in boxes[:i]]
    assert not [1 for a, b in pairs if a.overlaps(b)]


def test_the_same_results_give_the_same_characters(results: ResultSet) -> None:
    texts = {svg_text(area_figure(Comparisons(results), "ap"), "salt") for _ in range(2)}
    assert len(texts) == 1


def test_all_files_are_written_and_pictures_open(results: ResultSet, tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    paths = write_report([results], tmp_path / "new", progress=lambda *x: steps.append(x))
    assert paths[0].name == "report.html"
    assert {x.name for x in (tmp_path / "new").iterdir()} == {x.name for x in paths}
    assert {x.suffix for x in paths} == {".html", ".md", ".png", ".svg"}
    assert steps[-1] == (2, 2)
    for path in paths:
        if path.suffix == ".png":
            with Image.open(path) as picture:
                assert picture.width > 800
                assert len(picture.convert("RGB").getcolors(1 << 20) or []) > 5


def test_the_verdict_says_when_not_to_split(comparisons: Comparisons) -> None:
    said = " ".join(verdict(comparisons))
    assert "50% of the best picture" in said
    assert "best format: webp" in said
    assert "boxes alone (boxes 0.05) take 250 bytes and lose 0.30 points" in said
    assert "do not split: send the boxes" in said
    assert "no privacy measure" in said


def test_the_verdict_admits_that_pictures_are_smaller() -> None:
    rows = [*feature_rows(["p3"], curve(9000)), *picture_rows("webp", curve(3000))]
    said = " ".join(verdict(Comparisons(ResultSet("worse", tuple(rows)))))
    assert "300% of the best picture" in said
    assert "send the picture" in said
    assert "At no measured drop is a frame smaller" in said


def test_a_missing_bd_rate_says_why(comparisons: Comparisons) -> None:
    said = bd_markdown(comparisons)
    assert "| best picture | -50.0 % [" in said
    assert "fpc p4+p5 covers drops of 6.00 to 9.00" in said


def test_operating_points_tell_bounds_from_losses(comparisons: Comparisons) -> None:
    lines = operating_points_markdown(comparisons).splitlines()
    assert lines[0].startswith("| family | bytes at 0.5 | of best picture | bytes at 1 |")
    by_family = {line.split(" | ")[0].strip("| "): line for line in lines[2:]}
    assert list(by_family)[:2] == [OURS, "fpc p4+p5"]
    assert "50% [" in by_family[OURS]
    assert by_family["fpc p4+p5"].count("loses more") == 3
    assert by_family["boxes"].count("≤ 250") == 3
    only = operating_points_markdown(comparisons, (1.0,), ["webp"]).splitlines()
    assert len(only) == 3


def test_an_interval_that_draws_forbid_leaves_the_value(results: ResultSet) -> None:
    draws = {name: x + 30.0 * (name.startswith("webp")) for name, x in results.draws.items()}
    alone = ResultSet("x", tuple(x for x in results.rows if x.family != "jpeg"), draws)
    found = Comparisons(alone).bd("webp", OURS)
    assert found.result is not None
    assert found.result.percent == pytest.approx(-50)
    assert found.result.low is None
    assert "0 of 400 draws" in found.note
    ratio = Comparisons(alone).ratio("webp", OURS, 1.0)
    assert ratio is not None
    assert ratio.low is None


def rows_of_few() -> Iterator[Any]:
    unsplit = row("unsplit", "unsplit", {}, None, None)
    bare = Environment(None, None, {}, "", None)
    yield pytest.param([unsplit], id="unsplit alone")
    yield pytest.param([row("boxes", "boxes", {}, 200.0, 0.1)], id="boxes alone")
    yield pytest.param([unsplit, *picture_rows("webp", curve(8000))], id="pictures alone")
    yield pytest.param(feature_rows(["p3"], curve(800)), id="no unsplit row")
    yield pytest.param([unsplit, *feature_rows(["p3"], [(500.0, 0.2)])], id="one setting")
    yield pytest.param([unsplit, *feature_rows(["p3"], [(500.0, 50.0)])], id="far below the plot")
    nothing = {key: None for key in unsplit.ap}
    yield pytest.param(
        [replace(x, ap=nothing, times_ms={}, environment=bare) for x in made_up_rows()],
        id="no AP, times or environment",
    )


@pytest.mark.parametrize("rows", list(rows_of_few()))
def test_little_is_reported_as_little(rows: list[ResultRow], tmp_path: Path) -> None:
    paths = write_report([ResultSet("few", tuple(rows))], tmp_path)
    parsed = Page(paths[0].read_text("utf-8"))
    assert parsed.open == []
    for measured in rows:
        assert any(cells and cells[0][0] == measured.name for cells in parsed.rows)


def test_ours_are_seen_however_much_they_lose() -> None:
    lost = feature_rows(["p3"], [(500.0, 20.0), (900.0, 11.0)])
    rows = (row("unsplit", "unsplit", {}, None, None), *lost, *picture_rows("webp", curve(800)))
    axis = area_figure(Comparisons(ResultSet("lost", rows)), "ap").axes[0]
    low, high = axis.get_ylim()
    assert low < UNSPLIT_AP - 11.0 < UNSPLIT_AP < high
    assert low > UNSPLIT_AP - 20.0


def test_rows_of_earlier_releases_get_their_family(tmp_path: Path) -> None:
    old = [row("features", "fpc q1", {"levels": ["p4", "p5"]}, 10.0, 1.0),
           row("features", "fpc q2", {"levels": None}, 10.0, 1.0),
           row("picture", "webp q1", {"format": "webp"}, 10.0, 1.0),
           row("boxes", "boxes 0.1", {}, 10.0, 1.0)]  # fmt: skip
    values = [x.to_dict() for x in old]
    for value in values:
        for later in ("family", "payload_bytes", "symbols", "bits_per_element", "bpp", "macs"):
            value.pop(later, None)
    path = tmp_path / "old.json"
    path.write_text(json.dumps(values))
    loaded = load_results(path)
    assert loaded.name == "old"
    assert [x.family for x in loaded.rows] == ["fpc p4+p5", "fpc all", "webp", "boxes"]
    assert loaded.draws == {}


def test_a_folder_brings_its_draws_and_equal_names_are_told_apart(tmp_path: Path) -> None:
    rows = made_up_rows()
    first = write_folder(tmp_path / "a" / "coco", rows, made_up_draws(rows))
    second = write_folder(tmp_path / "b" / "coco", rows)
    loaded = load_all([first, second / "rows.json"])
    assert [x.name for x in loaded] == ["coco", "coco-2"]
    assert set(loaded[0].draws) == {x.name for x in rows if x.drop}
    assert loaded[1].draws == {}


def test_damaged_results_are_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "run", made_up_rows())
    write_folder(folder, made_up_rows(), made_up_draws(made_up_rows()))
    good = (folder / "draws.npz").read_bytes()
    for bad in (b"PK\x03\x04 no archive", good[: len(good) // 2], good[:60] + b"x" + good[61:]):
        (folder / "draws.npz").write_bytes(bad)
        with pytest.raises(InputError, match=r"draws\.npz"):
            load_results(folder)
    write_rows(tmp_path / "none.json", [])
    with pytest.raises(InputError, match="no rows"):
        load_results(tmp_path / "none.json")


def test_markdown_tables_are_rectangular(comparisons: Comparisons) -> None:
    rows = [replace(x, name=f"{x.name} a|b") for x in comparisons.results.rows]
    text = rows_markdown(Comparisons(ResultSet("x", tuple(rows))))
    widths = {len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines()}
    assert widths == {9}
    assert source_markdown(comparisons) == (
        "<sub>`fpcodec bench rd --out <made up>`, commit 0000000</sub>"
    )


def test_the_command_writes_a_report(tmp_path: Path) -> None:
    import typer
    from typer.testing import CliRunner

    from fpcodec.cli.bench_report import report

    rows = made_up_rows()
    folders = [write_folder(tmp_path / x, rows, made_up_draws(rows)) for x in ("one", "two")]
    app = typer.Typer()
    app.command()(report)
    arguments = [*map(str, folders), "--out", str(tmp_path / "out"), "--json", "--drops", "0.5:3"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    written = json.loads(done.stdout)
    text = Path(written["page"]).read_text("utf-8")
    assert all(f'<section id="{name}">' in text for name in ("one", "two"))
    assert "drops of 0.5 to 3 points" in text
    assert all(Path(x).is_file() for x in written["files"])
