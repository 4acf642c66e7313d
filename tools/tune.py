#!/usr/bin/env python
"""Choose how a trained model predicts, on its validation data, and fit its confidence model.

Called as: tools/tune.py --config-file FILE MODEL.WEIGHTS FILE [KEY VALUE ...]
"""

from pathlib import Path

from lesion_d2.command_line import add_config_arguments, tool_parser
from lesion_d2.errors import run_tool

EPILOG = """
Measures on DATASETS.VAL what test-time augmentation, the choice of the instance and the level of
the mask bring. Writes to OUTPUT_DIR/tune/:
  config.yaml       the config with the chosen settings; give it to tools/eval.py, tools/predict.py
                    and tools/export.py
  confidence.json   estimates the IoU of a prediction
  tuning.csv        what was compared, with 95 % intervals

examples:
  choose, then evaluate on the test split:
    tools/tune.py --config-file output/isic_mrcnn/config.yaml \\
        MODEL.WEIGHTS output/isic_mrcnn/model_best.pth
    tools/eval.py --eval-only --config-file output/isic_mrcnn/tune/config.yaml
"""


def main() -> None:
    """Check what can be checked, then tune in this process."""
    parser = tool_parser(__doc__, EPILOG)
    add_config_arguments(parser)
    args = parser.parse_args()

    from lesion_d2.commands.tune import tune
    from lesion_d2.config.load import load_config

    cfg = load_config(args.config_file, args.opts)
    cfg.OUTPUT_DIR = str(Path(cfg.OUTPUT_DIR, "tune"))
    print(f"files: {tune(cfg).parent}")


if __name__ == "__main__":
    run_tool(main)
