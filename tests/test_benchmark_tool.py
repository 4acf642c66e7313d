"""tools/benchmark.py: each benchmark runs. No test says how long something takes."""

import json
import math
import os

import cv2
import pytest
import torch
from detectron2.modeling import build_model
from test_torchvision_peer import PEER
from tiny import DEMO, ROOT, load_tool, run_python

from lesion_d2.errors import LesionError

TOOL = ROOT / "tools" / "benchmark.py"


@pytest.fixture(autouse=True)
def threads_as_before(monkeypatch):
    """Undo what a benchmark does to the number of threads, of child processes too."""
    monkeypatch.setenv("OMP_NUM_THREADS", os.environ["OMP_NUM_THREADS"])
    before = cv2.getNumThreads()
    yield
    cv2.setNumThreads(before)
    torch.set_num_threads(1)


def measure(command, tmp_path, monkeypatch, *arguments):
    """Run a subcommand with one repeat; returns its sections, checked for completeness."""
    output = tmp_path / "result.json"
    repeats = [] if command == "pareto" else ["--repeats", "1"]
    line = [command, *repeats, "--threads", "1", "--output", output, *arguments]
    monkeypatch.setattr("sys.argv", ["benchmark", *map(str, line)])
    load_tool("benchmark").main()
    content = json.loads(output.read_text())
    assert content["benchmark"] == command
    assert content["machine"]["threads"] == content["options"]["threads"] == 1
    assert {"Python", "torch", "numpy", "opencv-python-headless"} <= content["machine"][
        "versions"
    ].keys()
    for section in content["sections"]:
        for figures in section["contenders"].values():
            assert all(0 < value < math.inf for value in numbers(figures))
            assert len(figures["seconds"]) == (2 if command == "pareto" else 1)
            assert list(figures["speed_against"]) == section["rivals"]
    return [section["contenders"] for section in content["sections"]]


ACCURACY = ("mean IoU", "Jaccard", "from", "to", "both faster and better")


def numbers(value):
    if isinstance(value, dict):
        # A random network may find nothing.
        counted = [item for key, item in value.items() if key not in ACCURACY]
        return [number for item in counted for number in numbers(item)]
    if isinstance(value, list):
        return [number for item in value for number in numbers(item)]
    return [value]


def test_convert(tmp_path, monkeypatch, capsys):
    sizes = ["--sizes", "96x128", "705x940", "--images", 2]
    (recipes,) = measure("convert", tmp_path, monkeypatch, *sizes)
    ours = {
        f"lesion_d2, {workers}{group}"
        for workers in ("1 worker", "2 workers")
        for group in ("", ", --no-group")
    }
    rivals = {"OpenCV recipe", "floor: entropy decoding"}
    assert recipes.keys() == ours | rivals
    stdout = capsys.readouterr().out
    assert "OpenCV recipe" in stdout
    assert f"written: {tmp_path / 'result.json'}" in stdout


def test_convert_of_a_given_archive(drawn_pairs, tmp_path, monkeypatch):
    arguments = ["--dataset", drawn_pairs[0].parent, "--images", 2]
    (recipes,) = measure("convert", tmp_path, monkeypatch, *arguments)
    assert "lesion_d2, 1 worker" in recipes
    arguments[3] = 20  # more than there are
    (recipes,) = measure("convert", tmp_path, monkeypatch, *arguments)
    assert "lesion_d2, 1 worker, --no-group" in recipes
    assert "lesion_d2, 1 worker" not in recipes
    assert not (drawn_pairs[0].parent / "images").exists()


SMALL = (
    *("MODEL.DEVICE", "cpu", "SOLVER.IMS_PER_BATCH", "2", "DATALOADER.NUM_WORKERS", "1"),
    *("INPUT.MIN_SIZE_TRAIN", "(64,)", "INPUT.MIN_SIZE_TEST", "64"),
)
PICTURES = ("--images", 2, "--sizes", "96x128")


def test_load(tmp_path, monkeypatch):
    rounds = ["--batches", 1, "--config-file", DEMO]
    (loading,) = measure("load", tmp_path, monkeypatch, *PICTURES, *rounds, *SMALL)
    names = [
        *("lesion_d2", "lesion_d2, no augmentation"),
        *("DatasetMapper, resized files", "DatasetMapper, original files"),
    ]
    assert list(loading) == names


def test_train(tmp_path, monkeypatch):
    from lesion_d2.benchmark import train

    def small_stock_config(cfg):
        stock = stock_config(cfg)
        stock.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = 4
        return stock

    stock_config = train.stock_config
    monkeypatch.setattr(train, "stock_config", small_stock_config)
    options = ["--config-file", DEMO]
    stages = measure(
        "train", tmp_path, monkeypatch, *PICTURES, *options, *SMALL, "SOLVER.STAGES", "((1, 2),)"
    )
    assert len(stages) == 1
    assert list(stages[0]) == ["lesion_d2", "DefaultTrainer"]
    assert all("lesion regions an image" in figures for figures in stages[0].values())


