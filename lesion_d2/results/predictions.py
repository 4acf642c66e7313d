"""The folder that ``tools/predict.py`` writes: masks, overlays, their tables, other formats.

A table is the folder's own record: only files that a row of it names are ever deleted, and of these
no labelme or GeoJSON file that may have been edited. What would be lost is moved to ``set_aside``.
"""

import re
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

from lesion_d2.files import atomic_write, escape_name, read_whole_rows, set_aside, unescape_name
from lesion_d2.images.inputs import SETTINGS

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

    def editable(self, name: str, formats: Collection[str] = FORMATS) -> list[Path]:
        """Return the files of that image that a user edits, of some formats: labelme, GeoJSON."""
        places = {"labelme": f"labelme/{name}.json", "geojson": f"geojson/{name}.geojson"}
        return [self.root / place for kind, place in places.items() if kind in formats]

    def rows(self) -> list[Row]:
        """Return the rows that have their mask, one a mask, by the name of the image.

        They are of this process's table, or, if it works on all of the images, of all tables.
        """
        others = self.tables if self.shard == (1, 1) else []
        found: dict[str, Row] = {}
        for table in (*others, self.table):
            for row in read_whole_rows(table, NEEDED):
                name = name_of(row)
                if name is not None and self.mask(name).is_file():
                    found[name] = row
        return [found[name] for name in sorted(found)]

    def write(self, path: Path, data: bytes) -> None:
        """Write a file of the folder; one of another content that is there is set aside."""
        if path.is_file() and not holds(path, data):
            self.set_aside(path)
        with atomic_write(path, "wb") as stream:
            stream.write(data)

    def set_aside(self, path: Path) -> None:
        """Move a file of the folder out of the way, and say where it is."""
        place = (self.root / "set_aside" / path.relative_to(self.root)).with_suffix("")
        print(f"set aside: {escape_name(path)} is now {escape_name(set_aside(path, place))}")


def holds(path: Path, data: bytes) -> bool:
    """Say whether a file holds these bytes; what cannot be read is somebody else's."""
    with suppress(OSError):
        return path.read_bytes() == data
    return False


def name_of(row: Row) -> str | None:
    """Return what the image of a row is called in its folder; None if that leads out of it."""
    mask = unescape_name(row["mask"])
    inside = mask.startswith(_MASKS) and mask.endswith(_MASK_END) and ".." not in Path(mask).parts
    return mask.removeprefix(_MASKS).removesuffix(_MASK_END) if inside else None
