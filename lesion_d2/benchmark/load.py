"""Loading training samples against Detectron2's mapper."""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any

from lesion_d2.benchmark.data import Options, convert_archive, open_archive
from lesion_d2.benchmark.models import benchmark_config
from lesion_d2.benchmark.results import Section
from lesion_d2.benchmark.rivals import convert_with_opencv, stock_config, stock_loader
from lesion_d2.benchmark.timing import alternate
from lesion_d2.cpus import available_cpus
from lesion_d2.data.datasets import register_dataset
from lesion_d2.data.loader import build_train_loader

RIVALS = {"DatasetMapper, resized files": True, "DatasetMapper, original files": False}


def run(options: Options) -> tuple[str, list[Section]]:
    """Measure; return the device, and the results."""
    cfg = benchmark_config(options)
    archive = open_archive(options)
    root = options.folder / "converted"
    convert_archive(archive, root, "train", resize="original", workers=available_cpus())
    register_dataset("benchmark", root)
    cfg.DATASETS.TRAIN = ("benchmark_train",)
    # In this process: workers would go on reading ahead while another contender's turn is timed.
    cfg.DATALOADER.NUM_WORKERS = 0
    plain = cfg.clone()
    plain.INPUT.COLOUR.ENABLED = plain.INPUT.GEOMETRY.ENABLED = False
    loaders: dict[str, Iterable[Sequence[Mapping[str, Any]]]] = {
        "lesion_d2": build_train_loader(cfg),
        "lesion_d2, no augmentation": build_train_loader(plain),
    }
    for name, resize in RIVALS.items():
        folder = options.folder / name
        convert_with_opencv(*archive, folder, resize)
        loaders[name] = stock_loader(stock_config(cfg), f"benchmark_{resize}", folder)

    def take(batches: Iterable[Sequence[Mapping[str, Any]]]) -> None:
        deque(islice(batches, options.batches), maxlen=0)

    contenders = {name: partial(take, iter(loader)) for name, loader in loaders.items()}
    seconds = alternate(contenders, options.repeats, "loading")
    count = options.batches * cfg.SOLVER.IMS_PER_BATCH
    title = f"loading of training samples from {options.images} images, one process"
    return "cpu", [Section(title, "sample", count, seconds, tuple(RIVALS))]