def test_predict(tmp_path, monkeypatch):
    # With all its proposals the stock predictor takes seconds.
    monkeypatch.setattr("lesion_d2.benchmark.predict.stock_detections", lambda cfg: cfg)
    picture = ["--images", 1, "--sizes", "96x128", "--config-file", DEMO]
    (files,) = measure("predict", tmp_path, monkeypatch, *picture, *SMALL)
    names = {"lesion_d2", "DefaultPredictor", "DefaultPredictor, config of lesion_d2"}
    assert files.keys() == names
    assert all(0 <= figures["mean IoU"] <= 1 for figures in files.values())
    (shared,) = {files[name]["mean IoU"] for name in files if name.startswith("DefaultPredictor")}
    assert files["lesion_d2"]["mean IoU"] == pytest.approx(shared, abs=0.05)


def test_pareto(tiny_cfg, tmp_path, monkeypatch, capsys):
    cfg = tiny_cfg(tmp_path / "peer", *PEER)
    (tmp_path / "peer").mkdir()
    (tmp_path / "peer" / "config.yaml").write_text(cfg.dump())
    torch.manual_seed(0)
    torch.save({"model": build_model(cfg).state_dict()}, tmp_path / "peer" / "model_best.pth")
    monkeypatch.setattr("lesion_d2.benchmark.pareto.has_bfloat16", lambda device: False)
    runs = ["--runs", "pretrained", tmp_path / "peer"]
    (found,) = measure("pareto", tmp_path, monkeypatch, *PICTURES, *runs)
    ours = ("pretrained, float32", "pretrained, ONNX")
    assert list(found) == [*ours, "pretrained, DefaultPredictor", "peer, float32"]
    for name, figures in found.items():
        assert 0 <= figures["from"] <= figures["Jaccard"] <= figures["to"] <= 1
        assert ("both faster and better" in figures) == (name in ours)
    good, *others = (found[name]["Jaccard"] for name in [*ours, "pretrained, DefaultPredictor"])
    assert good > 0.6  # a drawn lesion is easy
    assert others == pytest.approx([good, good], abs=0.02)
    assert found["peer, float32"]["Jaccard"] < good
    assert cv2.imread(str(tmp_path / "result.png")).shape[1] > 1000
    assert "both faster and better" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pareto", "--runs", "nowhere"], "nowhere"),
        (["pareto", "--runs", "pretrained", "pretrained"], "--runs: pretrained, pretrained; give"),
        (["convert", "--dataset", "nowhere"], "--dataset: nowhere: give a folder that holds"),
        (["train", "--dataset", "nowhere"], "--dataset: nowhere: holds no train.json"),
        (["train", "--config-file", "nowhere.yaml"], "nowhere.yaml"),
        (["predict", "--weights", "nowhere.pth"], "--weights: nowhere.pth: no such file"),
        (["predict", "MODEL.WEIGHTS", "a.pth"], "give --weights FILE"),
        (["predict", "--dataset", "{tiny}", "--images", "7"], "the test split has 6 only"),
    ],
)
def test_mistakes_are_named(arguments, message, tiny_root, monkeypatch):
    line = [argument.format(tiny=tiny_root) for argument in arguments]
    monkeypatch.setattr("sys.argv", ["benchmark", *line])
    with pytest.raises(LesionError, match=message):
        load_tool("benchmark").main()


def test_a_mistake_is_one_line_and_a_status():
    status, stdout, stderr = run_python(TOOL, "convert", "--dataset", "nowhere")
    assert (status, stdout) == (1, "")
    assert stderr.startswith("error: --dataset: nowhere: ")
    assert stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--images", "0", "--images: 0 is less than 1"),
        ("--threads", "-1", "--threads: -1 is less than 1"),
        ("--repeats", "x", "--repeats: invalid positive value: 'x'"),
        ("--sizes", "96", "--sizes: '96' is not HxW"),
    ],
)
def test_a_bad_number_is_named(option, value, message, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["benchmark", "convert", option, value])
    with pytest.raises(SystemExit) as stop:
        load_tool("benchmark").main()
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("command", [[], ["convert"], ["train"]])
def test_help_is_quick_and_has_examples(command):
    code = (
        "import atexit, runpy, sys; heavy = {'torch', 'detectron2', 'cv2', 'numpy'};"
        "atexit.register(lambda: print('heavy', heavy & set(sys.modules)));"
        f"sys.argv = {['tool', *command, '--help']!r};"
        f"runpy.run_path({str(TOOL)!r}, run_name='__main__')"
    )
    status, stdout, stderr = run_python("-c", code)
    assert (status, stderr) == (0, "")
    assert stdout.endswith("heavy set()\n")
    assert command or "tools/benchmark.py convert --images" in stdout
