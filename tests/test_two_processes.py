"""Training in two processes over gloo, on the CPU."""

import json
import os
import signal
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from detectron2.engine import HookBase
from detectron2.utils import comm
from tiny import DEMO, ROOT, differences, load, load_tool, run_python, tiny_options
from torch.utils.data import DataLoader

from lesion_d2.commands import train as commands_train
from lesion_d2.engine.launch import launch_run
from lesion_d2.engine.trainer import LesionTrainer
from lesion_d2.errors import LesionError, run_tool

STAGES = ((1, 5), (2, 2), (3, 4))


class KeepWeights(HookBase):
    """Writes this process's parameters and buffers before training, at the end of each epoch."""

    def before_train(self):
        self._write("start")

    def after_step(self):
        if self.trainer.iter % 2:
            self._write(f"epoch{self.trainer.iter // 2}")

    def _write(self, name):
        model = self.trainer.checkpointer.model  # the one that is never wrapped
        torch.save(
            model.state_dict(), Path(self.trainer.cfg.OUTPUT_DIR, f"{name}_{comm.get_rank()}.pth")
        )


TRAIN = commands_train.train


def train_and_keep_weights(args):
    """What each process of tools/train_net.py runs, with one more hook."""
    build_hooks = LesionTrainer.build_hooks
    LesionTrainer.build_hooks = lambda trainer: [*build_hooks(trainer), KeepWeights()]
    TRAIN(args)


def train_in_another_folder(args):
    """The same, but the second process finds nothing of the first, as on another disk."""
    if comm.get_rank():
        args.opts += ["OUTPUT_DIR", f"{args.opts[args.opts.index('OUTPUT_DIR') + 1]}/other"]
    TRAIN(args)


def train_in_two(folder, datasets, *arguments, process=train_and_keep_weights):
    """Run tools/train_net.py --num-gpus 2 of three stages."""
    opts = ("SOLVER.ITERS_PER_EPOCH", 2, "SOLVER.STAGES", STAGES, "SOLVER.WARMUP_ITERS", 0,
            "SOLVER.CHECKPOINT_PERIOD", 2, "SOLVER.CHECKPOINTS_KEPT", 9)  # fmt: skip
    options = [str(item) for item in tiny_options(folder, *opts)]
    command = ["train_net.py", "--config-file", DEMO, "--num-gpus", "2", *arguments, *options]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DETECTRON2_DATASETS", str(datasets))
        patch.setattr(commands_train, "train", process)
        patch.setattr("sys.argv", command)
        load_tool("train_net").main()


@pytest.fixture(scope="module")
def folder(tiny_root, tmp_path_factory):
    """The folder of such a run."""
    folder = tmp_path_factory.mktemp("two")
    train_in_two(folder, tiny_root.parent)
    return folder


def test_both_processes_hold_equal_weights_and_statistics_in_every_stage(folder):
    for name in ("epoch0", "epoch1", "epoch2"):
        left, right = (load(folder / f"{name}_{rank}.pth") for rank in (0, 1))
        assert any("running_var" in key for key in left)
        assert differences(left, right) == []
    last = load(folder / "epoch2_0.pth")
    final = load(folder / "model_final.pth")["model"]
    assert differences(last, {key: final[key] for key in last}) == []


def test_each_stage_moves_what_it_trains_and_nothing_else(folder):
    names = ["start_0", "epoch0_0", "epoch1_0", "epoch2_0"]
    states = [load(folder / f"{name}.pth") for name in names]
    for (_, freeze_at), before, after in zip(STAGES, states, states[1:], strict=False):
        for position, block in enumerate(("stem", "res2", "res3", "res4", "res5"), start=1):
            keys = [key for key in before if f"bottom_up.{block}." in key]
            moved = [key for key in keys if not torch.equal(before[key], after[key])]
            assert keys
            assert moved == ([] if position <= freeze_at else keys)
        heads = [key for key, value in before.items() if "heads" in key and value.dim() > 1]
        assert not [key for key in heads if torch.equal(before[key], after[key])]


def test_the_main_process_validates_all_images_and_writes(folder):
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    counts = [line["lesion/num_images"] for line in lines if "lesion/num_images" in line]
    assert counts == [5, 5, 5]
    assert sum("val_total_loss" in line for line in lines) == 3
    assert (folder / "model_best.pth").exists()


