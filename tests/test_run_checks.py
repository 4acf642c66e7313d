"""What a run checks before it starts."""

import json
from argparse import Namespace
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from detectron2.utils.file_io import PathManager
from tiny import DEMO, ROOT, tiny_options

from lesion_d2.config.load import load_config
from lesion_d2.data.datasets import register_dataset
from lesion_d2.engine.launch import TORCHRUN, check_device, count_processes
from lesion_d2.engine.setup import check_run, setup
from lesion_d2.errors import LesionError
from lesion_d2.modeling import build_network


@pytest.fixture
def arguments(tiny_root, tmp_path):
    """Function (*overrides, argument=...) -> the command line of a run on the tiny data set."""

    def build(*opts, **changes):
        usual = {
            "config_file": DEMO, "opts": tiny_options(tmp_path / "run", *opts), "resume": False,
            "num_gpus": 1, "num_machines": 1, "machine_rank": 0, "dist_url": "auto",
        }  # fmt: skip
        return Namespace(**{**usual, **changes})

    return build


def check(args, training=True):
    check_run(args, training=training)


def test_a_good_run_passes(arguments, tmp_path):
    check(arguments())
    check(arguments("DATASETS.VAL", ()))
    check(arguments(num_gpus=2))
    check(arguments(num_machines=2, dist_url="tcp://10.0.0.1:1"))
    (tmp_path / "model.pth").touch()
    for training in (True, False):
        check(arguments("MODEL.WEIGHTS", str(tmp_path / "model.pth")), training)
    assert list((tmp_path / "run").iterdir()) == []


def test_masks_at_the_originals_size_are_looked_for_first(arguments, tiny_archive, tmp_path):
    (tmp_path / "model.pth").touch()
    opts = ("MODEL.WEIGHTS", str(tmp_path / "model.pth"), "TEST.TRUTH_DIR")
    for training in (True, False):
        check(arguments(*opts, str(tiny_archive[1])), training)
        with pytest.raises(LesionError, match=r"_segmentation\.png: cannot be used \(No such file"):
            check(arguments(*opts, str(tmp_path)), training)


def test_what_an_earlier_start_held_is_not_what_a_new_run_held(arguments, tiny_root):
    args = arguments("DATASETS.VAL", ())
    folder = Path(load_config(args.config_file, args.opts).OUTPUT_DIR)
    folder.mkdir()
    (folder / "data.json").write_text('{"other_train": {}}')
    setup(args)
    assert list(json.loads((folder / "data.json").read_text())) == ["tiny_train"]
    (folder / "last_checkpoint").write_text("model_0000001.pth")
    (folder / "data.json").write_text('{"other_train": {}}')
    setup(args)
    assert list(json.loads((folder / "data.json").read_text())) == ["other_train", "tiny_train"]


def test_a_run_is_not_overwritten(arguments, tmp_path):
    (tmp_path / "run").mkdir()
    state = {"trainer": {"iteration": 1}}
    torch.save(state, tmp_path / "run" / "model_0000001.pth")
    (tmp_path / "run" / "last_checkpoint").write_text("model_0000001.pth")
    with pytest.raises(LesionError, match=r"run holds a run already; pass --resume"):
        check(arguments())
    # Resuming needs no pretrained weights any more.
    check(arguments("MODEL.WEIGHTS", "nowhere.pth", resume=True))


@pytest.mark.parametrize(
    ("opts", "changes", "message"),
    [
        ([], {"num_machines": 2}, "--dist-url"),
        ([], {"num_machines": 2, "dist_url": "tcp://a:1", "machine_rank": 5}, "--machine-rank: 5"),
        ([], {"machine_rank": -1}, "--machine-rank: -1"),
        ([], {"num_machines": 0}, "--num-machines: 0"),
        ([], {"num_gpus": -1}, "--num-gpus: -1"),
        (["MODEL.RPN.HEAD_NAME", "NoHead"], {}, "MODEL: .*NoHead"),
        (["MODEL.ANCHOR_GENERATOR.SIZES", [[32], [64]]], {}, "MODEL: no network"),
        (["MODEL.ROI_HEADS.IN_FEATURES", ["p9"]], {}, "MODEL: no network"),
        (["MODEL.ROI_BOX_HEAD.FC_DIM", 900_000], {}, "MODEL: the network would have"),
        (["TEST.VIEWS", ("sideways",)], {}, "TEST.VIEWS"),
        (["TEST.INSTANCE_CHOICE", "guess"], {}, "TEST.INSTANCE_CHOICE"),
        (["TEST.POSTPROCESSING", ("polish",)], {}, "TEST.POSTPROCESSING"),
        (["TEST.PRECISION", "int4"], {}, "TEST.PRECISION"),
        (["TEST.TRUTH_DIR", "nowhere"], {}, "TEST.TRUTH_DIR: nowhere"),
        (["TEST.CONFIDENCE", "nowhere.json"], {}, "nowhere.json"),
        (["OUTPUT_DIR", "x" * 300], {}, "OUTPUT_DIR: x"),
        (["OUTPUT_DIR", "/proc/run"], {}, "OUTPUT_DIR: /proc/run"),
        (["OUTPUT_DIR", __file__], {}, "OUTPUT_DIR: .*test_run_checks.py"),
        (["SOLVER.IMS_PER_BATCH", 3], {"num_gpus": 2}, "IMS_PER_BATCH: 3 is not a multiple"),
        (["SOLVER.IMS_PER_BATCH", 2], {"num_machines": 3, "dist_url": "tcp://a:1"}, "3 processes"),
        (["DATASETS.TRAIN", ("unheard_of",)], {}, "'unheard_of' is not registered"),
        (["DATASETS.VAL", ("unheard_of",)], {}, "'unheard_of' is not registered"),
        (["DATASETS.VAL", ("unconverted_val",)], {}, r"val\.json.*tools/convert_isic\.py"),
        (["DATASETS.TRAIN", ()], {}, "DATASETS"),
        (["MODEL.WEIGHTS", "nowhere.pth"], {}, "MODEL.WEIGHTS: nowhere.pth: no such file"),
        (["MODEL.WEIGHTS", "nowhere.pth"], {"resume": True}, "no such file"),
    ],
)
def test_what_would_fail_later_fails_first(opts, changes, message, arguments, tmp_path):
    register_dataset("unconverted", tmp_path / "unconverted")
    with pytest.raises(LesionError, match=message):
        check(arguments(*opts, **changes))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("DATASETS.TEST", ("unheard_of",)),
        ("DATASETS.TEST", ()),
        ("MODEL.WEIGHTS", "nowhere.pth"),
        ("MODEL.WEIGHTS", ""),
    ],
)
def test_an_evaluation_checks_its_data_and_weights(key, value, arguments, tmp_path):
    (tmp_path / "model.pth").touch()
    weights = ("MODEL.WEIGHTS", str(tmp_path / "model.pth"))
    with pytest.raises(LesionError, match=key.partition(".")[0]):
        check(arguments(*weights, key, value), training=False)


