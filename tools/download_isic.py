#!/usr/bin/env python
"""Fetch the official archives of ISIC 2016 to 2018, lesion segmentation, and check them.

Called as: tools/download_isic.py WHAT ... [--output DIR] | --list
"""

import argparse
import sys
from pathlib import Path

from lesion_d2.command_line import positive, tool_parser
from lesion_d2.errors import LesionError, run_tool

EPILOG = """
WHAT is a year (2018), one of its splits (2018/train, 2018/val, 2018/test) or a name of --list.
Each archive is checked against a published checksum. A call that was stopped goes on when it is
repeated: what has come is kept as NAME.part. datasets/README.md says what is checked, and where
PH2 and HAM10000 are. HTTPS_PROXY and NO_PROXY are heeded.
Exit status: 0 all archives are there and right, 2 some are not, 1 none is.

examples:
  what there is, without a network:
    tools/download_isic.py --list
  what the experiments of this project need, 11.2 GB:
    tools/download_isic.py 2018/train
  check archives that were fetched by hand, and fetch those that are missing:
    tools/download_isic.py 2017 2018 --output archives
  from the bucket that the challenge used before, or a mirror with its layout (YEAR/NAME):
    tools/download_isic.py 2016 --base-url https://isic-challenge-data.s3.amazonaws.com
"""


def seconds(text: str) -> float:
    """Return ``text`` as a number above 0, for argparse."""
    if not 0 < float(text) < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no number of seconds above 0")
    return float(text)


def main() -> int:
    """Parse the command line, then list or fetch."""
    parser = tool_parser(__doc__, EPILOG)
    add = parser.add_argument
    add("archives", nargs="*", metavar="WHAT", help="year, split or name; see below")
    add("--list", action="store_true", help="print all archives and end")
    what = "folder of the archives (default: datasets/archives)"
    add("--output", type=Path, default=Path("datasets", "archives"), metavar="DIR", help=what)
    add("--base-url", metavar="URL", help="where YEAR/NAME is (default: the official address)")
    what = "without a byte, until the connection counts as cut (default: 30)"
    add("--timeout", type=seconds, default=30, metavar="SECONDS", help=what)
    what = "attempts in a row that bring nothing, until an archive is given up (default: 6)"
    add("--tries", type=positive, default=6, metavar="N", help=what)
    args = parser.parse_args()

    from lesion_d2.commands import download
    from lesion_d2.transfer import Patience

    if args.list:
        print(download.list_archives())
        return 0
    if not args.archives:
        raise LesionError("WHAT: nothing to fetch is named; --list shows what there is")
    archives = download.select_archives(args.archives)
    patience = Patience(stall=args.timeout, tries=args.tries)
    base_url = args.base_url or download.OFFICIAL
    failed = download.download(archives, args.output, base_url, patience)
    print(f"{len(archives) - len(failed)} of {len(archives)} archives: {args.output}")
    for name, reason in failed:
        print(f"not there: {name}: {reason}", file=sys.stderr)
    return 0 if not failed else 2 if len(failed) < len(archives) else 1


if __name__ == "__main__":
    run_tool(main)
