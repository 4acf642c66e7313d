"""Which weights move in which stage, to the bit."""

import pytest
import torch
from detectron2.engine import HookBase
from detectron2.modeling import build_model
from tiny import TRAINING, train_run

from lesion_d2.engine.staged_freeze import backbone_blocks, trainable_table

BLOCKS = ("stem", "res2", "res3", "res4", "res5")
# (last iteration before the stage, its last iteration, FREEZE_AT); -1 is before training.
STAGES = [(-1, 2, 5), (2, 5, 2), (5, 8, 4)]


def model_at(run, iteration):
    return run.start if iteration < 0 else run.checkpoint(iteration)["model"]


def block_entries(state, block):
    """Return parameters and buffers (BatchNorm's statistics and counters) of a ResNet block."""
    prefix = f"backbone.bottom_up.{block}."
    return {key: value for key, value in state.items() if key.startswith(prefix)}


def changed(before, after, block):
    """Return (names that changed, all names) of a block."""
    entries = block_entries(before, block)
    return {k for k, v in entries.items() if not torch.equal(v, after[k])}, set(entries)


@pytest.mark.parametrize(("first", "last", "freeze_at"), STAGES)
def test_a_stage_moves_what_it_trains_and_nothing_else(first, last, freeze_at, straight_run):
    before, after = model_at(straight_run, first), model_at(straight_run, last)
    for position, block in enumerate(BLOCKS, start=1):
        moved, names = changed(before, after, block)
        assert any("running_var" in name for name in names)
        if position <= freeze_at:
            assert not moved
        else:
            # Every weight and every running statistic.
            assert moved == names
    for part in ("backbone.fpn", "proposal_generator", "roi_heads.box", "roi_heads.mask"):
        weights = [key for key, v in before.items() if key.startswith(part) and v.dim() > 1]
        assert weights
        assert [key for key in weights if torch.equal(before[key], after[key])] == []


def test_a_frozen_weight_has_no_momentum_before_its_stage(straight_run):
    def momenta(iteration):
        return set(straight_run.checkpoint(iteration)["trainer"]["_trainer"]["optimizer"]["state"])

    trainer = straight_run.trainer
    names = {id(parameter): name for name, parameter in trainer.model.named_parameters()}
    parameters = [p for group in trainer.optimizer.param_groups for p in group["params"]]
    backbone = {i for i, p in enumerate(parameters) if "bottom_up" in names[id(p)]}
    assert backbone
    assert momenta(2) == set(range(len(parameters))) - backbone
    always = ("backbone.bottom_up.stem.", "backbone.bottom_up.res2.")
    never = {i for i, p in enumerate(parameters) if names[id(p)].startswith(always)}
    assert never
    assert momenta(3) == momenta(8) == set(range(len(parameters))) - never


def test_the_optimizer_keeps_its_shape(straight_run):
    def groups(iteration):
        optimizer = straight_run.checkpoint(iteration)["trainer"]["_trainer"]["optimizer"]
        return [group["params"] for group in optimizer["param_groups"]]

    assert all(groups(iteration) == groups(0) for iteration in range(9))
    held = sum(len(group) for group in groups(0))
    assert held == len(list(straight_run.trainer.model.parameters()))


class Watch(HookBase):
    """Notes, in each step, which blocks are in training mode and which have gradients."""

    def __init__(self):
        self.gradients, self.modes, self.stages = [], [], []

    def before_step(self):
        blocks = backbone_blocks(self.trainer.model)
        self.modes.append([name for name, block in blocks if block.training])

    def after_step(self):
        blocks = backbone_blocks(self.trainer.model)
        self.gradients.append(
            [name for name, block in blocks if any(p.grad is not None for p in block.parameters())]
        )
        self.stages.append(self.trainer.storage.latest()["stage"][0])


def test_frozen_blocks_have_no_gradients_and_rest_also_after_a_validation(tiny_cfg, tmp_path):
    # Validation after each step: it puts the whole model back into training mode.
    stages = ((1, 5), (2, 2), (3, 4))
    opts = ("SOLVER.ITERS_PER_EPOCH", 2, "SOLVER.STAGES", stages, "TEST.EVAL_PERIOD", 1)
    watch = Watch()
    train_run(tiny_cfg(tmp_path, *opts), hooks=[watch])
    expected = [list(BLOCKS[freeze_at:]) for _, freeze_at in stages for _ in range(2)]
    assert watch.gradients == expected
    assert watch.modes == expected
    assert watch.stages == [5, 5, 2, 2, 4, 4]


def test_weight_decay_moves_no_frozen_weight(tiny_cfg, tmp_path):
    opts = ("DATASETS.VAL", (), "SOLVER.WEIGHT_DECAY", 0.5, "SOLVER.MOMENTUM", 0.99)
    run = train_run(tiny_cfg(tmp_path, *TRAINING, *opts))
    for first, last, freeze_at in STAGES:
        for block in BLOCKS[:freeze_at]:
            assert not changed(model_at(run, first), model_at(run, last), block)[0]


@pytest.fixture
def model(tiny_cfg, tmp_path):
    return build_model(tiny_cfg(tmp_path))


def test_blocks_are_counted_as_freeze_at_counts(tiny_cfg, tmp_path):
    for freeze_at in range(6):
        model = build_model(tiny_cfg(tmp_path, "SOLVER.STAGES", ((1, freeze_at),)))
        blocks = backbone_blocks(model)
        assert [name for name, _ in blocks] == list(BLOCKS)
        frozen = [all(not p.requires_grad for p in block.parameters()) for _, block in blocks]
        assert frozen == [position <= freeze_at for position in range(1, 6)]


def test_the_table_counts_every_parameter_once(model):
    for parameter in model.backbone.bottom_up.res4.parameters():
        parameter.requires_grad = False
    header, _, *lines = (line.split() for line in trainable_table(model).splitlines())
    assert header == ["module", "parameters", "state"]
    table = {name: (int(count.replace(",", "")), state) for name, count, state in lines}
    assert sum(count for count, _ in table.values()) == sum(p.numel() for p in model.parameters())
    assert list(table) == [
        *BLOCKS, "fpn", "proposal_generator", "roi_heads.box_head", "roi_heads.box_predictor",
        "roi_heads.mask_head",
    ]  # fmt: skip
    assert {name for name, (_, state) in table.items() if state == "frozen"} == {"res4"}
    res3 = sum(p.numel() for p in model.backbone.bottom_up.res3.parameters())
    assert table["res3"] == (res3, "trainable")
