#!/usr/bin/env python
"""Measure speed beside the usual ways to do the same, in one process run.

Called as: tools/benchmark.py {convert,load,train,predict,pareto} [option ...]
"""

import argparse
import importlib
from pathlib import Path
from tempfile import TemporaryDirectory

from lesion_d2.command_line import add_config_arguments, height_and_width, positive, tool_parser
from lesion_d2.errors import run_tool

CONFIG = "configs/isic_mrcnn_cpu_long.yaml"
EPILOG = """
Each subcommand prints a table and writes it as JSON. Contenders take turns, round by round; a speed
is a ratio within a round, its median and quartiles over the rounds. docs/performance.md has the
method. Pictures are drawn unless --dataset is given.

examples:
  tools/benchmark.py convert --images 24
  tools/benchmark.py pareto --dataset datasets/isic2018 --images 649 \\
      --runs pretrained output/isic_unet_lite output/isic_torchvision
  tools/benchmark.py predict --dataset datasets/isic2018 --images 100 \\
      --config-file output/isic_mrcnn/config.yaml --weights output/isic_mrcnn/model_best.pth
"""
ARCHIVE = "folder that holds the archives' two folders, as tools/make_synthetic.py writes it"
CONVERTED = "converted data set"
# What is measured, what --dataset takes, number and sizes of drawn pictures.
COMMANDS = {
    "convert": ("conversion against a recipe with OpenCV", ARCHIVE, 24, "767x1022 2000x3008"),
    "load": ("training samples against DatasetMapper", ARCHIVE, 24, "767x1022 2000x3008"),
    "train": ("training steps against DefaultTrainer", CONVERTED, 8, "192x256"),
    "predict": ("prediction against DefaultPredictor", CONVERTED, 16, "450x600"),
    "pareto": ("speed and accuracy of trained models and their peers", CONVERTED, 16, "192x256"),
}


def main() -> None:
    """Measure, print and write."""
    arguments = vars(parse_arguments())
    command, output = arguments.pop("command"), arguments.pop("output")

    from lesion_d2.benchmark import results
    from lesion_d2.benchmark.data import Options
    from lesion_d2.cpus import available_cpus

    arguments["threads"] = arguments["threads"] or available_cpus()
    with TemporaryDirectory(prefix="lesion_d2_benchmark_") as folder:
        options = Options(Path(folder), **arguments)
        results.use_threads(options.threads)
        machine = results.describe_machine(options.threads)
        benchmark = importlib.import_module(f"lesion_d2.benchmark.{command}")
        machine["device"], sections = benchmark.run(options)
    print(results.results_text(machine, sections))
    path = output or Path("output", "benchmark", f"{command}.json")
    results.write_results(path, sections, benchmark=command, machine=machine, options=arguments)
    print(f"written: {path}")
    if command == "pareto":
        from lesion_d2.figures.pareto import pareto_figure
        from lesion_d2.figures.style import save_figure

        (section,) = sections
        title = f"{section.title}\n{machine['processor']}, {machine['threads']} thread(s)"
        figure = pareto_figure(section.to_dict()["contenders"], title)
        print(f"written: {save_figure(figure, path.with_suffix('.png'))}")


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = tool_parser(__doc__, EPILOG)
    commands = parser.add_subparsers(dest="command", required=True, metavar="WHAT")
    for command, (summary, dataset, images, sizes) in COMMANDS.items():
        sub = commands.add_parser(command, help=summary, description=f"Measure {summary}.")
        add = sub.add_argument
        add("--images", type=positive, default=images, metavar="N", help=f"default: {images}")
        add("--dataset", type=Path, metavar="DIR", help=f"{dataset}; default: draw pictures")
        default = [height_and_width(size) for size in sizes.split()]
        what = f"of drawn pictures, in turn (default: {sizes})"
        add("--sizes", type=height_and_width, nargs="+", default=default, metavar="HxW", help=what)
        if command == "pareto":  # each image is a round
            what = "folders of trainings, or pretrained for the model that comes with lesion_d2"
            add("--runs", nargs="+", required=True, metavar="DIR", help=what)
            sub.set_defaults(repeats=1)
        else:
            what = "timed rounds (default: 5)"
            add("--repeats", type=positive, default=5, metavar="N", help=what)
        add("--threads", type=positive, metavar="N", help="default: the CPUs available")
        add("--output", type=Path, metavar="FILE", help=f"default: output/benchmark/{command}.json")
        if command in ("convert", "pareto"):
            continue
        if command == "load":
            what = "loaded a round (default: 8)"
            add("--batches", type=positive, default=8, metavar="N", help=what)
        else:
            what = "checkpoint of the config (default: random weights)"
            add("--weights", type=Path, metavar="FILE", help=what)
        add_config_arguments(sub)
        sub.set_defaults(config_file=CONFIG)
    return parser.parse_args()


if __name__ == "__main__":
    run_tool(main)
