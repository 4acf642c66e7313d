"""tools/train_net.py and tools/eval.py as commands."""

import csv
import json
import os
import shutil

import pytest
from tiny import DEMO, ROOT, SMALL, TRAINING, load_tool, run_python, tiny_options

from lesion_d2.commands.evaluate import evaluate
from lesion_d2.errors import LesionError
from lesion_d2.files import alone

TRAIN, EVAL = ROOT / "tools" / "train_net.py", ROOT / "tools" / "eval.py"


OLD_NAME = ROOT / "tools" / "audit_split.py"
TOOLS = sorted({*(ROOT / "tools").glob("*.py")} - {OLD_NAME})


def test_an_old_name_leads_to_the_new_one():
    status, stdout, stderr = run_python(OLD_NAME, "--dataset", "x")
    assert (status, stdout) == (1, "")
    assert stderr == "error: tools/audit_split.py is called tools/find_leaks.py now\n"


@pytest.mark.parametrize("tool", TOOLS, ids=lambda path: path.stem)
def test_help_is_quick_and_has_an_example(tool):
    code = (
        "import atexit, runpy, sys; heavy = {'torch', 'detectron2', 'matplotlib', 'scipy'};"
        "atexit.register(lambda: print('heavy', heavy & set(sys.modules)));"
        f"sys.argv = ['tool', '--help']; runpy.run_path({str(tool)!r}, run_name='__main__')"
    )
    status, stdout, stderr = run_python("-c", code)
    assert (status, stderr) == (0, "")
    assert stdout.endswith("heavy set()\n")
    assert "examples:" in stdout
    assert f"tools/{tool.name} " in stdout
    if tool in (TRAIN, EVAL):
        for key in ("--eval-only", "--num-gpus", "--num-machines", "--machine-rank", "--dist-url"):
            assert key in stdout


@pytest.mark.parametrize("tool", TOOLS, ids=lambda path: path.stem)
def test_a_tool_can_be_called_by_its_name(tool):
    assert os.access(tool, os.X_OK)


def test_the_usual_arguments_are_understood(monkeypatch):
    line = "--config-file a.yaml --resume --num-gpus 2 --num-machines 3 --machine-rank 1 --dist-url"
    monkeypatch.setattr(
        "sys.argv", ["x", *line.split(), "tcp://a:1", "SEED", "1", "OUTPUT_DIR", "o"]
    )
    seen = []
    monkeypatch.setattr("lesion_d2.commands.train.train_or_evaluate", seen.append)
    load_tool("train_net").main()
    assert vars(seen[0]) == {
        "config_file": "a.yaml", "resume": True, "eval_only": False, "num_gpus": 2,
        "num_machines": 3, "machine_rank": 1, "dist_url": "tcp://a:1",
        "opts": ["SEED", "1", "OUTPUT_DIR", "o"],
    }  # fmt: skip


@pytest.mark.parametrize("tool", ["train_net", "eval"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--config-file"),
        (["--config-file", "nowhere.yaml"], "nowhere.yaml"),
        (["--config-file", DEMO, "NO_SUCH_KEY", "1"], "NO_SUCH_KEY"),
        (["--config-file", DEMO, "DATASETS.TRAIN", "('x',)", "DATASETS.TEST", "('x',)"], "'x'"),
    ],
)
def test_mistakes_are_named_before_any_work(
    tool, arguments, message, tiny_root, tmp_path, monkeypatch
):
    monkeypatch.setattr("sys.argv", [tool, *arguments])
    monkeypatch.chdir(tmp_path)  # where no run lies in output/demo
    with pytest.raises(LesionError, match=message):
        load_tool(tool).main()


def test_two_trainings_do_not_write_to_one_folder(tiny_root, tmp_path, monkeypatch):
    opts = [str(item) for item in tiny_options(tmp_path / "run", *TRAINING)]
    monkeypatch.setattr("sys.argv", ["train_net.py", "--config-file", DEMO, *opts])
    with (
        alone(tmp_path / "run"),
        pytest.raises(LesionError, match="run: another process is writing it"),
    ):
        load_tool("train_net").main()
    assert not list((tmp_path / "run").iterdir())


def test_a_mistake_is_one_line_and_a_status():
    status, stdout, stderr = run_python(TRAIN, "--config-file", DEMO, "SOLVER.STAGES", "()")
    assert (status, stdout) == (1, "")
    assert stderr.splitlines()[-1].startswith("error: SOLVER.STAGES: empty;")
    assert "Traceback" not in stderr


