#!/usr/bin/env python
"""Draw the figures of a data set, a run or an evaluation as PNG files.

Called as: tools/plot.py FIGURE --dataset DIR | --run DIR | --eval DIR [option ...]
"""

from pathlib import Path
from typing import Any

from lesion_d2.command_line import positive, tool_parser
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
FOLDERS = {
    "dataset": "converted data set, written by tools/convert_isic.py",
    "run": "run, written by tools/train_net.py",
    "eval": "evaluation, written by tools/eval.py",
}
# Folders it is drawn from, and what it shows.
FIGURES = {
    "resolutions": ("dataset", "sizes of the original images and the 700 x 700 rule"),
    "samples": ("dataset", "random images with their masks"),
    "augmentations": ("dataset", "random images as the colour augmentations change them"),
    "losses": ("run", "six losses by epoch, training and validation"),
    "boxplot": ("eval", "box plot of the per-image IoU beside the original experiment's"),
    "predictions": ("eval dataset", "predictions beside the ground truth"),
    "all": ("run dataset", "all of these, into RUN/figures and each evaluation's folder"),
}
COUNTS = {"samples": 6, "augmentations": 2, "predictions": 8}


def parse_arguments() -> dict[str, Any]:
    """Return the figure's name and the arguments of its function."""
    parser = tool_parser(__doc__, EPILOG)
    figures = parser.add_subparsers(dest="figure", required=True, metavar="FIGURE")
    for name, (folders, help) in FIGURES.items():
        add = figures.add_parser(name, help=help, description=f"Draw {help}.").add_argument
        for folder in folders.split():
            what = f"folder of the {FOLDERS[folder]}"
            dest = f"{folder}_dir"
            add(f"--{folder}", type=Path, required=True, metavar="DIR", dest=dest, help=what)
        if name != "all":
            what = f"default: below the --{folders.split()[0]} folder; the path is printed"
            add("--output", type=Path, metavar="FILE", help=what)
        if count := COUNTS.get(name):
            add("--count", type=positive, default=count, help=f"how many (default: {count})")
            add("--seed", type=int, default=0, help="of the random choice (default: 0)")
        if name in ("samples", "augmentations"):
            splits = ("train", "val", "test")
            add("--split", choices=splits, default="train", help="(default: train)")
        if name == "augmentations":
            what = "where INPUT.COLOUR is set (default: the project's defaults)"
            add("--config-file", type=Path, metavar="FILE", help=what)
        if name == "predictions":
            choices = ("random", "best", "median", "worst")
            what = "which images, by their IoU (default: random)"
            add("--which", choices=choices, default="random", help=what)
    return vars(parser.parse_args())


def main() -> None:
    """Draw, and print the path of each file written."""
    arguments = parse_arguments()
    name = arguments.pop("figure")

    from lesion_d2.commands import plot

    for path in getattr(plot, f"draw_{name}")(**arguments):
        print(path)


if __name__ == "__main__":
    run_tool(main)
