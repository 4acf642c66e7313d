"""Image files of a user: which there are, and reading one."""

import glob
import io
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from detectron2.data.detection_utils import convert_PIL_to_numpy
from PIL import Image, ImageOps

from lesion_d2.errors import LesionError
from lesion_d2.images.reading import BadFileError, read_header

SUFFIXES = (".jpg", ".jpeg", ".png")


def find_images(inputs: Sequence[str]) -> list[Path]:
    """Return the image files that are meant, sorted by name.

    Args:
        inputs: files, folders (searched with their subfolders for JPEG and PNG files; masks named
            ``*_segmentation.png`` are left out) and patterns such as ``photos/*.jpg``.

    Raises:
        LesionError: if one of them gives no file, or two files have one name (their masks would
            have, too).
    """
    found: set[Path] = set()
    for text in inputs:
        path = Path(text)
        if path.is_dir():
            files = [
                file
                for file in path.rglob("*")
                if file.suffix.lower() in SUFFIXES and not file.stem.endswith("_segmentation")
            ]
        elif path.is_file():
            files = [path]
        else:
            files = [Path(name) for name in glob.glob(text, recursive=True)]
            files = [file for file in files if file.is_file()]
        if not files:
            raise LesionError(
                f"--input: {text}: no image there; give JPEG or PNG files, a folder of them, or a "
                "pattern in quotes"
            )
        found.update(files)
    by_stem: dict[str, Path] = {}
    for file in sorted(found):
        other = by_stem.setdefault(file.stem.lower(), file)
        if other.absolute() != file.absolute():
            raise LesionError(
                f"--input: {other} and {file} have one name, and so would their masks; predict "
                "them into different folders"
            )
    return sorted(by_stem.values(), key=lambda file: (file.stem.lower(), file))


def load_image(
    path: Path, enough: int = sys.maxsize
) -> tuple[npt.NDArray[np.uint8], tuple[int, int]]:
    """Read an image as the training does, EXIF orientation applied.

    Args:
        path: a JPEG or PNG file.
        enough: no more pixels a side are needed. A JPEG that has many more is decoded at 1/2, 1/4
            or 1/8 of its sides, not below this; that takes a fraction of the time.

    Returns:
        BGR pixels, uint8 of shape (h, w, 3), and the (height, width) of the whole image.

    Raises:
        BadFileError: if it is no JPEG or PNG of 8 bits, damaged, or above 179 megapixels.
    """
    try:
        data = path.read_bytes()
        header = read_header(data)
        if header.mode.startswith("I"):
            raise BadFileError("16_bit", "a grey image of more than 8 bits; convert it to 8 first")
        image: Image.Image = Image.open(io.BytesIO(data))
        image.draft(None, (enough, enough))
        return convert_PIL_to_numpy(ImageOps.exif_transpose(image), "BGR"), header.shown_size
    except (OSError, SyntaxError, ValueError) as error:
        raise BadFileError("unreadable", str(error) or type(error).__name__) from error
