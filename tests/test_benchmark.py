"""Benchmarks: their arithmetic, and that rivals do their work right."""

import json
import zlib
from pathlib import Path
from unittest.mock import MagicMock

import cv2
import numpy as np
import pytest
from pycocotools import mask as mask_util
from tiny import DEMO

from lesion_d2.benchmark.convert import inflate, read_entropy_codes
from lesion_d2.benchmark.data import link_pairs
from lesion_d2.benchmark.results import Section
from lesion_d2.benchmark.rivals import convert_with_opencv
from lesion_d2.benchmark.timing import Spread, alternate, ratio, spread
from lesion_d2.convert.pairs import find_pairs
from lesion_d2.errors import LesionError

# --- timing


class Clock:
    """Stands still but when somebody works."""

    def __init__(self):
        self.now = 0.0
        self.log = []

    def __call__(self):
        return self.now

    def contender(self, name, durations):
        remaining = iter(durations)

        def run():
            self.log.append(name)
            self.now += next(remaining)

        return run

    def prepare(self, name):
        self.now += 50


def test_contenders_take_turns_and_change_the_order():
    clock = Clock()
    contenders = {name: clock.contender(name, [1] * 5) for name in "abc"}
    alternate(contenders, 4, "", clock=clock)
    assert "".join(clock.log) == "cba" + "abc" + "cba" + "abc" + "cba"


def test_seconds_leave_out_warm_up_and_preparation():
    clock = Clock()
    durations = {"ours": [100, 1, 2, 4], "theirs": [100, 3, 6, 12]}
    contenders = {name: clock.contender(name, values) for name, values in durations.items()}
    seconds = alternate(contenders, 3, "", prepare=clock.prepare, clock=clock)
    assert seconds == {"ours": [1, 2, 4], "theirs": [3, 6, 12]}


def test_a_ratio_is_taken_within_the_round():
    """The machine became four times as slow, and that is in no ratio."""
    assert ratio([3, 6, 12], [1, 2, 4]) == Spread(3, 3, 3)
    assert spread([3, 6, 12]) == Spread(6, 4.5, 9)
    assert spread([5]) == Spread(5, 5, 5)


def test_a_section_compares_by_unit_round_and_rival():
    section = Section(
        "work",
        "image",
        8,
        {"ours": [1.0, 2.0], "theirs": [4.0, 8.0]},
        ("theirs",),
        {"mean IoU": {"ours": 0.75}},
    )
    figures = section.to_dict()["contenders"]
    assert figures["ours"]["seconds_per_image"] == Spread(0.1875, 0.15625, 0.21875)
    assert figures["ours"]["speed_against"]["theirs"] == Spread(4, 4, 4)
    assert figures["theirs"]["speed_against"]["theirs"].median == 1
    assert figures["ours"]["mean IoU"] == 0.75
    assert "mean IoU" not in figures["theirs"]
    (row,) = (line for line in str(section).splitlines() if line.startswith("ours"))
    assert row.split()[-2:] == ["4)", "0.75"]


@pytest.mark.parametrize(("device", "waits"), [("cuda", 1), ("cuda:1", 1), ("cpu", 0)])
def test_a_step_ends_when_the_gpu_has_done_its_part(device, waits, monkeypatch):
    from lesion_d2.benchmark.train import TrainerSteps

    waited = []
    monkeypatch.setattr("torch.cuda.synchronize", lambda: waited.append(1))
    trainer = MagicMock()
    trainer.cfg.MODEL.DEVICE = device
    TrainerSteps(trainer, [[]], 0)()
    assert len(waited) == waits


# --- rivals


