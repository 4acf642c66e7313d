"""What a model finds in an image, as soft masks, and the average of several views of it.

Views are turned, mirrored and scaled copies of the image: test-time augmentation.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from detectron2.modeling import GeneralizedRCNN
from detectron2.structures import Boxes, Instances
from torch.nn.functional import grid_sample, interpolate

from lesion_d2.errors import LesionError

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

    def apply(self, image: torch.Tensor) -> torch.Tensor:
        """Return the view of an image of shape (C, H, W), any dtype; scaled ones are float32."""
        swap, axes = SYMMETRIES[self.symmetry]
        if self.scale != 1:
            size = [max(1, round(side * self.scale)) for side in image.shape[-2:]]
            image = interpolate(image[None].float(), size, mode="bilinear", antialias=True)[0]
        return (image.transpose(-2, -1) if swap else image).flip(axes)

    def turned(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return (height, width) of an unscaled view of an image of that size."""
        return size[::-1] if SYMMETRIES[self.symmetry][0] else size

    def restore(self, maps: torch.Tensor) -> torch.Tensor:
        """Turn maps of shape (..., H, W) made on an unscaled view back to the image."""
        swap, axes = SYMMETRIES[self.symmetry]
        maps = maps.flip(axes)
        return maps.transpose(-2, -1) if swap else maps


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

    scores: torch.Tensor
    masks: torch.Tensor
    agreement: torch.Tensor

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, index: slice | torch.Tensor) -> "Candidates":
        return Candidates(self.scores[index], self.masks[index], self.agreement[index])


def detect(
    model: GeneralizedRCNN, images: Sequence[torch.Tensor], views: Sequence[View]
) -> list[list[Candidates]]:
    """Run a model on views of images, shape (C, H, W); those of one size go through it together.

    Those of different sizes do not: padding to a common size would change what is found.

    Returns:
        for each image the candidates in each view, turned back to the image's own H and W, on the
        CPU.
    """
    found: dict[tuple[int, View], Candidates] = {}
    groups: dict[torch.Size, list[tuple[int, View, torch.Tensor]]] = {}
    for index, view in itertools.product(range(len(images)), views):
        seen = view.apply(images[index])
        groups.setdefault(seen.shape, []).append((index, view, seen))
    for group in groups.values():
        instances = model.inference([{"image": seen} for *_, seen in group], do_postprocess=False)
        for (index, view, _), item in zip(group, instances, strict=True):
            height, width = images[index].shape[-2:]
            pasted = _paste(item.to("cpu"), view.turned((height, width)))
            scores = item.scores.float().cpu()
            candidates = Candidates(scores, view.restore(pasted), torch.ones_like(scores))
            found[index, view] = candidates
    return [[found[index, view] for view in views] for index in range(len(images))]


def _paste(instances: Instances, size: tuple[int, int]) -> torch.Tensor:
    """Return soft masks of shape (N, *size); boxes are scaled from the size the model saw.

    As ``detectron2.layers.paste_masks_in_image``, which gives masks in bits or bytes only.
    """
    height, width = size
    boxes = Boxes(instances.pred_boxes.tensor.float())
    boxes.scale(width / instances.image_size[1], height / instances.image_size[0])
    pasted = torch.zeros(len(instances), height, width)
    found = zip(instances.pred_masks.float(), boxes.tensor, strict=True)
    for number, (mask, box) in enumerate(found):
        # Only the part that the box covers is computed.
        x0, y0 = (box[:2].floor().long() - 1).clamp(min=0).tolist()
        x1, y1 = (box[2:].ceil().long() + 1).tolist()
        y, x = torch.meshgrid(
            _places(y0, min(y1, height), box[1], box[3]),
            _places(x0, min(x1, width), box[0], box[2]),
            indexing="ij",
        )
        grid = torch.stack([x, y], dim=-1)[None]
        pasted[number, y0:y1, x0:x1] = grid_sample(mask[None], grid, align_corners=False)[0, 0]
    return pasted


def _places(start: int, end: int, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    """Return where pixels' centres lie in a box, from -1 at its one side to 1 at the other."""
    extent = (high - low).clamp(min=1e-3)  # a box of no extent holds no centre
    return (torch.arange(start, end) + 0.5 - low) / extent * 2 - 1


def iou_matrix(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Return the IoU of soft masks, thresholded, of shape (N, H, W) and (M, H, W) as (N, M)."""
    a = (left >= MASK_THRESHOLD).flatten(1).float()
    b = (right >= MASK_THRESHOLD).flatten(1).float()
    shared = a @ b.T
    return shared / (a.sum(1)[:, None] + b.sum(1) - shared).clamp(min=1)


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
    masks, scores = first.masks.clone(), first.scores.clone()
    agreement, count = torch.zeros_like(scores), torch.ones_like(scores)
    for i, view in enumerate(views):
        if i == reference or not len(view):
            continue
        iou, match = iou_matrix(first.masks, view.masks).max(1)
        matched = (iou >= MATCH_IOU).float()
        masks += matched[:, None, None] * view.masks[match]
        scores += matched * view.scores[match]
        agreement += matched * iou
        count += matched
    merged = Candidates(
        scores / len(views), masks / count[:, None, None], agreement / (len(views) - 1)
    )
    return merged[merged.scores.argsort(descending=True, stable=True)]


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
