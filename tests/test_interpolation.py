"""Recovery by interpolation: resizing, candidates, fitted weights."""

from __future__ import annotations

import numpy as np
import pytest
from core_kit import GEOMETRY, SPEC, make_pyramid

from fpcodec.errors import InputError
from fpcodec.pyramid import LevelSpec, Pyramid, PyramidSpec
from fpcodec.reconstruct.interpolation import (
    CANDIDATES,
    InterpolationFitter,
    InterpolationRecoverer,
    neighbours,
    resize_bilinear,
)


def only(pyramid: Pyramid, *names: str) -> Pyramid:
    return Pyramid(pyramid.spec, {x: pyramid.levels[x] for x in names}, pyramid.geometry)


def fitted(pyramids, spec: PyramidSpec = SPEC, candidate: str = "mix") -> InterpolationRecoverer:
    fitter = InterpolationFitter(spec)
    for pyramid in pyramids:
        fitter.add(pyramid, keep=True)
    return InterpolationRecoverer(spec, fitter.fit(), candidate)


@pytest.mark.parametrize("size", [(1, 1), (3, 9), (14, 6), (7, 5), (28, 20), (13, 40)])
def test_resizing_is_torchs_bilinear(size):
    torch = pytest.importorskip("torch", reason="needs the torch extra")
    values = np.random.default_rng(0).normal(0, 1, (4, 7, 5)).astype(np.float32)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(values)[None], size, mode="bilinear", align_corners=False
    )[0].numpy()
    found = resize_bilinear(values, size)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=2e-6)


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (5, 3), (9, 16)])
def test_a_constant_map_stays_constant(size):
    values = np.full((2, 5, 3), 7.25, np.float32)
    np.testing.assert_allclose(resize_bilinear(values, size), np.full((2, *size), 7.25), rtol=1e-6)


def test_one_cell_spreads_over_a_level():
    values = np.array([[[3.0]], [[-2.0]]], np.float32)
    np.testing.assert_array_equal(
        resize_bilinear(values, (4, 5)), np.broadcast_to(values, (2, 4, 5))
    )


def test_a_level_that_did_arrive_is_left_alone():
    full = make_pyramid(1)
    recoverer = fitted([make_pyramid(x) for x in range(4)])
    out = recoverer.recover([only(full, "p3", "p5")])[0]
    for name in ("p3", "p5"):
        np.testing.assert_array_equal(out.levels[name], full.levels[name])
    assert out.missing == ()


def test_derived_levels_come_from_their_source_sent_or_recovered():
    recoverer = fitted([make_pyramid(x) for x in range(4)])
    for names in (("p5",), ("p3",), ()):
        out = recoverer.recover([only(make_pyramid(9), *names)])[0]
        np.testing.assert_array_equal(out.levels["p6"], out.levels["p5"][:, ::2, ::2])


@pytest.mark.parametrize("candidate", CANDIDATES)
def test_candidates_are_what_the_study_calls_them(candidate):
    full = make_pyramid(2)
    recoverer = fitted([make_pyramid(x) for x in range(4)], candidate=candidate)
    found = recoverer.recover([only(full, "p3", "p5")])[0].levels["p4"]
    finer = resize_bilinear(full.levels["p3"], (4, 6))
    coarser = resize_bilinear(full.levels["p5"], (4, 6))
    a, b = recoverer.tensors["mix.p4.p3.p5"]
    expected = {"finer": finer, "coarser": coarser, "mix": a * finer + b * coarser}[candidate]
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("candidate", CANDIDATES)
def test_where_one_neighbour_is_missing_the_other_serves(candidate):
    full = make_pyramid(2)
    recoverer = fitted([make_pyramid(x) for x in range(4)], candidate=candidate)
    from_finer = recoverer.recover([only(full, "p3")])[0]
    np.testing.assert_array_equal(
        from_finer.levels["p5"], resize_bilinear(full.levels["p3"], (2, 3))
    )
    from_coarser = recoverer.recover([only(full, "p5")])[0]
    np.testing.assert_array_equal(
        from_coarser.levels["p3"], resize_bilinear(full.levels["p5"], (8, 12))
    )


