"""Arrays or a file's bytes in, lesions out: the way to use a trained model from Python."""

import hashlib
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from yacs.config import CfgNode

from lesion_d2.config.load import PRETRAINED, PRETRAINED_FILE, load_config
from lesion_d2.errors import LesionError, naming_missing_packages
from lesion_d2.images.reading import decode_upright
from lesion_d2.images.scaling import fit_shortest
from lesion_d2.prediction.lesion import Lesion
from lesion_d2.prediction.metadata import CHANGEABLE, GRAPH_SUFFIX
from lesion_d2.prediction.outliner import Outliner, prediction_settings


class LesionPredictor:
    """Segments dermoscopy images held in memory; touches no file once it is built.

    ``provenance`` says where the model comes from; see :mod:`lesion_d2.commands.export`.

    Example:
        >>> predictor = LesionPredictor.pretrained()
        >>> (lesion,) = predictor([image], channels="RGB")
        >>> lesion.mask.shape == image.shape[:2]
        True
    """

    def __init__(
        self, cfg: CfgNode, outliner: Outliner, provenance: Mapping[str, Any] | None = None
    ) -> None:
        self.cfg = cfg
        self.provenance = dict(provenance or {})
        self._outliner = outliner

    @classmethod
    def from_config(
        cls, config_file: str | Path, weights: str | Path = "", opts: Sequence[str] = ()
    ) -> "LesionPredictor":
        """Build from an experiment's config and a checkpoint, by default ``MODEL.WEIGHTS``.

        ``opts`` are alternating config keys and values.

        Raises:
            LesionError: if a file is missing or does not fit.
        """
        with naming_missing_packages():
            from lesion_d2.prediction.segmenter import load_segmenter

            cfg = load_config(str(config_file), list(opts))
            if weights:
                cfg.MODEL.WEIGHTS = str(weights)
            return cls(cfg, load_segmenter(cfg).eval().outliner)

    @classmethod
    def from_bundle(cls, path: str | Path, opts: Sequence[str] = ()) -> "LesionPredictor":
        """Build from the one file that ``tools/export.py`` wrote; it can hold no code.

        ``opts`` are alternating config keys and values, such as ``["TEST.VIEWS", ("identity",)]``.

        An ``.onnx`` file is computed by ONNX Runtime on the CPU, which needs neither torch nor
        Detectron2. Torch computes it where ONNX Runtime is missing, and with an option that the
        graph fixes, such as ``["MODEL.DEVICE", "cuda"]``. :attr:`engine` says which.

        Raises:
            LesionError: if the file is missing or not a bundle, or a package is missing.
        """
        path = PRETRAINED_FILE if path == PRETRAINED else Path(path)
        with naming_missing_packages():
            if path.suffix == GRAPH_SUFFIX and not _by_torch(opts):
                from lesion_d2.prediction.onnx_file import read_onnx

                model = read_onnx(path, opts)
                outliner = Outliner(model.cfg, model.network, model.confidence, model.sha256)
                return cls(model.cfg, outliner, model.provenance)
            from lesion_d2.prediction.bundle import read_bundle
            from lesion_d2.prediction.segmenter import Segmenter, prepare_for_inference

            bundle = read_bundle(path, opts)
            segmenter = Segmenter(bundle.cfg, bundle.model, bundle.confidence, bundle.sha256)
            prepare_for_inference(bundle.model, bundle.cfg.TEST.PRECISION)
            return cls(bundle.cfg, segmenter.outliner, bundle.provenance)

    @classmethod
    def pretrained(cls, opts: Sequence[str] = ()) -> "LesionPredictor":
        """Build from the model that comes with the package; ``docs/model_card.md`` describes it."""
        return cls.from_bundle(PRETRAINED, opts)

    @property
    def engine(self) -> str:
        """What computes the network, in words."""
        return self._outliner.network.engine

    @property
    def enough(self) -> int:
        """Pixels a side from which on more make no better mask: twice what the model gets."""
        return 2 * self.cfg.INPUT.MIN_SIZE_TEST or sys.maxsize

    @property
    def settings(self) -> dict[str, Any]:
        """What the results depend on, as plain values: two models' hashes, and the settings.

        The confidence model is None where there is none.
        """
        confidence = self._outliner.confidence
        text = json.dumps(confidence and confidence.to_dict(), sort_keys=True)
        return {
            "weights_sha256": self._outliner.weights_sha256,
            "confidence_sha256": hashlib.sha256(text.encode()).hexdigest() if confidence else None,
            **prediction_settings(self.cfg),
        }

    def sharing(self, workers: int) -> AbstractContextManager[None]:
        """Return a context in which so many threads that call this share the CPUs."""
        return self._outliner.network.sharing(workers)

    def __call__(
        self,
        images: npt.NDArray[np.uint8] | Iterable[npt.NDArray[np.uint8]],
        *,
        channels: str,
        sizes: Iterable[tuple[int, int]] | None = None,
    ) -> list[Lesion]:
        """Segment a batch; an image gives the same lesion in any batch, up to rounding.

        Args:
            images: each uint8 of shape (H, W, 3), of any size, upright; or just one.
            channels: their order, ``"BGR"`` (OpenCV) or ``"RGB"`` (Pillow, matplotlib).
            sizes: (height, width) of each lesion's mask; by default its image's.

        Raises:
            LesionError: if an image is not such an array, or the sizes do not fit.
        """
        if channels not in ("BGR", "RGB"):
            raise LesionError(f"channels: {channels!r}; give 'BGR' or 'RGB'")
        if isinstance(images, np.ndarray) and images.ndim < 4:
            images = [images]
        batch = _listed(images, "images")
        prepared = [self._prepare(image, channels) for image in batch]
        wanted = [image.shape[:2] for image in batch] if sizes is None else _listed(sizes, "sizes")
        if len(wanted) != len(batch) or not all(map(_is_size, wanted)):
            raise LesionError(
                f"sizes: {wanted!r:.100}; give (height, width), of 1 pixel and more, for each of "
                f"the {len(batch)} images"
            )
        found = self._outliner.candidates(prepared)
        return [
            self._outliner.lesion(candidates, (int(height), int(width)))
            for candidates, (height, width) in zip(found, wanted, strict=True)
        ]

    def _prepare(self, image: npt.NDArray[np.uint8], channels: str) -> npt.NDArray[np.uint8]:
        shape, dtype = getattr(image, "shape", "?"), getattr(image, "dtype", "?")
        fits = isinstance(image, np.ndarray) and dtype == np.uint8 and shape[2:] == (3,)
        if not fits or not image.size:
            raise LesionError(
                f"image: {type(image).__name__} of shape {shape} and type {dtype}; give a uint8 "
                "array of shape (H, W, 3), with a pixel"
            )
        if channels != self.cfg.INPUT.FORMAT:
            image = image[:, :, ::-1]
        sides = self.cfg.INPUT
        return fit_shortest(image, sides.MIN_SIZE_TEST, sides.MAX_SIZE_TEST).transpose(2, 0, 1)


