"""The four colour augmentations and their random subset."""

from collections import Counter
from itertools import permutations

import cv2
import numpy as np
import pytest
from detectron2.data import transforms as T
from scipy import ndimage

from lesion_d2.config.defaults import get_lesion_cfg
from lesion_d2.data.augmentation import (
    RandomBrightnessChannel,
    RandomCoarseDropout,
    RandomGaussianBlur,
    RandomSharpen,
    RandomSubset,
    build_colour_augmentation,
)

ALL = [
    RandomGaussianBlur((0.5, 2)),
    RandomCoarseDropout((1, 6), (0.02, 0.15)),
    RandomBrightnessChannel((10, 50)),
    RandomSharpen((0.1, 0.3)),
    build_colour_augmentation(get_lesion_cfg()),
]
BY_NAME = pytest.mark.parametrize("augmentation", ALL, ids=lambda a: type(a).__name__)


@pytest.fixture
def image():
    """Coloured noise (60, 80, 3), smooth enough to look like something."""
    noise = np.random.default_rng(0).uniform(0, 255, (60, 80, 3))
    smooth = ndimage.gaussian_filter(noise, (1.5, 1.5, 0))
    return np.clip((smooth - smooth.mean()) * 4 + 128, 0, 255).astype(np.uint8)


def apply(augmentation, image, seed=0):
    """Return the augmented image and the transform, drawn after seeding numpy's generator."""
    np.random.seed(seed)  # noqa: NPY002
    aug_input = T.AugInput(image.copy())
    transform = augmentation(aug_input)
    return aug_input.image, transform


@BY_NAME
def test_the_generators_seed_decides(augmentation, image):
    results = [apply(augmentation, image, seed)[0] for seed in range(20)]
    for seed, result in enumerate(results):
        np.testing.assert_array_equal(apply(augmentation, image, seed)[0], result)
    assert len({result.tobytes() for result in results}) > 5


@BY_NAME
def test_only_colours_change(augmentation, image):
    mask = np.random.default_rng(1).integers(0, 2, (60, 80)).astype(np.uint8)
    points = np.random.default_rng(2).uniform(0, 60, (9, 2))
    for seed in range(20):
        result, transform = apply(augmentation, image, seed)
        assert (result.dtype, result.shape) == (np.uint8, image.shape)
        np.testing.assert_array_equal(transform.apply_image(image), result)
        np.testing.assert_array_equal(transform.apply_segmentation(mask.copy()), mask)
        np.testing.assert_array_equal(transform.apply_coords(points.copy()), points)


@BY_NAME
def test_the_given_image_is_not_written_to(augmentation, image):
    before = image.copy()
    for seed in range(10):
        _, transform = apply(augmentation, image, seed)
        transform.apply_image(image)
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("sigma", [0.7, 2.0])
def test_blur_is_a_gaussian(sigma, image):
    result, _ = apply(RandomGaussianBlur((sigma, sigma)), image)
    expected = ndimage.gaussian_filter(
        image.astype(float), (sigma, sigma, 0), mode="mirror", truncate=4
    )
    assert np.abs(result - expected).max() <= 2
    assert result.var() < image.var()


def test_a_blur_of_nothing_changes_nothing(image):
    np.testing.assert_array_equal(apply(RandomGaussianBlur((0, 0)), image)[0], image)


def test_dropout_blacks_out_a_rectangle_of_the_given_share():
    white = np.full((100, 200, 3), 255, np.uint8)
    corners = []
    for seed in range(300):
        black = (apply(RandomCoarseDropout((1, 1), (0.1, 0.1)), white, seed)[0] == 0).all(axis=2)
        rows, columns = np.flatnonzero(black.any(axis=1)), np.flatnonzero(black.any(axis=0))
        assert (len(rows), len(columns), black.sum()) == (10, 20, 200)
        corners.append((rows[0], columns[0]))
    low, high = np.min(corners, axis=0), np.max(corners, axis=0)
    assert (low <= 5).all()
    assert (high >= [85, 175]).all()


