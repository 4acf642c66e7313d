"""Benchmarks: their arithmetic, that rivals do their work right, and that each one runs.

No test says how long something takes.
"""

import json
import math
import os
import pickle
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from pycocotools import mask as mask_util
from tiny import DEMO, ROOT, load_tool, run_python

from lesion_d2.benchmark.data import link_pairs, pairs_of
from lesion_d2.benchmark.floors import inflate, read_entropy_codes
from lesion_d2.benchmark.memory import Peak, peak_memory
from lesion_d2.benchmark.report import Section
from lesion_d2.benchmark.rivals.opencv_recipe import convert_with_opencv
from lesion_d2.benchmark.rivals.skimage_recipe import convert_with_skimage
from lesion_d2.benchmark.timing import Contender, alternate, ratio, spread
from lesion_d2.errors import LesionError
from lesion_d2.synthetic import write_archive
from lesion_d2.synthetic.archive import IMAGES, MASKS

TOOL = ROOT / "tools" / "benchmark.py"
MIB = 2**20


@pytest.fixture(autouse=True)
def threads_as_before(monkeypatch):
    """Undo what a benchmark does to the number of threads, of child processes too."""
    monkeypatch.setenv("OMP_NUM_THREADS", os.environ["OMP_NUM_THREADS"])
    before = cv2.getNumThreads()
    yield
    cv2.setNumThreads(before)
    torch.set_num_threads(1)


# --- timing


class Clock:
    """Stands still but when somebody works."""

    def __init__(self):
        self.now = 0.0
        self.log = []

    def __call__(self):
        return self.now

    def contender(self, name, durations, setup=0.0):
        remaining = iter(durations)

        def run():
            self.log.append(name)
            self.now += next(remaining)

        def prepare():
            self.now += setup

        return Contender(name, run, prepare)


def test_contenders_take_turns_and_change_the_order():
    clock = Clock()
    contenders = [clock.contender(name, [1] * 5) for name in "abc"]
    alternate(contenders, 4, "", clock=clock)
    assert "".join(clock.log) == "cba" + "abc" + "cba" + "abc" + "cba"


def test_seconds_leave_out_warm_up_and_preparation():
    clock = Clock()
    contenders = [
        clock.contender("ours", [100, 1, 2, 4], setup=50),
        clock.contender("theirs", [100, 3, 6, 12]),
    ]
    seconds = alternate(contenders, 3, "", clock=clock)
    assert seconds == {"ours": [1, 2, 4], "theirs": [3, 6, 12]}
    cold = alternate([clock.contender("ours", [7])], 1, "", warm_up=False, clock=clock)
    assert cold == {"ours": [7]}


def test_a_ratio_is_taken_within_the_round():
    """The machine became four times as slow, and that is in no ratio."""
    assert ratio([3, 6, 12], [1, 2, 4]) == (3, 3, 3)
    assert spread([3, 6, 12]) == (6, 4.5, 9)
    assert spread([5]) == (5, 5, 5)


def test_a_section_compares_by_unit_round_and_rival():
    section = Section(
        "work",
        "image",
        {"ours": 8, "theirs": 16},
        {"ours": [1.0, 2.0], "theirs": [8.0, 16.0]},
        ("theirs",),
        {"ours": Peak(50, 100, 0), "theirs": Peak(50, 400, 0)},
        {"mean IoU": {"ours": 0.75}},
    )
    figures = section.to_dict()["contenders"]
    assert figures["ours"]["seconds_per_image"] == {
        "median": 0.1875,
        "q1": 0.15625,
        "q3": 0.21875,
    }
    assert figures["ours"]["speed_against"]["theirs"] == {"median": 4, "q1": 4, "q3": 4}
    assert figures["theirs"]["speed_against"]["theirs"]["median"] == 1
    assert figures["ours"]["memory_against"] == {"theirs": 0.25}
    assert figures["ours"]["mean IoU"] == 0.75
    assert "mean IoU" not in figures["theirs"]
    (row,) = (line for line in str(section).splitlines() if line.startswith("ours"))
    assert row.split()[-5:] == ["4)", "50", "100", "0.25", "0.75"]


# --- memory


HOLD = "data = b'1' * (200 << 20)"
LET_ANOTHER_HOLD = f"""
import subprocess, sys
subprocess.run([sys.executable, "-c", "import time; {HOLD}; time.sleep(0.5)"], check=True)
"""