def outline_image(
    predictor: LesionPredictor, data: bytes, side: int = 0
) -> tuple[Lesion, npt.NDArray[np.uint8]]:
    """Outline the bytes of an image file, and give pixels to show it with.

    The lesion does not depend on ``side``: a JPEG is decoded once more where more pixels are shown
    than the predictor needs.

    Returns:
        The lesion, its mask at the size of the picture as it is to be seen, and upright BGR pixels,
        uint8 of shape (h, w, 3), of at least ``side`` pixels a side where the file has them.

    Raises:
        BadFileError: it cannot be read.
    """
    image, size = decode_upright(data, predictor.enough)
    (lesion,) = predictor([image], channels="BGR", sizes=[size])
    if image.shape[:2] != size and min(image.shape[:2]) < side:
        image, _ = decode_upright(data, side)
    return lesion, image


def _by_torch(opts: Sequence[str]) -> bool:
    """Say whether torch computes an ``.onnx`` file."""
    fixed = any(key not in CHANGEABLE for key in opts[::2])
    return bool(find_spec("detectron2")) and (fixed or not find_spec("onnxruntime"))


def _listed(items: Any, name: str) -> list[Any]:
    try:
        return list(items)
    except TypeError as error:
        raise LesionError(f"{name}: {type(items).__name__}; give a list") from error


def _is_size(size: Any) -> bool:
    try:
        return [int(side) == side >= 1 for side in size] == [True, True]
    except (TypeError, ValueError):
        return False