def test_where_nothing_arrived_the_means_serve():
    pyramids = [make_pyramid(x) for x in range(4)]
    out = fitted(pyramids).recover([only(pyramids[0])])[0]
    for name in SPEC.coded_names:
        mean = np.mean([x.levels[name].mean(axis=(1, 2)) for x in pyramids], axis=0)
        expected = np.broadcast_to(mean[:, None, None], out.levels[name].shape)
        np.testing.assert_allclose(out.levels[name], expected, atol=1e-5)


def test_the_weights_of_a_known_mixture_are_found():
    pyramids = []
    for seed in range(5):
        levels = dict(make_pyramid(seed).levels)
        levels["p4"] = (
            0.7 * resize_bilinear(levels["p3"], (4, 6))
            - 0.2 * resize_bilinear(levels["p5"], (4, 6))
        ).astype(np.float32)
        pyramids.append(Pyramid(SPEC, levels, GEOMETRY))
    recoverer = fitted(pyramids)
    np.testing.assert_allclose(recoverer.tensors["mix.p4.p3.p5"], [0.7, -0.2], atol=1e-3)
    out = recoverer.recover([only(pyramids[0], "p3", "p5")])[0]
    np.testing.assert_allclose(out.levels["p4"], pyramids[0].levels["p4"], atol=0.02)


def test_mixing_is_no_worse_than_either_side_on_what_it_was_fitted_to():
    pyramids = [make_pyramid(x) for x in range(6)]
    errors = {}
    for candidate in CANDIDATES:
        recoverer = fitted(pyramids, candidate=candidate)
        out = recoverer.recover([only(x, "p3", "p5") for x in pyramids])
        pairs = [(a.levels["p4"], b.levels["p4"]) for a, b in zip(out, pyramids, strict=True)]
        errors[candidate] = np.mean([((a - b) ** 2).mean() for a, b in pairs])
    assert errors["mix"] <= min(errors["finer"], errors["coarser"]) * 1.0001


def test_channels_that_differ_are_mapped_by_a_fitted_matrix():
    spec = PyramidSpec((LevelSpec("c3", 8, 4), LevelSpec("c4", 16, 6), LevelSpec("c5", 32, 4)))
    matrix = np.random.default_rng(0).normal(0, 1, (6, 4))
    pyramids = []
    for seed in range(8):
        levels = dict(make_pyramid(seed, spec).levels)
        moved = resize_bilinear(levels["c3"], (4, 6)).reshape(4, -1)
        levels["c4"] = (matrix @ moved + 1.5).astype(np.float32).reshape(6, 4, 6)
        pyramids.append(Pyramid(spec, levels, GEOMETRY))
    out = fitted(pyramids, spec, "finer").recover([only(pyramids[0], "c3")])[0]
    np.testing.assert_allclose(out.levels["c4"], pyramids[0].levels["c4"], atol=0.05)
    assert out.levels["c5"].shape == (4, 2, 3)


def test_a_batch_may_miss_different_levels():
    full = make_pyramid(3)
    recoverer = fitted([make_pyramid(x) for x in range(4)])
    batch = [only(full, "p3"), only(full, "p4", "p5"), only(full)]
    for alone, together in zip(batch, recoverer.recover(batch), strict=True):
        expected = recoverer.recover([alone])[0]
        for name in SPEC.names:
            np.testing.assert_array_equal(together.levels[name], expected.levels[name])


def test_neighbours_are_the_nearest_that_arrived_and_never_derived():
    assert neighbours(SPEC, "p4", ["p3", "p5", "p6"]) == ("p3", "p5")
    assert neighbours(SPEC, "p5", ["p3", "p4", "p6"]) == ("p4", None)
    assert neighbours(SPEC, "p3", ["p5"]) == (None, "p5")
    assert neighbours(SPEC, "p3", []) == (None, None)


def test_an_unknown_candidate_is_refused():
    with pytest.raises(InputError, match="finer, coarser, mix"):
        InterpolationRecoverer(SPEC, {}, "nearest")
