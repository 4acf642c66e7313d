"""From image files to masks, overlays and a table."""

import csv
import json
import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch

from lesion_d2.errors import LesionError
from lesion_d2.files import atomic_write
from lesion_d2.images.inputs import load_image
from lesion_d2.images.masks import write_mask
from lesion_d2.images.reading import BadFileError
from lesion_d2.parallel import available_cpus, progress_bar
from lesion_d2.prediction.lesion import Lesion
from lesion_d2.prediction.predictor import LesionPredictor

COLUMNS = (
    "file", "mask", "width", "height", "area_pixels", "area_share", "x0", "y0", "x1", "y1",
    "score", "estimated_iou", "candidates", "longest_diameter_pixels", "seconds",
)  # fmt: skip
OVERLAY_SIDE = 1024
MAX_WORKERS = 4  # by default: each takes memory, and one GPU has no use for more
OUTLINE = (0, 255, 255)  # BGR, yellow on a dark line: seen on skin and on pigment


def predict_files(
    predictor: LesionPredictor,
    files: Sequence[Path],
    output: Path,
    *,
    overlays: bool = True,
    workers: int | None = None,
    shard: tuple[int, int] = (1, 1),
) -> list[tuple[Path, str]]:
    """Segment files and write the results; what an earlier, stopped call did is kept.

    Writes ``masks/<name>_segmentation.png`` at the image's size, ``overlays/<name>.jpg`` (longest
    side at most 1,024 pixels), ``predictions.csv`` with a row for each, ``failed.csv`` with a row
    for each that could not be used, and ``settings.json``.

    Args:
        predictor: makes the masks.
        files: from :func:`lesion_d2.images.inputs.find_images`.
        output: folder to write to.
        overlays: whether to draw the outline on the images.
        workers: number of images that are worked on at a time, each from its file to its mask; they
            share the CPUs. By default one for each CPU, at most 4.
        shard: ``(i, n)``: take the i-th of n shares of the files, i from 1; the tables of one of
            several are ``predictions_i_of_n.csv`` and ``failed_i_of_n.csv``. Processes and machines
            that share ``output`` need not know of each other.

    Returns:
        the files that could not be used, and why.

    Raises:
        LesionError: if ``output`` holds predictions of another model or other settings, or
            ``workers`` is below 1.
    """
    workers = min(MAX_WORKERS, available_cpus()) if workers is None else workers
    if workers < 1:
        raise LesionError(f"--workers: {workers} is less than 1")
    number, count = shard
    files = files[number - 1 :: count]
    suffix = f"_{number}_of_{count}.csv" if count > 1 else ".csv"
    table = output / f"predictions{suffix}"
    _check_settings(output / "settings.json", predictor.settings)
    done = _finished(table, output)
    failed = []
    todo = [file for file in files if str(file) not in done]
    work = partial(_predict_file, predictor, output, overlays)
    with (
        open(table, "a", encoding="utf-8", newline="") as stream,
        _threads_each(workers),
        ThreadPoolExecutor(workers) as executor,
    ):
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        rows = executor.map(work, todo)
        bar = progress_bar(rows, "predicting", len(files), initial=len(files) - len(todo))
        try:
            for file, row in zip(todo, bar, strict=True):
                if isinstance(row, BadFileError):
                    failed.append((file, str(row)))
                    continue
                writer.writerow(row)
                stream.flush()
        finally:
            executor.shutdown(cancel_futures=True)
    with atomic_write(output / f"failed{suffix}", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows([("file", "reason"), *failed])
    return failed


def remove_predictions(output: Path) -> None:
    """Delete what :func:`predict_files` wrote to a folder, and nothing else."""
    if not (output / "settings.json").is_file():
        return
    for name in ("masks", "overlays"):
        shutil.rmtree(output / name, ignore_errors=True)
    for name in ("predictions", "failed"):
        for path in [output / f"{name}.csv", *output.glob(f"{name}_*_of_*.csv")]:
            path.unlink(missing_ok=True)
    (output / "settings.json").unlink()


def draw_overlay(image: npt.NDArray[np.uint8], lesion: Lesion) -> bytes:
    """Return a JPEG of the image with the mask's outline, longest side at most 1,024 pixels.

    The image may be smaller than the mask.
    """
    scale = min(1.0, OVERLAY_SIDE / max(image.shape[:2]))
    picture = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    mask = cv2.resize(
        lesion.mask.view(np.uint8), picture.shape[1::-1], interpolation=cv2.INTER_NEAREST
    )
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    thickness = max(1, round(max(picture.shape) / 400))
    cv2.drawContours(picture, contours, -1, (0, 0, 0), 3 * thickness, cv2.LINE_AA)
    cv2.drawContours(picture, contours, -1, OUTLINE, thickness, cv2.LINE_AA)
    _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 90])
    return data.tobytes()


