"""The parser and the arguments that several tools share."""

import argparse


def tool_parser(description: str | None, epilog: str) -> argparse.ArgumentParser:
    """Return a tool's parser, whose help keeps the lines of both texts."""
    style = argparse.RawDescriptionHelpFormatter
    return argparse.ArgumentParser(description=description, epilog=epilog, formatter_class=style)


def positive(text: str) -> int:
    """Return ``text`` as a whole number of 1 or more, for argparse."""
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return int(text)


def height_and_width(text: str) -> tuple[int, int]:
    """Return ``HxW`` as two numbers, for argparse."""
    try:
        height, width = (int(side) for side in text.split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not HxW, such as 384x512") from None
    return height, width


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the config file and overrides of its keys."""
    parser.add_argument("--config-file", default="", metavar="FILE", help="experiment, YAML")
    add_overrides(parser)


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """Add overrides of config keys, which must come last on the command line."""
    parser.add_argument(
        "opts",
        nargs=argparse.REMAINDER,
        metavar="KEY VALUE",
        help="config keys to override, such as SOLVER.BASE_LR 0.001",
    )


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add Detectron2's usual arguments.

    They are those of ``detectron2.engine.default_argument_parser``, repeated here because
    importing it takes seconds and ``--help`` should not.
    """
    add = parser.add_argument
    only = "only evaluate MODEL.WEIGHTS; tools/eval.py always does"
    add("--eval-only", action="store_true", help=only)
    add("--num-gpus", type=int, default=1, help="processes on this machine, one a GPU")
    add("--num-machines", type=int, default=1, help="number of machines")
    add("--machine-rank", type=int, default=0, help="this machine's number, from 0")
    address = (
        "address the processes meet at, such as tcp://10.0.0.1:29500; default: a free port "
        "of this machine, which serves one machine only"
    )
    add("--dist-url", default="auto", help=address)
    add_config_arguments(parser)
