#!/usr/bin/env python
"""Draw the figures of a data set, a run or an evaluation as PNG files.

Called as: tools/plot.py FIGURE --dataset DIR | --run DIR | --eval DIR [option ...]
"""

import argparse
from pathlib import Path
from typing import Any

from lesion_d2.errors import run_tool

EPILOG = """
examples:
  everything of a run that there is so far:
    tools/plot.py all --run output/isic_mrcnn --dataset datasets/isic2018
  the images that went worst:
    tools/plot.py predictions --eval output/isic_mrcnn/eval/isic2018_test \\
        --dataset datasets/isic2018 --which worst --count 12
`tools/plot.py FIGURE --help` lists the options of one figure.
"""


def parse_arguments() -> dict[str, Any]:
    """Return the figure's name and the arguments of its function."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    figures = parser.add_subparsers(dest="figure", required=True, metavar="FIGURE")

    def add(name: str, *folders: str, help: str, default_output: str) -> argparse.ArgumentParser:
        figure = figures.add_parser(name, help=help, description=help.capitalize() + ".")
        kinds = {
            "dataset": "converted data set, written by tools/convert_isic.py",
            "run": "run, written by tools/train_net.py",
            "eval": "evaluation, written by tools/eval.py",
        }
        for folder in folders:
            figure.add_argument(
                f"--{folder}",
                type=Path,
                required=True,
                metavar="DIR",
                dest=f"{folder}_dir",
                help=f"folder of the {kinds[folder]}",
            )
        if default_output:
            figure.add_argument(
                "--output", type=Path, metavar="FILE", help=f"default: {default_output}"
            )
        return figure

    def add_choice(figure: argparse.ArgumentParser, count: int) -> None:
        figure.add_argument(
            "--count", type=positive, default=count, help=f"how many (default: {count})"
        )
        figure.add_argument("--seed", type=int, default=0, help="of the random choice (default: 0)")

    add(
        "resolutions",
        "dataset",
        help="sizes of the original images and the 700 x 700 rule",
        default_output="DATASET/figures/resolutions.png",
    )
    samples = add(
        "samples",
        "dataset",
        help="random images with their masks",
        default_output="DATASET/figures/samples_SPLIT.png",
    )
    augmentations = add(
        "augmentations",
        "dataset",
        help="random images as the colour augmentations change them",
        default_output="DATASET/figures/augmentations.png",
    )
    augmentations.add_argument(
        "--config-file",
        type=Path,
        metavar="FILE",
        help="where INPUT.COLOUR is set (default: the project's defaults)",
    )
    for figure, count in ((samples, 6), (augmentations, 2)):
        add_choice(figure, count)
        figure.add_argument(
            "--split", choices=("train", "val", "test"), default="train", help="(default: train)"
        )
    add(
        "losses",
        "run",
        help="six losses by epoch, training and validation",
        default_output="RUN/figures/losses.png",
    )
    add(
        "boxplot",
        "eval",
        help="box plot of the per-image IoU beside the original experiment's",
        default_output="EVAL/boxplot.png",
    )
    predictions = add(
        "predictions",
        "eval",
        "dataset",
        help="predictions beside the ground truth",
        default_output="EVAL/predictions_WHICH.png",
    )
    add_choice(predictions, 8)
    predictions.add_argument(
        "--which",
        choices=("random", "best", "median", "worst"),
        default="random",
        help="which images, by their IoU (default: random)",
    )
    add(
        "all",
        "run",
        "dataset",
        help="all of these, into RUN/figures and each evaluation's folder",
        default_output="",
    )
    return vars(parser.parse_args())


def positive(text: str) -> int:
    """Return ``text`` as a whole number of 1 or more, for argparse."""
    if int(text) < 1:
        raise ValueError
    return int(text)


def main() -> None:
    """Draw, and print the path of each file written."""
    arguments = parse_arguments()
    name = arguments.pop("figure")

    from lesion_d2.commands import plot

    paths = getattr(plot, f"draw_{name}")(**arguments)
    for path in [paths] if isinstance(paths, Path) else paths:
        print(path)


if __name__ == "__main__":
    run_tool(main)
