"""Views of an image and the way back."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import interpolate

from lesion_d2.errors import LesionError
from lesion_d2.prediction.candidates import SYMMETRIES, View, build_views

SIDES = st.integers(1, 9)


@given(st.sampled_from(sorted(SYMMETRIES)), SIDES, SIDES)
@settings(deadline=None)
def test_restore_undoes_apply_on_any_size(name, height, width):
    image = np.arange(3 * height * width).reshape(3, height, width)
    view = View(name)
    turned = view.apply(image)
    assert turned.shape[-2:] == view.turned((height, width))
    np.testing.assert_array_equal(view.restore(turned), image)


def test_the_symmetries_are_all_eight_and_named_rightly():
    image = np.arange(12).reshape(1, 3, 4)
    expected = {
        "identity": image[0],
        "horizontal": np.fliplr(image[0]),
        "vertical": np.flipud(image[0]),
        "rotate180": np.rot90(image[0], 2),
        "rotate90": np.rot90(image[0]),
        "rotate270": np.rot90(image[0], 3),
        "transpose": image[0].T,
        "antitranspose": np.rot90(image[0].T, 2),
    }
    assert expected.keys() == SYMMETRIES.keys()
    for name, turned in expected.items():
        np.testing.assert_array_equal(View(name).apply(image)[0], turned)


@pytest.mark.parametrize("size", [(7, 11), (8, 5)])
@pytest.mark.parametrize("scale", [0.75, 1.25, 2.0])
def test_a_scaled_view_keeps_the_picture_in_place(size, scale):
    row, column = np.mgrid[: size[0] * 8, : size[1] * 8]
    image = np.stack([row, column, row + column]).astype(np.uint8)
    view = View("rotate90", scale).apply(image)
    height, width = (round(side * 8 * scale) for side in size)
    assert view.shape == (3, width, height)
    upright = View("rotate90").restore(view)
    # A linear ramp, resized: value (x + 0.5) / scale - 0.5 at pixel x, away from the border.
    inner = upright[1, 2:-2, 2:-2].mean(0)
    expected = (np.arange(2, width - 2) + 0.5) / scale - 0.5
    np.testing.assert_allclose(inner, expected, atol=0.3)
    averaged = interpolate(torch.tensor(image)[None].float(), (height, width), mode="bilinear",
                           antialias=True)[0]  # fmt: skip
    np.testing.assert_allclose(upright, averaged.numpy(), atol=1e-4)


def test_every_symmetry_at_every_scale():
    views = build_views(("identity", "vertical"), (1.0, 0.5))
    assert views == [
        View("identity"), View("vertical"), View("identity", 0.5), View("vertical", 0.5)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("symmetries", "scales", "key"),
    [
        ((), (1.0,), "TEST.VIEWS"),
        (("upside down",), (1.0,), "TEST.VIEWS"),
        (("identity", "identity"), (1.0,), "TEST.VIEWS"),
        (("identity",), (), "TEST.VIEW_SCALES"),
        (("identity",), (0.0,), "TEST.VIEW_SCALES"),
        (("identity",), (-1.0,), "TEST.VIEW_SCALES"),
        (("identity",), (float("nan"),), "TEST.VIEW_SCALES"),
        (("identity",), (1.0, 1.0), "TEST.VIEW_SCALES"),
        (("identity",), (1000.0,), "TEST.VIEW_SCALES"),
    ],
)
def test_wrong_settings(symmetries, scales, key):
    with pytest.raises(LesionError, match=key):
        build_views(symmetries, scales)
