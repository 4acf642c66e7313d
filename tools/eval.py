#!/usr/bin/env python
"""Evaluate a trained checkpoint: max IoU, the challenge's metrics, figures, report.

Called as: tools/eval.py --eval-only --config-file FILE MODEL.WEIGHTS FILE [KEY VALUE ...]
"""

from lesion_d2.command_line import add_run_arguments, tool_parser
from lesion_d2.errors import run_tool

EPILOG = """
Writes to OUTPUT_DIR/eval/DATASET/:
  metrics.json      means with 95 % intervals, and what they are of
  per_image.csv     max IoU and the challenge's metrics of each image
  predictions.json  all instances from the score threshold on, in COCO's format
  submission/       the submitted masks, and in truth/ the true ones of the same size:
                    `isic-challenge-scoring segmentation truth submission`
  report.html       all of it to look at, and PNG figures

examples:
  the best checkpoint of a run on the test split:
    tools/eval.py --eval-only --config-file configs/isic_mrcnn.yaml \\
        MODEL.WEIGHTS output/isic_mrcnn/model_best.pth
  at the size of the original images, as the challenge scores:
    tools/eval.py --eval-only --config-file configs/isic_mrcnn.yaml \\
        MODEL.WEIGHTS output/isic_mrcnn/model_best.pth \\
        TEST.TRUTH_DIR ISIC2018_Task1_Training_GroundTruth
"""


def main() -> None:
    """Check what can be checked, then launch the processes."""
    parser = tool_parser(__doc__, EPILOG)
    add_run_arguments(parser)
    args = parser.parse_args()
    args.eval_only = True

    from lesion_d2.commands.train import train_or_evaluate

    train_or_evaluate(args)


if __name__ == "__main__":
    run_tool(main)