@contextmanager
def _threads_each(workers: int) -> Iterator[None]:
    """Let each worker compute in its share of the CPUs: more threads than CPUs only wait."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, available_cpus() // workers))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _predict_file(
    predictor: LesionPredictor, output: Path, overlays: bool, file: Path
) -> dict[str, Any] | BadFileError:
    """Write the mask and overlay of a file; return its row, or why it could not be used."""
    start = time.perf_counter()
    try:
        # Overlays need more pixels than the model does.
        enough = max(predictor.enough, OVERLAY_SIDE if overlays else 0)
        image, size = load_image(file, enough)
    except BadFileError as error:
        return error
    (lesion,) = predictor([image], channels="BGR", sizes=[size])
    mask = output / "masks" / f"{file.stem}_segmentation.png"
    write_mask(mask, lesion.mask)
    if overlays:
        with atomic_write(output / "overlays" / f"{file.stem}.jpg", "wb") as picture:
            picture.write(draw_overlay(image, lesion))
    return _row(file, mask.relative_to(output), lesion, time.perf_counter() - start)


def _row(file: Path, mask: Path, lesion: Lesion, seconds: float) -> dict[str, Any]:
    height, width = lesion.mask.shape
    estimated = lesion.estimated_iou
    return {
        "file": file,
        "mask": mask.as_posix(),
        "width": width,
        "height": height,
        "area_pixels": np.count_nonzero(lesion.mask),
        "area_share": f"{lesion.area_share:.6f}",
        **dict(zip(("x0", "y0", "x1", "y1"), lesion.box, strict=True)),
        "score": f"{lesion.score:.4f}",
        "estimated_iou": "" if estimated is None else f"{estimated:.4f}",
        "candidates": lesion.candidates,
        "longest_diameter_pixels": f"{lesion.longest_diameter:.1f}",
        "seconds": f"{seconds:.3f}",
    }


def _check_settings(path: Path, settings: dict[str, Any]) -> None:
    if path.is_file():
        try:
            earlier = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            earlier = {}
        changed = [key for key in settings if earlier.get(key) != settings[key]]
        if changed:
            raise LesionError(
                f"--output: {path.parent} holds predictions made with another {changed[0]}; choose "
                "another folder, or --overwrite"
            )
        return
    # A hidden file is another shard's, about to become what is looked for here.
    if path.parent.is_dir() and any(not p.name.startswith(".") for p in path.parent.iterdir()):
        raise LesionError(
            f"--output: {path.parent} is not empty and holds no predictions; choose another folder"
        )
    with atomic_write(path) as stream:
        json.dump(settings, stream, indent=1)
        stream.write("\n")


def _finished(table: Path, output: Path) -> set[str]:
    """Return the files whose results are there; rewrite the table without torn or orphaned rows."""
    rows = []
    if table.is_file():
        with open(table, encoding="utf-8", newline="") as stream:
            rows = [
                row
                for row in csv.DictReader(stream)
                if row.get("seconds") and (output / str(row["mask"])).is_file()
            ]
    with atomic_write(table, newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return {row["file"] for row in rows}
