"""What a model finds in an image, as soft masks, and the average of several views of it."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

MASK_THRESHOLD = 0.5
# Instances of two views are one finding from this IoU on, as proposals match in Detectron2.
MATCH_IOU = 0.5


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
