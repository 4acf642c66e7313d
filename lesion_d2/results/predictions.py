"""The folder that ``tools/predict.py`` writes: masks, overlays, their tables, other formats.

A table is the folder's own record: only files that a row of it names are ever deleted.
"""

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from lesion_d2.files import alone, read_whole_rows, unescape_name
from lesion_d2.images.inputs import SETTINGS, folder_settings

COLUMNS = (
    "file", "mask", "width", "height", "area_pixels", "area_share", "x0", "y0", "x1", "y1",
    "score", "estimated_iou", "candidates", "longest_diameter_pixels", "file_bytes",
    "file_modified_ns", "seconds",
)  # fmt: skip
# What a table of any version has, and cannot be read without.
NEEDED = ("file", "mask", "width", "height", "score", "estimated_iou")
FORMATS = ("masks", "coco", "labelme", "geojson")
_TABLE = re.compile(r"predictions(_\d+_of_\d+)?\.csv")  # another name is a table of the user's own
_MASKS, _MASK_END = "masks/", "_segmentation.png"

Row = dict[str, Any]


class PredictionFolder:
    """A folder of predictions, as one of the processes that share it sees it.

    Attributes:
        root: the folder.
        shard: ``(i, n)``: this process works on the i-th of n shares of the images.
        settings: JSON file of what the masks depend on.
        table: of this process's predictions.
        failed: table of its files that could not be used.
        coco: its predictions in COCO's format.
    """

    def __init__(self, root: Path, shard: tuple[int, int] = (1, 1)) -> None:
        number, count = shard
        end = f"_{number}_of_{count}.csv" if count > 1 else ".csv"
        self.root, self.shard = root, shard
        self.settings = root / SETTINGS
        self.table, self.failed = root / f"predictions{end}", root / f"failed{end}"
        self.coco = self.table.with_suffix(".json")

    @property
    def formats(self) -> set[str]:
        """The formats of other tools that are there."""
        places = {"coco": self.coco, "labelme": self.root / "labelme"}
        places["geojson"] = self.root / "geojson"
        return {name for name, place in places.items() if place.exists()}

    @property
    def tables(self) -> list[Path]:
        """The tables of predictions that are there, of all processes."""
        found = self.root.glob("predictions*.csv")
        return sorted(path for path in found if _TABLE.fullmatch(path.name))

    def mask(self, name: str) -> Path:
        """Return the mask file of the image that is called ``name`` here."""
        return self.root / f"{_MASKS}{name}{_MASK_END}"

    def overlay(self, name: str) -> Path:
        """Return the overlay of that image."""
        return self.root / f"overlays/{name}.jpg"

    def labelme(self, name: str) -> Path:
        """Return the labelme file of that image."""
        return self.root / f"labelme/{name}.json"

    def geojson(self, name: str) -> Path:
        """Return the GeoJSON file of that image."""
        return self.root / f"geojson/{name}.geojson"

    def rows(self) -> list[Row]:
        """Return the rows that have their mask, one a file, by its name.

        They are of this process's table, or, if it works on all of the images, of all tables.
        """
        others = self.tables if self.shard == (1, 1) else []
        found: dict[str, tuple[str, Row]] = {}
        for table in (*others, self.table):
            for row in read_whole_rows(table, NEEDED):
                name = name_of(row)
                if name is not None and self.mask(name).is_file():
                    found[row["file"]] = name, row
        return [row for _, row in sorted(found.values(), key=lambda item: item[0])]

    def remove_result(self, name: str) -> None:
        """Delete the mask of an image and all that shows it."""
        for path in (self.mask(name), self.overlay(name), self.labelme(name), self.geojson(name)):
            with suppress(OSError):  # not there, or of a name that the disk does not take
                path.unlink()

    def remove(self) -> None:
        """Delete what this process's table names, and the table; the rest with the last of them.

        One that works on all of the images removes the shares of others, too.
        """
        if folder_settings(self.root) is None:
            return
        for table in self.tables if self.shard == (1, 1) else [self.table]:
            with alone(table):
                for row in read_whole_rows(table, NEEDED):
                    if name := name_of(row):
                        self.remove_result(name)
                failed = table.with_name(table.name.replace("predictions", "failed"))
                for path in (table, table.with_suffix(".json"), failed):
                    path.unlink(missing_ok=True)
        if self.tables:
            return
        for name in ("masks", "overlays", "labelme", "geojson"):
            for folder, _, _ in os.walk(self.root / name, topdown=False):
                with suppress(OSError):  # holds a file of somebody else
                    Path(folder).rmdir()
        if set(self.root.iterdir()) == {self.settings}:
            self.settings.unlink()  # else it shows that the folder, with files of others, is ours


def name_of(row: Row) -> str | None:
    """Return what the image of a row is called in its folder; None if that leads out of it."""
    mask = unescape_name(row["mask"])
    inside = mask.startswith(_MASKS) and mask.endswith(_MASK_END) and ".." not in Path(mask).parts
    return mask.removeprefix(_MASKS).removesuffix(_MASK_END) if inside else None
