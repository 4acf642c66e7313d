"""Masks as COCO's compressed run lengths."""

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from lesion_d2.errors import LesionError


def encode_mask(mask: npt.NDArray[np.bool_] | npt.NDArray[np.uint8]) -> dict[str, Any]:
    """Return the RLE of a mask of shape (H, W), bool or of 0 and 1.

    ``size`` is [H, W], ``counts`` are bytes. COCO counts along columns; OpenCV turns a mask on its
    side five times as fast as numpy does.
    """
    pixels = np.ascontiguousarray(mask).view(np.uint8)
    return coco_mask.encode(cv2.transpose(pixels).T)


def check_rle(rle: dict[str, Any], height: int, width: int) -> None:
    """Refuse run lengths that do not cover an image exactly.

    pycocotools takes compressed COCO RLE on trust: on damaged ones it never returns, reads memory
    that is not its own, or gives an IoU of -1.

    Raises:
        LesionError: they are damaged, or of an image of another size.
    """
    size, counts = rle.get("size"), rle.get("counts")
    if size != [height, width]:
        raise LesionError(f"a mask of height x width {size} on an image of {[height, width]}")
    if isinstance(counts, str):
        counts = counts.encode(errors="surrogatepass")  # JSON may hold any text
    runs = _run_lengths(counts)
    if runs is None or runs[0] < 0 or (runs[1:] <= 0).any() or runs.sum() != height * width:
        raise LesionError("a mask with damaged run lengths")


def _run_lengths(counts: Any) -> npt.NDArray[np.int64] | None:
    """Undo COCO's compression (``rleFrString`` in its ``maskApi.c``); None if it is damaged.

    A number is base 32, the low digit first, a character a digit: 48, plus the digit, plus 32 if
    more follow. Bit 4 of the last is the sign. From the fourth number on it is the difference from
    the number two places before.
    """
    if not isinstance(counts, bytes):
        return None
    digits = np.frombuffer(counts, np.uint8).astype(np.int64) - 48
    if not digits.size or digits.min() < 0 or digits.max() > 63 or digits[-1] & 32:
        return None
    last = np.flatnonzero(digits & 32 == 0)
    first = np.append(0, last[:-1] + 1)
    shift = 5 * (np.arange(digits.size) - np.repeat(first, last - first + 1))
    if shift.max() > 30:  # no number of 32 bits has more than seven digits
        return None
    runs = np.add.reduceat((digits & 31) << shift, first)
    runs -= (digits[last] >> 4 & 1) << (shift[last] + 5)
    runs[1::2] = runs[1::2].cumsum()
    runs[2::2] = runs[2::2].cumsum()
    return runs
