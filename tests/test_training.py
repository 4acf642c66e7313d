"""Whole trainings: what a run writes, and that a stopped one continues exactly."""

import json
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from tiny import DEMO, ROOT, TRAINING, differences, load, python, tiny_options, train_run

from lesion_d2.data.loader import build_validation_loss_loader
from lesion_d2.engine.hooks import validation_losses
from lesion_d2.engine.trainer import LesionTrainer

LOSSES = ("total_loss", "loss_cls", "loss_box_reg", "loss_mask", "loss_rpn_cls", "loss_rpn_loc")


def metrics(folder):
    """Return {name: {iteration: value}} of a run's metrics.json."""
    table = {}
    for line in (folder / "metrics.json").read_text().splitlines():
        values = json.loads(line)
        iteration = values.pop("iteration")
        for name, value in values.items():
            table.setdefault(name, {})[iteration] = value
    return table


def continue_from(run, iteration, folder):
    """Lay out a run folder as it was when the checkpoint of ``iteration`` had been written."""
    folder.mkdir()
    name = f"model_{iteration:07d}.pth"
    shutil.copy(run.folder / name, folder)
    (folder / "last_checkpoint").write_text(name)


def test_each_epoch_is_validated(straight_run):
    table = metrics(straight_run.folder)
    for name in LOSSES:
        assert list(table[f"val_{name}"]) == [2, 5, 8]
    parts = [table[f"val_{name}"] for name in LOSSES[1:]]
    for iteration, total in table["val_total_loss"].items():
        assert total == pytest.approx(sum(part[iteration] for part in parts), rel=1e-6)
    lesion = [name for name in table if name.startswith("lesion/")]
    assert {"lesion/mean_max_iou", "lesion/misses", "lesion/num_images"} <= set(lesion)
    for name in lesion:
        assert len(table[name]) == 3
    assert set(table["lesion/num_images"].values()) == {5}
    assert set(table["lesion/score_threshold"].values()) == {0.05}


def test_training_is_logged(straight_run):
    table = metrics(straight_run.folder)
    assert set(LOSSES) | {"lr", "stage"} <= set(table)
    assert list(straight_run.folder.glob("events.out.tfevents.*"))


def test_validation_does_not_change_training(straight_run, tiny_cfg, tmp_path):
    run = train_run(tiny_cfg(tmp_path, *TRAINING, "DATASETS.VAL", ()))
    assert differences(run.final()["model"], straight_run.final()["model"]) == []
    optimizers = [r.final()["trainer"]["_trainer"]["optimizer"] for r in (run, straight_run)]
    assert differences(*optimizers) == []
    assert not (run.folder / "model_best.pth").exists()


def test_validation_losses_leave_the_model_as_it_was(tiny_cfg, tmp_path):
    cfg = tiny_cfg(tmp_path)
    model = LesionTrainer.build_model(cfg)
    model.train()
    model.backbone.bottom_up.res2.eval()  # as in a stage that freezes it
    modes = [module.training for module in model.modules()]
    state = {key: value.clone() for key, value in model.state_dict().items()}
    first = validation_losses(model, build_validation_loss_loader(cfg))
    assert set(first) == {f"val_{name}" for name in LOSSES}
    assert validation_losses(model, build_validation_loss_loader(cfg)) == first
    assert [module.training for module in model.modules()] == modes
    assert differences(dict(model.state_dict()), state) == []
    assert all(parameter.grad is None for parameter in model.parameters())


# Stages start at iterations 0, 3 and 6: in the first stage; with the switch next; just after it;
# at the second switch; with one iteration left.
@pytest.mark.parametrize("last_iteration", [0, 2, 3, 5, 7])
def test_a_resumed_run_ends_bit_equal(last_iteration, straight_run, tiny_cfg, tmp_path):
    continue_from(straight_run, last_iteration, tmp_path / "run")
    run = train_run(tiny_cfg(tmp_path / "run", *TRAINING), resume=True)
    assert run.trainer.start_iter == last_iteration + 1
    for iteration in range(last_iteration + 1, 9):
        assert differences(run.checkpoint(iteration), straight_run.checkpoint(iteration)) == []
    assert differences(run.final(), straight_run.final()) == []
    assert differences(metrics(run.folder)["val_total_loss"],
                       {i: v for i, v in metrics(straight_run.folder)["val_total_loss"].items()
                        if i > last_iteration}) == []  # fmt: skip


def test_another_seed_gives_another_run(straight_run, tiny_cfg, tmp_path):
    continue_from(straight_run, 6, tmp_path / "run")
    run = train_run(tiny_cfg(tmp_path / "run", *TRAINING, "SEED", 1), resume=True)
    assert differences(run.final()["model"], straight_run.final()["model"])


