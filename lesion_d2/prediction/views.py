"""Views of an image that a network sees, and where what it finds in them lies in the image.

Views are turned, mirrored and scaled copies of the image: test-time augmentation. A second look is
at the part of the image around what was found.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from lesion_d2.errors import LesionError
from lesion_d2.prediction.candidates import Candidates, Floats, Found, Network, paste

Box = tuple[float, float, float, float]

# What has this score and more is not looked at again: there it brings nothing.
SURE_SCORE = 0.995
# A part of an image is magnified so much at most: the network learnt no more of blurred pictures.
LARGEST_MAGNIFICATION = 4


# Whether rows and columns swap first, then which axes are reversed: -2 top to bottom, -1 left to
# right. These are the eight symmetries of a rectangle's pixels; "rotate90" is counter-clockwise.
SYMMETRIES: dict[str, tuple[bool, tuple[int, ...]]] = {
    "identity": (False, ()),
    "horizontal": (False, (-1,)),
    "vertical": (False, (-2,)),
    "rotate180": (False, (-2, -1)),
    "rotate90": (True, (-2,)),
    "rotate270": (True, (-1,)),
    "transpose": (True, ()),
    "antitranspose": (True, (-2, -1)),
}


@dataclass(frozen=True)
class View:
    """A symmetry of :data:`SYMMETRIES`, and a scale by which both sides are multiplied first."""

    symmetry: str
    scale: float = 1.0

    def apply(self, image: npt.NDArray) -> npt.NDArray:
        """Return the view of an image of shape (C, H, W), any dtype; scaled ones are float32."""
        swap, axes = SYMMETRIES[self.symmetry]
        if self.scale != 1:
            height, width = (max(1, round(side * self.scale)) for side in image.shape[-2:])
            image = _resize(image, (height, width))
        return np.flip(image.swapaxes(-2, -1) if swap else image, axes)

    def turned(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return (height, width) of an unscaled view of an image of that size."""
        return size[::-1] if SYMMETRIES[self.symmetry][0] else size

    def restore(self, maps: npt.NDArray) -> npt.NDArray:
        """Turn maps of shape (..., H, W) made on an unscaled view back to the image."""
        swap, axes = SYMMETRIES[self.symmetry]
        maps = np.flip(maps, axes)
        return maps.swapaxes(-2, -1) if swap else maps


def build_views(symmetries: Sequence[str], scales: Sequence[float]) -> list[View]:
    """Return each symmetry at each scale.

    Raises:
        LesionError: if there is none, or one is unknown, repeated or not positive.
    """
    unknown = [name for name in symmetries if name not in SYMMETRIES]
    if unknown or not symmetries or len(set(symmetries)) != len(symmetries):
        raise LesionError(
            f"TEST.VIEWS: {tuple(symmetries)} is not a selection of {tuple(SYMMETRIES)}; give each "
            "at most once and at least one"
        )
    if not scales or len(set(scales)) != len(scales) or not all(0.1 <= s <= 10 for s in scales):
        raise LesionError(
            f"TEST.VIEW_SCALES: {tuple(scales)}; give one or more different numbers, 0.1 to 10"
        )
    return [View(name, float(scale)) for scale in scales for name in symmetries]


def detect(
    network: Network, images: Sequence[npt.NDArray], views: Sequence[View]
) -> list[list[Candidates]]:
    """Run a network on views of images, shape (C, H, W).

    Returns:
        for each image the candidates in each view, turned back to the image's own H and W.
    """
    pairs = [(image, view) for image in images for view in views]
    seen = [view.apply(image) for image, view in pairs]
    found = []
    for (image, view), picture, item in zip(pairs, seen, _run(network, seen), strict=True):
        height, width = view.turned((image.shape[1], image.shape[2]))
        scale = np.array([width / picture.shape[2], height / picture.shape[1]] * 2, np.float32)
        masks = view.restore(paste(item.masks, item.boxes * scale, (height, width)))
        found.append(Candidates(item.scores, masks, np.ones_like(item.scores)))
    return [found[i : i + len(views)] for i in range(0, len(found), len(views))]


def look_again(
    network: Network,
    images: Sequence[npt.NDArray],
    found: Sequence[Candidates],
    margin: float,
) -> dict[int, Candidates]:
    """Return by their index what the network finds in a part of images, given what it found before.

    The part has the image's aspect ratio and is shown at the image's size. It is ``margin`` times
    as wide or as high as the candidate of highest score. There is no second look where that would
    be the whole image, where there is no candidate, and where it has :data:`SURE_SCORE`.
    """
    again = {}
    boxes = {i: box for i, candidates in enumerate(found) if (box := _part(candidates, margin))}
    parts = [_resize(images[i], images[i].shape[-2:], box) for i, box in boxes.items()]
    for (i, (x0, y0, x1, y1)), item in zip(boxes.items(), _run(network, parts), strict=True):
        height, width = images[i].shape[-2:]
        scale = np.array([(x1 - x0) / width, (y1 - y0) / height] * 2, np.float32)
        places = item.boxes * scale + np.array([x0, y0] * 2, np.float32)
        masks = paste(item.masks, places, (height, width))
        again[i] = Candidates(item.scores, masks, np.ones_like(item.scores))
    return again


def _part(candidates: Candidates, margin: float) -> Box | None:
    """Return x0, y0, x1 and y1 of the part to look at again, in pixels; None if there is none.

    The candidate's extent is that of the ellipse of its soft mask's moments, whose axes are four
    standard deviations long: it changes little where the mask does.
    """
    if not len(candidates) or candidates.scores[0] >= SURE_SCORE:
        return None
    total = max(candidates.masks[0].sum(dtype=float), 1e-6)
    sides, centres, extents = candidates.masks.shape[:0:-1], [], []  # x, then y
    for axis, side in enumerate(sides):
        weights, places = candidates.masks[0].sum(axis, dtype=float) / total, np.arange(side) + 0.5
        centres.append(weights @ places)
        extents.append(4 * np.sqrt(weights @ (places - centres[-1]) ** 2))
    share = margin * max(extent / side for extent, side in zip(extents, sides, strict=True))
    if share >= 1:
        return None
    lengths = [max(share, 1 / LARGEST_MAGNIFICATION) * side for side in sides]
    (x0, x1), (y0, y1) = (
        (start := float(np.clip(centre - length / 2, 0, side - length)), start + length)
        for centre, length, side in zip(centres, lengths, sides, strict=True)
    )
    return x0, y0, x1, y1


def _run(network: Network, pictures: Sequence[npt.NDArray]) -> list[Found]:
    """Run a network on pictures of shape (C, H, W); those of one size go through it together.

    Those of different sizes do not: padding to a common size would change what is found.
    """
    found: dict[int, Found] = {}
    for shape in dict.fromkeys(picture.shape for picture in pictures):
        group = [i for i, picture in enumerate(pictures) if picture.shape == shape]
        found |= zip(group, network(np.stack([pictures[i] for i in group])), strict=True)
    return [found[i] for i in range(len(pictures))]


def _resize(image: npt.NDArray, size: Sequence[int], box: Box | None = None) -> Floats:
    """Resize an image of shape (C, H, W), or a box of it, x0, y0, x1 and y1, to (height, width).

    Pillow averages over what a pixel covers, as the network's images are resized.
    """
    height, width = size
    channels = [Image.fromarray(channel.astype(np.float32)) for channel in image]
    resized = [c.resize((width, height), Image.Resampling.BILINEAR, box) for c in channels]
    return np.stack([np.asarray(channel) for channel in resized])
