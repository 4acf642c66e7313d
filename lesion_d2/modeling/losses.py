"""Losses on masks."""

import torch


def dice_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return 1 minus the soft Dice coefficient, a mean over masks.

    Milletari et al., 3DV 2016, with sums where they have sums of squares. One more pixel above and
    below the line keeps it defined where both are empty.

    Args:
        logits: float of shape (N, H, W), N at least 1.
        targets: float of that shape, in [0, 1].
    """
    found = logits.sigmoid().flatten(1)
    truth = targets.flatten(1)
    both = 2 * (found * truth).sum(1)
    return (1 - (both + 1) / (found.sum(1) + truth.sum(1) + 1)).mean()
