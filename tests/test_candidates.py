"""Candidates of several views, their average, and the choice of one."""

from functools import partial

import numpy as np
import pytest
import torch
from detectron2.layers import paste_masks_in_image

from lesion_d2.prediction.candidates import INSTANCE_CHOICES, Candidates, iou_matrix, merge, paste

SIZE = (9, 13)
assert_allclose = partial(np.testing.assert_allclose, rtol=1e-6)


def block(top, left, height, width, value=1.0):
    mask = np.zeros(SIZE, np.float32)
    mask[top : top + height, left : left + width] = value
    return mask


def candidates(*found):
    """Each found is (score, mask)."""
    masks = np.stack([mask for _, mask in found]) if found else np.zeros((0, *SIZE), np.float32)
    scores = np.float32([score for score, _ in found])
    return Candidates(scores, masks, np.ones(len(found), np.float32))


LEFT = block(1, 1, 4, 4)
LEFT_WIDER = block(1, 1, 4, 5)  # IoU 0.8 with LEFT
RIGHT = block(1, 8, 4, 4)


def test_iou_of_all_pairs():
    rng = np.random.default_rng(0)
    left, right = (np.float32(rng.uniform(size=(n, *SIZE))) for n in (3, 4))
    found = iou_matrix(left, right)
    for i in range(3):
        for j in range(4):
            a, b = left[i] >= 0.5, right[j] >= 0.5
            assert found[i, j] == pytest.approx((a & b).sum() / (a | b).sum())
    assert iou_matrix(np.zeros((1, *SIZE)), np.zeros((1, *SIZE))).item() == 0


def test_one_view_is_left_as_it_is():
    only = candidates((0.9, LEFT), (0.2, RIGHT))
    assert merge([only]) is only


def test_matching_instances_are_averaged_and_the_rest_left_out():
    first = candidates((0.8, LEFT), (0.6, RIGHT))
    second = candidates((0.9, LEFT_WIDER))
    merged = merge([first, second])
    # RIGHT has no match: its mask stays, its score counts 0 in the second view.
    assert_allclose(merged.scores, np.float32([0.85, 0.3]))
    assert_allclose(merged.masks, np.stack([(LEFT + LEFT_WIDER) / 2, RIGHT]))
    assert_allclose(merged.agreement, np.float32([0.8, 0.0]))


def test_the_order_follows_the_merged_scores():
    first = candidates((0.8, LEFT), (0.7, RIGHT))
    merged = merge([first, candidates((0.9, RIGHT))])
    assert_allclose(merged.masks[0], RIGHT)
    assert_allclose(merged.scores, np.float32([0.8, 0.4]))


def test_views_that_find_nothing():
    nothing, something = candidates(), candidates((0.9, LEFT))
    assert len(merge([nothing, nothing])) == 0
    merged = merge([nothing, something, something])
    assert_allclose(merged.scores, np.float32([0.6]))
    assert_allclose(merged.masks[0], LEFT)
    assert_allclose(merged.agreement, np.float32([0.5]))


def choose(name, *found):
    return INSTANCE_CHOICES[name](candidates(*found))


@pytest.mark.parametrize("name", INSTANCE_CHOICES)
def test_no_candidate_and_one(name):
    assert len(choose(name)) == 0
    one = choose(name, (0.7, LEFT))
    assert (len(one), one.scores.item()) == (1, pytest.approx(0.7))
    assert_allclose(one.masks[0], LEFT)
    empty = choose(name, (0.7, np.zeros(SIZE, np.float32)))
    assert np.isfinite(empty.masks).all()


def test_top_score():
    assert_allclose(choose("top_score", (0.9, RIGHT), (0.8, LEFT)).masks[0], RIGHT)


def test_consensus_is_what_the_others_support():
    found = (0.9, RIGHT), (0.8, LEFT), (0.7, LEFT_WIDER)
    # Support: RIGHT 0.9; LEFT 0.8 + 0.8 * 0.7; LEFT_WIDER 0.8 * 0.8 + 0.7.
    chosen = choose("consensus", *found)
    assert_allclose(chosen.masks[0], LEFT)
    assert chosen.scores.item() == pytest.approx(0.8)


BOXES = {
    "inside": (3.2, 4.7, 30.1, 25.9),
    "the image": (0, 0, 50, 40),
    "over all borders": (-20.5, -10.25, 70, 60.5),
    "less than a pixel": (10.1, 10.2, 10.4, 10.3),
    "no extent": (10, 10, 10, 10),
    "outside": (60, 50, 80, 70),
    "left of it": (-30, 5, -5, 20),
}


@pytest.mark.parametrize("box", BOXES)
def test_pasting_is_detectron2s(box):
    soft = np.random.default_rng(0).uniform(size=(1, 28, 28)).astype(np.float32)
    boxes = np.float32([BOXES[box]])
    pasted = paste(soft, boxes, (40, 50))
    if box in ("no extent", "outside", "left of it"):  # Detectron2 refuses these
        assert not pasted.any()
        return
    for level in (0.3, 0.5, 0.7):
        expected = paste_masks_in_image(
            torch.tensor(soft), torch.tensor(boxes), (40, 50), level
        ).numpy()
        # Where the sum is the level itself its last digit decides.
        differ = (pasted >= level) != expected
        assert (np.abs(pasted[differ] - level) < 1e-5).all()
