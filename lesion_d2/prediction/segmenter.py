"""A model of torch with all that turns its instances into one lesion an image."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from detectron2.config import CfgNode
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from detectron2.modeling import GeneralizedRCNN
from detectron2.structures import Instances
from torch import nn
from torch.nn.functional import interpolate
from torch.nn.utils.fusion import fuse_conv_bn_eval

from lesion_d2.cpus import thread_limit
from lesion_d2.errors import LesionError
from lesion_d2.modeling import build_network
from lesion_d2.modeling.precision import PRECISIONS, computing_in, settle_bfloat16
from lesion_d2.modeling.timm_backbone import TimmBackbone
from lesion_d2.modeling.weights import load_trained
from lesion_d2.prediction.bundle import read_origin
from lesion_d2.prediction.candidates import MASK_THRESHOLD, Candidates, Found
from lesion_d2.prediction.confidence import ConfidenceModel, read_confidence
from lesion_d2.prediction.outliner import Outliner

# Norms that are one factor and one offset for each channel when a model is evaluated.
_FIXED_NORMS = (FrozenBatchNorm2d, nn.BatchNorm2d, nn.SyncBatchNorm)


class TorchNetwork:
    """A trained model as a :data:`~lesion_d2.prediction.candidates.Network`.

    The model is evaluated in the mode it is in.

    Raises:
        LesionError: if the precision is unknown.
    """

    def __init__(self, model: GeneralizedRCNN, precision: str = "float32") -> None:
        if precision not in PRECISIONS:
            raise LesionError(
                f"TEST.PRECISION: {precision!r} is unknown; give one of {', '.join(PRECISIONS)}"
            )
        if precision == "bfloat16":
            settle_bfloat16(model.device, "TEST.PRECISION float32")
        self._model = model
        self._precision = precision
        # A GPU's memory is for one call at a time, so that it is enough or not for any file alike.
        self._turn: AbstractContextManager[Any] = (
            nullcontext() if model.device.type == "cpu" else Lock()
        )

    @property
    def engine(self) -> str:
        """What computes it, in words."""
        return f"torch on {self._model.device}"

    def __call__(self, images: npt.NDArray) -> list[Found]:
        """Return what the model finds in images of shape (N, C, H, W), uint8 or float32."""
        batch = [{"image": image} for image in torch.from_numpy(np.ascontiguousarray(images))]
        with self._turn, torch.inference_mode(), computing_in(self._precision, self._model):
            instances = self._model.inference(batch, do_postprocess=False)
            return [
                Found(
                    item.scores.float().cpu().numpy(),
                    item.pred_boxes.tensor.float().cpu().numpy(),
                    item.pred_masks[:, 0].float().cpu().numpy(),
                )
                for item in instances
            ]

    @contextmanager
    def sharing(self, workers: int) -> Iterator[None]:
        """Let each worker compute in its share of the CPUs: more threads than CPUs only wait.

        A limit that the user set, such as ``OMP_NUM_THREADS``, stays.
        """
        before = torch.get_num_threads()
        torch.set_num_threads(max(1, min(before, thread_limit() // workers)))
        try:
            yield
        finally:
            torch.set_num_threads(before)


class Segmenter(nn.Module):
    """A model with its :class:`~lesion_d2.prediction.outliner.Outliner`, for a test loader.

    The model is evaluated in the mode it is in, so call ``eval()`` on this.

    Raises:
        LesionError: if a key of the config does not fit.
    """

    def __init__(
        self,
        cfg: CfgNode,
        model: GeneralizedRCNN,
        confidence: ConfidenceModel | None = None,
        weights_sha256: str = "",
    ) -> None:
        super().__init__()
        self.model = model
        network = TorchNetwork(model, cfg.TEST.PRECISION)
        self.outliner = Outliner(cfg, network, confidence, weights_sha256)

    def forward(self, batched_inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Segment a batch of the test loader: dicts as Detectron2's models take them.

        Returns:
            for each a dict of ``"instances"``, Detectron2's with ``scores`` and ``pred_masks``, and
            ``"lesion"``, a :class:`~lesion_d2.prediction.lesion.Lesion`, at the input's ``height``
            and ``width``.
        """
        merged = self.outliner.candidates([item["image"].numpy() for item in batched_inputs])
        sizes = [(item["height"], item["width"]) for item in batched_inputs]
        return [
            {"instances": _instances(found, size), "lesion": self.outliner.lesion(found, size)}
            for found, size in zip(merged, sizes, strict=True)
        ]


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
    masks = torch.from_numpy(np.ascontiguousarray(candidates.masks))
    masks = masks if len(masks) else torch.zeros(0, *size)
    if masks.shape[-2:] != size:
        masks = interpolate(masks[None], size, mode="bilinear")[0]
    scores = torch.from_numpy(np.ascontiguousarray(candidates.scores))
    return Instances(size, scores=scores, pred_masks=masks >= MASK_THRESHOLD)
