"""From image files to masks, overlays and a table."""

import csv
import os
import time
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from lesion_d2.cpus import available_cpus
from lesion_d2.errors import UNWRITABLE, LesionError
from lesion_d2.files import (
    alone,
    escape_name,
    naming,
    read_whole_rows,
    unescape_name,
    write_csv,
    write_json,
)
from lesion_d2.images.inputs import ImageFile, folder_settings
from lesion_d2.images.masks import mask_png
from lesion_d2.images.scaling import fit
from lesion_d2.images.source import BadFileError, read_source
from lesion_d2.parallel import progress_bar
from lesion_d2.prediction.lesion import Lesion
from lesion_d2.prediction.predictor import LesionPredictor, outline_image
from lesion_d2.results.formats import unedited, write_formats
from lesion_d2.results.predictions import COLUMNS, NEEDED, PredictionFolder, Row, name_of
from lesion_d2.results.removal import remove_mask, remove_result

OVERLAY_SIDE = 1024
MAX_WORKERS = 4  # by default: each takes memory, and one GPU has no use for more
OUTLINE = (0, 255, 255)  # BGR, yellow on a dark line: seen on skin and on pigment


def predict_files(
    predictor: LesionPredictor,
    files: Sequence[ImageFile],
    folder: PredictionFolder,
    *,
    formats: Collection[str] = (),
    overlays: bool = True,
    workers: int | None = None,
) -> list[tuple[Path, str]]:
    """Segment the folder's share of files; return those that could not be used, and why.

    Writes ``masks/<name>_segmentation.png`` at the image's size, ``overlays/<name>.jpg`` (longest
    side at most 1,024 pixels), ``predictions.csv``, ``failed.csv`` and ``settings.json``; the
    tables of one of several shares end in ``_i_of_n.csv``. At the end these become the other
    ``formats``, as :func:`~lesion_d2.results.formats.write_formats` says. What an earlier, stopped
    call did is kept, but a file that has changed since is done again. ``workers`` is the number of
    images that are worked on at a time, by default one for each CPU, at most 4; they share the
    CPUs.

    Raises:
        LesionError: if the folder holds predictions of another model or other settings, another
            process is writing the same tables, or ``workers`` is below 1.
    """
    workers = min(MAX_WORKERS, available_cpus()) if workers is None else workers
    if workers < 1:
        raise LesionError(f"--workers: {workers} is less than 1")
    number, count = folder.shard
    files = files[number - 1 :: count]
    with alone(folder.table):
        with alone(folder.settings, timeout=60):
            _check_settings(folder, predictor.settings)
            todo, failed = _to_do(files, folder)
        work = partial(_predict_file, predictor, folder, overlays)
        with (
            naming(folder.table),
            open(folder.table, "a", encoding="utf-8", newline="") as stream,
            predictor.sharing(workers),
            ThreadPoolExecutor(workers) as executor,
        ):
            writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
            rows = executor.map(work, todo)
            bar = progress_bar(rows, "predicting", len(files), initial=len(files) - len(todo))
            try:
                for file, row in zip(todo, bar, strict=True):
                    if isinstance(row, str):
                        failed.append((file.path, row))
                        continue
                    writer.writerow(row)
                    stream.flush()
            finally:
                executor.shutdown(cancel_futures=True)
        lines = [(escape_name(path), reason) for path, reason in failed]
        write_csv(folder.failed, ("file", "reason"), lines)
        write_formats(folder, formats)
    return failed


def draw_overlay(image: npt.NDArray[np.uint8], lesion: Lesion) -> bytes:
    """Return a JPEG of the image with the mask's outline, longest side at most 1,024 pixels.

    The image may be smaller than the mask.
    """
    picture = fit(image, OVERLAY_SIDE).copy()
    original = lesion.mask.view(np.uint8)
    mask = cv2.resize(original, picture.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    thickness = max(1, round(max(picture.shape) / 400))
    cv2.drawContours(picture, contours, -1, (0, 0, 0), 3 * thickness, cv2.LINE_AA)
    cv2.drawContours(picture, contours, -1, OUTLINE, thickness, cv2.LINE_AA)
    _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 90])
    return data.tobytes()


