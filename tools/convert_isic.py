#!/usr/bin/env python
"""Convert images of lesions and their masks, ISIC's or yours, to a data set that training reads.

Called as: tools/convert_isic.py --images DIR --masks DIR --output DIR [option ...]
"""

from pathlib import Path
from typing import Any

from lesion_d2.command_line import tool_parser
from lesion_d2.convert.pairs import MASK_SUFFIXES
from lesion_d2.cpus import available_cpus
from lesion_d2.errors import LesionError, run_tool

EPILOG = """
examples:
  tools/convert_isic.py --images Training_Input --masks Training_GroundTruth \\
      --output datasets/isic2018
  # the split of an earlier conversion, at another size
  tools/convert_isic.py --images Training_Input --masks Training_GroundTruth \\
      --output datasets/isic2018_512 --resize 512 --split-file datasets/isic2018/split.json
  # archives as they were downloaded
  tools/convert_isic.py --images images_part_1.zip images_part_2.zip --masks masks.zip \\
      --groups HAM10000_metadata.csv --output datasets/ham10000
  # images and masks side by side, called photo.jpg and photo_outline.png
  tools/convert_isic.py --images mine --masks mine --mask-suffix _outline --output datasets/mine
  # lesions that were drawn in another tool, exported as COCO
  tools/convert_isic.py --images mine --coco instances.json --category lesion \\
      --output datasets/mine

datasets/README.md has the archives and the size rule, docs/bad_input.md what happens to bad files.
exit status: 0 every file was used, 2 some were left out (see audit.csv), 1 no data set was written
"""


def main() -> int:
    """Parse the command line, convert, and print the summary."""
    options = _parse()
    from lesion_d2.commands.convert import ConvertOptions, convert

    summary = convert(ConvertOptions(**options))
    print(summary)
    return summary.exit_code


def _parse() -> dict:
    parser = tool_parser(__doc__, EPILOG)
    add = parser.add_argument
    several: dict[str, Any] = {"type": Path, "metavar": "DIR", "nargs": "+"}
    what = "folders of the images, searched with all below them, or zip archives"
    add("--images", **several, help=what)
    add("--masks", **several, help="folders or zip archives of the masks")
    for split in ("val", "test"):
        for kind in ("images", "masks"):
            what = f"{kind} of a given {split} split; --{kind} is then train, nothing is split"
            add(f"--{split}-{kind}", **several, help=what)
    what = (
        "what a mask's name has beyond its image's, if anything, as _mask "
        f"(default: one of {', '.join(MASK_SUFFIXES)})"
    )
    several = {"nargs": "+", "dest": "mask_suffixes", "metavar": "SUFFIX"}
    add("--mask-suffix", **several, default=MASK_SUFFIXES, help=what)
    what = "what ends an image's name and is not of its id, as _orig (default: nothing)"
    add("--image-suffix", default="", metavar="SUFFIX", help=what)
    what = "COCO file of another tool, in place of --masks; regions of one image are one lesion"
    add("--coco", type=Path, metavar="FILE", help=what)
    add("--category", metavar="NAME", help="of the lesion in --coco (default: its only category)")
    add("--output", type=Path, metavar="DIR", required=True, help="folder to create")
    add("--seed", type=int, default=0, help="seed of the split (default: 0)")
    add("--test-fraction", type=float, default=0.25, help="part of all pairs (default: 0.25)")
    add("--val-fraction", type=float, default=0.25, help="part of the rest (default: 0.25)")
    what = "factor for both sides before --resize (default: 1.0; 0.5 in the original experiment)"
    add("--prescale", type=float, default=1.0, help=what)
    what = "original: 25 %% a side above 700x700 pixels (default); none; N: longest side, pixels"
    add("--resize", type=_resize, default="original", metavar="{original,none,N}", help=what)
    what = "255: only 255 is lesion (default); 128: above 128, as in the official scoring"
    add("--foreground", type=int, choices=(255, 128), default=255, help=what)
    what = "rle is exact (default); polygon fills holes"
    add("--segmentation", choices=("rle", "polygon"), default="rle", help=what)
    what = "processes (default: the CPUs available)"
    add("--workers", type=int, default=available_cpus(), help=what)
    what = (
        "use the split of this split.json, of a JSON file of lists called train, val and test, or "
        "of a folder of train.txt, val.txt and test.txt"
    )
    add("--split-file", type=Path, metavar="FILE", help=what)
    what = "CSV file of image_id and lesion_id or patient_id; what has one in common stays together"
    add("--groups", type=Path, metavar="FILE", help=what)
    what = "search for no pictures of the same lesion; --groups still counts"
    add("--no-group", dest="group", action="store_false", help=what)
    add("--strict", action="store_true", help="fail, and write nothing, if a pair is unusable")
    add("--overwrite", action="store_true", help="replace the converted data set at --output")

    options = vars(parser.parse_args())
    options["polygons"] = options.pop("segmentation") == "polygon"
    options["folders"] = _folders(options)
    return options


def _resize(text: str) -> str | int:
    if text == "seed":
        raise LesionError("--resize seed: the rule has another name now, --resize original")
    return text if text in ("original", "none") else int(text)


def _folders(options: dict) -> dict[str, tuple[list[Path], list[Path]]]:
    """Take the folder options out of ``options`` and pair them up."""
    folders = {}
    for split, prefix in (("train", ""), ("val", "val_"), ("test", "test_")):
        images, masks = options.pop(f"{prefix}images"), options.pop(f"{prefix}masks")
        if split == "train" and options["coco"] and images and masks is None:
            masks = []
        if (images is None) != (masks is None):
            flag = prefix.replace("_", "-")
            raise LesionError(f"--{flag}images and --{flag}masks must be given together")
        if images is not None:
            folders[split] = (images, masks)
    if not folders:
        raise LesionError("no input: give --images and --masks, or --images and --coco")
    return {"all": folders["train"]} if list(folders) == ["train"] else folders


if __name__ == "__main__":
    run_tool(main)
