#!/usr/bin/env python
"""Convert the ISIC 2018 Task 1 archives to a data set that training reads.

Called as: tools/convert_isic.py --images DIR --masks DIR --output DIR [option ...]
"""

from pathlib import Path

from lesion_d2.command_line import tool_parser
from lesion_d2.errors import LesionError, run_tool
from lesion_d2.parallel import available_cpus

EPILOG = """
examples:
  tools/convert_isic.py --images Training_Input --masks Training_GroundTruth \\
      --output datasets/isic2018
  # the split of an earlier conversion, at another size
  tools/convert_isic.py --images Training_Input --masks Training_GroundTruth \\
      --output datasets/isic2018_512 --resize 512 --split-file datasets/isic2018/split.json

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
    add("--images", type=Path, metavar="DIR", help="folder of the images, searched recursively")
    add("--masks", type=Path, metavar="DIR", help="folder of the masks")
    for split in ("val", "test"):
        for kind in ("images", "masks"):
            what = f"{kind} of a given {split} split; --{kind} is then train, nothing is split"
            add(f"--{split}-{kind}", type=Path, metavar="DIR", help=what)
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
    add("--split-file", type=Path, metavar="FILE", help="use the split of this split.json")
    add("--no-group", dest="group", action="store_false", help="plain random split")
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


def _folders(options: dict) -> dict[str, tuple[Path, Path]]:
    """Take the folder options out of ``options`` and pair them up."""
    folders = {}
    for split, prefix in (("train", ""), ("val", "val_"), ("test", "test_")):
        images, masks = options.pop(f"{prefix}images"), options.pop(f"{prefix}masks")
        if (images is None) != (masks is None):
            flag = prefix.replace("_", "-")
            raise LesionError(f"--{flag}images and --{flag}masks must be given together")
        if images is not None:
            folders[split] = (images, masks)
    if not folders:
        raise LesionError("no input: give --images and --masks")
    return {"all": folders["train"]} if list(folders) == ["train"] else folders


if __name__ == "__main__":
    run_tool(main)