def _predict_file(
    predictor: LesionPredictor, folder: PredictionFolder, overlays: bool, file: ImageFile
) -> Row | str:
    """Write the mask and overlay of a file; return its row, or why it could not be used."""
    start = time.perf_counter()
    try:
        state = _state(file.path)
        data = read_source(file.path)
        lesion, image = outline_image(predictor, data, OVERLAY_SIDE if overlays else 0)
        overlay = draw_overlay(image, lesion) if overlays else None
        folder.write(folder.mask(file.name), mask_png(lesion.mask))  # has the longest name
        if overlay is not None:
            folder.write(folder.overlay(file.name), overlay)
    except Exception as error:  # whatever one file raises, the others go on
        if isinstance(error, OSError) and error.errno in UNWRITABLE:
            raise
        if isinstance(error, OSError):
            return str(error.strerror)
        kind = "" if isinstance(error, BadFileError | LesionError) else f"{type(error).__name__}: "
        return f"{kind}{error}"
    height, width = lesion.mask.shape
    estimated = lesion.estimated_iou
    return {
        "file": escape_name(file.path),
        "mask": escape_name(folder.mask(file.name).relative_to(folder.root)),
        "width": width,
        "height": height,
        "area_pixels": np.count_nonzero(lesion.mask),
        "area_share": f"{lesion.area_share:.6f}",
        **dict(zip(("x0", "y0", "x1", "y1"), lesion.box, strict=True)),
        "score": f"{lesion.score:.4f}",
        "estimated_iou": "" if estimated is None else f"{estimated:.4f}",
        "candidates": lesion.candidates,
        "longest_diameter_pixels": f"{lesion.longest_diameter:.1f}",
        **state,
        "seconds": f"{time.perf_counter() - start:.3f}",
    }


def _state(path: Path) -> Row:
    """Return by what a changed file is known.

    Raises:
        BadFileError: if it cannot be had.
    """
    try:
        state = path.stat()
    except OSError as error:
        raise BadFileError("unreadable", str(error.strerror)) from error
    return {"file_bytes": str(state.st_size), "file_modified_ns": str(state.st_mtime_ns)}


def _unchanged(path: str, row: Row) -> bool:
    try:
        return _state(Path(path)).items() <= row.items()
    except BadFileError:
        return False


def _check_state(table: Path, row: Row) -> None:
    """Refuse a number that a spreadsheet has rounded: every photograph would seem to be changed."""
    for column in ("width", "height", "file_bytes", "file_modified_ns"):
        if not (text := row.get(column, "0")).removeprefix("-").isdecimal():
            raise LesionError(
                f"{table}: {column} of {row['file']} is {text!r}, no whole number, since another "
                "program saved it; put the table back, or --overwrite"
            )


def _check_settings(folder: PredictionFolder, settings: dict[str, Any]) -> None:
    """Compare the settings with those of the tables that are there; write them for the first."""
    earlier = folder_settings(folder.root)
    # Hidden files are locks, and those of others about to become what is looked for here.
    if earlier is None and any(not p.name.startswith(".") for p in folder.root.iterdir()):
        raise LesionError(
            f"--output: {folder.root} is not empty and holds no predictions, or its "
            f"{folder.settings.name} is damaged; put that back, or choose another folder"
        )
    if earlier is not None and folder.tables:
        # A folder of an earlier version lacks later keys: no reason to refuse it.
        changed = [key for key in settings if earlier.get(key, settings[key]) != settings[key]]
        if changed:
            raise LesionError(
                f"--output: {folder.root} holds predictions made with another {changed[0]}; choose "
                "another folder, or --overwrite"
            )
        return
    write_json(folder.settings, settings)


def _to_do(
    files: Sequence[ImageFile], folder: PredictionFolder
) -> tuple[list[ImageFile], list[tuple[Path, str]]]:
    """Return the files without a valid result, and those that have none of their own name.

    The table is written anew without rows that are torn, lack their mask, or are of a file that has
    changed; what these left is removed. A row of a file that was moved is of the moved one.
    """
    paths = {os.path.realpath(file.path): file for file in files}
    done: set[str] = set()
    owners: dict[str, tuple[str, Row]] = {}
    own: dict[str, Row] = {}
    lacking, changed = [], []
    for table in [folder.table, *(path for path in folder.tables if path != folder.table)]:
        for row in read_whole_rows(table, NEEDED):
            _check_state(table, row)
            path, name = os.path.realpath(unescape_name(row["file"])), name_of(row)
            if name is None or path in done:
                continue
            if path in paths and not _unchanged(path, row):
                changed.append(row)
            elif folder.mask(name).is_file():
                done.add(path)
                owners[name] = path, row
                if table == folder.table:
                    own[name] = row
            elif table == folder.table:
                lacking.append(name)
    for row in changed:
        name = str(name_of(row))
        if name in owners and not os.path.lexists(owners[name][0]):
            del owners[name]  # another table has the row of where the photograph lay before
        if name not in owners:
            remove_result(folder, row)
    for name in lacking:
        if name not in owners:
            remove_mask(folder, name)
    todo, failed = [], []
    for path, file in paths.items():
        if path in done:
            continue
        owner, row = owners.setdefault(file.name, (path, {}))
        gone = not os.path.lexists(owner)
        if owner == path:
            todo.append(file)
        elif gone and _unchanged(path, row):
            for unedited_file in unedited(folder, row):
                unedited_file.unlink()  # written anew, as labelme's names the photograph
            own[file.name] = {**row, "file": escape_name(file.path)}
        else:
            remedy = (
                ", which is gone; --overwrite, or predict into another folder"
                if gone
                else "; predict both in one call, or into different folders"
            )
            reason = f"its mask would take the place of that of {escape_name(owner)}{remedy}"
            failed.append((file.path, reason))
    write_csv(folder.table, COLUMNS, own.values())
    return todo, failed
