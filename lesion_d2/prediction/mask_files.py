"""Masks as the challenge wants them."""

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from lesion_d2.files import atomic_write


def write_mask(path: Path, mask: npt.NDArray[np.bool_]) -> None:
    """Write a mask of shape (H, W) as PNG: one channel of 8 bits, 255 is lesion, else 0."""
    _, data = cv2.imencode(".png", mask.view(np.uint8) * np.uint8(255))
    with atomic_write(path, "wb") as stream:
        stream.write(data.tobytes())
