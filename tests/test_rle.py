"""Run lengths, against pycocotools' own way in."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from lesion_d2.rle import encode_mask


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1), (33, 65)])
@pytest.mark.parametrize("dtype", [bool, np.uint8])
def test_it_equals_pycocotools(size, dtype):
    rng = np.random.default_rng(0)
    for share in (0, 0.1, 0.5, 1):
        mask = (rng.uniform(size=size) < share).astype(dtype)
        expected = coco_mask.encode(np.asfortranarray(mask, np.uint8))
        for same in (mask, np.asfortranarray(mask), mask[::-1][::-1], mask.repeat(2, 1)[:, ::2]):
            assert encode_mask(same) == expected
        np.testing.assert_array_equal(coco_mask.decode(encode_mask(mask)), mask)
