"""Loading training samples against Detectron2's mapper, and the wait for data in training."""

import time
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path

from detectron2.config import CfgNode

from lesion_d2.benchmark.data import open_archive
from lesion_d2.benchmark.models import benchmark_config, fill
from lesion_d2.benchmark.options import Common, check_count
from lesion_d2.benchmark.report import Section
from lesion_d2.benchmark.rivals.opencv_recipe import convert_with_opencv
from lesion_d2.benchmark.rivals.stock_detectron2 import stock_config, stock_loader
from lesion_d2.benchmark.steps import Batch, OurTrainer, TrainerSteps
from lesion_d2.benchmark.timing import Contender, alternate, ratio
from lesion_d2.commands.convert import ConvertOptions, convert
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


def run(
    common: Common, config_file: str, opts: list[str], batches: int, steps: int
) -> tuple[str, list[Section]]:
    """Measure.

    Args:
        common: options of all benchmarks; its data set is an archive.
        config_file: experiment that samples are made for.
        opts: overrides of it.
        batches: of a round of loading.
        steps: of a round of training.

    Returns:
        the device, and the results.
    """
    check_count("--batches", batches)
    check_count("--steps", steps)
    cfg = benchmark_config(common, config_file, opts)
    archive = open_archive(common)
    root = common.folder / "converted"
    workers = available_cpus()
    convert(ConvertOptions({"all": archive}, root, 0, 0.0, 0.0, group=False, workers=workers))
    register_dataset("benchmark", root)
    cfg.DATASETS.TRAIN = ("benchmark_train",)
    recipes = {name: common.folder / name for name in ("resized", "originals")}
    for name, folder in recipes.items():
        convert_with_opencv(*archive, folder, resize=name == "resized")
    sections = [_loading(common, cfg, recipes, batches), _training(common, cfg, recipes, steps)]
    return cfg.MODEL.DEVICE, sections


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


def _loading(common: Common, cfg: CfgNode, recipes: dict[str, Path], batches: int) -> Section:
    # In this process: workers would go on reading ahead while another contender's turn is timed.
    contenders = [
        Contender(name, partial(_take, iter(loader), batches))
        for name, loader in _loaders(cfg, recipes, 0).items()
    ]
    seconds = alternate(contenders, common.repeats, "loading")
    count = batches * cfg.SOLVER.IMS_PER_BATCH
    title = f"loading of training samples from {common.images} images, one process"
    return Section(title, "sample", count, seconds, (RESIZED, ORIGINALS))


def _take(iterator: Iterator[Batch], batches: int) -> None:
    for _ in islice(iterator, batches):
        pass


def _training(common: Common, cfg: CfgNode, recipes: dict[str, Path], steps: int) -> Section:
    trainer = OurTrainer(cfg)
    fill(trainer.model, None, next(iter(_loaders(cfg, recipes, 0)["lesion_d2"])))
    stages = stages_from_config(cfg)
    training = TrainerSteps(trainer, [], stages[-1].end - 1)
    waited: dict[str, list[float]] = {}

    def start(loader: Waiting) -> None:
        training.feed(loader)  # the workers of the one before end
        training()
        loader.seconds = 0.0

    def train(name: str, loader: Waiting) -> None:
        for _ in range(steps):
            training()
        waited.setdefault(name, []).append(loader.seconds)

    contenders = []
    for name, loader in _loaders(cfg, recipes, cfg.DATALOADER.NUM_WORKERS).items():
        waiting = Waiting(loader)
        contenders.append(Contender(name, partial(train, name, waiting), partial(start, waiting)))
    seconds = alternate(contenders, common.repeats, "training", warm_up=False)
    training.feed([])
    shares = {name: ratio(waited[name], seconds[name]) for name in seconds}
    title = (
        f"training at FREEZE_AT {stages[-1].freeze_at}, {cfg.SOLVER.IMS_PER_BATCH} images a step, "
        f"{cfg.DATALOADER.NUM_WORKERS} loading processes"
    )
    columns = {"share of the step spent waiting": shares}
    return Section(title, "step", steps, seconds, (RESIZED, ORIGINALS), columns=columns)
