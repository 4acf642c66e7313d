"""From a soft mask to the submitted one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage

from lesion_d2.errors import LesionError
from lesion_d2.prediction.lesion import Postprocessing

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


@pytest.mark.parametrize(
    "steps",
    [
        (),
        ("fill_holes",),
        ("threshold", "threshold"),
        ("fill_holes", "threshold"),
        ("blur", "threshold"),
        ("threshold:1.5",),
        ("threshold:nan",),
        ("threshold:much",),
        ("threshold:",),
        ("threshold:0",),
        (5,),
        ("threshold", ["fill_holes"]),
        ("threshold", "fill_holes:0.5"),
    ],
)
def test_wrong_pipelines(steps):
    with pytest.raises(LesionError, match=r"TEST\.POSTPROCESSING"):
        Postprocessing(steps)
