"""From a member to the model's input."""

import copy

import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch
from detectron2.data import DatasetCatalog
from picture_files import exif
from PIL import Image

from lesion_d2.commands.convert import ConvertOptions, convert
from lesion_d2.config.defaults import FLIPS
from lesion_d2.data.datasets import register_dataset
from lesion_d2.data.mapper import LesionMapper
from lesion_d2.data.members import ground_truth_rle, with_flips
from lesion_d2.errors import LesionError

TURN = {"none": lambda a: a, "vertical": lambda a: a[::-1], "horizontal": lambda a: a[:, ::-1]}


@pytest.fixture(scope="module")
def records(tiny_root):
    return DatasetCatalog.get("tiny_train")


@pytest.fixture
def plain():
    """A mapper that neither resizes nor recolours."""
    return LesionMapper(augmentations=[], image_format="BGR", with_instances=True)


def masks_of(sample):
    return sample["instances"].gt_masks.tensor.numpy()


@pytest.fixture(scope="module")
def training_pairs(records, tiny_cfg, tmp_path_factory):
    """The same 39 samples twice, mapped with and without colour augmentation."""
    output = tmp_path_factory.mktemp("unused")
    mappers = [
        LesionMapper(tiny_cfg(output, "INPUT.COLOUR.ENABLED", enabled), True)
        for enabled in (True, False)
    ]
    members = with_flips(records, FLIPS)
    return [
        [mapper({**member, "sample_seed": seed}) for mapper in mappers]
        for seed, member in enumerate(members)
    ]


def test_colour_augmentation_leaves_the_mask_bit_equal(training_pairs):
    for coloured, pure in training_pairs:
        np.testing.assert_array_equal(masks_of(coloured), masks_of(pure))
        assert torch.equal(coloured["instances"].gt_boxes.tensor, pure["instances"].gt_boxes.tensor)
    changed = sum(not torch.equal(*(s["image"] for s in pair)) for pair in training_pairs)
    assert 20 < changed < 39  # one sample in five is of the empty subset


def test_samples_are_what_the_model_takes(training_pairs):
    for coloured, _ in training_pairs:
        assert coloured["image"].dtype == torch.uint8
        assert coloured["image"].shape[0] == 3
        assert min(coloured["image"].shape[1:]) == 64
        assert masks_of(coloured).shape == (1, *coloured["image"].shape[1:])
        assert coloured["instances"].gt_classes.tolist() == [0]
        assert "annotations" not in coloured


