#!/usr/bin/env python
"""Draw a data set of synthetic dermoscopy pictures in the layout of the ISIC 2018 archives.

Called as: tools/make_synthetic.py --output DIR --count N [option ...]
"""

from pathlib import Path

from lesion_d2.command_line import height_and_width, tool_parser
from lesion_d2.errors import run_tool

EPILOG = """
examples:
  tools/make_synthetic.py --output output/synthetic --count 240
  # every picture small, another seed
  tools/make_synthetic.py --output output/small --count 100 --seed 7 --size 192x256

The same seed gives the same pictures on every machine. A call that was cut off can be repeated:
files that are there are left.
"""


def main() -> None:
    """Parse the command line and write the archive."""
    parser = tool_parser(__doc__, EPILOG)
    add = parser.add_argument
    add("--output", type=Path, metavar="DIR", required=True, help="folder to create or go on with")
    add("--count", type=int, metavar="N", required=True, help="number of pictures")
    add("--seed", type=int, default=0, help="seed of the data set (default: 0)")
    what = "height x width in pixels, taken in turn (default: eight, from 192x256 to 1024x1365)"
    add("--size", type=height_and_width, nargs="+", metavar="HxW", help=what)
    add("--workers", type=int, metavar="N", help="processes (default: the CPUs available)")
    options = parser.parse_args()

    from lesion_d2.synthetic import DEFAULT_SIZES, write_archive

    sizes = options.size or DEFAULT_SIZES
    write_archive(options.output, options.count, options.seed, sizes, options.workers)


if __name__ == "__main__":
    run_tool(main)