def test_a_resumed_run_is_the_run_that_never_stopped(folder, tiny_root, tmp_path):
    for name in ("model_0000003.pth", "model_best.pth"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "last_checkpoint").write_text("model_0000003.pth")
    train_in_two(tmp_path, tiny_root.parent, "--resume")
    final, expected = (load(run / "model_final.pth") for run in (tmp_path, folder))
    assert differences(final, expected) == []
    lines = [(run / "metrics.json").read_text().splitlines()[-1] for run in (tmp_path, folder)]
    found, wanted = (
        {k: v for k, v in json.loads(line).items() if k.startswith(("lesion/", "val_"))}
        for line in lines
    )
    assert found
    assert found == wanted


def test_processes_that_do_not_share_a_disk_are_not_resumed(folder, tiny_root, tmp_path):
    (tmp_path / "model_0000003.pth").write_bytes((folder / "model_0000003.pth").read_bytes())
    (tmp_path / "last_checkpoint").write_text("model_0000003.pth")
    with pytest.raises(LesionError, match=r"\(\[4, 0\]\); OUTPUT_DIR must be on a disk that all"):
        train_in_two(tmp_path, tiny_root.parent, "--resume", process=train_in_another_folder)


def refuse(_):
    raise LesionError("ISIC_0000003.jpg: broken;\nconvert again")


def fail_in_a_worker_of_the_second_process(args):
    if comm.get_rank() == 1:
        list(DataLoader([0], num_workers=1, collate_fn=refuse))


def test_a_users_error_crosses_process_borders_as_one_line(capsys):
    args = Namespace(num_gpus=2, num_machines=1, machine_rank=0, dist_url="auto")
    with pytest.raises(SystemExit) as exit_:
        run_tool(lambda: launch_run(fail_in_a_worker_of_the_second_process, args))
    assert exit_.value.code == 1
    assert capsys.readouterr().err == "error: ISIC_0000003.jpg: broken; convert again\n"


def kill_itself(_):
    os.kill(os.getpid(), signal.SIGKILL)


def lose_a_worker(args):
    if comm.get_rank() == args.num_gpus - 1:
        list(DataLoader([0], num_workers=1, collate_fn=kill_itself))


@pytest.mark.parametrize("processes", [1, 2])
def test_a_killed_worker_of_a_loader_is_one_line(processes, capsys):
    args = Namespace(num_gpus=processes, num_machines=1, machine_rank=0, dist_url="auto")
    with pytest.raises(SystemExit) as exit_:
        run_tool(lambda: launch_run(lose_a_worker, args))
    assert exit_.value.code == 1
    words = "a process that reads images was killed, most likely for memory"
    assert capsys.readouterr().err == f"error: {words}; lower DATALOADER.NUM_WORKERS\n"


def test_torchrun_gives_what_one_process_gives(straight_run, tiny_root, tmp_path):
    """tools/eval.py under torchrun, two processes that share six images."""
    weights = straight_run.folder / "model_final.pth"
    options = tiny_options(tmp_path / "many", "MODEL.WEIGHTS", weights)
    arguments = [ROOT / "tools" / "eval.py", "--eval-only", "--config-file", DEMO]
    environment = {"DETECTRON2_DATASETS": str(tiny_root.parent)}
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2]
    status, _, stderr = run_python(*torchrun, *arguments, *options, **environment)
    assert status == 0, stderr
    options[options.index("OUTPUT_DIR") + 1] = str(tmp_path / "one")
    status, _, stderr = run_python(*arguments, *options, **environment)
    assert status == 0, stderr
    one, many = (tmp_path / run / "eval" / "tiny_test" for run in ("one", "many"))
    files = [path.relative_to(one) for path in one.rglob("*.*")]
    assert len([name for name in files if name.parent.name in ("submission", "truth")]) == 12
    for name in files:
        assert (many / name).read_bytes() == (one / name).read_bytes()


def test_torchrun_counts_its_processes(straight_run, tiny_root, tmp_path):
    options = tiny_options(
        tmp_path, "MODEL.WEIGHTS", straight_run.folder / "model_final.pth"
    )  # batches of 2
    status, _, stderr = run_python(
        "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 3,
        ROOT / "tools" / "eval.py", "--eval-only", "--config-file", DEMO, *options,
        DETECTRON2_DATASETS=str(tiny_root.parent),
    )  # fmt: skip
    assert status != 0
    assert "error: SOLVER.IMS_PER_BATCH: 2 is not a multiple of the 3 processes" in stderr
