"""Deleting predictions, and nothing that a user may have drawn."""

import os
from contextlib import suppress
from pathlib import Path

from lesion_d2.files import alone, read_whole_rows
from lesion_d2.images.inputs import folder_settings
from lesion_d2.results.formats import unedited
from lesion_d2.results.predictions import NEEDED, PredictionFolder, Row, name_of


def remove_result(folder: PredictionFolder, row: Row) -> None:
    """Delete what a row names and all that shows it; files that may be edited are set aside."""
    name = str(name_of(row))
    for path in unedited(folder, row):
        path.unlink()
    for path in folder.editable(name):
        if path.is_file():
            folder.set_aside(path)
    remove_mask(folder, name)


def remove_mask(folder: PredictionFolder, name: str) -> None:
    """Delete the mask of an image, and its overlay."""
    for path in (folder.mask(name), folder.overlay(name)):
        with suppress(OSError):  # not there, or of a name that the disk does not take
            path.unlink()


def remove_predictions(folder: PredictionFolder) -> None:
    """Delete what this process's table names, and the table; the rest with the last of them.

    One that works on all of the images removes the shares of others, too. A folder that is none of
    predictions stays as it is.
    """
    if folder_settings(folder.root) is None:
        return
    for table in folder.tables if folder.shard == (1, 1) else [folder.table]:
        with alone(table):
            for row in read_whole_rows(table, NEEDED):
                if name_of(row):
                    remove_result(folder, row)
            failed = table.with_name(table.name.replace("predictions", "failed"))
            for path in (table, table.with_suffix(".json"), failed):
                path.unlink(missing_ok=True)
    if folder.tables:
        return
    for name in ("masks", "overlays", "labelme", "geojson"):
        for parent, _, _ in os.walk(folder.root / name, topdown=False):
            with suppress(OSError):  # holds a file of somebody else
                Path(parent).rmdir()
    if set(folder.root.iterdir()) == {folder.settings}:
        folder.settings.unlink()  # else it shows that the folder, with files of others, is ours
