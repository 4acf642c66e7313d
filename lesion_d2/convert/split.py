"""Dealing ids into train, validation and test, and the manifest that fixes the deal."""

import hashlib
import json
from dataclasses import asdict, dataclass
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Any

from lesion_d2.errors import LesionError
from lesion_d2.files import atomic_write

SPLITS = ("train", "val", "test")
MANIFEST_FORMAT = 1


@dataclass(frozen=True)
class Manifest:
    """The content of ``split.json``.

    Attributes:
        seed: of the deal; None when the split was given as folders.
        test_fraction: part of all ids; None when given.
        val_fraction: part of the ids that are not test; None when given.
        grouped: whether near-duplicates were kept together.
        fingerprint: SHA-256 over the pairs used.
        splits: ids, sorted, by split.
        groups: ids that show the same lesion.
    """

    seed: int | None
    test_fraction: float | None
    val_fraction: float | None
    grouped: bool
    fingerprint: str
    splits: dict[str, list[str]]
    groups: list[list[str]]

    def write(self, path: Path) -> None:
        """Write as JSON."""
        with atomic_write(path) as stream:
            json.dump({"format": MANIFEST_FORMAT, **asdict(self)}, stream, indent=1)
            stream.write("\n")

    def split_of(self) -> dict[str, str]:
        """Return the split of each id."""
        return {isic_id: split for split, ids in self.splits.items() for isic_id in ids}


def read_manifest(path: Path) -> Manifest:
    """Read a ``split.json``.

    Raises:
        LesionError: if it is missing, not such a file, or puts an id in two splits.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if content.pop("format") != MANIFEST_FORMAT:
            raise ValueError(f"its format is not {MANIFEST_FORMAT}")
        manifest = Manifest(**content)
        if sorted(manifest.splits) != sorted(SPLITS):
            raise ValueError(f"its splits are not {', '.join(SPLITS)}")
        if len(manifest.split_of()) != sum(map(len, manifest.splits.values())):
            raise ValueError("an id is in it twice")
    except OSError as error:
        raise LesionError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise LesionError(
            f"{path}: not a split manifest ({error}); give the split.json of a converted data set"
        ) from error
    return manifest


def deal(
    ids: list[str],
    groups: list[list[str]],
    seed: int,
    test_fraction: float,
    val_fraction: float,
) -> dict[str, list[str]]:
    """Deal ids into splits; the members of a group end in the same one.

    Groups (a single id is a group of one) are put in the order of the SHA-256 of seed and first
    id, which no version of a random generator can change. Test is filled in that order, a group
    that no longer fits is passed over, then validation, and the rest is train. So the sizes are
    exact as long as enough single ids are left.

    Args:
        ids: distinct ids, in any order.
        groups: disjoint lists of ids that belong together.
        seed: any integer.
        test_fraction: part of all ids, rounded up.
        val_fraction: part of the remaining ids, rounded up.

    Returns:
        Sorted ids for each of ``train``, ``val`` and ``test``.
    """
    grouped = {isic_id for group in groups for isic_id in group}
    units = [sorted(group) for group in groups]
    units += [[isic_id] for isic_id in ids if isic_id not in grouped]
    units.sort(key=lambda unit: hashlib.sha256(f"{seed}:{unit[0]}".encode()).digest())

    splits = {}
    left = len(ids)
    for split, fraction in (("test", test_fraction), ("val", val_fraction)):
        room = ceil(left * Fraction(str(fraction)))
        taken, passed = [], []
        for unit in units:
            if len(unit) <= room:
                taken += unit
                room -= len(unit)
            else:
                passed.append(unit)
        splits[split] = sorted(taken)
        units = passed
        left -= len(taken)
    splits["train"] = sorted(isic_id for unit in units for isic_id in unit)
    return {split: splits[split] for split in SPLITS}


def fingerprint(digests: list[str]) -> str:
    """Return the SHA-256 over the sorted lines ``id sha256(image) sha256(mask)``."""
    return hashlib.sha256("".join(f"{line}\n" for line in sorted(digests)).encode()).hexdigest()
