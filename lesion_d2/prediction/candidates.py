"""What a model finds in an image, as soft masks, and the average of several views of it."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from detectron2.modeling import GeneralizedRCNN
from detectron2.structures import Boxes, Instances
from torch.nn.functional import grid_sample

from lesion_d2.prediction.views import View

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
    """Run a model on views of images; what has one size goes through it together.

    Images of different sizes do not: padding to a common size would change what is found.

    Args:
        model: in evaluation mode.
        images: of shape (C, H, W), as the model's mapper makes them.
        views: what the model gets to see of each.

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
