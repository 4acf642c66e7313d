"""What turns a network's instances into one lesion an image, whatever the network runs on."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from yacs.config import CfgNode

from lesion_d2.errors import LesionError
from lesion_d2.prediction.candidates import INSTANCE_CHOICES, Candidates, Network, merge
from lesion_d2.prediction.confidence import ConfidenceModel
from lesion_d2.prediction.lesion import Lesion, Postprocessing, describe_lesion
from lesion_d2.prediction.views import build_views, detect, look_again


def prediction_settings(cfg: CfgNode) -> dict[str, Any]:
    """Return the settings that the masks of a given model depend on, as plain values."""
    return {
        "min_size_test": cfg.INPUT.MIN_SIZE_TEST,
        "max_size_test": cfg.INPUT.MAX_SIZE_TEST,
        "precision": cfg.TEST.PRECISION,
        "views": list(cfg.TEST.VIEWS),
        "view_scales": list(cfg.TEST.VIEW_SCALES),
        "second_look": cfg.TEST.SECOND_LOOK,
        "instance_choice": cfg.TEST.INSTANCE_CHOICE,
        "postprocessing": list(cfg.TEST.POSTPROCESSING),
        "instance_score_threshold": cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST,
        "instance_nms_threshold": cfg.MODEL.ROI_HEADS.NMS_THRESH_TEST,
        "instances_per_image": cfg.TEST.DETECTIONS_PER_IMAGE,
        "proposals_before_nms": cfg.MODEL.RPN.PRE_NMS_TOPK_TEST,
        "proposals_after_nms": cfg.MODEL.RPN.POST_NMS_TOPK_TEST,
    }


class Outliner:
    """Detects in each view of an image, merges the views, chooses one instance, cleans its mask.

    ``TEST.VIEWS``, ``TEST.VIEW_SCALES``, ``TEST.SECOND_LOOK``, ``TEST.INSTANCE_CHOICE`` and
    ``TEST.POSTPROCESSING`` say how. Every instance that the network keeps
    (``MODEL.ROI_HEADS.SCORE_THRESH_TEST``) can be chosen: an image shows one lesion, so a weak
    finding is worth more than none.

    ``weights_sha256`` is of the file that the network's weights are from.

    Raises:
        LesionError: if one of the keys does not fit.
    """

    def __init__(
        self,
        cfg: CfgNode,
        network: Network,
        confidence: ConfidenceModel | None = None,
        weights_sha256: str = "",
    ) -> None:
        self._choice = cfg.TEST.INSTANCE_CHOICE
        if self._choice not in INSTANCE_CHOICES:
            raise LesionError(
                f"TEST.INSTANCE_CHOICE: {self._choice!r} is unknown; give one of "
                f"{', '.join(INSTANCE_CHOICES)}"
            )
        self.confidence = confidence
        self.weights_sha256 = weights_sha256
        self.network = network
        self._views = build_views(cfg.TEST.VIEWS, cfg.TEST.VIEW_SCALES)
        self._second_look = cfg.TEST.SECOND_LOOK
        self._postprocess = Postprocessing(cfg.TEST.POSTPROCESSING)

    def candidates(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[Candidates]:
        """Return the merged candidates of each image, at the image's own size.

        Images are of shape (C, H, W), in the config's channel order and working size.
        """
        found = detect(self.network, images, self._views)
        merged = [merge(views) for views in found]
        if self._second_look:
            again = look_again(self.network, images, merged, self._second_look)
            merged = [
                merge([*found[i], again[i]]) if i in again else first
                for i, first in enumerate(merged)
            ]
        return merged

    def lesion(self, candidates: Candidates, size: tuple[int, int]) -> Lesion:
        """Return the one lesion of an image of that output size (height, width)."""
        lesion = submit(candidates, self._choice, self._postprocess, size)
        if self.confidence:
            lesion = replace(lesion, estimated_iou=self.confidence(lesion))
        return lesion


def submit(
    candidates: Candidates, choice: str, postprocess: Postprocessing, size: tuple[int, int]
) -> Lesion:
    """Choose one candidate and clean its mask, at the output's size (height, width)."""
    chosen = INSTANCE_CHOICES[choice](candidates)
    mask = postprocess(chosen.masks[0], size) if len(chosen) else np.zeros(size, bool)
    return describe_lesion(mask, chosen, len(candidates))
