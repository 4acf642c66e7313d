#!/usr/bin/env python
"""Train the experiment of a config file, or evaluate its weights with --eval-only.

Called as: tools/train_net.py --config-file configs/isic_mrcnn.yaml [KEY VALUE ...]
"""

from lesion_d2.command_line import add_run_arguments, tool_parser
from lesion_d2.errors import run_tool

EPILOG = """
examples:
  the original experiment:
    tools/train_net.py --config-file configs/isic_mrcnn.yaml OUTPUT_DIR output/original
  continue it after a stop, exactly where the last checkpoint left it:
    tools/train_net.py --config-file configs/isic_mrcnn.yaml --resume OUTPUT_DIR output/original
  two processes, as with --num-gpus 2; evaluation understands torchrun, too:
    torchrun --nproc-per-node 2 tools/train_net.py --config-file configs/isic_mrcnn.yaml
"""


def main() -> None:
    """Train, or evaluate."""
    parser = tool_parser(__doc__, EPILOG)
    parser.add_argument(
        "--resume", action="store_true", help="continue from the last checkpoint in OUTPUT_DIR"
    )
    add_run_arguments(parser)
    args = parser.parse_args()

    from lesion_d2.commands.train import train_or_evaluate

    train_or_evaluate(args)


if __name__ == "__main__":
    run_tool(main)
