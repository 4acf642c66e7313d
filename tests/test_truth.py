"""Scoring at the size of the originals."""

import json
import shutil

import cv2
import numpy as np
import pytest
from PIL import Image
from tiny import tiny_options

from lesion_d2.commands.convert import ConvertOptions, convert
from lesion_d2.config.load import load_config
from lesion_d2.data.datasets import register_dataset
from lesion_d2.data.loader import build_test_loader
from lesion_d2.errors import LesionError


@pytest.fixture(scope="module")
def halved(tiny_archive, tmp_path_factory):
    """A data set of images at half their size, registered under the name halved."""
    root = tmp_path_factory.mktemp("halved") / "halved"
    convert(ConvertOptions({"all": tiny_archive}, root, resize=48, group=False))
    register_dataset("halved", root)
    return root


@pytest.fixture
def members(tmp_path):
    """Function (folder of masks) -> mapped members of the test split."""

    def build(folder):
        options = tiny_options(tmp_path, "TEST.TRUTH_DIR", str(folder))
        cfg = load_config("configs/demo.yaml", options)
        return [batch[0] for batch in build_test_loader(cfg, "halved_test")]

    return build


def test_the_official_mask_and_its_size(halved, tiny_archive, members):
    records = {r["isic_id"]: r for r in json.loads((halved / "test.json").read_text())["images"]}
    found = members(tiny_archive[1])
    assert len(found) == len(records)
    for member in found:
        record = records[member["isic_id"]]
        assert (member["height"], member["width"]) == (
            record["original_height"], record["original_width"]
        )  # fmt: skip
        assert member["height"] > record["height"]
        mask = cv2.imread(str(tiny_archive[1] / f"{member['isic_id']}_segmentation.png"), 0)
        np.testing.assert_array_equal(member["truth"], mask > 128)


def change_masks(source, folder, change):
    """Copy a folder of masks and give each path and array to ``change``."""
    shutil.copytree(source, folder)
    for path in folder.glob("*.png"):
        change(path, cv2.imread(str(path), cv2.IMREAD_UNCHANGED))
    return folder


@pytest.mark.parametrize(
    "change",
    [
        lambda path, mask: cv2.imwrite(str(path), mask // 255),
        lambda path, mask: cv2.imwrite(str(path), mask // 2),
        lambda path, mask: cv2.imwrite(str(path), np.dstack([mask] * 3)),
        lambda path, mask: cv2.imwrite(str(path), np.dstack([mask * 0, mask * 0, mask])),
        lambda path, mask: cv2.imwrite(str(path), mask * np.uint16(257)),
        lambda path, mask: Image.fromarray(mask).convert("1").save(path),
    ],
    ids=["0 and 1", "0 and 127", "RGB", "red", "16 bits", "1 bit"],
)
def test_masks_of_other_tools(halved, tiny_archive, members, tmp_path, change):
    expected = members(tiny_archive[1])
    found = members(change_masks(tiny_archive[1], tmp_path / "masks", change))
    for member, other in zip(expected, found, strict=True):
        np.testing.assert_array_equal(member["truth"], other["truth"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda path, mask: path.unlink(), "No such file"),
        (lambda path, mask: path.write_bytes(b""), "0 bytes"),
        (lambda path, mask: path.write_bytes(path.read_bytes()[:-30]), "cut short"),
        (lambda path, mask: cv2.imwrite(str(path), mask * 0), "no lesion"),
        (lambda path, mask: cv2.imwrite(str(path), np.rot90(mask)), "aspect ratio"),
        (lambda path, mask: cv2.imwrite(str(path), mask[:80]), "aspect ratio"),
    ],
    ids=["missing", "empty file", "cut", "no lesion", "turned", "other part"],
)
def test_masks_that_cannot_be_used(halved, tiny_archive, members, tmp_path, change, words):
    folder = change_masks(tiny_archive[1], tmp_path / "masks", change)
    with pytest.raises(LesionError, match=rf"_segmentation\.png.*{words}.*TEST\.TRUTH_DIR"):
        members(folder)
