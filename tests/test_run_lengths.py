"""Run lengths, against pycocotools' own way in."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as coco_mask

from lesion_d2.errors import LesionError
from lesion_d2.images.run_lengths import check_rle, encode_mask


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1), (33, 65)])
@pytest.mark.parametrize("dtype", [bool, np.uint8])
def test_it_equals_pycocotools(size, dtype):
    rng = np.random.default_rng(0)
    for share in (0, 0.1, 0.5, 1):
        mask = (rng.uniform(size=size) < share).astype(dtype)
        expected = coco_mask.encode(np.asfortranarray(mask, np.uint8))
        for same in (mask, np.asfortranarray(mask), mask[::-1][::-1], mask.repeat(2, 1)[:, ::2]):
            assert encode_mask(same) == expected
        check_rle(expected, *size)
        np.testing.assert_array_equal(coco_mask.decode(encode_mask(mask)), mask)


SPOT = np.zeros((30, 40), bool)
SPOT[5:20, 5:20] = True
GOOD = encode_mask(SPOT)["counts"]


@pytest.mark.parametrize("shape", [(30, 40), (1, 3000), (700, 900)])
def test_run_lengths_of_pycocotools_are_accepted(shape):
    rng = np.random.default_rng(1)
    for share in (0.0, 0.001, 0.5, 0.999, 1.0):
        rle = encode_mask(rng.uniform(size=shape) < share)
        check_rle(rle, *shape)
        check_rle(rle | {"counts": rle["counts"].decode()}, *shape)  # as JSON has it


@pytest.mark.parametrize(
    "counts",
    [
        *(GOOD[:length] for length in range(len(GOOD))),
        GOOD + GOOD,
        GOOD + b"0",  # a run of no pixels
        GOOD.replace(GOOD[:1], b"~", 1),
        b"`" * 4 + GOOD,
        b"ooooooN" * 3,
        b"o" * 40 + b"0",
        b"\xff\xff\xff",
        "\N{GREEK SMALL LETTER ALPHA}",
        None,
        7,
        [1200],
    ],
)
def test_damaged_run_lengths(counts):
    # pycocotools hangs on many of these and crashes on some, so it is not asked.
    with pytest.raises(LesionError, match="damaged run lengths"):
        check_rle({"size": [30, 40], "counts": counts}, 30, 40)


@pytest.mark.parametrize("size", [[40, 30], [30, 40, 1], [1200], None, "30"])
def test_run_lengths_of_another_image(size):
    with pytest.raises(LesionError, match=r"on an image of \[30, 40\]"):
        check_rle({"size": size, "counts": GOOD}, 30, 40)


@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=40)))
def test_any_mask_is_accepted_and_comes_back(mask):
    rle = encode_mask(mask)
    check_rle(rle, *mask.shape)
    np.testing.assert_array_equal(coco_mask.decode(rle), mask)


@given(st.binary(max_size=60) | st.text(max_size=60))
def test_what_is_accepted_decodes_to_the_image(counts):
    rle = {"size": [30, 40], "counts": counts}
    try:
        check_rle(rle, 30, 40)
    except LesionError:
        return  # pycocotools may hang or crash on it
    assert coco_mask.decode(rle).shape == (30, 40)


@given(st.data())
def test_one_changed_byte_is_refused_or_decodes_to_the_image(data):
    counts = bytearray(GOOD)
    counts[data.draw(st.integers(0, len(GOOD) - 1))] = data.draw(st.integers(0, 255))
    rle = {"size": [30, 40], "counts": bytes(counts)}
    try:
        check_rle(rle, 30, 40)
    except LesionError:
        return
    assert coco_mask.decode(rle).shape == (30, 40)
