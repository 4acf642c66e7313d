"""Flipped copies as members of a data set, and the ground truth of a member.

The original experiment stored every training and validation image three times: as it is, flipped
vertically and flipped horizontally. Here a member is a dataset dict with a key ``"flip"``; the
mapper turns the picture when it reads it, so nothing is stored twice.
"""

from collections.abc import Sequence
from typing import Any

from detectron2.data import transforms as T

from lesion_d2.config.defaults import FLIPS
from lesion_d2.data.coco import FLIP_ID_STEP
from lesion_d2.data.converted import decode_segmentation
from lesion_d2.errors import LesionError
from lesion_d2.images.run_lengths import encode_mask


def with_flips(records: Sequence[dict[str, Any]], flips: Sequence[str]) -> list[dict[str, Any]]:
    """Return one member for each dataset dict and flip, flip by flip.

    ``flips`` is a selection of :data:`~lesion_d2.config.defaults.FLIPS`.
    """
    return [
        record | {"flip": flip, "image_id": record["image_id"] + FLIPS.index(flip) * FLIP_ID_STEP}
        for flip in flips
        for record in records
    ]


def flip_transform(record: dict[str, Any], height: int, width: int) -> T.Transform:
    """Return the flip of a member as a transform of a ``height`` x ``width`` picture."""
    flip = record.get("flip", "none")
    if flip == "vertical":
        return T.VFlipTransform(height)
    if flip == "horizontal":
        return T.HFlipTransform(width)
    return T.NoOpTransform()


def ground_truth_rle(record: dict[str, Any]) -> dict[str, Any]:
    """Return the lesion of a member as a compressed COCO RLE at the size of its picture.

    The dataset dict has ``annotations``, ``height``, ``width`` and, of a member, ``flip``; or the
    mask itself as ``truth``.

    Raises:
        LesionError: if the record does not hold exactly one annotation.
    """
    if "truth" in record:
        return encode_mask(record["truth"])
    annotations = record.get("annotations", [])
    if len(annotations) != 1:
        raise LesionError(
            f"{record['file_name']}: {len(annotations)} annotations, but every image shows one "
            "lesion; convert the data set again with tools/convert_isic.py"
        )
    height, width = record["height"], record["width"]
    segmentation = annotations[0]["segmentation"]
    flip = flip_transform(record, height, width)
    if isinstance(segmentation, dict) and isinstance(flip, T.NoOpTransform):
        return segmentation
    mask = decode_segmentation(segmentation, height, width)
    return encode_mask(flip.apply_segmentation(mask))
