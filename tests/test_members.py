"""Flipped copies as members, and the ground truth of a member."""

import numpy as np
import pytest
from convert_archive import lesion_pair
from pycocotools import mask as mask_util

from lesion_d2.config.defaults import FLIPS
from lesion_d2.data.members import ground_truth_rle, with_flips
from lesion_d2.errors import LesionError

TURN = {"none": lambda a: a, "vertical": lambda a: a[::-1], "horizontal": lambda a: a[:, ::-1]}


def records(count):
    return [{"image_id": number, "file_name": f"{number}.jpg"} for number in range(count)]


def rle(mask):
    return mask_util.encode(np.asfortranarray(mask))


@pytest.fixture
def lesion():
    """A lopsided mask (60, 80) of 0 and 1."""
    mask = lesion_pair(3)[1] // 255
    mask[:20, :30] = 1
    return mask


@pytest.mark.parametrize(
    ("images", "flips", "members"), [(1458, FLIPS, 4374), (487, FLIPS, 1461), (649, ["none"], 649)]
)
def test_the_seeds_counts(images, flips, members):
    found = with_flips(records(images), flips)
    assert len(found) == members
    assert len({member["image_id"] for member in found}) == members
    # Nothing but the flip and the id sets the copies of an image apart.
    assert sorted((m["file_name"], m["flip"]) for m in found) == sorted(
        (f"{number}.jpg", flip) for number in range(images) for flip in flips
    )


def test_ids_of_all_members_differ_up_to_the_largest_isic_number():
    extremes = [{"image_id": 0}, {"image_id": 9_999_999}]
    assert len({member["image_id"] for member in with_flips(extremes, FLIPS)}) == 6


def test_originals_keep_their_ids_and_come_first():
    members = with_flips(records(3), ["none", "horizontal"])
    assert [m["image_id"] for m in members[:3]] == [0, 1, 2]
    assert [m["flip"] for m in members] == ["none"] * 3 + ["horizontal"] * 3


def test_a_members_id_does_not_depend_on_the_other_flips():
    (alone,) = with_flips(records(1), ["horizontal"])
    *_, last = with_flips(records(1), FLIPS)
    assert alone == last


def test_records_stay_as_they_are():
    given = records(2)
    with_flips(given, FLIPS)
    assert given == records(2)


def record(segmentation, **more):
    annotations = [{"segmentation": segmentation}]
    return {"file_name": "a.jpg", "height": 60, "width": 80, "annotations": annotations, **more}


@pytest.mark.parametrize("flip", FLIPS)
def test_the_ground_truth_is_flipped_with_its_member(flip, lesion):
    truth = ground_truth_rle(record(rle(lesion), flip=flip))
    assert truth["size"] == [60, 80]
    np.testing.assert_array_equal(mask_util.decode(truth), TURN[flip](lesion))


def test_a_record_that_is_no_member_is_not_flipped(lesion):
    np.testing.assert_array_equal(mask_util.decode(ground_truth_rle(record(rle(lesion)))), lesion)


@pytest.mark.parametrize("flip", FLIPS)
def test_polygons(flip):
    rectangle = [[10, 20, 50, 20, 50, 30, 10, 30]]
    expected = np.zeros((60, 80), np.uint8)
    expected[20:30, 10:50] = 1
    mask = mask_util.decode(ground_truth_rle(record(rectangle, flip=flip)))
    np.testing.assert_array_equal(mask, TURN[flip](expected))


@pytest.mark.parametrize("count", [0, 2])
def test_an_image_shows_one_lesion(count, lesion):
    bad = record(rle(lesion))
    bad["annotations"] = bad["annotations"] * count
    with pytest.raises(LesionError, match=rf"a\.jpg: {count} annotations"):
        ground_truth_rle(bad)
