"""BD-rates and ratios of bytes on curves whose answer is known."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from result_kit import curve, made_up_draws, made_up_rows, picture_rows, row, write_folder

pytest.importorskip("scipy", reason="needs the bench extra")

from fpcodec.errors import InputError
from fpcodec.evaluation.bd_rate import (
    METHODS,
    BdRate,
    FittedCurve,
    Method,
    bd_rate,
    bytes_ratio_at_drop,
)
from fpcodec.evaluation.curves import (
    BEST_PICTURE,
    Curve,
    Floats,
    best_single_picture,
    by_family,
    named_curve,
)

Points = list[tuple[float, float]]


def scaled(points: Points, factor: float) -> Points:
    return [(size * factor, drop) for size, drop in points]


def compare(
    anchor: Points, test: Points, drops: tuple[float, float] = (0.5, 4.0), method: Method = "pchip"
) -> BdRate:
    fits = [FittedCurve(Curve(n, tuple(p)), method) for n, p in (("a", anchor), ("t", test))]
    return bd_rate(*fits, drops)


def power_law(drops: tuple[float, ...], factor: float = 1.0) -> Points:
    """Bytes that fall with the square root of the drop."""
    return [(factor * 5000 * drop**-0.5, drop) for drop in drops]


@pytest.mark.parametrize("method", METHODS)
def test_a_curve_beside_itself_is_zero(method: Method) -> None:
    result = compare(curve(4000), curve(4000), method=method)
    assert result.percent == 0
    assert (result.method, result.drops_used) == (method, (0.5, 4.0))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("factor", [0.5, 0.8, 3.0])
def test_a_constant_factor_is_found(method: Method, factor: float) -> None:
    result = compare(curve(4000), scaled(curve(4000), factor), method=method)
    assert result.percent == pytest.approx(100 * (factor - 1), abs=1e-9)


def test_a_factor_that_grows_with_the_drop_is_its_geometric_mean() -> None:
    """Log bytes are lines over drop, so the average lies at the interval's middle."""
    drops = np.linspace(0, 6, 7)
    anchor = [(math.exp(9 - d), float(d)) for d in drops]
    test = [(math.exp(9 - d - 0.1 * d), float(d)) for d in drops]
    for method in METHODS:
        result = compare(anchor, test, (1, 4), method)
        assert result.percent == pytest.approx(100 * math.expm1(-0.25), abs=1e-9)


def test_what_the_hull_leaves_out_changes_nothing() -> None:
    clean = curve(4000)
    noisy = [*clean, (5000.0, 3.9), (clean[2][0] * 1.2, clean[2][1] + 0.7), (9e5, 2.0)]
    assert compare(curve(8000), noisy).percent == compare(curve(8000), clean).percent


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_where_the_cubic_fit_gives_nonsense_ours_does_not() -> None:
    """Both families lie on one law, the second at 80 % of the bytes, measured elsewhere."""
    bjontegaard = pytest.importorskip("bjontegaard")
    anchor, test = power_law((0.02, 0.5, 2, 8)), power_law((0.3, 1, 3, 9), 0.8)
    columns = [*zip(*anchor, strict=True), *zip(*test, strict=True)]
    cubic = bjontegaard.bd_rate(*columns, "cubic", min_overlap=0)
    assert cubic < -90
    for method in METHODS:
        assert compare(anchor, test, (0.5, 6), method).percent == pytest.approx(-20, abs=2)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("method", METHODS)
def test_the_bjontegaard_package_agrees_on_hulls_that_span_the_interval(method: Method) -> None:
    bjontegaard = pytest.importorskip("bjontegaard")
    generator = np.random.default_rng(3)
    for _ in range(20):
        hulls = []
        for _ in range(2):
            inner = np.sort(generator.uniform(0.6, 3.9, 4))
            drops = np.concatenate([[0.5], inner, [4.0]])
            log_bytes = generator.uniform(7, 9) + generator.uniform(0.5, 2) * drops**-0.7
            hulls.append([(math.exp(x), float(y)) for x, y in zip(log_bytes, drops, strict=True)])
        anchor, test = hulls
        assert all(len(Curve("x", tuple(h)).hull) == 6 for h in hulls), "oracle takes no hull"
        columns = [*zip(*anchor, strict=True), *zip(*test, strict=True)]
        expected = bjontegaard.bd_rate(*columns, method)
        assert compare(anchor, test, method=method).percent == pytest.approx(expected, rel=1e-9)


def test_too_little_in_common_is_refused_with_both_ranges_and_the_remedy() -> None:
    short = [(8000.0, 2.5), (20000.0, 0.25)]
    with pytest.raises(InputError) as refused:
        compare(curve(4000), short)
    message = str(refused.value)
    assert "a covers drops of 0.15 to 8.00" in message
    assert "t covers drops of 0.25 to 2.50" in message
    assert "57% of the asked 0.5 to 4" in message
    assert "narrower interval" in message
    assert "\n" not in message


