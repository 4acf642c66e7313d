"""The manifest of a converted data set, ``split.json``: which id is in which split."""

from dataclasses import asdict, dataclass
from pathlib import Path

from lesion_d2.data.converted import SPLITS
from lesion_d2.errors import LesionError
from lesion_d2.files import read_json, write_json

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


def read_manifest(path: Path) -> Manifest:
    """Read a ``split.json``.

    Raises:
        LesionError: if it is missing, not such a file, or puts an id in two splits.
    """
    remedy = "give the split.json of a converted data set"
    content = read_json(path, remedy)
    try:
        if content.pop("format") != MANIFEST_FORMAT:
            raise ValueError(f"its format is not {MANIFEST_FORMAT}")
        if "fingerprint" in content:  # its name in earlier files
            content["input_fingerprint"] = content.pop("fingerprint")
        manifest = Manifest(**content)
        if sorted(manifest.splits) != sorted(SPLITS):
            raise ValueError(f"its splits are not {', '.join(SPLITS)}")
        if len(manifest.split_of()) != sum(map(len, manifest.splits.values())):
            raise ValueError("an id is in it twice")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise LesionError(f"{path}: not a split manifest ({error}); {remedy}") from error
    return manifest


def read_input_fingerprint(dataset_dir: str | Path) -> str | None:
    """Return the fingerprint of a converted data set's input; None where no ``split.json`` has one.

    Raises:
        LesionError: if ``split.json`` is not JSON.
    """
    path = Path(dataset_dir) / "split.json"
    content = read_json(path, "convert the data set again") if path.is_file() else None
    if not isinstance(content, dict):
        return None
    return content.get("input_fingerprint", content.get("fingerprint"))