def test_without_a_gpu_the_cpu_computes_and_the_config_still_asks_for_one(arguments):
    args = arguments("MODEL.DEVICE", "cuda")
    cfg = setup(args)
    assert build_network(cfg).device.type == "cpu"
    again = load_config(str(Path(cfg.OUTPUT_DIR) / "config.yaml"), [])
    assert again.MODEL.DEVICE == "cuda"


def test_no_gpus_is_one_process_on_the_cpu(arguments):
    args = arguments(num_gpus=0)
    check(args)
    assert args.num_gpus == 1
    assert load_config(args.config_file, args.opts).MODEL.DEVICE == "cpu"


TORCHRUN_OF_4 = {TORCHRUN: "1", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "4"}


@pytest.mark.parametrize(
    ("gpus", "device", "num_gpus", "environment", "message"),
    [
        (2, "cuda", 2, {}, None),
        (2, "cuda:1", 1, {}, None),
        (2, "cpu", 1, {}, None),
        (2, "cuda", 3, {}, "--num-gpus: 3, but this machine has 2"),
        (2, "cpu", 2, {}, "MODEL.DEVICE: 'cpu' cannot be used by 2 processes here; give 'cuda'"),
        (2, "cuda:0", 2, {}, "MODEL.DEVICE: 'cuda:0'"),
        (2, "cuda", 1, TORCHRUN_OF_4, "--nproc-per-node: 4, but this machine has 2"),
        (4, "cuda", 1, TORCHRUN_OF_4, None),
        (4, "cpu", 1, TORCHRUN_OF_4, "MODEL.DEVICE: 'cpu' cannot be used by 4"),
        (0, "cpu", 2, {}, None),
        (0, "cpu", 1, TORCHRUN_OF_4, None),
        (0, "mps", 2, {}, "MODEL.DEVICE: 'mps' cannot be used by 2 processes here; give 'cpu'"),
    ],
)
def test_processes_and_devices_fit(
    gpus, device, num_gpus, environment, message, arguments, monkeypatch
):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpus > 0)
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    expected = pytest.raises(LesionError, match=message) if message else nullcontext()
    with expected:
        check_device(device, count_processes(arguments(num_gpus=num_gpus)))


@pytest.mark.parametrize("device", ["cuda", "cuda:0"])
def test_a_run_checks_the_device_of_its_processes(device, arguments, monkeypatch):
    """The processes of a machine of two GPUs, and the device that this one settles for."""
    monkeypatch.setattr("lesion_d2.engine.setup.settle_device", lambda _: device)
    with pytest.raises(LesionError, match=rf"MODEL\.DEVICE: '{device}' cannot be used by 2"):
        check(arguments(num_gpus=2))


@pytest.mark.parametrize("error", [OSError("[Errno -2] no such host\nmore"), TimeoutError()])
def test_weights_that_cannot_be_downloaded(error, arguments, monkeypatch):
    get_local_path = PathManager.get_local_path

    def fail(path, *rest, **options):
        if path.startswith("detectron2://"):
            raise error
        return get_local_path(path, *rest, **options)

    monkeypatch.setattr(PathManager, "get_local_path", fail)
    original = load_config(str(ROOT / "configs" / "isic_mrcnn.yaml"), [])
    with pytest.raises(LesionError, match=r"detectron2://.*without a network.*MODEL\.WEIGHTS"):
        check(arguments("MODEL.WEIGHTS", original.MODEL.WEIGHTS))


def test_a_file_of_weights_that_is_missing(arguments, tmp_path):
    missing = str(tmp_path / "efficientnet.pth")
    with pytest.raises(LesionError, match=rf"{missing}: no such file; tools/timm_weights\.py"):
        check(arguments("MODEL.WEIGHTS", missing))