def test_dropout_keeps_to_its_limits():
    white = np.full((400, 400, 3), 255, np.uint8)
    counts = []
    for seed in range(200):
        result, _ = apply(RandomCoarseDropout((1, 4), (0.01, 0.03)), white, seed)
        black = (result == 0).all(axis=2)
        assert ((result == 255).all(axis=2) | black).all()
        found, _, stats, _ = cv2.connectedComponentsWithStats(black.astype(np.uint8))
        counts.append(found - 1)
        assert stats[1:, [cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]].min() >= 4
        assert black.sum() <= 4 * 12 * 12
    assert set(counts) == {1, 2, 3, 4}


def test_dropout_of_a_tiny_image_takes_at_least_a_pixel():
    result, _ = apply(RandomCoarseDropout((1, 1), (0.01, 0.01)), np.ones((5, 5, 3), np.uint8))
    assert (result == 0).all(axis=2).sum() == 1


@pytest.mark.parametrize("shift", [-50, -7, 0, 7, 50])
def test_brightness_shifts_the_value_and_keeps_hue_and_saturation(shift, image):
    result, _ = apply(RandomBrightnessChannel((shift, shift)), image)
    before, after = image.max(axis=2).astype(float), result.max(axis=2)
    np.testing.assert_array_equal(after, np.clip(before + shift, 0, 255))
    # At equal hue and saturation all channels scale as the largest one. OpenCV keeps 180 hues and
    # 256 saturations: half a step of each is 255 / 60 + 255 / 512 levels at most.
    expected = image * (after / np.maximum(before, 1))[..., None]
    assert np.abs(result - expected)[before > 0].max() < 5.5


@pytest.mark.parametrize("alpha", [0, 0.15, 0.3])
def test_sharpen_is_the_blend_with_a_laplacian_sharpened_copy(alpha, image):
    padded = np.pad(image.astype(float), ((1, 1), (1, 1), (0, 0)), "reflect")
    expected = np.zeros(image.shape)
    for row in range(60):
        for column in range(80):
            window = padded[row : row + 3, column : column + 3]
            sharp = 9 * window[1, 1] - (window.sum(axis=(0, 1)) - window[1, 1])
            expected[row, column] = (1 - alpha) * window[1, 1] + alpha * sharp
    result, _ = apply(RandomSharpen((alpha, alpha)), image)
    assert np.abs(result - np.clip(expected, 0, 255)).max() <= 0.51


class Recorder(T.Augmentation):
    """Writes its name into a list when it is applied."""

    def __init__(self, name, calls):
        super().__init__()
        self.name, self.calls = name, calls

    def get_transform(self, image):
        self.calls.append(self.name)
        return T.NoOpTransform()


def test_a_subset_is_of_any_size_and_order(image):
    calls = []
    subset = RandomSubset([Recorder(name, calls) for name in "abcd"])
    drawn = Counter()
    np.random.seed(0)  # noqa: NPY002
    for _ in range(4000):
        calls.clear()
        subset(T.AugInput(image))
        drawn["".join(calls)] += 1
    sizes = Counter()
    for names, count in drawn.items():
        sizes[len(names)] += count
    assert sorted(sizes) == [0, 1, 2, 3, 4]
    assert all(700 < count < 900 for count in sizes.values())
    every = {"".join(names) for size in range(5) for names in permutations("abcd", size)}
    assert set(drawn) == every


def test_the_seeds_four_are_built_from_the_config(image):
    cfg = get_lesion_cfg()
    cfg.INPUT.COLOUR.BLUR_SIGMA = (1.0, 1.5)
    cfg.INPUT.COLOUR.DROPOUT_COUNT = (2, 3)
    cfg.INPUT.COLOUR.DROPOUT_SIDE = (0.1, 0.2)
    cfg.INPUT.COLOUR.BRIGHTNESS = (-9.0, 8.0)
    cfg.INPUT.COLOUR.SHARPEN = (0.2, 0.25)
    blur, dropout, brightness, sharpen = build_colour_augmentation(cfg).augmentations
    assert (type(blur), blur.sigma) == (RandomGaussianBlur, (1.0, 1.5))
    assert (type(dropout), dropout.count, dropout.side) == (RandomCoarseDropout, (2, 3), (0.1, 0.2))
    assert (type(brightness), brightness.shift) == (RandomBrightnessChannel, (-9.0, 8.0))
    assert (type(sharpen), sharpen.alpha) == (RandomSharpen, (0.2, 0.25))
