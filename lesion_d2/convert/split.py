"""Dealing ids into train, validation and test."""

import hashlib
from fractions import Fraction
from math import ceil

from lesion_d2.data.converted import SPLITS


def deal(
    ids: list[str], groups: list[list[str]], seed: int, test_fraction: float, val_fraction: float
) -> dict[str, list[str]]:
    """Deal distinct ids into splits; the members of a group end in the same one.

    Groups (a single id is a group of one) are put in the order of the SHA-256 of seed and first
    id, which no version of a random generator can change. Test is filled in that order, a group
    that no longer fits is passed over, then validation, and the rest is train. So the sizes are
    exact as long as enough single ids are left.

    ``test_fraction`` is a part of all ids, rounded up, ``val_fraction`` of those that remain.

    Returns:
        Sorted ids for each of ``train``, ``val`` and ``test``.
    """
    grouped = {isic_id for group in groups for isic_id in group}
    units = [sorted(group) for group in groups]
    units += [[isic_id] for isic_id in ids if isic_id not in grouped]
    units.sort(key=lambda unit: hashlib.sha256(f"{seed}:{unit[0]}".encode()).digest())

    splits: dict[str, list[str]] = {}
    for split, fraction in (("test", test_fraction), ("val", val_fraction)):
        room = _share(sum(map(len, units)), fraction)
        taken, passed = [], []
        for unit in units:
            if len(unit) <= room:
                taken += unit
                room -= len(unit)
            else:
                passed.append(unit)
        splits[split] = sorted(taken)
        units = passed
    splits["train"] = sorted(isic_id for unit in units for isic_id in unit)
    return {split: splits[split] for split in SPLITS}


def shortfall(sizes: dict[str, int], test_fraction: float, val_fraction: float) -> dict[str, int]:
    """Return how many ids dealt splits of these sizes lack, where groups left them short."""
    total = sum(sizes.values())
    wanted = {
        "test": _share(total, test_fraction),
        "val": _share(total - sizes["test"], val_fraction),
    }
    return {split: n - sizes[split] for split, n in wanted.items() if n > sizes[split]}


def _share(count: int, fraction: float) -> int:
    return ceil(count * Fraction(str(fraction)))


def fingerprint(digests: list[str]) -> str:
    """Return the SHA-256 over the sorted lines ``id sha256(image) sha256(mask)``."""
    return hashlib.sha256("".join(f"{line}\n" for line in sorted(digests)).encode()).hexdigest()