def test_a_part_of_the_interval_is_stated() -> None:
    result = compare(curve(4000), power_law((0.2, 1, 2, 3.8)), (0.5, 4.5))
    assert result.drops_asked == (0.5, 4.5)
    assert result.drops_used == (0.5, 3.8)


@pytest.mark.parametrize("drops", [(4.0, 0.5), (1.0, 1.0), (0.5, math.nan), (0.0, math.inf)])
def test_an_empty_interval_is_refused(drops: tuple[float, float]) -> None:
    with pytest.raises(InputError, match="LOW:HIGH"):
        compare(curve(4000), curve(4000), drops)


def test_an_unknown_method_and_unlike_methods_are_refused() -> None:
    line = Curve("a", tuple(curve(4000)))
    with pytest.raises(InputError, match="pchip"):
        FittedCurve(line, "cubic")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="alike"):
        bd_rate(FittedCurve(line, "pchip"), FittedCurve(line, "akima"))


def test_a_single_setting_is_no_curve() -> None:
    with pytest.raises(InputError, match="together 0%"):
        compare(curve(4000), [(100.0, 0.5)])


curves = st.lists(
    st.tuples(st.floats(500, 1e5), st.integers(6, 39).map(lambda tenths: tenths / 10)), max_size=6
).map(lambda points: [(2e5, 0.5), *points, (300.0, 4.0)])


@settings(max_examples=150, deadline=None)
@given(curves, curves, st.sampled_from(METHODS))
def test_the_other_way_round_is_the_inverse(anchor: Points, test: Points, method: Method) -> None:
    there = compare(anchor, test, method=method).percent / 100
    back = compare(test, anchor, method=method).percent / 100
    assert (1 + there) * (1 + back) == pytest.approx(1, rel=1e-6)


@settings(max_examples=150, deadline=None)
@given(curves, curves, st.floats(1e-3, 1e3))
def test_the_unit_of_bytes_does_not_matter(anchor: Points, test: Points, unit: float) -> None:
    there = compare(anchor, test).percent
    assert compare(scaled(anchor, unit), scaled(test, unit)).percent == pytest.approx(
        there, rel=1e-6, abs=1e-6
    )


def with_noise(
    name: str, points: Points, noise: float, draws: int = 400, shift: Floats | None = None,
    seed: int = 0,
) -> Curve:  # fmt: skip
    """A curve whose draws move by a shift of their own in each draw."""
    moved = np.random.default_rng(seed).normal(0, noise, draws) if shift is None else shift
    return Curve(name, tuple(points), np.array([drop + moved for _, drop in points]))


def test_draws_without_noise_give_an_interval_of_no_width() -> None:
    anchor, test = (with_noise(n, curve(4000), 0.0) for n in "at")
    result = bd_rate(FittedCurve(anchor), FittedCurve(test))
    assert (result.low, result.percent, result.high) == (0, 0, 0)
    assert (result.draws, result.draws_used) == (400, 400)


def test_draws_are_paired() -> None:
    """Luck that moves both curves alike along drop leaves a constant factor as it is."""
    shift = np.random.default_rng(1).normal(0, 0.05, 300)
    anchor = with_noise("a", curve(4000), 0, shift=shift)
    test = with_noise("t", scaled(curve(4000), 0.5), 0, shift=shift)
    result = bd_rate(FittedCurve(anchor), FittedCurve(test))
    assert result.low == pytest.approx(-50)
    assert result.high == pytest.approx(-50)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    """Data and draws vary by the same known noise around known curves at a ratio of 0.7."""
    generator = np.random.default_rng(11)
    truth, noise, hits, repeats = -30.0, 0.06, 0, 40
    for _ in range(repeats):
        fits = []
        for factor in (1.0, 0.7):
            points = [(s * factor, d) for s, d in curve(4000, steepness=1.0)]
            luck = generator.normal(0, noise)
            seen = [(size, drop + luck) for size, drop in points]
            fits.append(
                FittedCurve(with_noise("x", seen, noise, 100, seed=int(generator.integers(1e9))))
            )
        result = bd_rate(fits[0], fits[1], (0.7, 4))
        assert result.low is not None
        assert result.high is not None
        hits += result.low <= truth <= result.high
    assert 0.85 * repeats <= hits <= repeats


def test_draws_that_do_not_overlap_are_counted_and_too_many_refused() -> None:
    points = curve(4000)
    lost = np.zeros(400)
    lost[:40] = 30.0
    some = with_noise("t", points, 0, shift=lost)
    anchor = FittedCurve(with_noise("a", points, 0.0))
    result = bd_rate(anchor, FittedCurve(some))
    assert (result.draws, result.draws_used) == (400, 360)
    lost[:100] = 30.0
    most = with_noise("t", points, 0, shift=lost)
    with pytest.raises(InputError, match="300 of 400 draws, below 80%"):
        bd_rate(anchor, FittedCurve(most))


