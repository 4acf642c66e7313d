"""From folders to PNG files: what ``tools/plot.py`` and ``tools/eval.py`` draw.

Every function returns the paths it wrote, and raises a
:class:`~lesion_d2.errors.LesionError` when a file it reads is missing or does not fit.
"""

from pathlib import Path

import numpy as np

from lesion_d2.errors import LesionError
from lesion_d2.figures.boxplot import boxplot_figure
from lesion_d2.figures.dataset_files import SPLITS, LesionImage, read_split
from lesion_d2.figures.evaluation_files import read_evaluation, read_predictions
from lesion_d2.figures.losses import losses_figure
from lesion_d2.figures.predictions import PredictedImage, choose, predictions_figure
from lesion_d2.figures.resolutions import resolutions_figure
from lesion_d2.figures.run_files import read_metrics, read_schedule
from lesion_d2.figures.samples import samples_figure
from lesion_d2.figures.style import save_figure


def dataset_name(dataset_dir: Path, split: str) -> str:
    """Return the name a split of a converted folder is registered under."""
    return f"{dataset_dir.resolve().name}_{split}"


def draw_resolutions(dataset_dir: Path, output: Path | None = None) -> Path:
    """Draw the sizes of the original images of all splits."""
    images = [image for split in SPLITS for image in read_split(dataset_dir, split)]
    if not images:
        raise LesionError(f"{dataset_dir}: holds no image; convert it with tools/convert_isic.py")
    sizes = [(image.original_width, image.original_height) for image in images]
    figure = resolutions_figure(sizes, dataset_dir.resolve().name)
    return save_figure(figure, output or dataset_dir / "figures" / "resolutions.png")


def random_images(dataset_dir: Path, split: str, count: int, seed: int) -> list[LesionImage]:
    """Return up to ``count`` random images of a split, at least one."""
    images = read_split(dataset_dir, split)
    if not images:
        raise LesionError(f"{dataset_dir / split}.json: holds no image; choose another split")
    order = np.random.default_rng(seed).permutation(len(images))
    return [images[index] for index in order[:count]]


def draw_samples(
    dataset_dir: Path,
    split: str = "train",
    count: int = 6,
    seed: int = 0,
    output: Path | None = None,
) -> Path:
    """Draw ``count`` random images of a split with their masks."""
    images = random_images(dataset_dir, split, count, seed)
    title = f"{dataset_name(dataset_dir, split)}: {len(images)} random images with their masks"
    figure = samples_figure(images, title)
    return save_figure(figure, output or dataset_dir / "figures" / f"samples_{split}.png")


def draw_losses(run_dir: Path, output: Path | None = None) -> Path:
    """Draw the losses by epoch of a run."""
    figure = losses_figure(read_metrics(run_dir), read_schedule(run_dir), run_dir.resolve().name)
    return save_figure(figure, output or run_dir / "figures" / "losses.png")


def draw_boxplot(eval_dir: Path, output: Path | None = None) -> Path:
    """Draw the box plot of an evaluation."""
    evaluation = read_evaluation(eval_dir)
    figure = boxplot_figure(list(evaluation.max_iou.values()), evaluation.summary)
    return save_figure(figure, output or eval_dir / "boxplot.png")


def draw_predictions(
    eval_dir: Path,
    dataset_dir: Path,
    count: int = 8,
    which: str = "random",
    seed: int = 0,
    output: Path | None = None,
) -> Path:
    """Draw ``count`` predictions of an evaluation, see :func:`.predictions.choose`."""
    evaluation = read_evaluation(eval_dir)
    name = evaluation.summary["dataset"]
    split = next((split for split in SPLITS if dataset_name(dataset_dir, split) == name), None)
    if split is None:
        raise LesionError(
            f"{eval_dir}: is an evaluation of {name}, not of a split of {dataset_dir}; "
            "name the converted folder it was made from"
        )
    lesions = {lesion.image_id: lesion for lesion in read_split(dataset_dir, split)}
    if missing := evaluation.max_iou.keys() - lesions.keys():
        raise LesionError(
            f"{eval_dir}: image {min(missing)} is not in {dataset_dir / split}.json; "
            "evaluate again after a new conversion"
        )
    instances = read_predictions(eval_dir)
    ids = list(evaluation.max_iou)
    chosen = choose(list(evaluation.max_iou.values()), which, count, seed)
    images = [PredictedImage(lesions[ids[i]], instances.get(ids[i], [])) for i in chosen]
    words = {"median": "nearest to the median"}.get(which, which)
    title = (
        f"{name}: {len(images)} of {len(ids):,} images ({words}), "
        f"scores of {evaluation.summary['score_threshold']:g} and above"
    )
    figure = predictions_figure(images, title)
    return save_figure(figure, output or eval_dir / f"predictions_{which}.png")


def draw_dataset(dataset_dir: Path, output_dir: Path | None = None) -> list[Path]:
    """Draw resolutions and samples into ``output_dir``, by default the data set's ``figures``."""
    output_dir = output_dir or dataset_dir / "figures"
    return [
        draw_resolutions(dataset_dir, output_dir / "resolutions.png"),
        draw_samples(dataset_dir, output=output_dir / "samples.png"),
    ]


def draw_run(run_dir: Path) -> list[Path]:
    """Draw the losses into the run's ``figures``."""
    return [draw_losses(run_dir)]


def draw_evaluation(eval_dir: Path, dataset_dir: Path) -> list[Path]:
    """Draw the box plot and random, best and worst predictions into the evaluation folder."""
    return [
        draw_boxplot(eval_dir),
        *(
            draw_predictions(eval_dir, dataset_dir, which=which)
            for which in ("random", "best", "worst")
        ),
    ]
