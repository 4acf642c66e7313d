"""From several candidates to the one that is submitted: named ways to choose.

Each takes the candidates of an image, by falling score, and returns one of them; none where there
is none. ``TEST.INSTANCE_CHOICE`` names the one in use.
"""

from lesion_d2.prediction.candidates import Candidates, iou_matrix


def top_score(candidates: Candidates) -> Candidates:
    """Take the candidate of highest score."""
    return candidates[:1]


def consensus(candidates: Candidates) -> Candidates:
    """Take the candidate whose mask the others support: the largest sum of IoU times score."""
    if not len(candidates):
        return candidates
    support = iou_matrix(candidates.masks, candidates.masks) @ candidates.scores
    best = int(support.argmax())
    return candidates[best : best + 1]


INSTANCE_CHOICES = {"top_score": top_score, "consensus": consensus}