def test_undefined_draws_of_a_setting_leave_it_out_of_those_draws() -> None:
    curve_with_gap = with_noise("t", curve(4000), 0.0)
    assert curve_with_gap.draws is not None
    curve_with_gap.draws[3, :10] = math.nan
    anchor = FittedCurve(with_noise("a", curve(4000), 0.0))
    result = bd_rate(anchor, FittedCurve(curve_with_gap))
    assert result.draws_used == 400
    assert result.percent == 0


def test_unequal_numbers_of_draws_are_refused() -> None:
    anchor, test = with_noise("a", curve(1), 0, 300), with_noise("t", curve(1), 0, 400)
    with pytest.raises(InputError, match="paired"):
        bd_rate(FittedCurve(anchor), FittedCurve(test))
    with pytest.raises(InputError, match="paired"):
        bytes_ratio_at_drop(anchor, test)


def test_the_ratio_of_bytes_at_a_drop_is_read_off_both_hulls() -> None:
    anchor = with_noise("a", [(1000.0, 4.0), (4000.0, 0.0)], 0.1)
    test = with_noise("t", [(500.0, 4.0), (2000.0, 0.0), (1900.0, 3.9)], 0.1, seed=1)
    result = bytes_ratio_at_drop(anchor, test, 2.0)
    assert result.anchor_bytes == pytest.approx(2000)
    assert result.test_bytes == pytest.approx(1000)
    assert result.ratio == pytest.approx(0.5)
    assert result.low is not None
    assert result.high is not None
    assert result.low < 0.5 < result.high
    assert json.loads(json.dumps(result.to_dict()))["draws_used"] == 400
    with pytest.raises(InputError, match="both sides"):
        bytes_ratio_at_drop(anchor, test, 4.5)


def test_rows_are_grouped_by_family_and_the_union_is_the_best_picture() -> None:
    rows = made_up_rows()
    families = by_family(rows)
    assert list(families) == ["fpc p3+p4+p5", "fpc p4+p5", "boxes", "webp", "jpeg"]
    union = named_curve(rows, BEST_PICTURE)
    assert len(union.points) == len(families["webp"]) + len(families["jpeg"])
    assert union.hull == named_curve(rows, "webp").hull
    name, size = best_single_picture(rows, 1.0) or ("", 0.0)
    assert name == "webp"
    assert size == pytest.approx(8000, rel=0.1)
    with pytest.raises(InputError, match="webp, jpeg, best picture"):
        named_curve(rows, "avif")


def test_the_best_picture_may_change_its_format_with_the_drop() -> None:
    rows = picture_rows("webp", [(4000.0, 4.0), (40000.0, 0.9)]) + picture_rows(
        "avif", [(8000.0, 2.0), (9000.0, 0.5)]
    )
    assert best_single_picture(rows, 1.0) == ("avif", pytest.approx(8653, rel=0.01))
    union = named_curve(rows, BEST_PICTURE)
    assert [round(math.exp(x)) for x, _ in union.hull] == [4000, 9000]
    assert best_single_picture(rows, 0.1) is None


def test_rows_without_bytes_or_drop_are_no_points() -> None:
    with pytest.raises(InputError, match="no setting"):
        Curve.of("unsplit", [row("unsplit", "unsplit", {}, None, None)])
    rows = [*picture_rows("webp", curve(8000)), row("picture", "raw", {"format": "webp"}, None, 1)]
    assert len(Curve.of("webp", rows).points) == len(curve(8000))


def test_draws_are_used_only_where_every_setting_has_them() -> None:
    rows = made_up_rows()
    draws = made_up_draws(rows)
    assert named_curve(rows, "webp", draws).draws is not None
    draws.pop("webp q0")
    assert named_curve(rows, "webp", draws).draws is None


def bdrate(*arguments: object) -> Any:
    """Run the command in this process."""
    import typer
    from typer.testing import CliRunner

    from fpcodec.cli.bench_bdrate import bdrate as command

    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, [str(x) for x in arguments])


def test_the_command_prints_what_was_computed(tmp_path: Path) -> None:
    rows = made_up_rows()
    folder = write_folder(tmp_path / "run", rows, made_up_draws(rows))
    asked = (folder, "--anchor", "webp", "--test", "fpc p3+p4+p5", "--drops", "0.5:4")
    done = bdrate(*asked, "--json")
    assert done.exit_code == 0, done.output
    value = json.loads(done.stdout)
    assert value["percent"] == pytest.approx(-50)
    assert value["low"] < -50 < value["high"]
    assert (value["drops_asked"], value["draws"]) == ([0.5, 4.0], 400)
    assert json.loads(bdrate(*asked, "--no-draws", "--json").stdout)["low"] is None
    said = bdrate(*asked).stdout
    assert "-50.0 %" in said
    assert "webp" in said


@pytest.mark.parametrize("drops", ["4", "a:b", "3:1", "1:2:3", "nan:2"])
def test_the_command_refuses_what_is_no_interval(tmp_path: Path, drops: str) -> None:
    folder = write_folder(tmp_path / "run", made_up_rows())
    done = bdrate(folder, "--anchor", "webp", "--test", "jpeg", "--drops", drops)
    assert isinstance(done.exception, InputError)
    assert "LOW:HIGH" in str(done.exception)
