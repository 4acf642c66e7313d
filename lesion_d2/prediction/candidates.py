"""What a model finds in an image, as soft masks, and the average of several views of it.

Views are turned, mirrored and scaled copies of the image: test-time augmentation.
"""

import itertools
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from lesion_d2.errors import LesionError

Floats = npt.NDArray[np.float32]

MASK_THRESHOLD = 0.5
# Instances of two views are one finding from this IoU on, as proposals match in Detectron2.
MATCH_IOU = 0.5


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
            # Pillow averages over what a pixel covers, as the network's images are resized.
            channels = [Image.fromarray(channel.astype(np.float32)) for channel in image]
            scaled = [c.resize((width, height), Image.Resampling.BILINEAR) for c in channels]
            image = np.stack([np.asarray(channel) for channel in scaled])
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


@dataclass(frozen=True, eq=False)
class Candidates:
    """The N instances found in one image, by falling score.

    Attributes:
        scores: float32 of shape (N,), in [0, 1].
        masks: float32 of shape (N, H, W), the probability of lesion of each pixel.
        agreement: float32 of shape (N,), mean IoU with the matching instance of each other view;
            0 for a view that has none, 1 if there is one view only.
    """

    scores: Floats
    masks: Floats
    agreement: Floats

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, index: slice | npt.NDArray[np.int64]) -> "Candidates":
        return Candidates(self.scores[index], self.masks[index], self.agreement[index])


class Found(NamedTuple):
    """What a network finds in one image, by falling score, before masks are pasted.

    Attributes:
        scores: float32 of shape (N,), in [0, 1].
        boxes: float32 of shape (N, 4): x0, y0, x1, y1 in pixels of the image it was shown.
        masks: float32 of shape (N, h, w), the probability of lesion at points of the box.
    """

    scores: Floats
    boxes: Floats
    masks: Floats


class Network(Protocol):
    """A trained network, whatever computes it; ``engine`` says in words what that is."""

    @property
    def engine(self) -> str: ...  # noqa: D102

    def __call__(self, images: npt.NDArray) -> list[Found]:
        """Return what is found in each of images of shape (N, C, H, W), uint8 or float32."""

    def sharing(self, workers: int) -> AbstractContextManager[None]:
        """Let each of so many threads that call it compute in its share of the CPUs."""


def detect(
    network: Network, images: Sequence[npt.NDArray], views: Sequence[View]
) -> list[list[Candidates]]:
    """Run a network on views of images, shape (C, H, W); those of one size go through it together.

    Those of different sizes do not: padding to a common size would change what is found.

    Returns:
        for each image the candidates in each view, turned back to the image's own H and W.
    """
    found: dict[tuple[int, View], Candidates] = {}
    groups: dict[tuple[int, ...], list[tuple[int, View, npt.NDArray]]] = {}
    for index, view in itertools.product(range(len(images)), views):
        seen = view.apply(images[index])
        groups.setdefault(seen.shape, []).append((index, view, seen))
    for shape, group in groups.items():
        results = network(np.stack([seen for *_, seen in group]))
        for (index, view, _), item in zip(group, results, strict=True):
            height, width = view.turned((images[index].shape[1], images[index].shape[2]))
            scale = np.array([width / shape[2], height / shape[1]] * 2, np.float32)
            masks = view.restore(paste(item.masks, item.boxes * scale, (height, width)))
            found[index, view] = Candidates(item.scores, masks, np.ones_like(item.scores))
    return [[found[index, view] for view in views] for index in range(len(images))]


def paste(masks: Floats, boxes: Floats, size: tuple[int, int]) -> Floats:
    """Return soft masks of shape (N, *size) of masks (N, h, w) on boxes (N, 4) in its pixels.

    As ``detectron2.layers.paste_masks_in_image``, which gives masks in bits or bytes only. Weights
    along rows and along columns do not depend on each other, so a mask is resampled by two matrix
    products.
    """
    pasted = np.zeros((len(masks), *size), np.float32)
    for whole, mask, (x0, y0, x1, y1) in zip(pasted, masks, boxes, strict=True):
        top, rows = _weights(y0, y1, mask.shape[0], size[0])
        left, columns = _weights(x0, x1, mask.shape[1], size[1])
        part = whole[top : top + len(rows), left : left + len(columns)]
        np.matmul(rows @ mask, columns.T, out=part)
    return pasted


def _weights(low: np.float32, high: np.float32, count: int, side: int) -> tuple[int, Floats]:
    """Return the first pixel that a box touches, and the weight of each point in each pixel.

    The ``count`` points divide the box, from ``low`` to ``high``, evenly; outside all is 0.
    """
    start = min(max(int(np.floor(low)) - 1, 0), side)
    end = min(max(int(np.ceil(high)) + 1, start), side)
    extent = max(high - low, np.float32(1e-3))  # a box of no extent holds no centre
    centres = np.arange(start, end, dtype=np.float32) + np.float32(0.5)
    place = (centres - low) / extent * np.float32(count) - np.float32(0.5)
    distance = np.abs(place[:, None] - np.arange(count, dtype=np.float32))
    return start, np.maximum(1 - distance, 0, dtype=np.float32)


def iou_matrix(left: Floats, right: Floats) -> Floats:
    """Return the IoU of soft masks, thresholded, of shape (N, H, W) and (M, H, W) as (N, M)."""
    a, b = (
        (masks >= MASK_THRESHOLD).reshape(len(masks), -1).astype(np.float32)
        for masks in (left, right)
    )
    shared = a @ b.T
    return shared / np.maximum(a.sum(1)[:, None] + b.sum(1) - shared, 1)


def merge(views: Sequence[Candidates]) -> Candidates:
    """Average the candidates of several views of one image.

    The instances of the first view that has any are the reference. Each takes from every other
    view the instance of highest IoU, at least :data:`MATCH_IOU`; soft masks are averaged over the
    views that have one, scores over all views.
    """
    reference = next((i for i, view in enumerate(views) if len(view)), 0)
    first = views[reference]
    if len(views) == 1 or not len(first):
        return first
    masks, scores = first.masks.copy(), first.scores.copy()
    agreement, count = np.zeros_like(scores), np.ones_like(scores)
    for i, view in enumerate(views):
        if i == reference or not len(view):
            continue
        ious = iou_matrix(first.masks, view.masks)
        iou, match = ious.max(1), ious.argmax(1)
        matched = (iou >= MATCH_IOU).astype(np.float32)
        masks += matched[:, None, None] * view.masks[match]
        scores += matched * view.scores[match]
        agreement += matched * iou
        count += matched
    merged = Candidates(
        scores / np.float32(len(views)),
        masks / count[:, None, None],
        agreement / np.float32(len(views) - 1),
    )
    return merged[np.argsort(-merged.scores, kind="stable")]


def top_score(candidates: Candidates) -> Candidates:
    """Take the candidate of highest score, or none where there is none."""
    return candidates[:1]


def consensus(candidates: Candidates) -> Candidates:
    """Take the candidate whose mask the others support: the largest sum of IoU times score."""
    if not len(candidates):
        return candidates
    support = iou_matrix(candidates.masks, candidates.masks) @ candidates.scores
    best = int(support.argmax())
    return candidates[best : best + 1]


# Ways to choose the one that is submitted; ``TEST.INSTANCE_CHOICE`` names the one in use.
INSTANCE_CHOICES = {"top_score": top_score, "consensus": consensus}
