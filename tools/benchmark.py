#!/usr/bin/env python
"""Measure speed and memory beside the usual ways to do the same, in one process run.

Called as: tools/benchmark.py {convert,load,train,predict,evaluate} [option ...]
"""

import argparse
import importlib
from pathlib import Path
from tempfile import TemporaryDirectory

from lesion_d2.command_line import add_config_arguments
from lesion_d2.errors import run_tool

CONFIG = "configs/isic_mrcnn_cpu_long.yaml"
EPILOG = """
Each subcommand prints a table and writes it as JSON. Contenders take turns, round by round; a speed
is a ratio within a round, its median and quartiles over the rounds. docs/performance.md has the
method. Pictures are drawn unless --dataset is given.

examples:
  tools/benchmark.py convert --images 24 --growth 100 1000 10000
  tools/benchmark.py load --dataset isic2018_archives --images 100
  tools/benchmark.py train --threads 2
  tools/benchmark.py predict --dataset datasets/isic2018 --images 100 \\
      --config-file output/isic_mrcnn/config.yaml --weights output/isic_mrcnn/model_best.pth
  tools/benchmark.py evaluate --repeats 3 MODEL.DEVICE cpu
"""
SUMMARIES = {
    "convert": "conversion against a recipe with OpenCV, and its growth",
    "load": "training samples against DatasetMapper, and the wait for data",
    "train": "training steps against DefaultTrainer",
    "predict": "prediction against DefaultPredictor",
    "evaluate": "evaluation against COCOEvaluator",
}
ARCHIVE = "folder that holds the archives' two folders, as tools/make_synthetic.py writes it"
CONVERTED = "converted data set"
# Images, sizes of drawn ones, and what --dataset takes.
PICTURES = {
    "convert": (24, "767x1022,1024x1365,2000x3008", ARCHIVE),
    "load": (24, "767x1022,2000x3008", ARCHIVE),
    "train": (8, "192x256", CONVERTED),
    "predict": (16, "450x600", CONVERTED),
    "evaluate": (32, "192x256", CONVERTED),
}


def main() -> None:
    """Measure, print and write."""
    arguments = vars(parse_arguments())
    command, output = arguments.pop("command"), arguments.pop("output")

    from lesion_d2.benchmark.machine import describe_device, describe_machine, use_threads
    from lesion_d2.benchmark.options import Options
    from lesion_d2.benchmark.results import Results
    from lesion_d2.parallel import available_cpus

    if arguments["threads"] is None:
        arguments["threads"] = available_cpus()
    with TemporaryDirectory(prefix="lesion_d2_benchmark_") as folder:
        options = Options(Path(folder), **arguments)
        machine = describe_machine(options.threads)
        benchmark = importlib.import_module(f"lesion_d2.benchmark.{command}")
        use_threads(options.threads)  # torch is imported by now, where it is needed
        device, sections = benchmark.run(options)
    results = Results(command, machine | describe_device(device), arguments, sections)
    print(results)
    print(f"written: {results.write(output or Path('output', 'benchmark', f'{command}.json'))}")


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, epilog=EPILOG, formatter_class=style)
    commands = parser.add_subparsers(dest="command", required=True, metavar="WHAT")
    for command, summary in SUMMARIES.items():
        add_arguments(
            command,
            commands.add_parser(
                command,
                help=summary,
                description=f"Measure {summary}.",
                epilog=EPILOG[EPILOG.index("examples:") :],
                formatter_class=style,
            ),
        )
    return parser.parse_args()


def add_arguments(command: str, parser: argparse.ArgumentParser) -> None:
    """Add a subcommand's arguments."""
    images, sizes, dataset = PICTURES[command]
    add = parser.add_argument
    add("--images", type=int, default=images, metavar="N", help=f"default: {images}")
    add("--dataset", type=Path, metavar="DIR", help=f"{dataset}; default: draw pictures")
    add(
        "--sizes",
        type=heights_and_widths,
        default=heights_and_widths(sizes),
        metavar="HxW,...",
        help=f"of drawn pictures, in turn (default: {sizes})",
    )
    add("--repeats", type=int, default=5, metavar="N", help="timed rounds (default: 5)")
    add("--threads", type=int, metavar="N", help="default: the CPUs available")
    add("--output", type=Path, metavar="FILE", help=f"default: output/benchmark/{command}.json")
    if command in ("convert", "train"):
        add(
            "--no-memory",
            dest="memory",
            action="store_false",
            help="leave out the peak memory, for which each contender runs once more",
        )
    if command == "convert":
        add(
            "--growth",
            type=int,
            nargs="*",
            default=[100, 1000, 10000],
            metavar="N",
            help="numbers of images of 192x256 (default: 100 1000 10000; none leaves it out)",
        )
        return
    if command == "load":
        add("--batches", type=int, default=8, metavar="N", help="loaded a round (default: 8)")
        add("--steps", type=int, default=8, metavar="N", help="trained a round (default: 8)")
    else:
        add(
            "--weights",
            type=Path,
            metavar="FILE",
            help="checkpoint of the config (default: random weights)",
        )
    add_config_arguments(parser)
    parser.set_defaults(config_file=CONFIG)


def heights_and_widths(text: str) -> list[tuple[int, int]]:
    """Return the pairs of a text such as 384x512,192x256."""
    try:
        pairs = [tuple(map(int, item.split("x"))) for item in text.split(",")]
        return [(height, width) for height, width in pairs]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not HxW,HxW,... as in 384x512") from None


if __name__ == "__main__":
    run_tool(main)
