"""Room around boxes for masks, and the mask head's losses."""

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage

from lesion_d2.modeling.losses import dice_loss
from lesion_d2.modeling.mask_head import mask_shares
from lesion_d2.modeling.roi_heads import grow

OURS = ("MODEL.ROI_HEADS.NAME", "LesionROIHeads")
MASK_HEAD = (*OURS, "MODEL.ROI_MASK_HEAD.NAME", "LesionMaskHead")
SIZE = (96, 128)


def disc(height, width, y, x, radius):
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return ((rows - y) ** 2 + (columns - x) ** 2 <= radius**2)[None]


def batch(*masks):
    items = []
    for mask in masks:
        bits = BitMasks(mask)
        items.append(
            {
                "image": torch.full((3, *mask.shape[1:]), 90, dtype=torch.uint8),
                "height": mask.shape[1],
                "width": mask.shape[2],
                "instances": Instances(
                    tuple(mask.shape[1:]),
                    gt_masks=bits,
                    gt_boxes=bits.get_bounding_boxes(),
                    gt_classes=torch.zeros(len(mask), dtype=torch.long),
                ),
            }
        )
    return items


def losses(model, items):
    torch.manual_seed(3)
    with EventStorage():
        return {name: value.detach() for name, value in model.train()(items).items()}


@pytest.mark.parametrize(
    ("margin", "expected"),
    [
        (0.0, [[20, 30, 60, 50], [0, 0, 10, 96]]),
        (0.25, [[10, 25, 70, 55], [0, 0, 12.5, 96]]),
        (9.0, [[0, 0, 128, 96], [0, 0, 100, 96]]),
    ],
)
def test_boxes_grow_on_each_side_within_the_image(margin, expected):
    boxes = Boxes(torch.tensor([[20.0, 30, 60, 50], [0, 0, 10, 96]]))
    assert grow(boxes, margin, SIZE).tensor.tolist() == expected
    assert boxes.tensor.tolist() == [[20, 30, 60, 50], [0, 0, 10, 96]]
    assert grow(boxes[:0], margin, SIZE).tensor.shape == (0, 4)


def test_predicted_boxes_are_those_of_no_margin_grown(tiny_cfg, tmp_path):
    boxes = {}
    for margin in (0.0, 0.3):
        torch.manual_seed(0)
        cfg = tiny_cfg(tmp_path, *OURS, "MODEL.ROI_MASK_HEAD.BOX_MARGIN", margin)
        model = build_model(cfg).eval()
        with torch.no_grad():
            (found,) = model.inference(batch(disc(*SIZE, 40, 50, 20)), do_postprocess=False)
        assert len(found.pred_masks) == len(found) > 0
        boxes[margin] = found.pred_boxes
    assert torch.equal(boxes[0.3].tensor, grow(boxes[0.0], 0.3, SIZE).tensor)


def test_the_mask_head_learns_what_is_in_the_grown_boxes(tiny_cfg, tmp_path, monkeypatch):
    seen = {}
    for margin in (0.0, 0.5):
        torch.manual_seed(0)
        model = build_model(tiny_cfg(tmp_path, *OURS, "MODEL.ROI_MASK_HEAD.BOX_MARGIN", margin))
        pool = model.roi_heads.mask_pooler.forward
        monkeypatch.setattr(
            model.roi_heads.mask_pooler,
            "forward",
            lambda x, boxes, pool=pool, margin=margin: (
                seen.update({margin: boxes}) or pool(x, boxes)
            ),
        )
        found = losses(model, batch(disc(*SIZE, 40, 50, 20), disc(*SIZE, 70, 100, 15)))
        seen[margin, "losses"] = found
    for tight, wide in zip(seen[0.0], seen[0.5], strict=True):
        assert len(tight)
        assert torch.equal(wide.tensor, grow(tight, 0.5, SIZE).tensor)
    tight, wide = seen[0.0, "losses"], seen[0.5, "losses"]
    changed = {name for name in tight if not torch.equal(tight[name], wide[name])}
    assert changed == {"loss_mask"}, "boxes and classes must be learnt from the boxes as they are"


