"""The manifest of a converted data set, ``split.json``: which id is in which split."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lesion_d2.data.converted import SPLITS
from lesion_d2.errors import LesionError
from lesion_d2.files import read_json, write_json
from lesion_d2.images.source import SUFFIXES

MANIFEST_FORMAT = 1


@dataclass(frozen=True)
class Manifest:
    """The content of ``split.json``.

    Attributes:
        seed: of the deal; None when the split was given as folders.
        test_fraction: part of all ids; None when given.
        val_fraction: part of the ids that are not test; None when given.
        grouped: whether near-duplicates were kept together.
        input_fingerprint: SHA-256 over the pairs used.
        splits: ids, sorted, by split.
        groups: ids that show the same lesion.
    """

    seed: int | None
    test_fraction: float | None
    val_fraction: float | None
    grouped: bool
    input_fingerprint: str
    splits: dict[str, list[str]]
    groups: list[list[str]]

    def write(self, path: Path) -> None:
        """Write as JSON."""
        write_json(path, {"format": MANIFEST_FORMAT, **asdict(self)})

    def split_of(self) -> dict[str, str]:
        """Return the split of each id."""
        return {isic_id: split for split, ids in self.splits.items() for isic_id in ids}


def without_suffix(name: str) -> str:
    """Return the name of an image in a list, where it may have the suffix of a file."""
    stem, dot, suffix = name.rpartition(".")
    return stem if f"{dot}{suffix}".lower() in SUFFIXES else name


def _plain(lists: Mapping[str, list[str]]) -> dict[str, Any]:
    """Return the content of a ``split.json`` with ids by split and nothing else known."""
    if not all(isinstance(names, list) for names in lists.values()):
        raise ValueError("what is in it are no lists")
    splits = {
        split: [without_suffix(line.strip()) for line in lists.get(split, ()) if line.strip()]
        for split in SPLITS
    }
    unknown = dict.fromkeys(("seed", "test_fraction", "val_fraction"))
    known = {"format": MANIFEST_FORMAT, "grouped": False, "input_fingerprint": "", "groups": []}
    return {**unknown, **known, "splits": splits}


def _read_lists(folder: Path) -> dict[str, list[str]]:
    """Return the lines of the ``train.txt``, ``val.txt`` and ``test.txt`` that are in a folder."""
    try:
        return {
            split: path.read_text(encoding="utf-8-sig").splitlines()
            for split in SPLITS
            if (path := folder / f"{split}.txt").exists()
        }
    except (OSError, ValueError) as error:
        raise LesionError(f"{folder}: a list cannot be read ({error}); mend it") from error


def read_manifest(path: Path) -> Manifest:
    """Read a ``split.json``, or plain lists of ids.

    These are JSON of the form ``{"train": [...], "val": [...], "test": [...]}``, or a folder of
    ``train.txt``, ``val.txt`` and ``test.txt`` with an id or file name a line. A split may be
    missing.

    Raises:
        LesionError: if it is missing, not such a file, or puts an id in two splits.
    """
    remedy = (
        "give the split.json of a converted data set, JSON lists of train, val and test, or a "
        "folder of train.txt, val.txt and test.txt"
    )
    content = _read_lists(path) if path.is_dir() else read_json(path, remedy)
    try:
        if not content or content.keys() <= {*SPLITS}:
            content = _plain(content)
        if content.pop("format") != MANIFEST_FORMAT:
            raise ValueError(f"its format is not {MANIFEST_FORMAT}")
        if "fingerprint" in content:  # its name in earlier files
            content["input_fingerprint"] = content.pop("fingerprint")
        manifest = Manifest(**content)
        if sorted(manifest.splits) != sorted(SPLITS):
            raise ValueError(f"its splits are not {', '.join(SPLITS)}")
        if len(manifest.split_of()) != sum(map(len, manifest.splits.values())):
            raise ValueError("an id is in it twice")
        if not manifest.split_of():
            raise ValueError("no id is in it")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise LesionError(f"{path}: not a split manifest ({error}); {remedy}") from error
    return manifest


def read_fingerprints(dataset_dir: str | Path | None) -> dict[str, str]:
    """Return the fingerprints in a converted data set's ``split.json``; none where there is none.

    The folder is None where it is not known, as of a data set that another tool registered.

    Raises:
        LesionError: if ``split.json`` is not JSON.
    """
    if dataset_dir is None:
        return {}
    path = Path(dataset_dir) / "split.json"
    content = read_json(path, "convert the data set again") if path.is_file() else None
    if not isinstance(content, dict):
        return {}
    return {key: content[key] for key in content if key.endswith("fingerprint")}


def read_input_fingerprint(dataset_dir: str | Path | None) -> str | None:
    """Return the fingerprint of a converted data set's input; None where no ``split.json`` has one.

    Raises:
        LesionError: if ``split.json`` is not JSON.
    """
    found = read_fingerprints(dataset_dir)
    return found.get("input_fingerprint", found.get("fingerprint"))