def test_memory_is_that_of_the_work_alone():
    kept = bytearray(b"1" * (300 * MIB))  # of this process, which must not count
    small, large = peak_memory(exec, ""), peak_memory(exec, HOLD)
    assert small.start < 300
    assert 190 < large.peak - small.peak < 210
    assert len(kept) == 300 * MIB


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_of_worker_processes_counts():
    assert peak_memory(exec, LET_ANOTHER_HOLD).peak > 200


def test_a_killed_process_is_an_error_of_one_line():
    with pytest.raises(LesionError, match="--no-memory"):
        peak_memory(exec, "import os; os.kill(os.getpid(), 9)")


# --- rivals


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Three drawn pictures, one of which is made smaller."""
    root = tmp_path_factory.mktemp("originals")
    write_archive(root, 3, sizes=[(96, 128), (705, 940), (120, 90)], workers=1)
    return root / IMAGES, root / MASKS


@pytest.mark.parametrize("recipe", [convert_with_opencv, convert_with_skimage])
def test_recipes_outline_the_lesions(recipe, archive, tmp_path):
    recipe(*archive, tmp_path / "out")
    content = json.loads((tmp_path / "out" / "annotations.json").read_text())
    assert [(image["height"], image["width"]) for image in content["images"]] == [
        (96, 128),
        (176, 235),
        (120, 90),
    ]
    for image, annotation in zip(content["images"], content["annotations"], strict=True):
        height, width = image["height"], image["width"]
        picture = cv2.imread(str(tmp_path / "out" / image["file_name"]))
        assert picture.shape == (height, width, 3)
        name = f"{image['file_name'][7:-4]}_segmentation.png"
        mask = cv2.imread(str(archive[1] / name), cv2.IMREAD_GRAYSCALE)
        mask = cv2.resize(mask, (width, height), interpolation=cv2.INTER_AREA) > 127
        polygons = mask_util.frPyObjects(annotation["segmentation"], height, width)
        truth = mask_util.encode(np.asfortranarray(mask, np.uint8))
        assert mask_util.iou([mask_util.merge(polygons)], [truth], [0])[0, 0] > 0.95
        # OpenCV and Pillow round a mean of pixels differently.
        assert annotation["area"] == pytest.approx(mask.sum(), abs=2)
        assert annotation["bbox"] == pytest.approx(mask_util.toBbox(truth).tolist(), abs=1)


def test_without_scikit_image_the_error_says_how_to_install_it(archive, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(LesionError, match="pip install scikit-image"):
        convert_with_skimage(*archive, tmp_path / "out")


def test_the_floor_reads_every_byte_of_a_mask(archive):
    pairs = pairs_of(archive)
    for pair, (height, width) in zip(pairs, [(96, 128), (705, 940), (120, 90)], strict=True):
        assert len(inflate(pair.mask.path.read_bytes())) == height * (width + 1)
    read_entropy_codes(pairs)
    with pytest.raises(zlib.error):
        inflate(pairs[0].mask.path.read_bytes()[:60])


def test_links_repeat_pairs_under_new_ids(archive, tmp_path):
    pairs = pairs_of(archive)
    linked = pairs_of(link_pairs(pairs, tmp_path / "more", 7, repeat=True))
    assert [pair.isic_id for pair in linked] == [f"ISIC_{number:07d}" for number in range(7)]
    assert linked[4].image.path.read_bytes() == pairs[1].image.path.read_bytes()
    with pytest.raises(LesionError, match="has 3 only"):
        link_pairs(pairs, tmp_path / "too_many", 4)


def test_both_evaluators_get_the_same_predictions(tiny_root, tmp_path):
    from detectron2.data import DatasetCatalog
    from detectron2.structures import Instances

    from lesion_d2.benchmark.evaluate import evaluate_coco, evaluate_ours
    from lesion_d2.benchmark.rivals.stock_detectron2 import with_boxes
    from lesion_d2.prediction.lesion import Lesion

    records = DatasetCatalog.get("tiny_test")
    outputs = []
    for record in records:
        mask = mask_util.decode(record["annotations"][0]["segmentation"]).astype(bool)
        masks = torch.from_numpy(np.stack([mask, ~mask]))
        found = Instances(mask.shape, scores=torch.tensor([0.9, 0.3]), pred_masks=masks)
        outputs.append({"instances": found, "lesion": Lesion(mask, 0.9, 2, 1, 1, 0.1, 0)})
    boxed = with_boxes(outputs)
    for record, output in zip(records, boxed, strict=True):
        left, top, width, height = record["annotations"][0]["bbox"]
        box = [left, top, left + width, top + height]
        assert output["instances"].pred_boxes.tensor[0].tolist() == box
        assert output["instances"].pred_classes.tolist() == [0, 0]

    ours = evaluate_ours(records, outputs, tmp_path / "ours", 0.5)
    coco = evaluate_coco(records, boxed, "tiny_test", tmp_path / "coco")
    assert ours["lesion"]["mean_max_iou"] == 1
    assert coco["segm"]["AP"] == coco["bbox"]["AP"] == pytest.approx(100)
    written = json.loads((tmp_path / "coco" / "coco_instances_results.json").read_text())
    assert len(written) == 2 * len(records)


def test_iou_is_that_of_the_written_masks(tiny_root, tmp_path):
    from detectron2.data import DatasetCatalog

    from lesion_d2.benchmark.predict import mean_iou, write_masks

    records = DatasetCatalog.get("tiny_test")
    truths = [mask_util.decode(record["annotations"][0]["segmentation"]) for record in records]
    files = [Path(record["file_name"]) for record in records]
    remaining = iter(truths)
    write_masks(lambda image: next(remaining).astype(bool), files, tmp_path / "true")
    write_masks(lambda image: np.ones(image.shape[:2], bool), files, tmp_path / "all")
    assert mean_iou(tmp_path / "true", records) == 1
    shares = [truth.mean() for truth in truths]
    assert mean_iou(tmp_path / "all", records) == pytest.approx(np.mean(shares))


# --- the tool


def measure(command, tmp_path, monkeypatch, *arguments):
    """Run a subcommand with one repeat; returns its sections, checked for completeness."""
    output = tmp_path / "result.json"
    line = [command, "--repeats", "1", "--threads", "1", "--output", output, *arguments]
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
            assert len(figures["seconds"]) == 1
            assert list(figures["speed_against"]) == section["rivals"]
    return [section["contenders"] for section in content["sections"]]


def numbers(value):
    if isinstance(value, dict):
        # A CPU holds nothing on the GPU, and a random network may find nothing.
        counted = [item for key, item in value.items() if key not in ("gpu", "mean IoU")]
        return [number for item in counted for number in numbers(item)]
    if isinstance(value, list):
        return [number for item in value for number in numbers(item)]
    return [value]


def peak_here(work, *arguments):
    """Stand in for a process of its own, which takes seconds to start."""
    work, arguments = pickle.loads(pickle.dumps((work, arguments)))
    work(*arguments)
    return Peak(1, 2, 0)


def test_convert(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("lesion_d2.benchmark.convert.peak_memory", peak_here)
    sizes = ["--sizes", "96x128,705x940", "--images", 2]
    recipes, growth = measure("convert", tmp_path, monkeypatch, *sizes, "--growth", 6, 3)
    ours = {
        f"lesion_d2, {workers}{group}"
        for workers in ("1 worker", "2 workers")
        for group in ("", ", --no-group")
    }
    rivals = {"OpenCV recipe", "scikit-image recipe", "floor: entropy decoding"}
    assert recipes.keys() == ours | rivals
    assert list(growth) == ["3 images", "6 images"]
    assert all(figures["memory_mib"]["peak"] == 2 for figures in recipes.values())
    stdout = capsys.readouterr().out
    assert "scikit-image recipe" in stdout
    assert f"written: {tmp_path / 'result.json'}" in stdout


def test_convert_of_a_given_archive(archive, tmp_path, monkeypatch):
    arguments = ["--dataset", archive[0].parent, "--images", 2, "--no-memory"]
    (recipes,) = measure("convert", tmp_path, monkeypatch, *arguments, "--growth")
    assert "memory_mib" not in recipes["OpenCV recipe"]
    assert {"lesion_d2, 1 worker", "scikit-image recipe"} <= recipes.keys()
    arguments += ["--no-scikit-image"]
    arguments[3] = 20  # more than there are
    (recipes,) = measure("convert", tmp_path, monkeypatch, *arguments, "--growth")
    assert "lesion_d2, 1 worker, --no-group" in recipes
    assert not {"lesion_d2, 1 worker", "scikit-image recipe"} & recipes.keys()
    assert not (archive[0].parent / "images").exists()


SMALL = (
    *("MODEL.DEVICE", "cpu", "SOLVER.IMS_PER_BATCH", "2", "DATALOADER.NUM_WORKERS", "1"),
    *("INPUT.MIN_SIZE_TRAIN", "(64,)", "INPUT.MIN_SIZE_TEST", "64"),
)
PICTURES = ("--images", 2, "--sizes", "96x128")


def test_load(tmp_path, monkeypatch):
    rounds = ["--batches", 1, "--steps", 1, "--config-file", DEMO]
    loading, training = measure("load", tmp_path, monkeypatch, *PICTURES, *rounds, *SMALL)
    names = [
        *("lesion_d2", "lesion_d2, no augmentation"),
        *("DatasetMapper, resized files", "DatasetMapper, original files"),
    ]
    assert list(loading) == list(training) == names
    assert all(
        figures["share of the step spent waiting"]["median"] <= 1 for figures in training.values()
    )


def test_train(tmp_path, monkeypatch):
    from lesion_d2.benchmark import train

    def small_stock_config(cfg):
        stock = stock_config(cfg)
        stock.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = 4
        return stock

    def peak_of_ours(work, experiment, name, *arguments):
        # The rivals' networks are large.
        return peak_here(work, experiment, "lesion_d2", *arguments)

    stock_config = train.stock_config
    monkeypatch.setattr(train, "stock_config", small_stock_config)
    monkeypatch.setattr(train, "peak_memory", peak_of_ours)
    monkeypatch.setattr(train, "_MEMORY_STEPS", 1)
    options = ["--matrix-side", 64, "--config-file", DEMO]
    stages = measure(
        "train", tmp_path, monkeypatch, *PICTURES, *options, *SMALL, "SOLVER.STAGES", "((1, 2),)"
    )
    assert len(stages) == 1
    for stage in stages:
        ours, stock, torchvision, *floors = stage
        assert (ours, stock, torchvision) == ("lesion_d2", "DefaultTrainer", "torchvision")
        assert floors == ["floor of lesion_d2, float32", "floor of DefaultTrainer, float32"]
        assert stage[stock]["GFLOP a step"] > stage[ours]["GFLOP a step"]


def test_predict(tmp_path, monkeypatch):
    # With all its proposals the stock predictor takes seconds.
    monkeypatch.setattr("lesion_d2.benchmark.predict.stock_detections", lambda cfg: cfg)
    picture = ["--images", 1, "--sizes", "96x128"]
    files, alone = measure("predict", tmp_path, monkeypatch, *picture, *SMALL)
    names = {
        *("lesion_d2", "DefaultPredictor", "DefaultPredictor, config of lesion_d2", "torchvision")
    }
    assert files.keys() == alone.keys() == names
    assert all(0 <= figures["mean IoU"] <= 1 for figures in files.values())
    (shared,) = {files[name]["mean IoU"] for name in files if name.startswith("DefaultPredictor")}
    assert files["lesion_d2"]["mean IoU"] == pytest.approx(shared, abs=0.05)


def test_evaluate(tmp_path, monkeypatch):
    config = ["--config-file", DEMO]
    for contenders in measure("evaluate", tmp_path, monkeypatch, *PICTURES, *config, *SMALL):
        ours = ["LesionEvaluator", "LesionEvaluator, no files"]
        assert list(contenders) == [*ours, "COCOEvaluator", "inference"]
        assert "share of the inference's time" in contenders["LesionEvaluator"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["convert", "--images", "0"], "--images: 0"),
        (["convert", "--repeats", "0"], "--repeats: 0"),
        (["convert", "--threads", "-1"], "--threads: -1"),
        (["convert", "--growth", "10", "0"], "--growth: 0"),
        (["convert", "--dataset", "nowhere"], "--dataset: nowhere: give a folder that holds"),
        (["load", "--steps", "0"], "--steps: 0"),
        (["train", "--dataset", "nowhere"], "--dataset: nowhere: holds no train.json"),
        (["train", "--matrix-side", "0"], "--matrix-side: 0"),
        (["train", "--config-file", "nowhere.yaml"], "nowhere.yaml"),
        (["predict", "--weights", "nowhere.pth"], "--weights: nowhere.pth: no such file"),
        (["predict", "MODEL.WEIGHTS", "a.pth"], "give --weights FILE"),
        (["evaluate", "--dataset", "{tiny}", "--images", "7"], "the test split has 6 only"),
        (
            ["predict", "--config-file", DEMO, "--dataset", "{tiny}", "--images", "1"],
            "is not R50-FPN",
        ),
    ],
)
def test_mistakes_are_named(arguments, message, tiny_root, monkeypatch):
    line = [argument.format(tiny=tiny_root) for argument in arguments]
    monkeypatch.setattr("sys.argv", ["benchmark", *line])
    with pytest.raises(LesionError, match=message):
        load_tool("benchmark").main()


def test_a_mistake_is_one_line_and_a_status():
    status, stdout, stderr = run_python(TOOL, "convert", "--images", "0")
    assert (status, stdout) == (1, "")
    assert stderr.startswith("error: --images: 0 ")
    assert stderr.count("\n") == 1


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
    assert "tools/benchmark.py convert --images" in stdout
