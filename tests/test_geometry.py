"""Random geometry: picture, mask and points move together."""

import numpy as np
import pytest
from detectron2.data import transforms as T

from lesion_d2.data.augmentation import AffineTransform, RandomGeometry
from lesion_d2.data.loader import load_members
from lesion_d2.data.mapper import LesionMapper

SIZE = (60, 90)


def disc(centre, radius=12):
    row, column = np.mgrid[: SIZE[0], : SIZE[1]]
    return np.hypot(row - centre[0], column - centre[1]) <= radius


def draw(**settings):
    settings = {"rotation": (0, 0), "zoom": (1, 1), "shift": 0.0, "fill": (9, 9, 9)} | settings
    return RandomGeometry(**settings).get_transform(np.zeros((*SIZE, 3), np.uint8))


@pytest.mark.parametrize("seed", range(8))
def test_picture_mask_and_points_agree(seed):
    np.random.seed(seed)  # noqa: NPY002
    transform = draw(rotation=(-180, 180), zoom=(0.8, 1.25), shift=0.1)
    mask = disc((28, 50))
    picture = np.repeat(mask[..., None] * np.uint8(200), 3, axis=2)
    moved = transform.apply_segmentation(mask.astype(np.uint8))
    bright = transform.apply_image(picture)[..., 0] > 100
    assert (bright != moved.astype(bool)).mean() < 0.01
    # The centre of the disc, as a point whose integers are corners of pixels.
    ((x, y),) = transform.apply_coords(np.array([[50.5, 28.5]]))
    rows, columns = np.nonzero(moved)
    assert (columns.mean() + 0.5, rows.mean() + 0.5) == pytest.approx((x, y), abs=0.3)


def test_without_turn_zoom_and_shift_only_flips_are_left():
    np.random.seed(0)  # noqa: NPY002
    image = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    flips = {
        "none": image, "rows": image[::-1], "columns": image[:, ::-1], "both": image[::-1, ::-1]
    }  # fmt: skip
    seen = set()
    for _ in range(40):
        result = draw().apply_image(image)
        (name,) = [name for name, flip in flips.items() if np.array_equal(flip, result)]
        seen.add(name)
    assert seen == set(flips)


def test_the_zoom_changes_the_area():
    np.random.seed(0)  # noqa: NPY002
    mask = disc((30, 45)).astype(np.uint8)
    moved = draw(zoom=(1.25, 1.25)).apply_segmentation(mask)
    assert moved.sum() / mask.sum() == pytest.approx(1.25**2, rel=0.03)


def test_outside_is_the_fill_colour_and_no_lesion():
    transform = AffineTransform(np.array([[1.0, 0, 40], [0, 1, 0]]), SIZE, (1, 2, 3))
    image = np.full((*SIZE, 3), 255, np.uint8)
    moved = transform.apply_image(image)
    assert (moved[:, :40] == (1, 2, 3)).all()
    assert (moved[:, 40:] == 255).all()
    assert not transform.apply_segmentation(np.ones(SIZE, np.uint8))[:, :40].any()


def test_the_zoom_is_drawn_evenly_on_a_logarithmic_scale():
    np.random.seed(0)  # noqa: NPY002
    zooms = [np.sqrt(abs(np.linalg.det(draw(zoom=(0.5, 2)).matrix[:, :2]))) for _ in range(2000)]
    assert 0.5 <= min(zooms) < 0.51
    assert 1.96 < max(zooms) <= 2
    assert np.mean(np.log(zooms)) == pytest.approx(0, abs=0.03)


def test_the_mapper_applies_it_in_training_only(tiny_cfg, tiny_root, tmp_path):
    cfg = tiny_cfg(tmp_path, "INPUT.GEOMETRY.ENABLED", True)
    assert any(isinstance(a, RandomGeometry) for a in LesionMapper(cfg, True).augmentations.augs)
    assert not any(
        isinstance(a, RandomGeometry) for a in LesionMapper(cfg, False).augmentations.augs
    )
    plain = LesionMapper(tiny_cfg(tmp_path), True)
    assert not any(isinstance(a, RandomGeometry) for a in plain.augmentations.augs)

    mapper = LesionMapper(cfg, True)
    members = load_members(("tiny_train",), ("none",))
    for number, member in enumerate(members):
        sample = mapper({**member, "sample_seed": [0, number]})
        again = mapper({**member, "sample_seed": [0, number]})
        assert (sample["image"] == again["image"]).all()
        masks = sample["instances"].gt_masks.tensor
        boxes = sample["instances"].gt_boxes.tensor.numpy()
        for mask, box in zip(masks.numpy(), boxes, strict=True):
            rows, columns = np.nonzero(mask)
            edges = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            np.testing.assert_array_equal(box, edges)


def test_it_is_a_detectron2_augmentation():
    aug_input = T.AugInput(np.zeros((*SIZE, 3), np.uint8), sem_seg=np.ones(SIZE, np.uint8))
    transform = RandomGeometry((0, 0), (1, 1), 0.0, (0, 0, 0))(aug_input)
    assert isinstance(transform, AffineTransform)
    assert (aug_input.sem_seg == 1).all()
