"""Loading training samples against Detectron2's mapper."""

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path

from detectron2.config import CfgNode

from lesion_d2.benchmark.data import convert_archive, open_archive
from lesion_d2.benchmark.models import benchmark_config
from lesion_d2.benchmark.options import Options
from lesion_d2.benchmark.results import Section
from lesion_d2.benchmark.rivals.opencv_recipe import convert_with_opencv
from lesion_d2.benchmark.rivals.stock_detectron2 import stock_config, stock_loader
from lesion_d2.benchmark.steps import Batch
from lesion_d2.benchmark.timing import alternate
from lesion_d2.data.datasets import register_dataset
from lesion_d2.data.loader import build_train_loader
from lesion_d2.parallel import available_cpus

RESIZED, ORIGINALS = "DatasetMapper, resized files", "DatasetMapper, original files"


def run(options: Options) -> tuple[str, list[Section]]:
    """Measure; return the device, and the results."""
    cfg = benchmark_config(options)
    archive = open_archive(options)
    root = options.folder / "converted"
    convert_archive(archive, root, "train", resize="original", workers=available_cpus())
    register_dataset("benchmark", root)
    cfg.DATASETS.TRAIN = ("benchmark_train",)
    recipes = {name: options.folder / name for name in ("resized", "originals")}
    for name, folder in recipes.items():
        convert_with_opencv(*archive, folder, resize=name == "resized")
    # In this process: workers would go on reading ahead while another contender's turn is timed.
    cfg.DATALOADER.NUM_WORKERS = 0
    contenders = {
        name: partial(_take, iter(loader), options.batches)
        for name, loader in _loaders(cfg, recipes).items()
    }
    seconds = alternate(contenders, options.repeats, "loading")
    count = options.batches * cfg.SOLVER.IMS_PER_BATCH
    title = f"loading of training samples from {options.images} images, one process"
    return "cpu", [Section(title, "sample", count, seconds, (RESIZED, ORIGINALS))]


def _loaders(cfg: CfgNode, recipes: dict[str, Path]) -> dict[str, Iterable[Batch]]:
    plain = cfg.clone()
    plain.INPUT.COLOUR.ENABLED = plain.INPUT.GEOMETRY.ENABLED = False
    stock = stock_config(cfg)
    return {
        "lesion_d2": build_train_loader(cfg),
        "lesion_d2, no augmentation": build_train_loader(plain),
        RESIZED: stock_loader(stock, "benchmark_resized", recipes["resized"]),
        ORIGINALS: stock_loader(stock, "benchmark_originals", recipes["originals"]),
    }


def _take(iterator: Iterator[Batch], batches: int) -> None:
    for _ in islice(iterator, batches):
        pass
