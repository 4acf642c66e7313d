"""What a submitted mask is described by."""

import numpy as np
import pytest

from lesion_d2.prediction.candidates import Candidates
from lesion_d2.prediction.lesion import describe_lesion


def lesion(soft, mask=None, score=0.9, agreement=0.7):
    soft = np.asarray(soft, np.float32)
    chosen = Candidates(np.float32([score]), soft[None], np.float32([agreement]))
    return describe_lesion(soft >= 0.5 if mask is None else mask, chosen, 3)


def test_a_certain_square():
    soft = np.zeros((10, 20))
    soft[2:6, 4:9] = 1
    found = lesion(soft)
    assert (found.sharpness, found.candidates) == (1, 3)
    assert found.score == pytest.approx(0.9)
    assert found.agreement == pytest.approx(0.7)
    assert found.area_share == 20 / 200
    assert found.border_share == 0
    assert found.box == (4, 2, 9, 6)
    assert found.longest_diameter == pytest.approx(np.hypot(3, 4))
    border = {tuple(point) for point in found.contour.tolist()}
    assert border == {
        (x, y) for x in range(4, 9) for y in range(2, 6) if x in (4, 8) or y in (2, 5)
    }


def test_sharpness_is_the_soft_jaccard_index():
    soft = np.array([[0.8, 0.6, 0.4, 0.0]])
    assert lesion(soft).sharpness == pytest.approx((0.8 + 0.6) / (2 + 0.4))


def test_the_border_share_counts_each_border_pixel_once():
    mask = np.zeros((4, 5), bool)
    mask[0] = True
    assert lesion(mask).border_share == 5 / 14
    assert lesion(np.ones((4, 5))).border_share == 1


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1), (2, 2)])
def test_tiny_images(shape):
    found = lesion(np.ones(shape))
    assert (found.area_share, found.border_share) == (1, 1)
    assert found.box == (0, 0, shape[1], shape[0])
    assert found.longest_diameter == pytest.approx(np.hypot(shape[0] - 1, shape[1] - 1))


def test_nothing_found():
    nothing = Candidates(np.zeros(0), np.zeros((0, 3, 3)), np.zeros(0))
    found = describe_lesion(np.zeros((3, 3), bool), nothing, 0)
    numbers = (found.score, found.sharpness, found.agreement, found.area_share, found.border_share)
    assert numbers == (0, 0, 0, 0, 0)
    assert found.box == (0, 0, 0, 0)
    assert found.contour.shape == (0, 2)
    assert found.longest_diameter == 0


def test_an_instance_whose_mask_came_out_empty():
    found = lesion(np.full((3, 3), 0.2))
    assert (found.area_share, found.box, found.sharpness) == (0, (0, 0, 0, 0), 0)


def test_the_diameter_is_that_of_the_largest_region():
    mask = np.zeros((20, 20))
    mask[2:12, 2:12] = 1
    mask[19, 19] = 1
    assert lesion(mask).longest_diameter == pytest.approx(np.hypot(9, 9))