def test_boxes_are_tight(training_pairs):
    for sample, _ in training_pairs:
        rows, columns = np.nonzero(masks_of(sample)[0])
        assert sample["instances"].gt_boxes.tensor.tolist() == [
            [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        ]


@pytest.mark.parametrize("image_format", ["BGR", "RGB"])
@pytest.mark.parametrize("flip", FLIPS)
def test_picture_and_mask_are_turned_alike(flip, image_format, records):
    mapper = LesionMapper(augmentations=[], image_format=image_format, with_instances=True)
    for record in records:
        sample = mapper({**record, "flip": flip})
        picture = np.asarray(Image.open(record["file_name"]))
        picture = picture[..., ::-1] if image_format == "BGR" else picture
        mask = mask_util.decode(record["annotations"][0]["segmentation"])
        np.testing.assert_array_equal(sample["image"].permute(1, 2, 0), TURN[flip](picture))
        np.testing.assert_array_equal(masks_of(sample)[0], TURN[flip](mask))


def test_the_sample_seed_decides_in_any_order(records, tiny_cfg, tmp_path):
    mapper = LesionMapper(tiny_cfg(tmp_path), True)
    requests = [{**records[0], "sample_seed": [0, position]} for position in range(12)]
    forward = [mapper(request)["image"] for request in requests]
    np.random.seed(7)  # noqa: NPY002
    backward = [mapper(request)["image"] for request in reversed(requests)][::-1]
    assert all(map(torch.equal, forward, backward))
    assert len({image.numpy().tobytes() for image in forward}) > 5


def test_the_record_stays_as_it_is(records, tiny_cfg, tmp_path):
    record = {**records[0], "sample_seed": 3, "flip": "vertical"}
    before = copy.deepcopy(record)
    LesionMapper(tiny_cfg(tmp_path), True)(record)
    assert record == before


def test_nothing_is_random_at_test_time(records, tiny_cfg, tmp_path):
    cfg = tiny_cfg(tmp_path)
    test_mapper = LesionMapper(cfg, False)
    losses_mapper = LesionMapper(cfg, False, with_instances=True)
    cfg.INPUT.COLOUR.ENABLED = False
    unaugmented = LesionMapper(cfg, True)
    for seed, record in enumerate(records):
        expected = unaugmented({**record, "sample_seed": 0})
        sample = test_mapper({**record, "sample_seed": seed})
        assert torch.equal(sample["image"], expected["image"])
        assert "instances" not in sample
        assert sample["annotations"] == record["annotations"]
        losses_sample = losses_mapper({**record, "sample_seed": seed})
        assert torch.equal(losses_sample["image"], expected["image"])
        np.testing.assert_array_equal(masks_of(losses_sample), masks_of(expected))


def test_the_mask_is_decoded_once(records, tiny_cfg, tmp_path, monkeypatch):
    calls = []
    decode = mask_util.decode
    monkeypatch.setattr(mask_util, "decode", lambda rle: calls.append(rle) or decode(rle))
    mapper = LesionMapper(tiny_cfg(tmp_path), True)
    for seed in range(5):
        mapper({**records[0], "flip": "horizontal", "sample_seed": seed})
    assert len(calls) == 5


@pytest.mark.parametrize("flip", FLIPS)
def test_polygons_are_read_too(flip, records, plain, tiny_archive, tmp_path):
    options = ConvertOptions({"all": tiny_archive}, tmp_path / "set", group=False, polygons=True)
    convert(options)
    register_dataset("polygons", tmp_path / "set")
    for polygon, exact in zip(DatasetCatalog.get("polygons_train"), records, strict=True):
        assert polygon["isic_id"] == exact["isic_id"]
        assert isinstance(polygon["annotations"][0]["segmentation"], list)
        left, right = (masks_of(plain({**record, "flip": flip})) for record in (polygon, exact))
        assert (left & right).sum() / (left | right).sum() > 0.9
        truth = mask_util.decode(ground_truth_rle({**polygon, "flip": flip}))
        np.testing.assert_array_equal(masks_of(plain({**polygon, "flip": "none"}))[0],
                                      TURN[flip](truth))  # fmt: skip


def test_a_lesion_that_vanishes_in_the_resize_leaves_no_instance(tiny_cfg, tmp_path):
    Image.new("RGB", (640, 640)).save(tmp_path / "a.png")
    mask = np.zeros((640, 640), np.uint8)
    mask[100, 100] = 1
    rle = mask_util.encode(np.asfortranarray(mask))
    record = {
        "file_name": str(tmp_path / "a.png"),
        "height": 640,
        "width": 640,
        "annotations": [
            {"segmentation": rle, "bbox": [100, 100, 1, 1], "bbox_mode": 1, "category_id": 0}
        ],
    }
    assert len(LesionMapper(tiny_cfg(tmp_path), True)(record)["instances"]) == 0


def test_exif_orientation_is_applied(records, plain, tmp_path):
    record = copy.deepcopy(records[0])
    upright = Image.open(record["file_name"])
    # 6: the file is stored a quarter turn anticlockwise of how it is to be seen.
    upright.rotate(90, expand=True).save(tmp_path / "a.png", exif=exif(6))
    picture = plain({**record, "file_name": str(tmp_path / "a.png")})["image"]
    np.testing.assert_array_equal(picture.permute(1, 2, 0), np.asarray(upright)[..., ::-1])


def truncate(path):
    path.write_bytes(path.read_bytes()[:900])


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        truncate,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_text("no picture at all"),
        lambda path: Image.new("RGB", (50, 40)).save(path),
    ],
    ids=["missing", "truncated", "empty", "text", "other size"],
)
def test_an_unusable_picture_is_named(damage, records, plain, tmp_path):
    record = copy.deepcopy(records[0])
    path = tmp_path / "ISIC_0000000.jpg"
    Image.open(record["file_name"]).save(path)
    record["file_name"] = str(path)
    plain(record)
    damage(path)
    with pytest.raises(LesionError, match=r"ISIC_0000000\.jpg: .*tools/convert_isic\.py"):
        plain(record)


LONG = [(1, 400), (400, 1), (3, 1400), (20_000, 1)]


@pytest.mark.parametrize("size", LONG)
@pytest.mark.parametrize("is_train", [False, True])
def test_no_side_of_a_long_image_becomes_0(size, is_train, tiny_cfg, tmp_path):
    height, width = size
    Image.new("RGB", (width, height)).save(tmp_path / "a.png")
    mask = np.zeros(size, np.uint8)
    mask[height // 2 :, width // 2 :] = 1
    box = [width // 2, height // 2, width - width // 2, height - height // 2]
    record = {
        "file_name": str(tmp_path / "a.png"), "height": height, "width": width,
        "annotations": [
            {
                "segmentation": mask_util.encode(np.asfortranarray(mask)), "bbox": box,
                "bbox_mode": 1, "category_id": 0,
            }
        ],
    }  # fmt: skip
    sample = LesionMapper(tiny_cfg(tmp_path), is_train)(record)
    assert min(sample["image"].shape[1:]) == 1
    assert max(sample["image"].shape[1:]) > 20
