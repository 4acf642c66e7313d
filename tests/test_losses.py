"""Losses on masks."""

import pytest
import torch

from lesion_d2.modeling.unet import dice_loss


def disc(height, width, y, x, radius):
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return ((rows - y) ** 2 + (columns - x) ** 2 <= radius**2)[None]


def test_dice_loss_against_the_definition():
    truth = disc(32, 32, 12, 15, 7).float()
    perfect = (truth * 2 - 1) * 40
    assert dice_loss(perfect, truth).item() == pytest.approx(0, abs=1e-6)
    assert dice_loss(-perfect, truth).item() == pytest.approx(1 - 1 / (32 * 32 + 1), abs=1e-6)
    nothing = torch.zeros_like(truth)
    assert dice_loss(nothing - 40, nothing).item() == pytest.approx(0, abs=1e-6)
    half = torch.zeros_like(truth)  # probability 1/2 everywhere
    area = truth.sum().item()
    assert dice_loss(half, truth).item() == pytest.approx(1 - (area + 1) / (512 + area + 1))
