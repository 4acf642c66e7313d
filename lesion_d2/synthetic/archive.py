"""Synthetic pictures as files, in the layout of the official ISIC 2018 Task 1 archives."""

from collections import deque
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import cv2

from lesion_d2.cpus import available_cpus
from lesion_d2.errors import LesionError
from lesion_d2.files import atomic_write
from lesion_d2.parallel import map_in_processes
from lesion_d2.synthetic.picture import check_arguments, render

IMAGES = "ISIC2018_Task1-2_Training_Input"
MASKS = "ISIC2018_Task1_Training_GroundTruth"
# (height, width); two are above 700x700, where the converter makes images smaller.
DEFAULT_SIZES = (
    (384, 512),
    (450, 600),
    (192, 256),
    (767, 1022),
    (480, 640),
    (640, 480),
    (1024, 1365),
    (540, 722),
)
MAX_COUNT = 10_000_000  # ids have 7 digits
JPEG_QUALITY = 93

ATTRIBUTION = """\
Synthetic dermoscopy pictures in the layout of the ISIC 2018 Task 1 archives.
Drawn by a program (lesion_d2.synthetic): no photograph, no patient and no lesion stands behind
them, and the ids are numbers only, not those of the ISIC Archive.
seed: {seed}
sizes (height x width): {sizes}
"""
LICENSE = """\
Synthetic pictures, dedicated to the public domain under CC0 1.0:
https://creativecommons.org/publicdomain/zero/1.0/
"""


def write_archive(
    root: str | Path,
    count: int,
    seed: int = 0,
    sizes: Sequence[tuple[int, int]] = DEFAULT_SIZES,
    workers: int | None = None,
) -> None:
    """Write synthetic images and masks below ``root`` as the official archives hold them.

    Picture ``i`` has the id ``ISIC_<i as 7 digits>``, the size ``sizes[i % len(sizes)]`` and the
    pixels of :func:`lesion_d2.synthetic.render`. Files that are there already are left, so an
    interrupted call can be repeated and a finished set extended.

    ``sizes`` are (height, width) in pixels; ``workers`` are by default the CPUs available.

    Raises:
        LesionError: an argument is out of range, ``root`` holds something else or another seed's
            or sizes' pictures, or it cannot be written.
    """
    root = Path(root)
    if not 1 <= count <= MAX_COUNT:
        raise LesionError(f"count {count}: must be from 1 to {MAX_COUNT}")
    if workers is not None and workers < 1:
        raise LesionError(f"workers {workers}: must be at least 1")
    if not sizes:
        raise LesionError("sizes: name at least one")
    for height, width in sizes:
        check_arguments(seed, 0, height, width)
    try:
        _write_texts(root, seed, sizes)
        work = partial(_write_pair, root, seed, sizes)
        workers = workers or available_cpus()
        deque(map_in_processes(work, range(count), workers, "drawing", "picture"), maxlen=0)
    except OSError as error:
        raise LesionError(
            f"{error.filename2 or error.filename or root}: cannot be written ({error.strerror}); "
            "free it or choose another folder"
        ) from error


def _write_texts(root: Path, seed: int, sizes: Sequence[tuple[int, int]]) -> None:
    """Write the text files; they also tell a repeated call whether it may go on in ``root``."""
    names = ", ".join(f"{height}x{width}" for height, width in sizes)
    attribution = ATTRIBUTION.format(seed=seed, sizes=names)
    folders = [root / IMAGES, root / MASKS]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        text = folder / "ATTRIBUTION.txt"
        found = text.read_text("utf-8", "replace") if text.exists() else None
        if found != attribution and any(folder.iterdir()):
            raise LesionError(
                f"{folder}: holds other files than a synthetic set of seed {seed} and sizes "
                f"{names}; remove it or choose another folder"
            )
    for folder in folders:
        for name, content in (("ATTRIBUTION.txt", attribution), ("LICENSE.txt", LICENSE)):
            with atomic_write(folder / name) as stream:
                stream.write(content)


def _write_pair(root: Path, seed: int, sizes: Sequence[tuple[int, int]], index: int) -> None:
    image_path = root / IMAGES / f"ISIC_{index:07d}.jpg"
    mask_path = root / MASKS / f"ISIC_{index:07d}_segmentation.png"
    if image_path.is_file() and mask_path.is_file():
        return
    image, mask = render(seed, index, *sizes[index % len(sizes)])
    quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    for path, pixels, options in ((image_path, image, quality), (mask_path, mask, [])):
        _, data = cv2.imencode(path.suffix, pixels, options)
        with atomic_write(path, "wb") as stream:
            stream.write(data.tobytes())