def test_shares_are_area_means():
    mask = disc(64, 64, 30, 33, 17)
    boxes = Boxes(torch.tensor([[0.0, 0, 64, 64], [8, 16, 40, 48]]))
    item = Instances((64, 64), proposal_boxes=boxes, gt_masks=BitMasks(torch.cat([mask, mask])))
    shares = mask_shares(item, 8)
    whole = mask[0].float().reshape(8, 8, 8, 8).mean((1, 3))
    part = mask[0, 16:48, 8:40].float().reshape(8, 4, 8, 4).mean((1, 3))
    # RoIAlign takes bilinear samples at a grid of points, half a pixel from the pixels' centres.
    torch.testing.assert_close(shares, torch.stack([whole, part]), atol=0.15, rtol=0)
    assert ((shares > 0) & (shares < 1)).any()
    assert mask_shares(item[:0], 8).shape == (0, 8, 8)
    binary = item.gt_masks.crop_and_resize(boxes.tensor, 8)
    assert torch.equal(shares >= 0.5, binary)


def test_pasted_shares_are_nearer_to_the_mask_than_pasted_bits():
    from detectron2.layers import paste_masks_in_image

    mask = disc(192, 256, 90, 130, 61)
    bits = BitMasks(mask)
    boxes = bits.get_bounding_boxes()
    item = Instances((192, 256), proposal_boxes=boxes, gt_masks=bits)
    iou = {}
    for name, grid in (
        ("shares", mask_shares(item, 28)),
        ("bits", bits.crop_and_resize(boxes.tensor, 28).float()),
    ):
        pasted = paste_masks_in_image(grid, boxes, (192, 256))
        iou[name] = ((pasted & mask).sum() / (pasted | mask).sum()).item()
    assert iou["shares"] > iou["bits"] + 0.005


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_the_losses_of_the_mask_head(tiny_cfg, tmp_path, weight):
    torch.manual_seed(0)
    cfg = tiny_cfg(tmp_path, *MASK_HEAD, "MODEL.ROI_MASK_HEAD.DICE_WEIGHT", weight)
    head = build_model(cfg).roi_heads.mask_head.train()
    x = torch.randn(2, cfg.MODEL.FPN.OUT_CHANNELS, 14, 14)
    mask = disc(*SIZE, 40, 50, 20)
    item = Instances(
        SIZE,
        gt_masks=BitMasks(torch.cat([mask, mask])),
        proposal_boxes=Boxes(torch.tensor([[20.0, 10, 80, 70], [40, 30, 60, 90]])),
    )
    logits, targets = head.layers(x)[:, 0], mask_shares(item, 28)
    found = head(x, [item])
    soft = logits.sigmoid()
    bce = -(targets * soft.log() + (1 - targets) * (1 - soft).log()).mean()
    torch.testing.assert_close(found["loss_mask"], bce)
    assert set(found) == ({"loss_mask", "loss_dice"} if weight else {"loss_mask"})
    if weight:
        torch.testing.assert_close(found["loss_dice"], weight * dice_loss(logits, targets))
    nothing = head(x[:0], [item[:0]])
    assert {name: value.item() for name, value in nothing.items()} == dict.fromkeys(found, 0.0)


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


def test_an_untrained_network_with_all_of_it_trains_on_an_image_without_a_lesion(
    tiny_cfg, tmp_path
):
    cfg = tiny_cfg(
        tmp_path,
        *MASK_HEAD,
        *("MODEL.ROI_MASK_HEAD.DICE_WEIGHT", 1.0, "MODEL.ROI_MASK_HEAD.BOX_MARGIN", 0.1),
    )
    found = losses(build_model(cfg), batch(torch.zeros(0, *SIZE, dtype=torch.bool)))
    assert found["loss_mask"] == found["loss_dice"] == 0
    assert all(torch.isfinite(value) for value in found.values())
