#!/usr/bin/env python
"""Write the report of an evaluation: one HTML file that opens without a network.

Called as: tools/report.py RUN [--dataset DIR] [--output FILE]
"""

from pathlib import Path

from lesion_d2.command_line import tool_parser
from lesion_d2.errors import LesionError, run_tool

EPILOG = """
Writes report.html into each evaluation's folder.

examples:
  every evaluation of a run:
    tools/report.py output/isic_mrcnn
  one evaluation, of a data set that was moved:
    tools/report.py output/isic_mrcnn/eval/isic2018_test --dataset /data/isic2018 \\
        --output isic2018_test.html
"""


def main() -> None:
    """Write the reports, and print the path of each."""
    parser = tool_parser(__doc__, EPILOG)
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="folder of a run or of one evaluation")
    what = "converted data set (default: of its name below $DETECTRON2_DATASETS or datasets)"
    add("--dataset", type=Path, metavar="DIR", help=what)
    what = "of a single evaluation (default: report.html in its folder)"
    add("--output", type=Path, metavar="FILE", help=what)
    args = parser.parse_args()

    from lesion_d2.report.write import write_report
    from lesion_d2.results.evaluation import find_dataset, find_evaluations
    from lesion_d2.results.run import find_run

    folders = find_evaluations(args.run)
    if args.output and len(folders) > 1:
        raise LesionError(
            f"{args.run}: holds {len(folders)} evaluations; name one of them to use --output"
        )
    for folder in folders:
        dataset = args.dataset or find_dataset(folder)
        print(write_report(folder, dataset, find_run(folder), args.output))


if __name__ == "__main__":
    run_tool(main)
