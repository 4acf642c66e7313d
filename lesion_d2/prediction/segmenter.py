"""A model and all that turns its instances into one lesion an image."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.modeling import GeneralizedRCNN
from detectron2.structures import Instances
from torch import nn
from torch.nn.functional import interpolate

from lesion_d2.errors import LesionError
from lesion_d2.modeling.build import build_network
from lesion_d2.modeling.precision import PRECISIONS, computing_in, settle_bfloat16
from lesion_d2.modeling.weights import load_trained
from lesion_d2.prediction.candidates import MASK_THRESHOLD, Candidates, detect, merge
from lesion_d2.prediction.choice import INSTANCE_CHOICES
from lesion_d2.prediction.confidence import ConfidenceModel, read_confidence
from lesion_d2.prediction.inference import prepare_for_inference
from lesion_d2.prediction.lesion import Lesion, describe_lesion
from lesion_d2.prediction.postprocessing import Postprocessing
from lesion_d2.prediction.views import build_views


def prediction_settings(cfg: CfgNode) -> dict[str, Any]:
    """Return the settings that the masks of a given model depend on, as plain values."""
    return {
        "min_size_test": cfg.INPUT.MIN_SIZE_TEST,
        "max_size_test": cfg.INPUT.MAX_SIZE_TEST,
        "precision": cfg.TEST.PRECISION,
        "views": list(cfg.TEST.VIEWS),
        "view_scales": list(cfg.TEST.VIEW_SCALES),
        "instance_choice": cfg.TEST.INSTANCE_CHOICE,
        "postprocessing": list(cfg.TEST.POSTPROCESSING),
    }


class Segmenter(nn.Module):
    """Detects in each view of an image, merges the views, chooses one instance, cleans its mask.

    ``TEST.VIEWS``, ``TEST.VIEW_SCALES``, ``TEST.INSTANCE_CHOICE`` and ``TEST.POSTPROCESSING`` say
    how. Every instance that the model keeps (``MODEL.ROI_HEADS.SCORE_THRESH_TEST``) can be chosen:
    an image shows one lesion, so a weak finding is worth more than none.

    Args:
        cfg: the experiment's config.
        model: Mask R-CNN; it is evaluated in the mode it is in, so call ``eval()`` on this.
        confidence: estimates the IoU of each lesion.
        weights_sha256: of the file that the model's weights are from.

    Raises:
        LesionError: if one of the keys does not fit.
    """

    def __init__(
        self,
        cfg: CfgNode,
        model: GeneralizedRCNN,
        confidence: ConfidenceModel | None = None,
        weights_sha256: str = "",
    ) -> None:
        super().__init__()
        if cfg.TEST.INSTANCE_CHOICE not in INSTANCE_CHOICES:
            raise LesionError(
                f"TEST.INSTANCE_CHOICE: {cfg.TEST.INSTANCE_CHOICE!r} is unknown; give one of "
                + ", ".join(INSTANCE_CHOICES)
            )
        if cfg.TEST.PRECISION not in PRECISIONS:
            raise LesionError(
                f"TEST.PRECISION: {cfg.TEST.PRECISION!r} is unknown; give one of "
                + ", ".join(PRECISIONS)
            )
        if cfg.TEST.PRECISION == "bfloat16" and model.device.type == "cpu":
            settle_bfloat16("TEST.PRECISION float32")
        self.model = model
        self._precision = cfg.TEST.PRECISION
        self.confidence = confidence
        self.weights_sha256 = weights_sha256
        self._views = build_views(cfg.TEST.VIEWS, cfg.TEST.VIEW_SCALES)
        self._choose = INSTANCE_CHOICES[cfg.TEST.INSTANCE_CHOICE]
        self._postprocess = Postprocessing(cfg.TEST.POSTPROCESSING)

    def candidates(self, images: Sequence[torch.Tensor]) -> list[Candidates]:
        """Return the merged candidates of each image, on the CPU, at the image's own size.

        Args:
            images: uint8 of shape (C, H, W), in the config's channel order and working size.
        """
        with computing_in(self._precision, self.model):
            found = detect(self.model, images, self._views)
        return [merge(views) for views in found]

    def lesion(self, candidates: Candidates, size: tuple[int, int]) -> Lesion:
        """Return the one lesion of an image of that output size (height, width)."""
        chosen = self._choose(candidates)
        if len(chosen):
            mask = self._postprocess(chosen.masks[0].numpy(), size)
        else:
            mask = np.zeros(size, bool)
        lesion = describe_lesion(mask, chosen, len(candidates))
        if self.confidence:
            lesion = replace(lesion, estimated_iou=self.confidence(lesion))
        return lesion

    def forward(self, batched_inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Segment a batch of the test loader.

        Args:
            batched_inputs: dicts with ``image`` and, for the output's size, ``height`` and
                ``width``, as Detectron2's models take them.

        Returns:
            for each a dict of ``"instances"``, Detectron2's with ``scores`` and ``pred_masks`` at
            the output's size, and ``"lesion"``, a
            :class:`~lesion_d2.prediction.lesion.Lesion`.
        """
        outputs = []
        merged = self.candidates([item["image"] for item in batched_inputs])
        for item, candidates in zip(batched_inputs, merged, strict=True):
            size = item["height"], item["width"]
            outputs.append(
                {
                    "instances": _instances(candidates, size),
                    "lesion": self.lesion(candidates, size),
                }
            )
        return outputs


def load_segmenter(cfg: CfgNode, *, prepare: bool = True) -> Segmenter:
    """Return a segmenter with the weights and the confidence model that the config names.

    Args:
        cfg: the experiment's config.
        prepare: make the model faster; its weights are then not those of the file any more.

    Raises:
        LesionError: if a file is missing or does not fit, or a setting is wrong.
    """
    model = build_network(cfg)
    sha256 = load_trained(model, cfg.MODEL.WEIGHTS)
    confidence = None
    if cfg.TEST.CONFIDENCE:
        confidence = read_confidence(cfg.TEST.CONFIDENCE)
        confidence.check_weights(sha256, cfg.TEST.CONFIDENCE)
    segmenter = Segmenter(cfg, model, confidence, sha256)
    if prepare:
        prepare_for_inference(model, cfg.TEST.PRECISION)
    return segmenter


def _instances(candidates: Candidates, size: tuple[int, int]) -> Instances:
    masks = candidates.masks
    if masks.shape[-2:] != size and len(masks):
        masks = interpolate(masks[None], size, mode="bilinear")[0]
    masks = masks.new_zeros((0, *size)) if not len(masks) else masks
    return Instances(size, scores=candidates.scores, pred_masks=masks >= MASK_THRESHOLD)
