"""Arrays in, lesions out."""

import hashlib

import cv2
import numpy as np
import pytest
import torch
from tiny import CONFIDENCE, PROVENANCE

import lesion_d2
from lesion_d2.commands.predict import draw_overlay
from lesion_d2.data.loader import build_test_loader
from lesion_d2.errors import LesionError
from lesion_d2.images.inputs import find_images
from lesion_d2.prediction.segmenter import load_segmenter


@pytest.fixture(scope="module")
def cfg(tiny_cfg, tmp_path_factory):
    return tiny_cfg(tmp_path_factory.mktemp("predictor"), "INPUT.MIN_SIZE_TEST", 72)


def iou(left, right):
    return (left & right).sum() / (left | right).sum() if (left | right).any() else 1.0


def test_the_predictor_equals_the_evaluation(cfg, straight_run, predictor):
    cfg = cfg.clone()
    cfg.MODEL.WEIGHTS = str(straight_run.folder / "model_final.pth")
    segmenter = load_segmenter(cfg).eval()
    for (member,) in build_test_loader(cfg, "tiny_test"):
        with torch.no_grad():
            expected = segmenter([member])[0]["lesion"]
        image = cv2.imread(member["file_name"])
        (lesion,) = predictor([image], channels="BGR")
        # A bundle has weights of 16 bits.
        assert iou(lesion.mask, expected.mask) >= 0.999
        assert lesion.score == pytest.approx(expected.score, abs=1e-3)
        assert lesion.estimated_iou == pytest.approx(CONFIDENCE(expected), abs=1e-3)


def test_rgb_is_bgr_reversed(predictor, photographs):
    image = cv2.imread(str(find_images([str(photographs)])[0].path))
    (bgr,) = predictor([image], channels="BGR")
    (rgb,) = predictor([image[:, :, ::-1]], channels="RGB")
    (wrong,) = predictor([image], channels="RGB")
    np.testing.assert_array_equal(bgr.mask, rgb.mask)
    assert bgr.score == rgb.score != wrong.score


@pytest.mark.parametrize("sizes", [[(60, 80)] * 3, [(60, 80), (90, 40), (64, 64), (3, 200)]])
def test_a_batch_equals_single_images(predictor, sizes):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    together = predictor(images, channels="BGR")
    for image, lesion in zip(images, together, strict=True):
        (alone,) = predictor([image], channels="BGR")
        assert alone.score == pytest.approx(lesion.score, abs=1e-5)
        assert (alone.mask == lesion.mask).mean() > 0.99


@pytest.mark.parametrize("form", ["array", "array of four axes", "generator", "tuple"])
def test_one_image_is_a_batch_of_one(predictor, form):
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    forms = {
        "array": image,
        "array of four axes": image[None],
        "generator": (image for _ in range(1)),
        "tuple": (image,),
    }
    (expected,) = predictor([image], channels="RGB")
    (lesion,) = predictor(forms[form], channels="RGB", sizes=(size for size in [(60, 80)]))
    np.testing.assert_array_equal(lesion.mask, expected.mask)


@pytest.mark.parametrize(
    "sizes", [[], [(60, 80)] * 2, 60, [60], [(60,)], [(0, 80)], [(60, -1)], [("60", "80")], [None]]
)
def test_sizes_that_do_not_fit(predictor, sizes):
    with pytest.raises(LesionError, match=r"sizes: .*give"):
        predictor(np.zeros((60, 80, 3), np.uint8), channels="RGB", sizes=sizes)


@pytest.mark.parametrize(
    "size", [(1, 1), (3, 200), (200, 3), (61, 83), (3, 1400), (1, 9000), (9000, 2)]
)
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
    for images in ([image], image):
        with pytest.raises(LesionError, match="image"):
            predictor(images, channels="RGB")


def test_unknown_channels(predictor):
    with pytest.raises(LesionError, match="channels"):
        predictor([], channels="GBR")


def test_no_image_is_no_lesion(predictor):
    assert predictor([], channels="RGB") == []


def test_from_a_config_and_weights(straight_run, predictor, photographs):
    folder = straight_run.folder
    weights = folder / "model_final.pth"
    (folder / "run.yaml").write_text(straight_run.trainer.cfg.dump())
    other = lesion_d2.LesionPredictor.from_config(
        folder / "run.yaml", weights, ["INPUT.MIN_SIZE_TEST", 72]
    )
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    hashes = {"weights_sha256": sha256, "confidence_sha256": None}
    assert other.settings == predictor.settings | hashes
    image = cv2.imread(str(find_images([str(photographs)])[0].path))
    (left,), (right,) = (p([image], channels="BGR") for p in (other, predictor))
    assert iou(left.mask, right.mask) >= 0.999


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_hash_is_the_files(bundle, precision):
    predictor = lesion_d2.LesionPredictor.from_bundle(bundle, ["TEST.PRECISION", precision])
    expected = hashlib.sha256(bundle.read_bytes()).hexdigest()
    assert predictor.settings["weights_sha256"] == expected
    assert predictor.provenance == PROVENANCE


@pytest.mark.parametrize("size", [(1, 400), (400, 1), (3, 1400), (1, 20_000)])
def test_a_long_image_has_a_mask_of_its_size(size, predictor):
    (lesion,) = predictor([np.full((*size, 3), 128, np.uint8)], channels="RGB")
    assert lesion.mask.shape == size
    picture = cv2.imdecode(
        np.frombuffer(draw_overlay(np.zeros((*size, 3), np.uint8), lesion), np.uint8), 1
    )
    assert min(picture.shape[:2]) >= 1
    assert max(picture.shape[:2]) == min(max(size), 1024)
