"""Arguments that several tools share."""

import argparse


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the config file and overrides of its keys, which must come last on the command line."""
    parser.add_argument("--config-file", default="", metavar="FILE", help="experiment, YAML")
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
    parser.add_argument(
        "--eval-only",
        action="store_true",
        help="only evaluate MODEL.WEIGHTS; tools/eval.py always does",
    )
    parser.add_argument(
        "--num-gpus", type=int, default=1, help="processes on this machine, one a GPU"
    )
    parser.add_argument("--num-machines", type=int, default=1, help="number of machines")
    parser.add_argument("--machine-rank", type=int, default=0, help="this machine's number, from 0")
    parser.add_argument(
        "--dist-url",
        default="auto",
        help="address the processes meet at, such as tcp://10.0.0.1:29500; default: a free port "
        "of this machine, which serves one machine only",
    )
    add_config_arguments(parser)
