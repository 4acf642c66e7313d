#!/usr/bin/env python
"""Search a converted data set for images of one split that show what another split shows.

Called as: tools/audit_split.py --dataset DIR [--against DIR] [--eval DIR] [option ...]
"""

import argparse
from pathlib import Path

from lesion_d2.errors import run_tool

EPILOG = """
Writes audit.json, leaks.csv and contact sheets of the pairs, leaks_NN.png.

examples:
  tools/audit_split.py --dataset datasets/isic2018
  # an external test set against the data of the training
  tools/audit_split.py --dataset datasets/isic2018 --against datasets/ph2
  # and what the leaks do to the scores
  tools/audit_split.py --dataset datasets/isic2018_plain \\
      --eval output/plain/eval/isic2018_plain_test

docs/notes/leaks.md has the method and results.
exit status: 0 no leak, 2 leaks found, 1 error (such as an image that cannot be read)
"""


def main() -> int:
    """Parse the command line, audit, and print what was found."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--dataset", type=Path, metavar="DIR", required=True, help="converted data set")
    add("--against", type=Path, metavar="DIR", help="second one, such as an external test set")
    add(
        "--eval",
        type=Path,
        metavar="DIR",
        help="evaluation by tools/eval.py of a model trained on the train split of --dataset: "
        "compare the images with a twin there with the others",
    )
    add("--output", type=Path, metavar="DIR", help="default: output/leaks/NAME")
    add("--sheets", type=int, default=10, help="at most so many sheets of 24 pairs (default: 10)")
    add("--workers", type=int, metavar="N", help="processes (default: the CPUs available)")
    options = parser.parse_args()

    from lesion_d2.commands.find_leaks import audit
    from lesion_d2.parallel import available_cpus

    result = audit(
        options.dataset,
        options.against,
        options.eval,
        options.output,
        available_cpus() if options.workers is None else options.workers,
        options.sheets,
    )
    print(result)
    return result.exit_code


if __name__ == "__main__":
    run_tool(main)
