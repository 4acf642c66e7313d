#!/usr/bin/env python
"""Compare evaluations of the same images: means, paired differences, images that changed most.

Called as: tools/compare.py RUN RUN ... [option ...]
"""

from pathlib import Path

from lesion_d2.command_line import positive, tool_parser
from lesion_d2.errors import run_tool
from lesion_d2.evaluation.metrics import METRICS

EPILOG = """
A RUN is a folder written by tools/eval.py, or a run's folder with one such folder below eval/. The
first is the baseline. Evaluations of different splits, metrics, score thresholds or resolutions
are refused. Weights, views, choice of the instance and post-processing may differ; the table
shows those that do.

With --output it writes compare.csv, changed.csv and compare.json, and for each run after the first,
say the second, changes_2.png and, with --dataset, changed_images_2.png.

examples:
  tools/compare.py output/isic_mrcnn output/isic_geometry
  tools/compare.py output/plain/eval/isic2018_test output/views/eval/isic2018_test \\
      --metric dice --count 5 --output output/comparison --dataset datasets/isic2018
"""


def main() -> None:
    """Print the comparison, and write it if asked to."""
    parser = tool_parser(__doc__, EPILOG)
    add = parser.add_argument
    add("runs", nargs="+", type=Path, metavar="RUN", help="two or more; the first is the baseline")
    add("--metric", choices=METRICS, default="jaccard", help="of the changes (default: jaccard)")
    add("--count", type=positive, default=10, help="gains and losses to list (default: 10)")
    add("--output", type=Path, metavar="DIR", help="folder to write tables and figures to")
    add("--dataset", type=Path, metavar="DIR", help="converted data set, to draw changed images")
    what = "compare the shared images and metrics of evaluations that are refused otherwise"
    add("--force", action="store_true", help=what)
    options = parser.parse_args()
    if len(options.runs) < 2:
        parser.error("give two RUN folders or more")
    if options.dataset and not options.output:
        parser.error("--dataset needs --output")

    from lesion_d2.commands.compare import compare_runs

    compare_runs(
        options.runs, options.metric, options.count, options.output, options.dataset, options.force
    )


if __name__ == "__main__":
    run_tool(main)
