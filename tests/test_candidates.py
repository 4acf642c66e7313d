"""Candidates of several views, their average, and the choice of one."""

import numpy as np
import pytest
import torch

from lesion_d2.prediction.candidates import INSTANCE_CHOICES, Candidates, iou_matrix, merge

SIZE = (9, 13)


def block(top, left, height, width, value=1.0):
    mask = torch.zeros(SIZE)
    mask[top : top + height, left : left + width] = value
    return mask


def candidates(*found):
    """Each found is (score, mask)."""
    masks = torch.stack([mask for _, mask in found]) if found else torch.zeros(0, *SIZE)
    scores = torch.tensor([score for score, _ in found])
    return Candidates(scores, masks, torch.ones(len(found)))


LEFT = block(1, 1, 4, 4)
LEFT_WIDER = block(1, 1, 4, 5)  # IoU 0.8 with LEFT
RIGHT = block(1, 8, 4, 4)


def test_iou_of_all_pairs():
    rng = np.random.default_rng(0)
    left, right = (torch.tensor(rng.uniform(size=(n, *SIZE))).float() for n in (3, 4))
    found = iou_matrix(left, right)
    for i in range(3):
        for j in range(4):
            a, b = left[i].numpy() >= 0.5, right[j].numpy() >= 0.5
            assert found[i, j] == pytest.approx((a & b).sum() / (a | b).sum())
    assert iou_matrix(torch.zeros(1, *SIZE), torch.zeros(1, *SIZE)).item() == 0


def test_one_view_is_left_as_it_is():
    only = candidates((0.9, LEFT), (0.2, RIGHT))
    assert merge([only]) is only


def test_matching_instances_are_averaged_and_the_rest_left_out():
    first = candidates((0.8, LEFT), (0.6, RIGHT))
    second = candidates((0.9, LEFT_WIDER))
    merged = merge([first, second])
    # RIGHT has no match: its mask stays, its score counts 0 in the second view.
    torch.testing.assert_close(merged.scores, torch.tensor([0.85, 0.3]))
    torch.testing.assert_close(merged.masks, torch.stack([(LEFT + LEFT_WIDER) / 2, RIGHT]))
    torch.testing.assert_close(merged.agreement, torch.tensor([0.8, 0.0]))


def test_the_order_follows_the_merged_scores():
    first = candidates((0.8, LEFT), (0.7, RIGHT))
    merged = merge([first, candidates((0.9, RIGHT))])
    torch.testing.assert_close(merged.masks[0], RIGHT)
    torch.testing.assert_close(merged.scores, torch.tensor([0.8, 0.4]))


def test_views_that_find_nothing():
    nothing, something = candidates(), candidates((0.9, LEFT))
    assert len(merge([nothing, nothing])) == 0
    merged = merge([nothing, something, something])
    torch.testing.assert_close(merged.scores, torch.tensor([0.6]))
    torch.testing.assert_close(merged.masks[0], LEFT)
    torch.testing.assert_close(merged.agreement, torch.tensor([0.5]))


def choose(name, *found):
    return INSTANCE_CHOICES[name](candidates(*found))


@pytest.mark.parametrize("name", INSTANCE_CHOICES)
def test_no_candidate_and_one(name):
    assert len(choose(name)) == 0
    one = choose(name, (0.7, LEFT))
    assert (len(one), one.scores.item()) == (1, pytest.approx(0.7))
    torch.testing.assert_close(one.masks[0], LEFT)
    empty = choose(name, (0.7, torch.zeros(SIZE)))
    assert empty.masks.isfinite().all()


def test_top_score():
    torch.testing.assert_close(choose("top_score", (0.9, RIGHT), (0.8, LEFT)).masks[0], RIGHT)


def test_consensus_is_what_the_others_support():
    found = (0.9, RIGHT), (0.8, LEFT), (0.7, LEFT_WIDER)
    # Support: RIGHT 0.9; LEFT 0.8 + 0.8 * 0.7; LEFT_WIDER 0.8 * 0.8 + 0.7.
    chosen = choose("consensus", *found)
    torch.testing.assert_close(chosen.masks[0], LEFT)
    assert chosen.scores.item() == pytest.approx(0.8)
