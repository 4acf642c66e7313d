#!/usr/bin/env python
"""Segment photographs: masks, overlays, a table and other tools' formats, without writing code.

Called as: tools/predict.py --input FOLDER|FILE|PATTERN ... --output DIR --model FILE
"""

import sys
from pathlib import Path

from lesion_d2.command_line import add_config_arguments, tool_parser
from lesion_d2.errors import LesionError, run_tool
from lesion_d2.files import escape_name
from lesion_d2.results.predictions import FORMATS, PredictionFolder

EPILOG = """
Writes to DIR, where NAME is the image's path below the input folder, without its suffix:
  masks/NAME_segmentation.png   0 or 255, one channel, at the size of the image, as the challenge
                                wants a submission
  overlays/NAME.jpg             the image with the mask's outline
  predictions.csv               area, box, score, estimated IoU, longest diameter, ... of each
  failed.csv                    files that could not be used, and why
and with --format, beside the masks, which are always written:
  predictions.json              coco: run lengths, boxes and scores of all images
  labelme/NAME.json             labelme: polygons, or a mask where the lesion has a hole
  geojson/NAME.geojson          geojson: polygons with holes, for QuPath and shapely
Linked folders are searched, too; DIR itself and names that begin with a dot are not. Where a.jpg
lies beside a.png, NAME keeps the suffix. A run that was stopped continues when it is started again;
photographs that have changed since are done again. Exit status: 0 all files were used, 2 some could
not be, 1 none could be used, or nothing could be done.

examples:
  a folder, with the model that comes with lesion_d2:
    tools/predict.py --input photographs --output predictions
  the same, also as COCO JSON and for QuPath; a second run adds them to what is there:
    tools/predict.py --input photographs --output predictions --format coco,geojson
  half of it on each of two machines, into one folder:
    tools/predict.py --model lesion.safetensors --input photographs --output out --shard 1/2
    tools/predict.py --model lesion.safetensors --input photographs --output out --shard 2/2
  with a run's checkpoint, averaging two views of each image:
    tools/predict.py --config-file output/isic_mrcnn/config.yaml --input 'photographs/*.jpg' \\
        --output predictions MODEL.WEIGHTS output/isic_mrcnn/model_best.pth \\
        TEST.VIEWS '("identity", "horizontal")'
"""


def shard(text: str) -> tuple[int, int]:
    """Return ``I/N`` as two numbers, for argparse."""
    number, count = (int(part) for part in text.split("/"))
    if not 1 <= number <= count:
        raise ValueError
    return number, count


def formats(text: str) -> list[str]:
    """Return names with commas between them as a list, for argparse."""
    names = text.split(",")
    for name in names:
        if name not in FORMATS:
            raise LesionError(f"--format: {name!r}; give some of {','.join(FORMATS)}")
    return names


def main() -> int:
    """Find the files, build the predictor, predict, report."""
    parser = tool_parser(__doc__, EPILOG)
    add = parser.add_argument
    what = "image files, folders of them, or patterns in quotes"
    add("--input", nargs="+", required=True, metavar="PATH", help=what)
    add("--output", type=Path, required=True, metavar="DIR", help="new folder")
    what = "model in one file, from tools/export.py (default: the one that comes with lesion_d2)"
    add("--model", "--bundle", metavar="FILE", help=what)
    what = "images worked on at a time (default: the CPUs available, at most 4)"
    add("--workers", type=int, metavar="N", help=what)
    what = "take only the I-th of N shares of the images, to work on several machines"
    add("--shard", type=shard, default=(1, 1), metavar="I/N", help=what)
    what = f"some of {','.join(FORMATS)} (default: masks, which are always written)"
    add("--format", type=formats, default=(), metavar="LIST", help=what)
    add("--no-overlays", action="store_true", help="write masks and table only")
    what = "first delete the earlier predictions that the tables in DIR name"
    add("--overwrite", action="store_true", help=what)
    add_config_arguments(parser)
    args = parser.parse_args()
    if args.model and args.config_file:
        raise LesionError("--model: a model is named by --config-file already; leave one out")

    from lesion_d2.commands.predict import predict_files
    from lesion_d2.images.inputs import find_images
    from lesion_d2.prediction.predictor import LesionPredictor
    from lesion_d2.results.removal import remove_predictions

    files = find_images(args.input, args.output)
    if args.config_file:
        predictor = LesionPredictor.from_config(args.config_file, opts=args.opts)
        model = predictor.cfg.MODEL.WEIGHTS
    elif args.model:
        predictor = LesionPredictor.from_bundle(args.model, args.opts)
        model = args.model
    else:
        predictor = LesionPredictor.pretrained(args.opts)
        model = "the one that comes with lesion_d2, see docs/model_card.md"
    print(f"model: {model}; computed by {predictor.engine}")
    folder = PredictionFolder(args.output, args.shard)
    if args.overwrite:
        remove_predictions(folder)
    failed = predict_files(
        predictor,
        files,
        folder,
        formats=args.format,
        overlays=not args.no_overlays,
        workers=args.workers,
    )
    number, count = args.shard
    share = len(files[number - 1 :: count])
    print(f"{share - len(failed)} of {share} images: {args.output}")
    for file, reason in failed:
        print(f"not used: {escape_name(file)}: {reason}", file=sys.stderr)
    return 0 if not failed else 2 if len(failed) < share else 1


if __name__ == "__main__":
    run_tool(main)
