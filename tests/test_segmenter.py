"""The model with everything behind it, against Detectron2 alone."""

import numpy as np
import pytest
import torch

from lesion_d2.data.loader import build_test_loader
from lesion_d2.errors import LesionError
from lesion_d2.prediction.confidence import ConfidenceModel
from lesion_d2.prediction.segmenter import Segmenter, TorchNetwork, load_segmenter
from lesion_d2.prediction.views import SYMMETRIES, View, build_views, detect


@pytest.fixture(scope="module")
def cfg(tiny_cfg, tmp_path_factory):
    return tiny_cfg(tmp_path_factory.mktemp("segmenter"), "TEST.SCORE_THRESH", 0.0)


@pytest.fixture(scope="module")
def model(straight_run):
    return straight_run.trainer.model.eval()


@pytest.fixture(scope="module")
def batches(cfg):
    return list(build_test_loader(cfg, "tiny_test"))


def with_test(cfg, **keys):
    cfg = cfg.clone()
    for key, value in keys.items():
        cfg.TEST[key] = value
    return cfg


@torch.no_grad()
def segment(cfg, model, batch):
    return Segmenter(cfg, model).eval()(batch)


def test_one_view_gives_detectron2s_instances(cfg, model, batches):
    found = 0
    for batch in batches:
        batch = [{**batch[0], "height": batch[0]["image"].shape[1],
                  "width": batch[0]["image"].shape[2]}]  # fmt: skip
        with torch.no_grad():
            expected = model(batch)[0]["instances"]
        instances = segment(cfg, model, batch)[0]["instances"]
        torch.testing.assert_close(instances.scores, expected.scores)
        torch.testing.assert_close(instances.pred_masks, expected.pred_masks)
        found += len(instances)
    assert found > 10


def test_another_output_size_is_close_to_detectron2s(cfg, model, batches):
    agreement = []
    for batch in batches:
        batch = [{**batch[0], "height": 131, "width": 177}]
        with torch.no_grad():
            expected = model(batch)[0]["instances"].pred_masks.numpy()
        masks = segment(cfg, model, batch)[0]["instances"].pred_masks.numpy()
        assert masks.shape == expected.shape
        agreement.append((masks == expected).mean())
    assert np.mean(agreement) > 0.99


def test_the_lesion_is_the_top_instance(cfg, model, batches):
    cfg = with_test(cfg, POSTPROCESSING=("threshold",))
    for batch in batches:
        batch = [{**batch[0], "height": batch[0]["image"].shape[1],
                  "width": batch[0]["image"].shape[2]}]  # fmt: skip
        (output,) = segment(cfg, model, batch)
        instances, lesion = output["instances"], output["lesion"]
        np.testing.assert_array_equal(lesion.mask, instances.pred_masks[0].numpy())
        assert lesion.score == pytest.approx(instances.scores[0].item())
        assert lesion.candidates == len(instances)
        assert lesion.estimated_iou is None


@pytest.mark.parametrize("symmetry", sorted(SYMMETRIES))
def test_a_view_of_a_turned_image_is_the_plain_prediction_turned(cfg, model, batches, symmetry):
    """Showing the model image v(x) through view v^-1 must equal showing it x."""
    image = batches[0][0]["image"].numpy()[:, :63, :70]  # odd, and not square
    turned = View(symmetry).restore(image)
    ((plain,),) = detect(TorchNetwork(model), [image], [View("identity")])
    ((seen,),) = detect(TorchNetwork(model), [turned], [View(symmetry)])
    np.testing.assert_allclose(seen.scores, plain.scores, rtol=1e-4)
    np.testing.assert_allclose(seen.masks, View(symmetry).restore(plain.masks), atol=1e-4)


def test_views_together_equal_views_alone(model, batches):
    images = [batch[0]["image"].numpy() for batch in batches[:2]]
    views = build_views(tuple(SYMMETRIES), (1.0, 0.8))
    together = detect(TorchNetwork(model), images, views)
    for image, seen in zip(images, together, strict=True):
        for view, candidates in zip(views, seen, strict=True):
            ((alone,),) = detect(TorchNetwork(model), [image], [view])
            # Smaller images are padded to the largest of a batch, which moves the last digits.
            n = min(3, len(alone), len(candidates))
            np.testing.assert_allclose(candidates.scores[:n], alone.scores[:n], atol=0.02)
            assert candidates.masks.shape[1:] == image.shape[1:]


def test_the_average_over_all_symmetries_turns_with_the_image(cfg, model, batches):
    cfg = with_test(cfg, VIEWS=tuple(SYMMETRIES), POSTPROCESSING=("threshold",))
    member = batches[0][0]
    (upright,) = segment(cfg, model, [{**member, "height": 64, "width": 85}])
    assert 0 <= upright["lesion"].agreement < 1
    assert upright["lesion"].mask.shape == (64, 85)


def test_bfloat16_finds_nearly_the_same(cfg, model, batches):
    agreement, differ = [], False
    for batch in batches:
        (exact,), (fast,) = (
            segment(with_test(cfg, PRECISION=name), model, batch)
            for name in ("float32", "bfloat16")
        )
        assert fast["lesion"].score == pytest.approx(exact["lesion"].score, abs=0.03)
        agreement.append((fast["lesion"].mask == exact["lesion"].mask).mean())
        differ |= fast["lesion"].score != exact["lesion"].score
    assert np.mean(agreement) > 0.9
    assert differ


def test_an_image_in_which_nothing_is_found(cfg, model, batches):
    cfg = cfg.clone()
    threshold = model.roi_heads.box_predictor.test_score_thresh
    model.roi_heads.box_predictor.test_score_thresh = 1.0
    try:
        (output,) = segment(cfg, model, batches[0])
    finally:
        model.roi_heads.box_predictor.test_score_thresh = threshold
    assert len(output["instances"]) == 0
    assert output["instances"].pred_masks.shape[1:] == output["lesion"].mask.shape
    assert not output["lesion"].mask.any()


def test_the_confidence_model_is_asked(cfg, model, batches):
    confidence = ConfidenceModel([0.0] * 6, 0.25, {})
    with torch.no_grad():
        (output,) = Segmenter(cfg, model, confidence).eval()(batches[0])
    expected = 0.25 if output["lesion"].mask.any() else 0
    assert output["lesion"].estimated_iou == expected


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("PRECISION", "int8"),
        ("INSTANCE_CHOICE", "best"),
        ("VIEWS", ("sideways",)),
        ("POSTPROCESSING", ("polish",)),
    ],
)
def test_wrong_settings(cfg, model, key, value):
    with pytest.raises(LesionError, match=rf"TEST\.{key}"):
        Segmenter(with_test(cfg, **{key: value}), model)


@pytest.mark.parametrize(
    ("node", "key"),
    [("", "META_ARCHITECTURE"), ("BACKBONE", "NAME"), ("ROI_HEADS", "NAME")],
)
def test_a_part_that_does_not_exist(cfg, node, key):
    cfg = cfg.clone()
    (cfg.MODEL[node] if node else cfg.MODEL)[key] = "NoSuchPart"
    with pytest.raises(LesionError, match="NoSuchPart"):
        load_segmenter(cfg)
