"""Arrays in, lesions out; and one file for it."""

import os

import cv2
import numpy as np
import pytest
import torch
from tiny import CONFIDENCE

import lesion_d2
from lesion_d2.commands.predict import draw_overlay
from lesion_d2.data.loader import build_test_loader
from lesion_d2.errors import LesionError
from lesion_d2.images.inputs import find_images
from lesion_d2.prediction.bundle import read_bundle, write_bundle
from lesion_d2.prediction.segmenter import load_segmenter


@pytest.fixture(scope="module")
def cfg(tiny_cfg, tmp_path_factory):
    return tiny_cfg(tmp_path_factory.mktemp("predictor"), "INPUT.MIN_SIZE_TEST", 72)


@pytest.fixture(scope="module")
def model(straight_run):
    return straight_run.trainer.model.eval()


def test_the_predictor_equals_the_evaluation(cfg, straight_run, predictor):
    cfg = cfg.clone()
    cfg.MODEL.WEIGHTS = str(straight_run.folder / "model_final.pth")
    segmenter = load_segmenter(cfg).eval()
    for (member,) in build_test_loader(cfg, "tiny_test"):
        with torch.no_grad():
            expected = segmenter([member])[0]["lesion"]
        image = cv2.imread(member["file_name"])
        (lesion,) = predictor([image], channels="BGR")
        np.testing.assert_array_equal(lesion.mask, expected.mask)
        assert lesion.score == expected.score
        assert lesion.estimated_iou == CONFIDENCE(expected)


def test_rgb_is_bgr_reversed(predictor, photographs):
    image = cv2.imread(str(find_images([str(photographs)])[0].path))
    (bgr,) = predictor([image], channels="BGR")
    (rgb,) = predictor([image[:, :, ::-1]], channels="RGB")
    (wrong,) = predictor([image], channels="RGB")
    np.testing.assert_array_equal(bgr.mask, rgb.mask)
    assert bgr.score == rgb.score != wrong.score


def test_a_batch_of_one_size_equals_single_images(predictor):
    images = list(np.random.default_rng(0).integers(0, 256, (3, 60, 80, 3), dtype=np.uint8))
    together = predictor(images, channels="BGR")
    for image, lesion in zip(images, together, strict=True):
        (alone,) = predictor([image], channels="BGR")
        assert alone.score == pytest.approx(lesion.score, abs=1e-5)
        assert (alone.mask == lesion.mask).mean() > 0.99


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (200, 3), (61, 83)])
def test_the_mask_has_the_images_size(predictor, size):
    (lesion,) = predictor([np.full((*size, 3), 200, np.uint8)], channels="RGB")
    assert lesion.mask.shape == size
    assert lesion.mask.dtype == bool


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
        "image.jpg",
        None,
    ],
)
def test_what_is_no_image(predictor, image):
    with pytest.raises(LesionError, match="image"):
        predictor([image], channels="RGB")


def test_unknown_channels(predictor):
    with pytest.raises(LesionError, match="channels"):
        predictor([], channels="GBR")


def test_no_image_is_no_lesion(predictor):
    assert predictor([], channels="RGB") == []


def test_from_a_config_and_weights(straight_run, predictor, photographs):
    folder = straight_run.folder
    (folder / "run.yaml").write_text(straight_run.trainer.cfg.dump())
    other = lesion_d2.LesionPredictor.from_config(
        folder / "run.yaml", folder / "model_final.pth", ["INPUT.MIN_SIZE_TEST", 72]
    )
    assert other.settings == predictor.settings
    image = cv2.imread(str(find_images([str(photographs)])[0].path))
    (left,), (right,) = (p([image], channels="BGR") for p in (other, predictor))
    np.testing.assert_array_equal(left.mask, right.mask)


def test_a_half_size_bundle(cfg, model, bundle, predictor, tmp_path, photographs):
    small = tmp_path / "half.pth"
    write_bundle(small, cfg, model, None, torch.float16)
    assert small.stat().st_size < 0.6 * bundle.stat().st_size
    half = lesion_d2.LesionPredictor.from_bundle(small)
    image = cv2.imread(str(find_images([str(photographs)])[0].path))
    (lesion,), (whole,) = (p([image], channels="BGR") for p in (half, predictor))
    assert lesion.score == pytest.approx(whole.score, abs=0.01)
    assert lesion.estimated_iou is None
    assert half.settings["model_sha256"] != predictor.settings["model_sha256"]


def test_a_bundle_takes_other_settings(bundle):
    cfg, _, confidence = read_bundle(bundle, ["TEST.VIEWS", ("identity", "vertical")])
    assert cfg.TEST.VIEWS == ("identity", "vertical")
    assert confidence == CONFIDENCE


def test_a_bundle_with_a_wrong_setting(bundle):
    with pytest.raises(LesionError, match=r"TEST\.PRECISION: 'float8'"):
        lesion_d2.LesionPredictor.from_bundle(bundle, ["TEST.PRECISION", "float8"])


class Harmful:
    def __reduce__(self):
        return os.mkdir, ("harm",)


@pytest.mark.parametrize("kind", ["missing", "empty", "code", "checkpoint", "format", "config"])
def test_files_that_are_no_bundle(kind, bundle, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "other.pth"
    content = torch.load(bundle, weights_only=True)
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "code":
        torch.save({"format": 1, "harm": Harmful()}, path)
    elif kind == "checkpoint":
        torch.save({"model": content["model"]}, path)
    elif kind == "format":
        torch.save(content | {"format": 99}, path)
    elif kind == "config":
        torch.save(content | {"config": "MODEL: {META_ARCHITECTURE: Nothing}"}, path)
    with pytest.raises(LesionError, match=r"other\.pth"):
        read_bundle(path)
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("size", [(1, 400), (400, 1), (3, 1400), (1, 20_000)])
def test_a_long_image_has_a_mask_of_its_size(size, predictor):
    (lesion,) = predictor([np.full((*size, 3), 128, np.uint8)], channels="RGB")
    assert lesion.mask.shape == size
    picture = cv2.imdecode(
        np.frombuffer(draw_overlay(np.zeros((*size, 3), np.uint8), lesion), np.uint8), 1
    )
    assert min(picture.shape[:2]) >= 1
    assert max(picture.shape[:2]) == min(max(size), 1024)