def test_stock_settings_are_the_model_zoos():
    from lesion_d2.benchmark.rivals import stock_config, stock_detections
    from lesion_d2.config.load import load_config

    cfg = load_config(DEMO, ["MODEL.DEVICE", "cpu"])
    stock, detections = stock_config(cfg), stock_detections(cfg)
    assert stock.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE == 512
    assert stock.MODEL.RPN.BATCH_SIZE_PER_IMAGE == 256
    assert stock.MODEL.RPN.POST_NMS_TOPK_TRAIN == 1000
    assert not stock.SOLVER.AMP.ENABLED
    for key in ("MIN_SIZE_TRAIN", "MAX_SIZE_TRAIN"):
        assert stock.INPUT[key] == cfg.INPUT[key]
    assert stock.SOLVER.IMS_PER_BATCH == cfg.SOLVER.IMS_PER_BATCH
    assert detections.MODEL.RPN.POST_NMS_TOPK_TEST == 1000
    assert detections.TEST.DETECTIONS_PER_IMAGE == 100
    assert cfg.TEST.DETECTIONS_PER_IMAGE == 3


def test_the_recipe_outlines_the_lesions(drawn_pairs, tmp_path):
    convert_with_opencv(*drawn_pairs, tmp_path / "out")
    content = json.loads((tmp_path / "out" / "annotations.json").read_text())
    assert [(image["height"], image["width"]) for image in content["images"]] == [
        (96, 128),
        (176, 235),
        (120, 90),
    ]
    for image, annotation in zip(content["images"], content["annotations"], strict=True):
        height, width = image["height"], image["width"]
        picture = cv2.imread(str(tmp_path / "out" / image["file_name"]))
        assert picture.shape == (height, width, 3)
        name = f"{image['file_name'][7:-4]}_segmentation.png"
        mask = cv2.imread(str(drawn_pairs[1] / name), cv2.IMREAD_GRAYSCALE)
        mask = cv2.resize(mask, (width, height), interpolation=cv2.INTER_AREA) > 127
        polygons = mask_util.frPyObjects(annotation["segmentation"], height, width)
        truth = mask_util.encode(np.asfortranarray(mask, np.uint8))
        assert mask_util.iou([mask_util.merge(polygons)], [truth], [0])[0, 0] > 0.95
        assert annotation["area"] == mask.sum()
        assert annotation["bbox"] == mask_util.toBbox(truth).tolist()


def test_the_floor_reads_every_byte_of_a_mask(drawn_pairs):
    pairs = find_pairs(*drawn_pairs)[0]
    for pair, (height, width) in zip(pairs, [(96, 128), (705, 940), (120, 90)], strict=True):
        assert len(inflate(pair.mask.path.read_bytes())) == height * (width + 1)
    read_entropy_codes(pairs)
    with pytest.raises(zlib.error):
        inflate(pairs[0].mask.path.read_bytes()[:60])


def test_links_repeat_pairs_under_new_ids(drawn_pairs, tmp_path):
    pairs = find_pairs(*drawn_pairs)[0]
    linked = find_pairs(*link_pairs(pairs, tmp_path / "more", 7, repeat=True))[0]
    assert [pair.isic_id for pair in linked] == [f"ISIC_{number:07d}" for number in range(7)]
    assert linked[4].image.path.read_bytes() == pairs[1].image.path.read_bytes()
    with pytest.raises(LesionError, match="has 3 only"):
        link_pairs(pairs, tmp_path / "too_many", 4)


def test_iou_is_that_of_the_written_masks(tiny_root, tmp_path):
    from detectron2.data import DatasetCatalog

    from lesion_d2.benchmark.predict import mean_iou, write_masks

    records = DatasetCatalog.get("tiny_test")
    truths = [mask_util.decode(record["annotations"][0]["segmentation"]) for record in records]
    files = [Path(record["file_name"]) for record in records]
    remaining = iter(truths)
    write_masks(lambda image: next(remaining).astype(bool), files, tmp_path / "true")
    write_masks(lambda image: np.ones(image.shape[:2], bool), files, tmp_path / "all")
    assert mean_iou(tmp_path / "true", records) == 1
    shares = [truth.mean() for truth in truths]
    assert mean_iou(tmp_path / "all", records) == pytest.approx(np.mean(shares))
