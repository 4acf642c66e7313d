"""Continuing a run when its schedule, its settings or its files have changed."""

import json
import shutil
from argparse import Namespace

import pytest
import torch
from detectron2.engine import AMPTrainer
from tiny import DEMO, differences, load, tiny_options, train_run

from lesion_d2.commands.convert import ConvertOptions, convert
from lesion_d2.data.datasets import register_dataset
from lesion_d2.data.loader import describe_data
from lesion_d2.engine.checkpoint import check_resumable
from lesion_d2.engine.setup import check_run
from lesion_d2.engine.trainer import LesionTrainer
from lesion_d2.errors import LesionError

# The learning rate is the same however long the run is.
CONSTANT = (
    "SOLVER.ITERS_PER_EPOCH", 2, "SOLVER.WARMUP_ITERS", 0, "SOLVER.CHECKPOINT_PERIOD", 1,
    "SOLVER.LR_SCHEDULER_NAME", "WarmupMultiStepLR", "TEST.LOSS_IMAGES", 1,
)  # fmt: skip
SHORT, LONG = ((1, 5),), ((1, 5), (2, 0))


@pytest.fixture(scope="module")
def short_run(tiny_cfg, tmp_path_factory):
    """A finished run that trained the heads only."""
    folder = tmp_path_factory.mktemp("short")
    run = train_run(tiny_cfg(folder, *CONSTANT, "SOLVER.STAGES", SHORT))
    (folder / "config.yaml").write_text(run.trainer.cfg.dump())
    return run


@pytest.fixture
def copy(short_run, tmp_path):
    """A folder that holds what that run left."""
    return shutil.copytree(short_run.folder, tmp_path / "run")


@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
def test_a_stage_that_thaws_more_continues_as_if_planned_from_the_start(
    optimizer, tiny_cfg, tmp_path
):
    opts = (*CONSTANT, "SOLVER.OPTIMIZER", optimizer, "SOLVER.BASE_LR", 0.001)
    train_run(tiny_cfg(tmp_path / "a", *opts, "SOLVER.STAGES", SHORT))
    resumed = train_run(tiny_cfg(tmp_path / "a", *opts, "SOLVER.STAGES", LONG), resume=True)
    planned = train_run(tiny_cfg(tmp_path / "b", *opts, "SOLVER.STAGES", LONG))
    assert resumed.trainer.start_iter == 2
    assert differences(resumed.final(), planned.final()) == []


def test_rates_and_decay_are_those_of_the_command(copy, tiny_cfg):
    changes = ("SOLVER.BASE_LR", 0.003, "SOLVER.WEIGHT_DECAY", 0.5, "SOLVER.MOMENTUM", 0.25)
    run = train_run(tiny_cfg(copy, *CONSTANT, "SOLVER.STAGES", LONG, *changes), resume=True)
    (group, *_) = run.trainer.optimizer.param_groups
    assert (group["lr"], group["weight_decay"], group["momentum"]) == (0.003, 0.5, 0.25)
    assert run.trainer.storage.latest()["lr"][0] == 0.003


def check(folder, *opts):
    options = tiny_options(folder, *CONSTANT, "SOLVER.STAGES", LONG, *opts)
    check_run(
        Namespace(config_file=DEMO, opts=options, resume=True, num_gpus=1, num_machines=1,
                  machine_rank=0, dist_url="auto"),
        training=True,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("opts", "said"),
    [
        ((), False),
        (("SOLVER.BASE_LR", 0.001), True),
        (("SOLVER.IMS_PER_BATCH", 1), True),
        (("SEED", 5), True),
        (("INPUT.COLOUR.SHARPEN", (0.0, 0.1)), True),
        (("MODEL.WEIGHTS", "nowhere.pth"), False),
        (("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.2), False),
    ],
    ids=str,
)
def test_what_can_change_on_the_way_is_said_if_a_step_depends_on_it(opts, said, copy, caplog):
    check(copy, *opts)
    texts = [record.getMessage() for record in caplog.records]
    found = {text.partition(":")[0]: text for text in texts if "the run had" in text}
    stages = found.pop("SOLVER.STAGES")
    assert stages.endswith(f"it continues with {LONG}")
    assert list(found) == [*opts[:1]] * said
    assert not said or found[opts[0]].endswith(f"it continues with {opts[1]!r}")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("MODEL.RESNETS.DEPTH", 101),
        ("MODEL.ROI_MASK_HEAD.CONV_DIM", 32),
        ("MODEL.PIXEL_STD", [1.0, 1.0, 1.0]),
        ("SOLVER.OPTIMIZER", "AdamW"),
        ("SOLVER.AMP.ENABLED", True),
        ("SOLVER.BIAS_LR_FACTOR", 2.0),
        ("SOLVER.EMA_DECAY", 0.9),
    ],
)
def test_what_cannot_is_one_line_with_both_values(key, value, copy, monkeypatch):
    monkeypatch.setattr(
        "lesion_d2.engine.setup.check_members", lambda *_, **__: pytest.fail("data read")
    )
    with pytest.raises(LesionError, match=rf"^{key}: the run has .*, this command ") as error:
        check(copy, key, value)
    assert repr(value) in str(error.value)


def cut(path):
    path.write_bytes(path.read_bytes()[:-1000])


