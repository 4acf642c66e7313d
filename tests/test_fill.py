"""The pixels inside an outline, against matplotlib's paths and the polygons of masks."""

import numpy as np
import pytest
import shapely
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from matplotlib.path import Path

from lesion_d2.errors import LesionError
from lesion_d2.images.fill import fill_rings
from lesion_d2.images.polygons import mask_polygons

MASKS = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=12))
# No corner's y is that of a row of centres, where two rules may differ.
NUMBERS = st.integers(-300, 1500).map(lambda number: number / 100 + 0.003)
RINGS = st.lists(st.tuples(NUMBERS, NUMBERS), min_size=3, max_size=9)


@settings(max_examples=300, deadline=None)
@given(MASKS)
def test_the_polygons_of_a_mask_give_it_back(mask):
    rings = [ring for p in mask_polygons(mask) for ring in (p.exterior, *p.holes)]
    np.testing.assert_array_equal(fill_rings(rings, mask.shape), mask)


@settings(max_examples=300, deadline=None)
@example([(0.003, 0.003), (0.503, 0.503), (0.003, 0.003), (0.003, 0.013)])
@given(RINGS)
def test_a_pixel_is_in_when_its_centre_is(ring):
    y, x = np.mgrid[:9, :12] + 0.5
    centres = np.column_stack([x.ravel(), y.ravel()])
    closed = Path([*ring, ring[0]], closed=True)
    inside = closed.contains_points(centres).reshape(9, 12)
    # Next to a side, also one that runs back over itself, matplotlib and ours may differ.
    sides = shapely.LineString([*ring, ring[0]])
    near = (shapely.distance(sides, shapely.points(centres)) < 1e-6).reshape(9, 12)
    np.testing.assert_array_equal(fill_rings([ring], (9, 12))[~near], inside[~near])


def test_a_ring_in_a_ring_is_a_hole_and_the_outside_is_cut_off():
    outer = [(-5, -5), (20, -5), (20, 20), (-5, 20)]
    inner = [(1, 1), (3, 1), (3, 4), (1, 4)]
    mask = fill_rings([outer, inner], (6, 5))
    expected = np.ones((6, 5), bool)
    expected[1:4, 1:3] = False
    np.testing.assert_array_equal(mask, expected)


def test_no_ring_is_an_empty_mask():
    assert not fill_rings([], (3, 4)).any()
    assert not fill_rings([[]], (3, 4)).any()


@pytest.mark.parametrize(
    ("ring", "message"),
    [
        ([(0, 0), (float("nan"), 1), (1, 1)], "not a finite number"),
        ([(0, float("inf")), (2, 1), (1, 1)], "not a finite number"),
        ([(1e308, 0.5), (-1e308, 10), (0, 20)], "farther out than 1,000,000,000 pixels"),
        ([(0, 0), (0, -1.1e9), (1, 1)], "farther out"),
        ([(0, 0), (10**400, 1), (1, 1)], "farther out"),
        ([(0, 0), (0, 60_000)] * 100, "too long"),
    ],
)
def test_what_cannot_be_filled_is_said(ring, message):
    with pytest.raises(LesionError, match=message):
        fill_rings([ring], (60_000, 10))
