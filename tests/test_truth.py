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


@pytest.mark.parametrize("kind", ["missing", "empty", "colour", "deep"])
def test_masks_that_cannot_be_used(halved, tiny_archive, members, tmp_path, kind):
    folder = tmp_path / "masks"
    shutil.copytree(tiny_archive[1], folder)
    for path in folder.glob("*.png"):
        if kind == "missing":
            path.unlink()
        elif kind == "empty":
            path.write_bytes(b"")
        elif kind == "colour":
            Image.open(path).convert("RGB").save(path)
        else:
            Image.fromarray(np.zeros((96, 128), np.uint16)).save(path)
    with pytest.raises(LesionError, match=r"_segmentation\.png.*TEST\.TRUTH_DIR"):
        members(folder)
