"""From folders to PNG files: what ``tools/plot.py`` and ``tools/eval.py`` draw.

Every function returns the paths it wrote, and raises a
:class:`~lesion_d2.errors.LesionError` when a file it reads is missing or does not fit.
"""

from pathlib import Path

from lesion_d2.data.converted import SPLITS, LesionImage, read_split
from lesion_d2.errors import LesionError
from lesion_d2.figures.boxplot import boxplot_figure
from lesion_d2.figures.losses import losses_figure
from lesion_d2.figures.predictions import choose, predictions_figure, samples_figure
from lesion_d2.figures.resolutions import resolutions_figure
from lesion_d2.figures.style import save_figure
from lesion_d2.results.evaluation import (
    BOXPLOT,
    PREDICTIONS_FIGURE,
    evaluated_lesions,
    read_evaluation,
    read_predictions,
)
from lesion_d2.results.run import read_metrics, read_schedule


def dataset_name(dataset_dir: Path, split: str) -> str:
    """Return the name a split of a converted folder is registered under."""
    return f"{dataset_dir.resolve().name}_{split}"


def draw_resolutions(dataset_dir: Path, output: Path | None = None) -> list[Path]:
    """Draw the sizes of the original images of all splits."""
    images = [image for split in SPLITS for image in read_split(dataset_dir, split)]
    if not images:
        raise LesionError(f"{dataset_dir}: holds no image; convert it with tools/convert_isic.py")
    sizes = [(image.original_width, image.original_height) for image in images]
    figure = resolutions_figure(sizes, dataset_dir.resolve().name)
    return [save_figure(figure, output or dataset_dir / "figures" / "resolutions.png")]


def random_images(dataset_dir: Path, split: str, count: int, seed: int) -> list[LesionImage]:
    """Return up to ``count`` random images of a split, at least one."""
    images = read_split(dataset_dir, split)
    if not images:
        raise LesionError(f"{dataset_dir / split}.json: holds no image; choose another split")
    return [images[i] for i in choose([0] * len(images), "random", count, seed)]


def draw_samples(
    dataset_dir: Path,
    split: str = "train",
    count: int = 6,
    seed: int = 0,
    output: Path | None = None,
) -> list[Path]:
    """Draw ``count`` random images of a split with their masks."""
    images = random_images(dataset_dir, split, count, seed)
    title = f"{dataset_name(dataset_dir, split)}: {len(images)} random images with their masks"
    figure = samples_figure(images, title)
    return [save_figure(figure, output or dataset_dir / "figures" / f"samples_{split}.png")]


def draw_augmentations(
    dataset_dir: Path,
    config_file: Path | None = None,
    split: str = "train",
    count: int = 2,
    seed: int = 0,
    output: Path | None = None,
) -> list[Path]:
    """Draw the colour augmentations of a config, by default the defaults, on random images."""
    from lesion_d2.config.defaults import get_lesion_cfg
    from lesion_d2.config.load import load_config
    from lesion_d2.figures.augmentations import augment, augmentations_figure, describe_ranges

    cfg = load_config(str(config_file), []) if config_file else get_lesion_cfg()
    images = random_images(dataset_dir, split, count, seed)
    title = f"{dataset_name(dataset_dir, split)}: colour augmentations\n{describe_ranges(cfg)}"
    figure = augmentations_figure(augment(images, cfg, seed), title)
    return [save_figure(figure, output or dataset_dir / "figures" / "augmentations.png")]


def draw_losses(run_dir: Path, output: Path | None = None) -> list[Path]:
    """Draw the losses by epoch of a run."""
    figure = losses_figure(read_metrics(run_dir), read_schedule(run_dir), run_dir.resolve().name)
    return [save_figure(figure, output or run_dir / "figures" / "losses.png")]


def draw_boxplot(eval_dir: Path, output: Path | None = None) -> list[Path]:
    """Draw the box plot of an evaluation."""
    evaluation = read_evaluation(eval_dir)
    figure = boxplot_figure(evaluation.table["max_iou"], evaluation.summary)
    return [save_figure(figure, output or eval_dir / BOXPLOT)]


def draw_predictions(
    eval_dir: Path,
    dataset_dir: Path,
    count: int = 8,
    which: str = "random",
    seed: int = 0,
    output: Path | None = None,
) -> list[Path]:
    """Draw what :func:`lesion_d2.figures.predictions.choose` chooses, but no flipped copies."""
    evaluation = read_evaluation(eval_dir)
    lesions = evaluated_lesions(evaluation, dataset_dir)
    max_iou = {key: iou for key, iou in evaluation.max_iou.items() if key in lesions}
    instances = read_predictions(eval_dir)
    ids = list(max_iou)
    chosen = choose(list(max_iou.values()), which, count, seed)
    images = [(lesions[ids[i]], instances.get(ids[i], [])) for i in chosen]
    words = {"median": "nearest to the median"}.get(which, which)
    title = (
        f"{evaluation.summary['dataset']}: {len(images)} of {len(ids):,} images ({words}), "
        f"scores of {evaluation.summary['score_threshold']:g} and above"
    )
    figure = predictions_figure(images, title)
    return [save_figure(figure, output or eval_dir / PREDICTIONS_FIGURE.format(which))]


def draw_evaluation(eval_dir: Path, dataset_dir: Path) -> list[Path]:
    """Draw the box plot and random, best and worst predictions into the evaluation folder."""
    paths = draw_boxplot(eval_dir)
    for which in ("random", "best", "worst"):
        paths += draw_predictions(eval_dir, dataset_dir, which=which)
    return paths


def draw_all(run_dir: Path, dataset_dir: Path) -> list[Path]:
    """Draw everything of a run and its converted data set, evaluations into their own folders."""
    figures, config = run_dir / "figures", run_dir / "config.yaml"
    paths = [
        *draw_losses(run_dir),
        *draw_resolutions(dataset_dir, figures / "resolutions.png"),
        *draw_samples(dataset_dir, output=figures / "samples.png"),
        *draw_augmentations(dataset_dir, config, output=figures / "augmentations.png"),
    ]
    for split in SPLITS:
        eval_dir = run_dir / "eval" / dataset_name(dataset_dir, split)
        if eval_dir.is_dir():
            paths += draw_evaluation(eval_dir, dataset_dir)
    return paths
