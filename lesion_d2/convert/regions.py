"""The lesion of one image as another tool drew it in a COCO file."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from lesion_d2.data.coco import read_segmentation
from lesion_d2.errors import LesionError
from lesion_d2.images.masks import Note, check_lesion
from lesion_d2.images.source import BadFileError


@dataclass(frozen=True)
class Regions:
    """Polygons or run lengths that together are one lesion.

    Attributes:
        height: of the image that they were drawn on, in pixels; so is ``width``.
        annotations: as in the COCO file.
    """

    height: int
    width: int
    annotations: tuple[dict[str, Any], ...]

    def read(self, note: Note) -> npt.NDArray[np.bool_]:
        """Return the lesion, of shape (height, width); ``note`` receives what is unusual.

        Raises:
            BadFileError: ``unreadable`` for a region that cannot be right.
        """
        try:
            rles = [read_segmentation(a, self.height, self.width)[1] for a in self.annotations]
        except LesionError as error:
            raise BadFileError("unreadable", str(error)) from error
        if len(rles) > 1:
            note("regions", f"{len(rles)} regions become one lesion")
        lesion = coco_mask.decode(coco_mask.merge(rles)).astype(bool)
        check_lesion(lesion, note)
        return lesion

    def to_bytes(self) -> bytes:
        """Return what identifies the lesion in a fingerprint."""
        shapes = [annotation.get("segmentation") for annotation in self.annotations]
        return json.dumps(shapes, sort_keys=True).encode()
