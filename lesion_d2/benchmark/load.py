"""Loading training samples against Detectron2's mapper, and the wait for data in training."""

import time
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path

from detectron2.config import CfgNode

from lesion_d2.benchmark.data import convert_archive, open_archive
from lesion_d2.benchmark.models import benchmark_config, fill_for_benchmark
from lesion_d2.benchmark.options import Options
from lesion_d2.benchmark.results import Section
from lesion_d2.benchmark.rivals.opencv_recipe import convert_with_opencv
from lesion_d2.benchmark.rivals.stock_detectron2 import stock_config, stock_loader
from lesion_d2.benchmark.steps import Batch, OurTrainer, TrainerSteps
from lesion_d2.benchmark.timing import Contender, alternate, ratio
from lesion_d2.config.schedule import stages_from_config
from lesion_d2.data.datasets import register_dataset
from lesion_d2.data.loader import build_train_loader
from lesion_d2.parallel import available_cpus

RESIZED, ORIGINALS = "DatasetMapper, resized files", "DatasetMapper, original files"


class Waiting:
    """Batches of a loader, and the seconds that whoever reads them has waited."""

    def __init__(self, loader: Iterable[Batch]) -> None:
        self._loader = loader
        self.seconds = 0.0

    def __iter__(self) -> Iterator[Batch]:
        iterator = iter(self._loader)
        while True:
            start = time.perf_counter()
            batch = next(iterator)
            self.seconds += time.perf_counter() - start
            yield batch


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
    return cfg.MODEL.DEVICE, [
        _loading(options, cfg, recipes),
        _training(options, cfg, recipes),
    ]


def _loaders(cfg: CfgNode, recipes: dict[str, Path], workers: int) -> dict[str, Iterable[Batch]]:
    cfg = cfg.clone()
    cfg.DATALOADER.NUM_WORKERS = workers
    plain = cfg.clone()
    plain.INPUT.COLOUR.ENABLED = plain.INPUT.GEOMETRY.ENABLED = False
    stock = stock_config(cfg)
    return {
        "lesion_d2": build_train_loader(cfg),
        "lesion_d2, no augmentation": build_train_loader(plain),
        RESIZED: stock_loader(stock, "benchmark_resized", recipes["resized"]),
        ORIGINALS: stock_loader(stock, "benchmark_originals", recipes["originals"]),
    }


def _loading(options: Options, cfg: CfgNode, recipes: dict[str, Path]) -> Section:
    # In this process: workers would go on reading ahead while another contender's turn is timed.
    contenders = [
        Contender(name, partial(_take, iter(loader), options.batches))
        for name, loader in _loaders(cfg, recipes, 0).items()
    ]
    seconds = alternate(contenders, options.repeats, "loading")
    count = options.batches * cfg.SOLVER.IMS_PER_BATCH
    title = f"loading of training samples from {options.images} images, one process"
    return Section(title, "sample", count, seconds, (RESIZED, ORIGINALS))


def _take(iterator: Iterator[Batch], batches: int) -> None:
    for _ in islice(iterator, batches):
        pass


def _training(options: Options, cfg: CfgNode, recipes: dict[str, Path]) -> Section:
    trainer = OurTrainer(cfg)
    fill_for_benchmark(trainer.model, None, next(iter(_loaders(cfg, recipes, 0)["lesion_d2"])))
    stages = stages_from_config(cfg)
    training = TrainerSteps(trainer, [], stages[-1].end - 1)
    waited: dict[str, list[float]] = {}

    def start(loader: Waiting) -> None:
        training.feed(loader)  # the workers of the one before end
        training()
        loader.seconds = 0.0

    def train(name: str, loader: Waiting) -> None:
        for _ in range(options.steps):
            training()
        waited.setdefault(name, []).append(loader.seconds)

    contenders = []
    for name, loader in _loaders(cfg, recipes, cfg.DATALOADER.NUM_WORKERS).items():
        waiting = Waiting(loader)
        contenders.append(Contender(name, partial(train, name, waiting), partial(start, waiting)))
    seconds = alternate(contenders, options.repeats, "training", warm_up=False)
    training.feed([])
    shares = {name: ratio(waited[name], seconds[name]) for name in seconds}
    title = (
        f"training at FREEZE_AT {stages[-1].freeze_at}, {cfg.SOLVER.IMS_PER_BATCH} images a step, "
        f"{cfg.DATALOADER.NUM_WORKERS} loading processes"
    )
    columns = {"share of the step spent waiting": shares}
    return Section(title, "step", options.steps, seconds, (RESIZED, ORIGINALS), columns=columns)
