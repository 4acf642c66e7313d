"""A model and all that turns its instances into one lesion an image."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from detectron2.modeling import GeneralizedRCNN
from detectron2.structures import Instances
from torch import nn
from torch.nn.functional import interpolate
from torch.nn.utils.fusion import fuse_conv_bn_eval

from lesion_d2.errors import LesionError
from lesion_d2.modeling import build_network
from lesion_d2.modeling.precision import PRECISIONS, computing_in, settle_bfloat16
from lesion_d2.modeling.timm_backbone import TimmBackbone
from lesion_d2.modeling.weights import load_trained
from lesion_d2.prediction.bundle import read_origin
from lesion_d2.prediction.candidates import (
    INSTANCE_CHOICES,
    MASK_THRESHOLD,
    Candidates,
    build_views,
    detect,
    merge,
)
from lesion_d2.prediction.confidence import ConfidenceModel, read_confidence
from lesion_d2.prediction.lesion import Lesion, Postprocessing, describe_lesion

# Norms that are one factor and one offset for each channel when a model is evaluated.
_FIXED_NORMS = (FrozenBatchNorm2d, nn.BatchNorm2d, nn.SyncBatchNorm)


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

    The model is evaluated in the mode it is in, so call ``eval()`` on this. ``weights_sha256`` is
    of the file that its weights are from.

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
        for key, known in (("INSTANCE_CHOICE", INSTANCE_CHOICES), ("PRECISION", PRECISIONS)):
            if cfg.TEST[key] not in known:
                raise LesionError(
                    f"TEST.{key}: {cfg.TEST[key]!r} is unknown; give one of {', '.join(known)}"
                )
        if cfg.TEST.PRECISION == "bfloat16" and model.device.type == "cpu":
            settle_bfloat16("TEST.PRECISION float32")
        self.model = model
        self._precision = cfg.TEST.PRECISION
        self.confidence = confidence
        self.weights_sha256 = weights_sha256
        self._views = build_views(cfg.TEST.VIEWS, cfg.TEST.VIEW_SCALES)
        self._choice = cfg.TEST.INSTANCE_CHOICE
        self._postprocess = Postprocessing(cfg.TEST.POSTPROCESSING)

    def candidates(self, images: Sequence[torch.Tensor]) -> list[Candidates]:
        """Return the merged candidates of each image, on the CPU, at the image's own size.

        Images are uint8 of shape (C, H, W), in the config's channel order and working size.
        """
        with computing_in(self._precision, self.model):
            found = detect(self.model, images, self._views)
        return [merge(views) for views in found]

    def lesion(self, candidates: Candidates, size: tuple[int, int]) -> Lesion:
        """Return the one lesion of an image of that output size (height, width)."""
        lesion = submit(candidates, self._choice, self._postprocess, size)
        if self.confidence:
            lesion = replace(lesion, estimated_iou=self.confidence(lesion))
        return lesion

    def forward(self, batched_inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Segment a batch of the test loader: dicts as Detectron2's models take them.

        Returns:
            for each a dict of ``"instances"``, Detectron2's with ``scores`` and ``pred_masks``, and
            ``"lesion"``, a :class:`~lesion_d2.prediction.lesion.Lesion`, at the input's ``height``
            and ``width``.
        """
        merged = self.candidates([item["image"] for item in batched_inputs])
        sizes = [(item["height"], item["width"]) for item in batched_inputs]
        return [
            {"instances": _instances(found, size), "lesion": self.lesion(found, size)}
            for found, size in zip(merged, sizes, strict=True)
        ]


def submit(
    candidates: Candidates, choice: str, postprocess: Postprocessing, size: tuple[int, int]
) -> Lesion:
    """Choose one candidate and clean its mask, at the output's size (height, width)."""
    chosen = INSTANCE_CHOICES[choice](candidates)
    mask = postprocess(chosen.masks[0].numpy(), size) if len(chosen) else np.zeros(size, bool)
    return describe_lesion(mask, chosen, len(candidates))


def prepare_for_inference(model: GeneralizedRCNN, precision: str) -> None:
    """Change a model so that it finds the same in less time, for good: it cannot be trained on.

    Norms that are fixed now become part of the convolutions before them. The weights are laid out
    and stored as :func:`lesion_d2.modeling.precision.computing_in` needs them, which it would else
    see to for each image.
    """
    model.eval()
    for module in list(model.modules()):
        norm = getattr(module, "norm", None)
        if isinstance(module, TimmBackbone):
            module.fold_norms()
        elif isinstance(module, Conv2d) and isinstance(norm, _FIXED_NORMS):
            folded = fuse_conv_bn_eval(module, norm)
            module.weight, module.bias, module.norm = folded.weight, folded.bias, None
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            module.to(PRECISIONS[precision])
    model.to(memory_format=torch.channels_last)


def load_segmenter(cfg: CfgNode, *, prepare: bool = True) -> Segmenter:
    """Return a segmenter with the weights and the confidence model that the config names.

    A bundle of ``MODEL.WEIGHTS`` brings its own, unless ``TEST.CONFIDENCE`` names another.

    With ``prepare`` its model is made faster, and its weights are not those of the file any more.

    Raises:
        LesionError: if a file is missing or does not fit, or a setting is wrong.
    """
    model = build_network(cfg)
    sha256 = load_trained(model, cfg.MODEL.WEIGHTS)
    file = cfg.TEST.CONFIDENCE
    confidence = read_confidence(file, sha256) if file else read_origin(cfg.MODEL.WEIGHTS)[0]
    segmenter = Segmenter(cfg, model, confidence, sha256)
    if prepare:
        prepare_for_inference(model, cfg.TEST.PRECISION)
    return segmenter


def _instances(candidates: Candidates, size: tuple[int, int]) -> Instances:
    masks = candidates.masks if len(candidates) else torch.zeros(0, *size)
    if masks.shape[-2:] != size:
        masks = interpolate(masks[None], size, mode="bilinear")[0]
    return Instances(size, scores=candidates.scores, pred_masks=masks >= MASK_THRESHOLD)
