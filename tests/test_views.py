"""Views of an image and the way back, and the second look at a part of it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import interpolate

from lesion_d2.config.defaults import get_lesion_cfg
from lesion_d2.errors import LesionError
from lesion_d2.prediction.candidates import Candidates, Found, merge
from lesion_d2.prediction.outliner import Outliner
from lesion_d2.prediction.views import SYMMETRIES, View, build_views, detect, look_again

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


class FindsBright:
    """A network that finds the box around all bright pixels, and remembers what it was shown."""

    engine = "numpy"

    def __init__(self, score=0.9):
        self.score = score
        self.shown = []

    def __call__(self, images):
        self.shown += list(images)
        return [self._find(image[0] > 127) for image in images]

    def _find(self, bright):
        rows, columns = np.flatnonzero(bright.any(1)), np.flatnonzero(bright.any(0))
        count = int(bright.any())
        box = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1] if count else [0] * 4
        return Found(
            np.full(count, self.score, np.float32),
            np.array([box][:count], np.float32).reshape(-1, 4),
            np.ones((count, 28, 28), np.float32),
        )


@given(st.data())
@settings(deadline=None)
def test_a_second_look_finds_the_same_place_in_a_larger_picture(data):
    height, width = data.draw(st.integers(60, 90)), data.draw(st.integers(60, 130))
    y0, x0 = data.draw(st.integers(0, height - 20)), data.draw(st.integers(0, width - 20))
    y1 = data.draw(st.integers(y0 + 12, min(y0 + 40, height)))
    x1 = data.draw(st.integers(x0 + 12, min(x0 + 40, width)))
    image = np.zeros((3, height, width), np.uint8)
    image[:, y0:y1, x0:x1] = 255
    network = FindsBright()
    ((found,),) = detect(network, [image], [View("identity")])
    again = look_again(network, [image], [found], 2.0)
    # A rectangle's standard deviation is its side over the root of 12.
    share = 2 * 4 / 12**0.5 * max((x1 - x0) / width, (y1 - y0) / height)
    if share >= 1:
        assert (again, len(network.shown)) == ({}, 1)
        return
    first, part = network.shown
    assert part.shape == first.shape
    magnified = np.count_nonzero(part > 127) / np.count_nonzero(first > 127)
    assert magnified == pytest.approx(1 / max(share, 1 / 4) ** 2, rel=0.15)
    truth = Candidates(np.ones(1, np.float32), image[:1] / np.float32(255), np.ones(1, np.float32))
    for candidates in again[0], merge([found, again[0]]):
        assert merge([truth, candidates]).agreement[0] > 0.85


@pytest.mark.parametrize(("score", "side"), [(0.9, 0), (0.9, 96), (0.996, 20)])
def test_no_second_look_without_a_finding_at_the_whole_image_or_if_sure(score, side):
    network = FindsBright(score)
    images = [np.zeros((3, 64, 96), np.uint8) for _ in range(2)]
    images[1][:, :side, :side] = 255
    found = [views[0] for views in detect(network, images, [View("identity")])]
    assert look_again(network, images, found, 2.0) == {}
    assert len(network.shown) == 2


def test_a_second_look_changes_only_the_images_that_have_one():
    network = FindsBright()
    images = [np.zeros((3, 64, 96), np.uint8) for _ in range(3)]
    images[1][:, 20:36, 30:50] = 255
    found = [merge(v) for v in detect(network, images, [View("identity"), View("horizontal")])]
    assert list(look_again(network, images, found, 2.0)) == [1]


def test_the_outliner_averages_what_a_second_look_finds():
    cfg = get_lesion_cfg()
    cfg.TEST.SECOND_LOOK = 2.0
    images = [np.zeros((3, 64, 96), np.uint8) for _ in range(2)]
    images[1][:, 20:37, 30:51] = 255
    images[1][:, 28, 54] = 128  # too dark where it is magnified
    network = FindsBright()
    none, one = Outliner(cfg, network).candidates(images)
    assert (len(none), len(one), len(network.shown)) == (0, 1, 3)
    ((found,),) = detect(network, images[1:], [View("identity")])
    again = look_again(network, images[1:], [found], 2.0)[0]
    np.testing.assert_allclose(one.masks, (found.masks + again.masks) / 2)
    assert not np.array_equal(one.masks, found.masks)
