"""Reading the masks that an evaluation submitted."""

from pathlib import Path

import cv2
import numpy as np

from lesion_d2.data.converted import LesionImage
from lesion_d2.errors import LesionError
from lesion_d2.images.masks import read_mask
from lesion_d2.images.reading import read_header
from lesion_d2.images.source import BadFileError, read_source
from lesion_d2.results.evaluation import REMEDY, SUBMISSION, mask_name


def read_submitted(eval_dir: Path, lesion: LesionImage) -> np.ndarray:
    """Return the submitted mask of an image as bool, at the size of the data set's image.

    Raises:
        LesionError: the file is missing, not readable, or of neither the data set's size nor the
            original's.
    """
    path = eval_dir / SUBMISSION / mask_name(lesion.isic_id)
    try:
        data = read_source(path)
        mask = read_mask(data, read_header(data), 128, lambda *_: None)
    except BadFileError as error:
        raise LesionError(f"{path}: not a readable mask ({error}); {REMEDY}") from error
    sizes = [(lesion.height, lesion.width), (lesion.original_height, lesion.original_width)]
    if mask.shape not in sizes:
        raise LesionError(
            f"{path}: is {mask.shape[1]}x{mask.shape[0]}, the image {lesion.width}x{lesion.height} "
            f"and its original {lesion.original_width}x{lesion.original_height}; {REMEDY}"
        )
    size = (lesion.width, lesion.height)
    return cv2.resize(mask.view(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
