#!/usr/bin/env python
"""Put a trained model into one file: config, weights, settings of prediction, confidence model.

Called as: tools/export.py --config-file FILE --output FILE MODEL.WEIGHTS FILE [KEY VALUE ...]
"""

from pathlib import Path

from lesion_d2.command_line import add_config_arguments, tool_parser
from lesion_d2.errors import run_tool

EPILOG = """
The file is of the format safetensors or ONNX: it can hold no code. Its weights have 16 bits. It
says where it comes from: hash of the checkpoint, data, seed, commit, and metrics of evaluations of
these weights below OUTPUT_DIR.

examples:
  the best checkpoint of a run:
    tools/export.py --config-file output/isic_mrcnn/config.yaml --output lesion.safetensors \\
        MODEL.WEIGHTS output/isic_mrcnn/model_best.pth
  with what tools/tune.py chose on validation:
    tools/export.py --config-file output/isic_mrcnn/tune/config.yaml --output lesion.safetensors
  for computers without torch, too:
    tools/export.py --config-file output/isic_mrcnn/config.yaml --output lesion.onnx \\
        MODEL.WEIGHTS output/isic_mrcnn/model_best.pth
"""


def main() -> None:
    """Load the checkpoint and write the bundle."""
    parser = tool_parser(__doc__, EPILOG)
    what = "*.onnx, which also predicts without torch (Mask R-CNN only), or *.safetensors"
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help=what)
    add_config_arguments(parser)
    args = parser.parse_args()

    from lesion_d2.commands.export import export
    from lesion_d2.config.load import load_config

    export(load_config(args.config_file, args.opts), args.output)
    print(f"{args.output}: {args.output.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    run_tool(main)