DAMAGE = {
    "missing": lambda folder: (folder / "model_final.pth").unlink(),
    "cut": lambda folder: cut(folder / "model_final.pth"),
    "0 bytes": lambda folder: (folder / "model_final.pth").write_bytes(b""),
    "of another kind": lambda folder: torch.save({"model": {}}, folder / "model_final.pth"),
    "last_checkpoint empty": lambda folder: (folder / "last_checkpoint").write_text(""),
    "last_checkpoint gone": lambda folder: (folder / "last_checkpoint").unlink(),
    "last_checkpoint garbage": lambda folder: (folder / "last_checkpoint").write_bytes(b"\xff\0"),
    "another folder": lambda folder: (folder / "last_checkpoint").write_text("../model_final.pth"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_an_unusable_last_checkpoint_offers_the_newest_whole_one(damage, copy):
    DAMAGE[damage](copy)
    newest = "model_final.pth" if (copy / "model_final.pth").is_file() else "model_0000001.pth"
    if damage in ("cut", "0 bytes", "of another kind"):
        newest = "model_0000001.pth"
    with pytest.raises(LesionError, match=r"last_checkpoint: .*newest whole") as error:
        check(copy)
    command = f"printf {newest} > {copy / 'last_checkpoint'}"
    assert command in str(error.value)
    (copy / "last_checkpoint").write_text(newest)
    check_resumable(copy)


def test_without_a_whole_checkpoint_there_is_nothing_to_continue(copy):
    for file in copy.glob("*.pth"):
        file.write_bytes(b"")
    with pytest.raises(LesionError, match="no other checkpoint is whole"):
        check(copy)


def test_the_number_of_kept_checkpoints_holds_across_resumes(copy, tiny_cfg):
    assert len(list(copy.glob("model_0*.pth"))) == 2
    opts = (*CONSTANT, "SOLVER.STAGES", LONG, "SOLVER.CHECKPOINTS_KEPT", 2)
    train_run(tiny_cfg(copy, *opts), resume=True)
    names = ["model_0000002.pth", "model_0000003.pth"]
    assert [path.name for path in sorted(copy.glob("model_0*.pth"))] == names


def test_a_failed_validation_loses_no_step(tiny_cfg, tmp_path, monkeypatch):
    def fail(*_):
        raise LesionError("broken")

    monkeypatch.setattr("lesion_d2.engine.trainer.LesionTrainer.test", fail)
    with pytest.raises(LesionError, match="broken"):
        train_run(tiny_cfg(tmp_path, *CONSTANT, "SOLVER.STAGES", SHORT))
    assert (tmp_path / "last_checkpoint").read_text() == "model_final.pth"


def test_a_run_that_diverges_says_where_and_what_to_do(copy, tiny_cfg):
    cfg = tiny_cfg(copy, *CONSTANT, "SOLVER.STAGES", ((20, 0),), "SOLVER.BASE_LR", 1e6)
    with pytest.raises(LesionError) as error:
        train_run(cfg, resume=True)
    for word in ("at iteration ", "learning rate 1e+06", f"{copy}/model_", "--resume", "BASE_LR"):
        assert word in str(error.value)


def test_a_run_that_began_on_a_cpu_continues_with_scaled_losses(copy, tiny_cfg):
    """On a GPU the loop for 16 bits is another one; its scaler starts anew."""
    cfg = tiny_cfg(copy, *CONSTANT, "SOLVER.STAGES", LONG)
    trainer = LesionTrainer(cfg)
    loop, scaler = trainer._trainer, torch.amp.GradScaler("cpu")
    trainer._trainer = AMPTrainer.__new__(AMPTrainer)  # it is made for CUDA only
    vars(trainer._trainer).update(vars(loop), grad_scaler=scaler)
    trainer.resume_or_load(resume=True)
    assert trainer.start_iter == 2
    assert scaler.get_scale() == torch.amp.GradScaler("cpu").get_scale()


def test_another_validation_looks_for_the_best_anew(copy, tiny_cfg, caplog):
    state = load(copy / "model_final.pth")
    hooks = state["trainer"]["hooks"]
    hooks["Validation"]["best"] = 2.0
    torch.save(state, copy / "model_final.pth")
    opts = (*CONSTANT, "SOLVER.STAGES", LONG)
    before = (copy / "model_best.pth").read_bytes()
    same = train_run(tiny_cfg(shutil.copytree(copy, copy.parent / "same"), *opts), resume=True)
    assert (same.folder / "model_best.pth").read_bytes() == before
    assert "looked for anew" not in caplog.text
    other = train_run(tiny_cfg(copy, *opts, "TEST.SCORE_THRESH", 0.1), resume=True)
    assert (other.folder / "model_best.pth").read_bytes() != before
    assert "(score_threshold): the best model is looked for anew" in caplog.text


def test_a_data_set_that_was_converted_anew_is_not_the_same(copy, tiny_root, tiny_archive):
    (copy / "data.json").write_text(json.dumps(describe_data(["tiny_train", "tiny_val"])))
    check(copy)
    try:
        root = copy.parent / "datasets" / "tiny"
        convert(ConvertOptions({"all": tiny_archive}, root, group=False, seed=1))
        register_dataset("tiny", root)
        with pytest.raises(LesionError, match="tiny_train, tiny_val: is not what the run began"):
            check(copy)
    finally:
        register_dataset("tiny", tiny_root)
    shutil.copytree(tiny_root, copy.parent / "moved" / "tiny")
    try:
        register_dataset("tiny", copy.parent / "moved" / "tiny")
        check(copy)
    finally:
        register_dataset("tiny", tiny_root)
