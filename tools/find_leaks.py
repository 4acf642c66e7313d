#!/usr/bin/env python
"""Search a converted data set for images of one split that show what another split shows.

Called as: tools/find_leaks.py --dataset DIR [--against DIR] [option ...]
"""

from pathlib import Path

from lesion_d2.command_line import positive, tool_parser
from lesion_d2.errors import run_tool

EPILOG = """
Writes leaks.json, leaks.csv and contact sheets of the pairs, leaks_NN.png.

examples:
  tools/find_leaks.py --dataset datasets/isic2018
  # an external test set against the data of the training
  tools/find_leaks.py --dataset datasets/isic2018 --against datasets/ph2

docs/notes/leaks.md has the method and results.
exit status: 0 no leak, 2 leaks found, 1 error (such as an image that cannot be read)
"""


def main() -> int:
    """Parse the command line, search, and print what was found."""
    parser = tool_parser(__doc__, EPILOG)
    add = parser.add_argument
    add("--dataset", type=Path, metavar="DIR", required=True, help="converted data set")
    add("--against", type=Path, metavar="DIR", help="second one, such as an external test set")
    add("--output", type=Path, metavar="DIR", help="default: output/leaks/NAME")
    add("--sheets", type=int, default=10, help="at most so many sheets of 24 pairs (default: 10)")
    add("--workers", type=positive, metavar="N", help="processes (default: the CPUs available)")
    options = parser.parse_args()

    from lesion_d2.commands.find_leaks import find_leaks

    found = find_leaks(
        options.dataset, options.against, options.output, options.workers, options.sheets
    )
    print(found)
    return 2 if found.leaks else 0


if __name__ == "__main__":
    run_tool(main)
