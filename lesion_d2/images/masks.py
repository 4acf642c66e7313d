"""From a mask file to the lesion it marks, and back."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from lesion_d2.files import atomic_write
from lesion_d2.images.reading import Header, decode_mask
from lesion_d2.images.scaling import orient
from lesion_d2.images.source import BadFileError

Note = Callable[[str, str], None]  # takes a reason and what was seen
# A mask that is lesion on more of its border than this may have lesion and skin swapped.
BORDER_SHARE = 0.9


def read_mask(data: bytes, header: Header, foreground: int, note: Note) -> npt.NDArray[np.bool_]:
    """Read a mask file.

    Of two values, whichever they are, the brighter is the lesion; of two colours likewise. A shape
    may also be drawn in the alpha channel alone. Of more shades of grey ``foreground`` decides: 255
    (only 255 is lesion) or 128 (above 128 is lesion). ``note`` receives what is unusual.

    Returns:
        (H, W) as it is to be seen, True on the lesion.

    Raises:
        BadFileError: ``unreadable``, ``channels_differ``, ``16_bit_values``, or ``empty`` for one
            colour alone.
    """
    decoded, oddity = decode_mask(data, header)
    if oddity:
        note("decoder_warning", oddity)
    pixels = orient(decoded, header.orientation)
    values = np.ascontiguousarray(_one_channel(pixels, header.mode, note))
    low, high = (int(value) for value in cv2.minMaxLoc(values)[:2])
    # OpenCV's passes over millions of pixels are several times as fast as numpy's.
    if low < high and not cv2.countNonZero(cv2.inRange(values, low + 1, high - 1)):
        if values.dtype == np.uint16:
            note("16_bit", f"16 bits, values {low} and {high}: {high} is lesion")
        elif (low, high) != (0, 255):
            note("two_values", f"values {low} and {high}: {high} is lesion")
        return values == high
    if values.dtype == np.uint16:
        if low < high:
            raise BadFileError("16_bit_values", "16 bits, with more than two values")
        values = (values >> 8).astype(np.uint8)
    between = cv2.countNonZero(cv2.inRange(values, 1, 254))
    if between:
        note("values_between", f"{between} pixels are neither 0 nor 255")
    return values == 255 if foreground == 255 else values > foreground


def read_lesion(data: bytes, header: Header, foreground: int, note: Note) -> npt.NDArray[np.bool_]:
    """Read a mask as :func:`read_mask` does, and refuse one without lesion as ``empty``, too."""
    lesion = read_mask(data, header, foreground, note)
    if not lesion.any():
        raise BadFileError("empty", f"no lesion by the rule for --foreground {foreground}")
    check_lesion(lesion, note)
    return lesion


def check_lesion(lesion: npt.NDArray[np.bool_], note: Note) -> None:
    """Note what is unusual about a lesion of shape (H, W): its border, its parts."""
    if lesion.all():
        note("all_lesion", "every pixel is lesion")
    elif (share := _border_share(lesion)) > BORDER_SHARE:
        note("maybe_inverted", f"{share:.0%} of the border is lesion: are lesion and skin swapped?")
    # Parts are 8-connected: the contours that are not those of holes.
    _, tree = cv2.findContours(lesion.view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    components = np.count_nonzero(tree[0, :, 3] < 0)
    if components > 1:
        note("components", f"{components} separate parts, kept as one lesion")


def write_mask(path: Path, mask: npt.NDArray[np.bool_]) -> None:
    """Write a mask of shape (H, W) as :func:`mask_png` makes it."""
    with atomic_write(path, "wb") as stream:
        stream.write(mask_png(mask))


def mask_png(mask: npt.NDArray[np.bool_]) -> bytes:
    """Return a mask of shape (H, W) as PNG: one channel of 8 bits, 255 is lesion, else 0."""
    _, data = cv2.imencode(".png", mask.view(np.uint8) * np.uint8(255))
    return data.tobytes()


def _one_channel(pixels: npt.NDArray, mode: str, note: Note) -> npt.NDArray:
    """Merge alpha and colour channels into shades of grey."""
    if pixels.ndim == 2:
        return pixels
    colours = pixels[:, :, :3]
    if pixels.shape[2] == 4:
        alpha = pixels[:, :, 3]
        if alpha.min() == alpha.max():
            note("alpha", f"mode {mode}, alpha channel dropped")
        elif (colours == colours[0, 0]).all():
            note("alpha", f"mode {mode}, one colour: what is not transparent is lesion")
            return alpha
        else:
            note("alpha", f"mode {mode}, transparent pixels are not lesion")
            colours = np.where(alpha[:, :, None] > 0, colours, np.uint8(0))
    grey = colours[:, :, 0]
    if any(not np.array_equal(grey, colours[:, :, channel]) for channel in (1, 2)):
        return _of_two_colours(colours, mode, note)
    if mode == "P":
        note("palette", "palette of grey shades")
    elif mode not in ("L", "LA"):
        note("colour", f"mode {mode} with equal channels")
    return grey


def _of_two_colours(colours: npt.NDArray, mode: str, note: Note) -> npt.NDArray[np.uint8]:
    """Return 255 where the brighter of two colours is."""
    first = colours[0, 0]
    other = (colours != first).any(axis=2)
    if not other.any():
        raise BadFileError("empty", f"mode {mode}, one colour that is no shade of grey")
    second = colours[other][0]
    if (colours[other] != second).any():
        raise BadFileError("channels_differ", f"mode {mode}, more than two colours")
    weights = np.array([0.299, 0.587, 0.114])  # of brightness, ITU-R BT.601
    low, high = sorted((first, second), key=lambda colour: float(colour @ weights))
    seen = f"mode {mode}, two colours: {high.tolist()} is lesion, {low.tolist()} is not"
    note("two_values", seen)
    return (other == (high is second)).astype(np.uint8) * np.uint8(255)


def _border_share(lesion: npt.NDArray[np.bool_]) -> float:
    sides = (lesion[0], lesion[-1], lesion[1:-1, 0], lesion[1:-1, -1])
    return float(np.concatenate(sides).mean())