def test_a_broken_picture_stops_training_with_its_name(tiny_root, tmp_path):
    """The error comes from a worker process, whose traceback is of no use to the user."""
    shutil.copytree(tiny_root, tmp_path / "tiny")
    for picture in (tmp_path / "tiny" / "images").iterdir():
        picture.unlink()  # it may be a link to the original
        picture.write_bytes(b"broken")
    options = tiny_options(tmp_path / "run", "DATALOADER.NUM_WORKERS", 1)
    status, _, stderr = run_python(
        TRAIN, "--config-file", DEMO, *options, DETECTRON2_DATASETS=str(tmp_path)
    )
    *_, last = stderr.splitlines()
    assert status == 1
    assert last.startswith(f"error: {tmp_path / 'tiny' / 'images' / 'ISIC_'}")
    assert "Traceback" not in last


@pytest.fixture(scope="module")
def evaluation(straight_run, tiny_root, tmp_path_factory):
    """What tools/eval.py printed for the final model of a run, and the folder it used."""
    folder = tmp_path_factory.mktemp("evaluation")
    weights = straight_run.folder / "model_final.pth"
    options = tiny_options(folder, *TRAINING, "MODEL.WEIGHTS", str(weights))
    status, stdout, stderr = run_python(
        EVAL,
        "--eval-only",
        "--config-file",
        DEMO,
        *options,
        DETECTRON2_DATASETS=str(tiny_root.parent),
    )
    assert status == 0, stderr
    return stdout, folder / "eval" / "tiny_test"


def test_evaluation_writes_what_it_prints(evaluation):
    stdout, folder = evaluation
    metrics = json.loads((folder / "metrics.json").read_text())
    with open(folder / "per_image.csv", newline="") as stream:
        ious = [float(row["max_iou"]) for row in csv.DictReader(stream)]
    assert len(ious) == metrics["num_images"] == 6
    assert metrics["mean_max_iou"] == pytest.approx(sum(ious) / 6)
    assert "tiny_test: 6 images at the size of the data set's images" in stdout
    assert f"Max IoU            {metrics['mean_max_iou']:.4f}" in stdout
    assert "max IoU over instances of score 0.05 and above" in stdout
    assert f"report: {folder / 'report.html'}" in stdout
    assert isinstance(json.loads((folder / "predictions.json").read_text()), list)
    assert list(folder.glob("*.png"))


def test_metrics_say_what_they_are_of(evaluation, tiny_root, straight_run):
    metrics = json.loads((evaluation[1] / "metrics.json").read_text())
    manifest = json.loads((tiny_root / "split.json").read_text())
    assert metrics["dataset"] == "tiny_test"
    assert metrics["input_fingerprint"] == manifest["input_fingerprint"]
    assert metrics["weights"] == str(straight_run.folder / "model_final.pth")
    assert metrics["score_threshold"] == dict(SMALL)["TEST.SCORE_THRESH"]
    assert metrics["min_size_test"] == 64


def test_evaluation_leaves_the_runs_own_files_alone(evaluation):
    folder = evaluation[1]
    assert sorted(path.name for path in folder.parent.parent.iterdir()) == ["eval"]


def test_the_same_checkpoint_gives_the_same_figures(evaluation, straight_run, tiny_cfg, tmp_path):
    weights = straight_run.folder / "model_final.pth"
    cfg = tiny_cfg(tmp_path, "MODEL.WEIGHTS", str(weights), "DATALOADER.NUM_WORKERS", 1)
    first = json.loads((evaluation[1] / "metrics.json").read_text())
    assert evaluate(cfg) == {"tiny_test": first}
    for name in ("per_image.csv", "predictions.json", "metrics.json"):
        again = tmp_path / "tiny_test" / name
        assert again.read_bytes() == (evaluation[1] / name).read_bytes()


def test_weights_of_another_model_are_refused(straight_run, tiny_cfg, tmp_path):
    weights = straight_run.folder / "model_final.pth"
    cfg = tiny_cfg(tmp_path, "MODEL.WEIGHTS", str(weights), "MODEL.ROI_MASK_HEAD.CONV_DIM", 32)
    with pytest.raises(LesionError, match="tensors are not those of the model"):
        evaluate(cfg)
