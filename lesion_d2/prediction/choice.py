"""From several candidates to the one that is submitted: named ways to choose.

Each takes the candidates of an image, by falling score, and returns one of them (or one made of
them); none where there is none. ``TEST.INSTANCE_CHOICE`` names the one in use.
"""

import torch
from fvcore.common.registry import Registry

from lesion_d2.prediction.candidates import Candidates, iou_matrix

INSTANCE_CHOICES = Registry("INSTANCE_CHOICE")


@INSTANCE_CHOICES.register()
def top_score(candidates: Candidates) -> Candidates:
    """Take the candidate of highest score."""
    return candidates[:1]


@INSTANCE_CHOICES.register()
def consensus(candidates: Candidates) -> Candidates:
    """Take the candidate whose mask the others support: the largest sum of IoU times score."""
    if not len(candidates):
        return candidates
    support = iou_matrix(candidates.masks, candidates.masks) @ candidates.scores
    best = int(support.argmax())
    return candidates[best : best + 1]


@INSTANCE_CHOICES.register()
def union(candidates: Candidates) -> Candidates:
    """Join all candidates of at least half the highest score, pixel by pixel the largest value."""
    if not len(candidates):
        return candidates
    kept = candidates[candidates.scores >= candidates.scores[0] / 2]
    return Candidates(kept.scores[:1], kept.masks.amax(0, keepdim=True), kept.agreement[:1])


@INSTANCE_CHOICES.register()
def weighted_mean(candidates: Candidates) -> Candidates:
    """Average those candidates that overlap with the top one (IoU 0.5), weighted by score."""
    if not len(candidates):
        return candidates
    near = iou_matrix(candidates.masks[:1], candidates.masks)[0] >= 0.5
    near[0] = True  # an empty mask does not overlap with itself
    kept = candidates[near]
    mean = torch.einsum("n,nhw->hw", kept.scores / kept.scores.sum(), kept.masks)
    return Candidates(kept.scores[:1], mean[None], kept.agreement[:1])
