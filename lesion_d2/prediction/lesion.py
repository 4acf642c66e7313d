"""The one lesion of an image, as it is submitted."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lesion_d2.prediction.candidates import MASK_THRESHOLD, Candidates


@dataclass(frozen=True, eq=False)
class Lesion:
    """A prediction. Where nothing was found the mask is empty and every number 0.

    Attributes:
        mask: bool of shape (H, W).
        score: of the chosen instance, in [0, 1].
        candidates: how many instances there were to choose from.
        sharpness: soft Jaccard index of the probabilities and the mask they give at 0.5: 1 when
            every pixel is certain.
        agreement: mean IoU of the instance in the first view with those of the other views.
        area_share: share of the image's pixels in the mask.
        border_share: share of the pixels of the image's border in the mask.
    """

    mask: npt.NDArray[np.bool_]
    score: float
    candidates: int
    sharpness: float
    agreement: float
    area_share: float
    border_share: float


def describe_lesion(mask: npt.NDArray[np.bool_], chosen: Candidates, candidates: int) -> Lesion:
    """Put a lesion together.

    Args:
        mask: the post-processed mask, at the output's size.
        chosen: the one candidate it came from, or none.
        candidates: how many there were.
    """
    if not len(chosen):
        return Lesion(mask, 0.0, candidates, 0.0, 0.0, 0.0, 0.0)
    soft = chosen.masks[0]
    inside = soft >= MASK_THRESHOLD
    certain = soft[inside].sum()
    union = inside.sum() + soft[~inside].sum()
    border = np.concatenate([mask[0], mask[-1], mask[1:-1, 0], mask[1:-1, -1]])
    return Lesion(
        mask=mask,
        score=float(chosen.scores[0]),
        candidates=candidates,
        sharpness=float(certain / union.clamp(min=1e-6)),
        agreement=float(chosen.agreement[0]),
        area_share=float(mask.mean()),
        border_share=float(border.mean()),
    )
