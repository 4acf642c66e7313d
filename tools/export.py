#!/usr/bin/env python
"""Put a trained model into one file: config, weights, settings of prediction, confidence model.

Called as: tools/export.py --config-file FILE --output FILE MODEL.WEIGHTS FILE [KEY VALUE ...]
"""

import argparse
from pathlib import Path

from lesion_d2.command_line import add_config_arguments
from lesion_d2.errors import run_tool

EPILOG = """
examples:
  the best checkpoint of a run:
    tools/export.py --config-file output/isic_mrcnn/config.yaml --output lesion.pth \\
        MODEL.WEIGHTS output/isic_mrcnn/model_best.pth
  at half the size, with what tools/tune.py chose on validation:
    tools/export.py --config-file output/isic_mrcnn/tune/config.yaml --output lesion.pth --half
"""


def main() -> None:
    """Load the checkpoint and write the bundle."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="the bundle")
    parser.add_argument("--half", action="store_true", help="store weights as 16-bit floats")
    add_config_arguments(parser)
    args = parser.parse_args()

    import torch

    from lesion_d2.config.load import load_config
    from lesion_d2.prediction.bundle import write_bundle
    from lesion_d2.prediction.segmenter import load_segmenter

    cfg = load_config(args.config_file, args.opts)
    segmenter = load_segmenter(cfg, prepare=False)
    dtype = torch.float16 if args.half else torch.float32
    write_bundle(args.output, cfg, segmenter.model, segmenter.confidence, dtype)
    print(f"{args.output}: {args.output.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    run_tool(main)
