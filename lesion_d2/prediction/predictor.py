"""Arrays in, lesions out: the way to use a trained model from Python."""

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from detectron2.config import CfgNode
from detectron2.data import transforms as T

from lesion_d2.config.load import load_config
from lesion_d2.errors import LesionError
from lesion_d2.images.resizing import build_resizing
from lesion_d2.prediction.bundle import read_bundle
from lesion_d2.prediction.inference import prepare_for_inference
from lesion_d2.prediction.lesion import Lesion
from lesion_d2.prediction.segmenter import Segmenter, load_segmenter, prediction_settings


class LesionPredictor:
    """Segments dermoscopy images held in memory; touches no file once it is built.

    Args:
        cfg: the config the model was trained with.
        segmenter: holds the trained model.

    Example:
        >>> predictor = LesionPredictor.from_bundle("lesion.pth")
        >>> (lesion,) = predictor([image], channels="RGB")
        >>> lesion.mask.shape == image.shape[:2]
        True
    """

    def __init__(self, cfg: CfgNode, segmenter: Segmenter) -> None:
        self.cfg = cfg
        self._segmenter = segmenter.eval()
        self._resize = T.AugmentationList(build_resizing(cfg, False))

    @classmethod
    def from_config(
        cls, config_file: str | Path, weights: str | Path = "", opts: Sequence[str] = ()
    ) -> "LesionPredictor":
        """Build from an experiment's config and a checkpoint of it.

        Args:
            config_file: YAML, such as ``OUTPUT_DIR/config.yaml``.
            weights: a checkpoint; by default the config's ``MODEL.WEIGHTS``.
            opts: alternating config keys and values.

        Raises:
            LesionError: if a file is missing or does not fit.
        """
        cfg = load_config(str(config_file), list(opts))
        if weights:
            cfg.MODEL.WEIGHTS = str(weights)
        return cls(cfg, load_segmenter(cfg))

    @classmethod
    def from_bundle(cls, path: str | Path, opts: Sequence[str] = ()) -> "LesionPredictor":
        """Build from the one file that ``tools/export.py`` wrote.

        Args:
            path: the bundle; it holds no code and none is run when it is read.
            opts: alternating config keys and values, such as ``["TEST.VIEWS", ("identity",)]``.

        Raises:
            LesionError: if the file is missing or not a bundle.
        """
        cfg, model, confidence = read_bundle(path, opts)
        segmenter = Segmenter(cfg, model, confidence)
        prepare_for_inference(model, cfg.TEST.PRECISION)
        return cls(cfg, segmenter)

    @property
    def enough(self) -> int:
        """Pixels a side from which on more make no better mask: twice what the model gets."""
        return 2 * self.cfg.INPUT.MIN_SIZE_TEST or sys.maxsize

    @property
    def settings(self) -> dict[str, Any]:
        """What the masks depend on, as plain values: a hash of the weights, and the settings."""
        digest = hashlib.sha256()
        for name, value in self._segmenter.model.state_dict().items():
            digest.update(name.encode())
            digest.update(value.cpu().reshape(-1).view(torch.uint8).numpy())
        return {"model_sha256": digest.hexdigest(), **prediction_settings(self.cfg)}

    def __call__(
        self,
        images: Sequence[npt.NDArray[np.uint8]],
        *,
        channels: str,
        sizes: Sequence[tuple[int, int]] | None = None,
    ) -> list[Lesion]:
        """Segment a batch.

        Args:
            images: each uint8 of shape (H, W, 3), of any size, upright.
            channels: their order, ``"BGR"`` (OpenCV) or ``"RGB"`` (Pillow, matplotlib).
            sizes: (height, width) of each mask; by default its image's.

        Returns:
            the lesion of each image, its mask, box and contour at that size.

        Raises:
            LesionError: if an image is not such an array.
        """
        if channels not in ("BGR", "RGB"):
            raise LesionError(f"channels: {channels!r}; give 'BGR' or 'RGB'")
        if not images:
            return []
        prepared = [self._prepare(image, channels) for image in images]
        with torch.inference_mode():
            found = self._segmenter.candidates(prepared)
        return [
            self._segmenter.lesion(candidates, size)
            for candidates, size in zip(found, sizes or _sizes(images), strict=True)
        ]

    def _prepare(self, image: npt.NDArray[np.uint8], channels: str) -> torch.Tensor:
        if getattr(image, "dtype", None) != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise LesionError(
                f"image: {type(image).__name__} of shape {getattr(image, 'shape', '?')} and type "
                f"{getattr(image, 'dtype', '?')}; give a uint8 array of shape (H, W, 3)"
            )
        if not image.size:
            raise LesionError(f"image: shape {image.shape} has no pixel")
        if channels != self.cfg.INPUT.FORMAT:
            image = image[:, :, ::-1]
        aug_input = T.AugInput(np.ascontiguousarray(image))
        self._resize(aug_input)
        return torch.from_numpy(np.ascontiguousarray(aug_input.image.transpose(2, 0, 1)))


def _sizes(images: Sequence[npt.NDArray[np.uint8]]) -> list[tuple[int, int]]:
    return [(image.shape[0], image.shape[1]) for image in images]