def test_a_finished_run_resumes_to_nothing(straight_run, tiny_cfg, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(straight_run.folder, folder)
    run = train_run(tiny_cfg(folder, *TRAINING), resume=True)
    state = {key: value.cpu() for key, value in run.trainer.model.state_dict().items()}
    assert differences(state, straight_run.final()["model"]) == []
    assert (folder / "last_checkpoint").read_text() == "model_final.pth"


def wait_for(condition, process):
    deadline = time.monotonic() + 240
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_killed_run_resumes_bit_equal(straight_run, tiny_root, tmp_path):
    """By the tool, with a worker process, and killed without warning in the first stage."""
    folder = tmp_path / "run"
    options = tiny_options(folder, *TRAINING, "DATALOADER.NUM_WORKERS", 1)
    command = [ROOT / "tools" / "train_net.py", "--config-file", DEMO]
    environment = {"DETECTRON2_DATASETS": str(tiny_root.parent)}

    killed = python(*command, *options, **environment)
    last = folder / "last_checkpoint"
    wait_for(lambda: last.exists() and last.read_text() >= "model_0000001.pth", killed)
    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert not (folder / "model_final.pth").exists()

    resumed = python(*command, "--resume", *options, **environment)
    _, stderr = resumed.communicate(timeout=300)
    assert resumed.returncode == 0, stderr
    assert differences(load(folder / "model_final.pth"), straight_run.final()) == []

    log = (folder / "log.txt").read_text()
    for expected in (
        "Stage with FREEZE_AT 5 from iteration 0 to 3:",
        "Stage with FREEZE_AT 2 from iteration 3 to 6:",
        "Stage with FREEZE_AT 4 from iteration 6 to 9:",
    ):
        table = log.partition(expected)[2].splitlines()
        assert table[1].split() == ["module", "parameters", "state"]
        freeze_at = int(expected.split()[3])
        states = {line.split()[0]: line.split()[-1] for line in table[3:13]}
        assert states["fpn"] == states["roi_heads.mask_head"] == "trainable"
        for position, block in enumerate(("stem", "res2", "res3", "res4", "res5"), start=1):
            assert states[block] == ("frozen" if position <= freeze_at else "trainable")


@pytest.fixture
def scripted(monkeypatch):
    """Function (values): makes validation return these figures in turn."""

    def script(*values):
        figures = iter(values)
        result = lambda *_: {"lesion": {"mean_max_iou": next(figures)}}  # noqa: E731
        monkeypatch.setattr(LesionTrainer, "test", result)

    return script


SHORT = ("SOLVER.ITERS_PER_EPOCH", 1, "SOLVER.STAGES", ((4, 5),), "SOLVER.CHECKPOINT_PERIOD", 1,
         "SOLVER.CHECKPOINTS_KEPT", 9, "TEST.LOSS_IMAGES", 1)  # fmt: skip


def best(folder):
    state = load(folder / "model_best.pth")["trainer"]["hooks"]["Validation"]
    return state["iteration"], state["best"]


@pytest.mark.parametrize(
    ("figures", "expected"),
    [
        ((0.3, 0.5, 0.4, 0.2), (1, 0.5)),
        ((0.3, 0.5, 0.4, 0.6), (3, 0.6)),
        ((0.0, 0.0, 0.0, 0.0), (0, 0.0)),
    ],
)
def test_the_best_model_is_kept(figures, expected, tiny_cfg, scripted, tmp_path):
    scripted(*figures)
    train_run(tiny_cfg(tmp_path, *SHORT))
    assert best(tmp_path) == expected
    assert (tmp_path / "last_checkpoint").read_text() == "model_final.pth"


@pytest.mark.parametrize(("figures", "expected"), [((0.4, 0.3), (1, 0.5)), ((0.4, 0.7), (3, 0.7))])
def test_the_best_model_outlives_a_resume(figures, expected, tiny_cfg, scripted, tmp_path):
    whole, folder = tmp_path / "whole", tmp_path / "resumed"
    scripted(0.3, 0.5, 0.1, 0.1)
    run = train_run(tiny_cfg(whole, *SHORT))
    continue_from(run, 1, folder)
    shutil.copy(whole / "model_best.pth", folder)
    before = (folder / "model_best.pth").read_bytes()
    scripted(0.5, *figures)  # the checkpoint was written before the evaluation of its iteration
    train_run(tiny_cfg(folder, *SHORT), resume=True)
    assert best(folder) == expected
    assert ((folder / "model_best.pth").read_bytes() == before) == (expected[0] == 1)
    assert (folder / "last_checkpoint").read_text() == "model_final.pth"


def test_only_the_last_checkpoints_are_kept(tiny_cfg, scripted, tmp_path):
    scripted(0.3, 0.5, 0.4, 0.2)
    train_run(tiny_cfg(tmp_path, *SHORT, "SOLVER.CHECKPOINTS_KEPT", 2))
    assert {path.name for path in Path(tmp_path).glob("*.pth")} == {
        "model_0000002.pth", "model_0000003.pth", "model_best.pth", "model_final.pth"
    }  # fmt: skip


def test_training_starts_from_the_given_weights(straight_run, tiny_cfg, tmp_path):
    weights = straight_run.folder / "model_0000004.pth"
    folder = tmp_path / "run"
    opts = (*SHORT, "DATASETS.VAL", (), "MODEL.WEIGHTS", str(weights))
    run = train_run(tiny_cfg(folder, *opts))
    assert run.trainer.start_iter == 0
    before, after = load(weights)["model"], run.final()["model"]
    # The only stage freezes the backbone, so that is still the file's; the heads went on from it.
    assert all(torch.equal(before[key], after[key]) for key in before if "bottom_up" in key)
    assert any(not torch.equal(before[key], after[key]) for key in before)
