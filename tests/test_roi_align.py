"""RoIAlign by matrix products, against torchvision's."""

import pytest
import torch
from detectron2.layers import ROIAlign

from lesion_d2.modeling.roi_align import SeparableROIAlign


def regions(count, images, height, width):
    generator = torch.Generator().manual_seed(0)
    index = torch.randint(images, (count, 1), generator=generator)
    corners = torch.rand(count, 2, 2, generator=generator) * 1.4 - 0.2  # some are partly outside
    corners = corners.sort(1).values * torch.tensor([width, height])
    special = torch.tensor([[0, 0, 0, width, height], [0, 5, 5, 5, 5], [0, -90, -90, -50, -50]])
    return torch.cat([torch.cat([index, corners.flatten(1)], 1), special])


@pytest.mark.parametrize("ratio", [0, 1, 2])
@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("bins", [7, 14])
def test_it_equals_torchvisions_forwards_and_backwards(bins, aligned, ratio):
    arguments = ((bins, bins), 1 / 8, ratio, aligned)
    rois = regions(20, 3, 160, 200)
    features = torch.randn(3, 4, 20, 25, generator=torch.Generator().manual_seed(1))
    found = []
    for kind in (SeparableROIAlign, ROIAlign):
        leaf = features.clone().requires_grad_()
        pooled = kind(*arguments)(leaf, rois)
        weight = torch.randn(pooled.shape, generator=torch.Generator().manual_seed(2))
        (pooled * weight).sum().backward()
        found.append((pooled.detach(), leaf.grad))
    (ours, our_gradient), (theirs, their_gradient) = found
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(our_gradient, their_gradient, rtol=1e-4, atol=1e-3)


def test_no_region():
    pooled = SeparableROIAlign((7, 7), 1 / 8, 0)(torch.zeros(2, 4, 5, 6), torch.zeros(0, 5))
    assert pooled.shape == (0, 4, 7, 7)


def test_boxes_are_not_rounded_with_the_features():
    """A ramp tells where samples were taken."""
    ramp = torch.arange(64.0).expand(1, 1, 64, 64)
    rois = torch.tensor([[0, 300.3, 100.0, 340.9, 140.0]])
    exact = ROIAlign((1, 1), 1 / 8, 0)(ramp, rois)
    ours = SeparableROIAlign((1, 1), 1 / 8, 0)(ramp.bfloat16(), rois)
    assert ours.dtype == torch.bfloat16
    assert ours.item() == pytest.approx(exact.item(), rel=2**-8)


def test_the_config_names_it(tiny_cfg, tmp_path):
    from detectron2.modeling import build_model

    model = build_model(tiny_cfg(tmp_path, "MODEL.ROI_HEADS.NAME", "SeparableROIHeads"))
    for pooler in (model.roi_heads.box_pooler, model.roi_heads.mask_pooler):
        assert {type(level) for level in pooler.level_poolers} == {SeparableROIAlign}
