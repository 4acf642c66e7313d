"""From a soft mask to the submitted one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage

from lesion_d2.errors import LesionError
from lesion_d2.prediction.postprocessing import Postprocessing

MASKS = arrays.arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12)))
EIGHT = np.ones((3, 3))


def process(mask, *steps):
    return Postprocessing(("threshold", *steps))(mask.astype(np.float32), mask.shape)


@given(MASKS)
@settings(deadline=None)
def test_largest_component(mask):
    kept = process(mask, "largest_component")
    labels, count = ndimage.label(mask, EIGHT)
    areas = ndimage.sum_labels(mask, labels, range(1, count + 1))
    assert kept.sum() == max(areas, default=0)
    assert ndimage.label(kept, EIGHT)[1] == min(count, 1)
    assert not (kept & ~mask).any()


@given(MASKS)
@settings(deadline=None)
def test_fill_holes(mask):
    np.testing.assert_array_equal(process(mask, "fill_holes"), ndimage.binary_fill_holes(mask))


@given(MASKS)
@settings(deadline=None)
def test_one_region_without_holes(mask):
    region = process(mask, "largest_component", "fill_holes")
    assert ndimage.label(region, EIGHT)[1] == min(mask.sum(), 1)
    np.testing.assert_array_equal(ndimage.binary_fill_holes(region), region)


def test_convex_hull():
    mask = np.zeros((9, 9), bool)
    mask[2:7, 2] = mask[6, 2:7] = True
    hull = process(mask, "convex_hull")
    row, column = np.mgrid[:9, :9]
    inside = (column >= 2) & (row <= 6) & (row >= column)
    np.testing.assert_array_equal(hull, inside)
    assert not process(np.zeros((3, 3), bool), "convex_hull").any()


@pytest.mark.parametrize(("steps", "level"), [(("threshold",), 0.5), (("threshold:0.3",), 0.3)])
def test_the_threshold_itself_is_lesion(steps, level):
    soft = np.float32([[level, np.nextafter(np.float32(level), np.float32(0))]])
    np.testing.assert_array_equal(Postprocessing(steps)(soft, (1, 2)), [[True, False]])


def test_the_soft_mask_is_resized_before_the_threshold():
    soft = np.float32([[0, 1]])
    mask = Postprocessing(("threshold",))(soft, (4, 8))
    np.testing.assert_array_equal(mask, np.tile(np.arange(8) >= 4, (4, 1)))
    # At twice the threshold the ramp between the two pixels is cut later.
    assert Postprocessing(("threshold:0.8",))(soft, (4, 8)).sum() < mask.sum()


def test_smoothing_rounds_corners_and_drops_specks():
    soft = np.zeros((100, 100), np.float32)
    soft[20:80, 20:80] = 1
    soft[5, 5] = 1
    smooth = Postprocessing(("smooth:0.02", "threshold"))(soft, soft.shape)
    assert not smooth[5, 5]
    assert not smooth[20, 20]
    assert smooth[50, 20:80].all()


@pytest.mark.parametrize(
    "steps",
    [
        (),
        ("fill_holes",),
        ("threshold", "threshold"),
        ("threshold", "smooth"),
        ("fill_holes", "threshold"),
        ("blur", "threshold"),
        ("threshold:1.5",),
        ("threshold:nan",),
        ("threshold:much",),
        ("threshold:",),
        ("smooth:0", "threshold"),
        ("threshold", "fill_holes:0.5"),
    ],
)
def test_wrong_pipelines(steps):
    with pytest.raises(LesionError, match=r"TEST\.POSTPROCESSING"):
        Postprocessing(steps)
