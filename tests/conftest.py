"""Fixtures: a small data set, configs for it, a training run, a predictor of it, and photographs.

They import what they need when they are used: tests of the converter need not wait for torch.
"""

import os
import shutil
import signal

import pytest

from lesion_d2.commands.convert import ConvertOptions, convert
from lesion_d2.synthetic import write_archive
from lesion_d2.synthetic.archive import IMAGES, MASKS

# Results are compared bit by bit: on the CPU, and with one thread, here and in child processes.
os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ["OMP_NUM_THREADS"] = "1"
# Shells start what runs in the background with Ctrl-C ignored; programs under test are to heed it.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def tiny_archive(tmp_path_factory):
    """The folders of images and masks of 24 drawn pictures."""
    root = tmp_path_factory.mktemp("archive")
    write_archive(root, 24, sizes=[(96, 128), (72, 96)], workers=1)
    return root / IMAGES, root / MASKS


@pytest.fixture(scope="session")
def tiny_root(tiny_archive, tmp_path_factory):
    """A converted folder of 13 / 5 / 6 pictures, registered under the name tiny.

    It is the only folder of its parent, which can therefore serve as $DETECTRON2_DATASETS.
    """
    from lesion_d2.data.datasets import register_dataset

    root = tmp_path_factory.mktemp("datasets") / "tiny"
    convert(ConvertOptions({"all": tiny_archive}, root, group=False))
    register_dataset("tiny", root)
    return root


@pytest.fixture(scope="session")
def tiny_cfg(tiny_root):
    """Function (output folder, *overrides) -> config of a run on the tiny data set."""
    from tiny import load_tiny_config

    return load_tiny_config


@pytest.fixture(scope="session")
def straight_run(tiny_cfg, tmp_path_factory):
    """A run of 9 iterations in 3 stages that nothing interrupted; see `tiny.TRAINING`."""
    from tiny import TRAINING, train_run

    return train_run(tiny_cfg(tmp_path_factory.mktemp("straight"), *TRAINING))


@pytest.fixture(scope="session")
def bundle(tiny_cfg, straight_run, tmp_path_factory):
    """The file of that run's model, with `tiny.CONFIDENCE`."""
    from tiny import CONFIDENCE, PROVENANCE

    from lesion_d2.prediction.bundle import write_bundle

    path = tmp_path_factory.mktemp("bundle") / "lesion.safetensors"
    cfg = tiny_cfg(tmp_path_factory.mktemp("predictor"), "INPUT.MIN_SIZE_TEST", 72)
    write_bundle(path, cfg, straight_run.trainer.model.eval(), CONFIDENCE, PROVENANCE)
    return path


@pytest.fixture(scope="session")
def predictor(bundle):
    """The predictor of that file."""
    import lesion_d2

    return lesion_d2.LesionPredictor.from_bundle(bundle)


@pytest.fixture(scope="session")
def tiny_graph(bundle, tiny_cfg, tmp_path_factory):
    """That file exported to ONNX."""
    from lesion_d2.commands.export import export

    folder = tmp_path_factory.mktemp("tiny_graph")
    cfg = tiny_cfg(folder, "INPUT.MIN_SIZE_TEST", 72, "MODEL.WEIGHTS", str(bundle))
    export(cfg, folder / "tiny.onnx")
    return folder / "tiny.onnx"


@pytest.fixture(scope="session")
def lite_graph(tmp_path_factory):
    """The model that comes with the package, exported to ONNX again."""
    from tiny import CPU, ROOT

    from lesion_d2.commands.export import export
    from lesion_d2.config.load import load_config

    path = tmp_path_factory.mktemp("lite_graph") / "lite.onnx"
    options = ["MODEL.WEIGHTS", "pretrained", *CPU]
    export(load_config(str(ROOT / "configs" / "isic_mrcnn_lite.yaml"), options), path)
    return path


@pytest.fixture
def photographs(tiny_archive, tmp_path):
    """A folder of four images, one of them in a subfolder."""
    folder = tmp_path / "photographs"
    (folder / "more").mkdir(parents=True)
    for number, path in enumerate(sorted(tiny_archive[0].glob("*.jpg"))[:4]):
        shutil.copy(path, folder / "more" if number == 3 else folder)
    return folder


@pytest.fixture(scope="session")
def drawn_pairs(tmp_path_factory):
    """Folders of images and of masks: three drawn pairs, one of which is made smaller."""
    root = tmp_path_factory.mktemp("originals")
    write_archive(root, 3, sizes=[(96, 128), (705, 940), (120, 90)], workers=1)
    return root / IMAGES, root / MASKS


@pytest.fixture(scope="session")
def planted_dataset(tmp_path_factory):
    """A data set with a copy of each kind across splits, and one of each inside a split."""
    from leak_files import OWN, make_dataset, near, picture, repacked

    return make_dataset(
        tmp_path_factory.mktemp("planted") / "planted",
        train=OWN | {90: OWN[0], 91: repacked(1), 92: near(2)},
        val={31: near(3)},
        test={10: OWN[4], 11: repacked(5), 12: near(6), 13: picture(13), 14: picture(14)},
    )


@pytest.fixture(scope="session")
def clean_dataset(tmp_path_factory):
    """A data set of which nothing leaks, though its training split repeats an image."""
    from leak_files import OWN, make_dataset

    folder = tmp_path_factory.mktemp("clean") / "clean"
    return make_dataset(folder, train={0: OWN[0], 1: OWN[0]}, val={2: OWN[2]}, test={3: OWN[3]})
