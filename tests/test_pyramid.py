"""Pyramids and their geometry: what may be declared, and how boxes travel back to the image."""

from __future__ import annotations

import json

import numpy as np
import pytest
from core_kit import GEOMETRY, NETWORK, SPEC, make_pyramid
from hypothesis import given
from hypothesis import strategies as st

from fpcodec.errors import InputError
from fpcodec.pyramid import ImageGeometry, LevelSpec, Pyramid, PyramidSpec, derive


@pytest.mark.parametrize(
    "arguments",
    [
        ("level3", 8, 8),
        ("P3", 8, 8),
        ("p", 8, 8),
        ("p123", 8, 8),
        ("p3", 0, 8),
        ("p3", 1025, 8),
        ("p3", 8, 0),
        ("p3", 8, 4097),
    ],
)
def test_a_level_outside_its_limits_is_refused(arguments):
    with pytest.raises(InputError):
        LevelSpec(*arguments)


P3, P4 = LevelSpec("p3", 8, 8), LevelSpec("p4", 16, 8)


@pytest.mark.parametrize(
    ("levels", "words"),
    [
        ((), "1 to 8"),
        (tuple(LevelSpec(f"p{i}", i + 1, 1) for i in range(9)), "1 to 8"),
        ((P3, LevelSpec("p3", 16, 8)), "repeat"),
        ((P4, P3), "do not grow"),
        ((P3, LevelSpec("p4", 8, 8)), "do not grow"),
        ((P3, LevelSpec("p4", 16, 8, "p9")), "derives"),
        ((P3, LevelSpec("p4", 16, 8, "p3"), LevelSpec("p5", 32, 8, "p4")), "derives"),
        ((P3, LevelSpec("p5", 32, 8, "p3")), "stride must double"),
        ((P3, LevelSpec("p4", 16, 4, "p3")), "channels agree"),
    ],
)
def test_a_pyramid_that_cannot_be_is_refused(levels, words):
    with pytest.raises(InputError, match=words):
        PyramidSpec(levels)


@pytest.mark.parametrize("divisor", [0, 1025])
def test_a_size_divisor_outside_its_limits_is_refused(divisor):
    with pytest.raises(InputError, match="divisor"):
        PyramidSpec((P3,), divisor)


def test_a_specification_survives_json():
    assert PyramidSpec.from_dict(json.loads(json.dumps(SPEC.to_dict()))) == SPEC


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"levels": []},
        {"levels": [{"name": "p3"}], "size_divisor": 32},
        {"levels": [{"name": "p3", "stride": 8, "channels": 8, "more": 1}], "size_divisor": 32},
        {"levels": 5, "size_divisor": 32},
    ],
)
def test_an_incomplete_specification_is_refused(data):
    with pytest.raises(InputError):
        PyramidSpec.from_dict(data)


def test_derived_levels_are_never_among_the_coded():
    assert SPEC.coded_names == ("p3", "p4", "p5")
    assert SPEC.names == ("p3", "p4", "p5", "p6")
    assert SPEC.index("p6") == 3
    with pytest.raises(InputError, match="no level 'p9'"):
        SPEC["p9"]


def test_level_sizes_round_up():
    assert SPEC.shape("p5", (97, 64)) == (8, 2, 4)
    assert SPEC.shape("p6", (1, 1)) == (8, 1, 1)
    assert SPEC.elements(NETWORK) == 8 * (12 * 8 + 6 * 4 + 3 * 2 + 2 * 1)
    assert make_pyramid(0).raw_bytes == 4 * SPEC.elements(NETWORK)


@given(st.integers(1, 4096), st.integers(1, 4096))
def test_a_derived_level_has_the_shape_its_rule_gives(width, height):
    _, rows, columns = SPEC.shape("p5", (width, height))
    assert SPEC.shape("p6", (width, height))[1:] == (-(-rows // 2), -(-columns // 2))


def test_a_derived_level_is_exact():
    full = make_pyramid(1)
    np.testing.assert_array_equal(full.levels["p6"], full.levels["p5"][:, ::2, ::2])
    part = Pyramid(SPEC, {"p3": full.levels["p3"]}, GEOMETRY)
    assert derive(part).missing == ("p4", "p5", "p6")


def test_features_of_another_shape_or_type_are_refused():
    good = make_pyramid(1).levels["p3"]
    with pytest.raises(InputError, match="shape"):
        Pyramid(SPEC, {"p3": good[:, 1:]}, GEOMETRY)
    with pytest.raises(InputError, match="float64"):
        Pyramid(SPEC, {"p3": good.astype(np.float64)}, GEOMETRY)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_cannot_be_coded_are_counted_and_their_level_named(value):
    pyramid = make_pyramid(1)
    pyramid.levels["p4"][2, 1, 1] = value
    with pytest.raises(InputError, match="level p4 holds 1 NaN or infinite"):
        pyramid.require_finite()


def test_opposite_infinities_do_not_hide_each_other():
    pyramid = make_pyramid(1)
    pyramid.levels["p3"][0, 0, :2] = np.inf, -np.inf
    with pytest.raises(InputError, match="holds 2 NaN"):
        pyramid.require_finite()


def test_large_finite_values_are_finite():
    pyramid = make_pyramid(1)
    pyramid.levels["p3"][:] = np.finfo(np.float32).max
    pyramid.require_finite()


@pytest.mark.parametrize(
    "arguments",
    [
        ((0, 5), (32, 32), (32, 32)),
        ((5, 16384), (32, 32), (32, 32)),
        ((5, 5), (32, 32), (33, 32)),
        ((5, 5), (32, 32), (32, 32), (0, 1)),
        ((5, 5), (32, 32), (16, 16), (-1, 0)),
    ],
)
def test_content_outside_the_network_input_is_refused(arguments):
    with pytest.raises(InputError):
        ImageGeometry(*arguments)


def test_boxes_travel_back_to_the_image_and_stay_inside():
    geometry = ImageGeometry((640, 480), (416, 416), (416, 312), (0, 52))
    boxes = np.array([[0, 52, 416, 364], [104, 130, 208, 208], [-50, 0, 900, 416]], np.float32)
    np.testing.assert_allclose(
        geometry.to_image(boxes),
        [[0, 0, 640, 480], [160, 120, 320, 240], [0, 0, 640, 480]],
        atol=1e-3,
    )
    assert geometry.scale == (0.65, 0.65)
