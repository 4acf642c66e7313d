"""From a dataset dict to what the model takes, and to the truth it is scored against."""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T

from lesion_d2.data.augmentation import build_augmentations
from lesion_d2.data.members import flip_transform
from lesion_d2.errors import LesionError
from lesion_d2.images.masks import read_lesion
from lesion_d2.images.reading import read_header, read_image
from lesion_d2.images.source import BadFileError, read_source

# How much a data set's image may be stretched against its mask: what was squashed on purpose is
# not scored at another shape by mistake.
MAX_STRETCH = 0.02
TRUTH_ADVICE = "TEST.TRUTH_DIR must be the unpacked archive of official masks, or empty"


class LesionMapper:
    """Reads a member's picture, flips, resizes and recolours it, and attaches its lesion.

    The picture is random only in what ``augmentations`` draw; they draw from numpy's global
    generator, which is seeded from the dict's ``"sample_seed"`` when it has one. The same dict
    therefore gives the same sample in any worker, at any time.

    Args:
        augmentations: applied in order after the member's own flip.
        image_format: channel order the model expects, ``"BGR"`` or ``"RGB"``.
        with_instances: attach the lesion as ``"instances"`` (training and validation losses)
            instead of leaving the annotations as they are (inference).
    """

    @configurable
    def __init__(
        self,
        *,
        augmentations: Sequence[T.Augmentation],
        image_format: str,
        with_instances: bool,
    ) -> None:
        self.augmentations = T.AugmentationList(augmentations)
        self.image_format = image_format
        self.with_instances = with_instances

    @classmethod
    def from_config(
        cls, cfg: CfgNode, is_train: bool, *, with_instances: bool | None = None
    ) -> dict[str, Any]:
        """Random augmentations belong to training only; ``with_instances`` defaults to it."""
        return {
            "augmentations": build_augmentations(cfg, is_train),
            "image_format": cfg.INPUT.FORMAT,
            "with_instances": is_train if with_instances is None else with_instances,
        }

    def __call__(self, record: dict[str, Any]) -> dict[str, Any]:
        """Map one dataset dict.

        Returns:
            the dict with ``"image"``, a uint8 tensor of shape (3, H, W), and, with instances,
            ``"instances"`` holding ``gt_boxes`` (XYXY, absolute), ``gt_classes`` and ``gt_masks``
            (BitMasks of shape (1, H, W)) in place of ``"annotations"``.

        Raises:
            LesionError: if the picture cannot be read or has another size than the data set says.
        """
        record = copy.deepcopy(record)
        if "sample_seed" in record:
            np.random.seed(record.pop("sample_seed"))
        try:
            image, _ = read_image(Path(record["file_name"]))
            utils.check_image_size(record, image)
        except (BadFileError, utils.SizeMismatchError) as error:
            raise LesionError(
                f"{record['file_name']}: cannot be used ({error}); convert the data set again with "
                "tools/convert_isic.py"
            ) from error
        if self.image_format == "RGB":
            image = image[:, :, ::-1]

        flip = flip_transform(record, *image.shape[:2])
        aug_input = T.AugInput(np.ascontiguousarray(flip.apply_image(image)))
        transforms = flip + self.augmentations(aug_input)
        image = aug_input.image
        record["image"] = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))

        if self.with_instances:
            size = image.shape[:2]
            annotations = [
                utils.transform_instance_annotations(annotation, transforms, size)
                for annotation in record.pop("annotations")
            ]
            instances = utils.annotations_to_instances(annotations, size, mask_format="bitmask")
            # A lesion thinner than a pixel can vanish in the resize: its box then comes out empty.
            instances.gt_boxes = instances.gt_masks.get_bounding_boxes()
            record["instances"] = utils.filter_empty_instances(instances)
        return record


class OriginalTruth:
    """A mapper that adds the official mask and makes its size the size of the output.

    So lesions are scored at the size of the originals, as the challenge does.

    Args:
        mapper: maps a dataset dict first.
        folder: holds ``ISIC_0000000_segmentation.png`` and so on.
    """

    def __init__(
        self, mapper: Callable[[dict[str, Any]], dict[str, Any]], folder: str | Path
    ) -> None:
        self._mapper = mapper
        self._folder = folder

    def __call__(self, record: dict[str, Any]) -> dict[str, Any]:
        """Map one dict; ``"truth"`` is bool of shape (``"height"``, ``"width"``).

        Values above 128 are lesion, as in the official scorer; of two values the brighter.

        Raises:
            LesionError: if the mask is missing, unreadable, without lesion or of another aspect
                ratio than the image.
        """
        record = self._mapper(record)
        path = truth_path(record, self._folder)
        try:
            data = read_source(path)
            truth = read_lesion(data, read_header(data), 128, lambda *_: None)
        except BadFileError as error:
            raise LesionError(f"{path}: cannot be used ({error}); {TRUTH_ADVICE}") from error
        height, width = truth.shape
        check_truth_size(path, (height, width), record)
        return record | {"truth": truth, "height": height, "width": width}


def truth_path(record: dict[str, Any], folder: str | Path) -> Path:
    """Return where a folder of official masks has that of a dataset dict."""
    return Path(folder) / f"{record['isic_id']}_segmentation.png"


def check_truth_size(path: Path, size: tuple[int, int], record: dict[str, Any]) -> None:
    """Refuse a mask whose (height, width) is of another aspect ratio than the dict's image.

    Raises:
        LesionError: if it is.
    """
    height, width = size
    down, across = record["height"] / height, record["width"] / width
    rounding = 1 / min(height, width)  # the converter rounds sides up
    if abs(down - across) > MAX_STRETCH * max(down, across) + rounding:
        raise LesionError(
            f"{path}: is {width}x{height}, its image {record['width']}x{record['height']}: not "
            f"of one aspect ratio; {TRUTH_ADVICE}"
        )
