"""The official archives of ISIC 2016 to 2018, lesion segmentation: which there are, fetching them.

Names, addresses and rounded sizes are those of https://challenge.isic-archive.com/data, as the
templates of that page give them (github.com/ImageMarkup/stade, stade/core/templates/data). ISIC
publishes no checksum. Those below were published by people who had fetched the archives:

- 2016 and 2017, MD5: two projects that give the same digits. For the images of 2017 so does
  github.com/google-deepmind/dm_nevis, dm_nevis/datasets_storage/handlers/melanoma.py.
- 2018, SHA-256: github.com/constantinpape/torch-em, torch_em/data/datasets/medical/isic.py.
  The sizes to the byte come from another project, and round to those of the page.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tabulate import tabulate

from lesion_d2.errors import LesionError
from lesion_d2.transfer import Patience, RemoteFile, bytes_to_come, fetch

OFFICIAL = "https://isic-archive.s3.amazonaws.com/challenges"
PAGE = "https://challenge.isic-archive.com/data"


@dataclass(frozen=True)
class OfficialArchive:
    """A zip file of the challenge.

    Attributes:
        year: of the challenge.
        split: ``"train"``, ``"val"`` or ``"test"``.
        holds: ``"images"`` or ``"masks"``.
        stem: its name without ``.zip``.
        count: images or masks in it.
        size: bytes.
        checksum: ``"md5:..."`` or ``"sha256:..."``.
        exact: whether ``size`` is known to the byte; otherwise it is rounded.
    """

    year: int
    split: str
    holds: str
    stem: str
    count: int
    size: int
    checksum: str
    exact: bool = False

    @property
    def name(self) -> str:
        """The name of the file."""
        return f"{self.stem}.zip"


ARCHIVES = (
    OfficialArchive(
        2016, "train", "images", "ISBI2016_ISIC_Part1_Training_Data", 900, 602_000_000,
        "md5:2029f387e62dcc062b1370b1efc1f7fb",
    ),
    OfficialArchive(
        2016, "train", "masks", "ISBI2016_ISIC_Part1_Training_GroundTruth", 900, 6_000_000,
        "md5:fbd77134298f3511479a37bac93109c7",
    ),
    OfficialArchive(
        2016, "test", "images", "ISBI2016_ISIC_Part1_Test_Data", 379, 232_000_000,
        "md5:efebcaeaae751007401a40a60d391f93",
    ),
    OfficialArchive(
        2016, "test", "masks", "ISBI2016_ISIC_Part1_Test_GroundTruth", 379, 2_000_000,
        "md5:492a7711a2e19b96114cab6c96bd1ad5",
    ),
    OfficialArchive(
        2017, "train", "images", "ISIC-2017_Training_Data", 2000, 5_800_000_000,
        "md5:a14a7e622c67a358797ae59abb8a0b0c",
    ),
    OfficialArchive(
        2017, "train", "masks", "ISIC-2017_Training_Part1_GroundTruth", 2000, 9_000_000,
        "md5:77fdbeb6fbec4139937224416b250f4c",
    ),
    OfficialArchive(
        2017, "val", "images", "ISIC-2017_Validation_Data", 150, 878_000_000,
        "md5:8d6419d942112f709894c0d82f6c9038",
    ),
    OfficialArchive(
        2017, "val", "masks", "ISIC-2017_Validation_Part1_GroundTruth", 150, 559_000,
        "md5:64d3e68fa2deeb8a5e89aa8dec2efd44",
    ),
    OfficialArchive(
        2017, "test", "images", "ISIC-2017_Test_v2_Data", 600, 5_400_000_000,
        "md5:5f6a0b5e1f2972bd1f5ea02680489f09",
    ),
    OfficialArchive(
        2017, "test", "masks", "ISIC-2017_Test_v2_Part1_GroundTruth", 600, 18_000_000,
        "md5:b1742de6bd257faca3b2b21a4aa3b781",
    ),
    OfficialArchive(
        2018, "train", "images", "ISIC2018_Task1-2_Training_Input", 2594, 11_165_358_566,
        "sha256:80f98572347a2d7a376227fa9eb2e4f7459d317cb619865b8b9910c81446675f", exact=True,
    ),
    OfficialArchive(
        2018, "train", "masks", "ISIC2018_Task1_Training_GroundTruth", 2594, 27_402_895,
        "sha256:99f8b2bb3c4d6af483362010715f7e7d5d122d9f6c02cac0e0d15bef77c7604c", exact=True,
    ),
    OfficialArchive(
        2018, "val", "images", "ISIC2018_Task1-2_Validation_Input", 100, 239_231_159,
        "sha256:0ea920fcfe512d12a6e620b50b50233c059f67b10146e1479c82be58ff15a797", exact=True,
    ),
    OfficialArchive(
        2018, "val", "masks", "ISIC2018_Task1_Validation_GroundTruth", 100, 759_706,
        "sha256:f6911e9c0a64e6d687dd3ca466ca927dd5e82145cb2163b7a1e5b37d7a716285", exact=True,
    ),
    OfficialArchive(
        2018, "test", "images", "ISIC2018_Task1-2_Test_Input", 1000, 2_370_457_338,
        "sha256:e59ae1f69f4ed16f09db2cb1d76c2a828487b63d28f6ab85997f5616869b127d", exact=True,
    ),
    OfficialArchive(
        2018, "test", "masks", "ISIC2018_Task1_Test_GroundTruth", 1000, 9_680_101,
        "sha256:2e8f6edce454a5bdee52485e39f92bd6eddf357e81f39018d05512175238ef82", exact=True,
    ),
)  # fmt: skip


def list_archives() -> str:
    """Return a table of all archives, for people."""
    head = ("name", "year", "split", "holds", "size", "checksum")
    rows = [
        (
            archive.name,
            archive.year,
            archive.split,
            f"{archive.count:,} {archive.holds}",
            f"{'' if archive.exact else 'about '}{_in_words(archive.size)}",
            archive.checksum.split(":")[0],
        )
        for archive in ARCHIVES
    ]
    table = tabulate(rows, head, disable_numparse=True)
    return f"{table}\n\nfrom {OFFICIAL}/YEAR/NAME; page with licences: {PAGE}"


def select_archives(words: Sequence[str]) -> list[OfficialArchive]:
    """Return the archives that words name: years (2018), splits (2018/train), or their names.

    Raises:
        LesionError: a word names none.
    """
    chosen = {}
    for word in words:
        found = [
            archive
            for archive in ARCHIVES
            if word in (str(archive.year), f"{archive.year}/{archive.split}")
            or word.removesuffix(".zip") == archive.stem
        ]
        if not found:
            remedy = "give a year (2018), a split (2018/train) or a name of --list"
            raise LesionError(f"{word}: no archive is called so; {remedy}")
        chosen.update({archive.name: archive for archive in found})
    return list(chosen.values())


def download(
    archives: Sequence[OfficialArchive], folder: Path, base_url: str, patience: Patience
) -> list[tuple[str, str]]:
    """Fetch archives into ``folder``; those that are there are checked.

    Args:
        archives: which.
        folder: where to; it is created.
        base_url: where from: the archives are at ``base_url/YEAR/NAME``.
        patience: how long to wait for a server.

    Returns:
        Name and reason of each archive that could not be had.

    Raises:
        LesionError: there is not enough room.
    """
    folder.mkdir(parents=True, exist_ok=True)
    need = sum(bytes_to_come(folder / archive.name, archive.size) for archive in archives)
    free = shutil.disk_usage(folder).free
    if need > free:
        problem = f"{_in_words(need)} are to come, and {_in_words(free)} are free"
        raise LesionError(f"{folder}: {problem}; make room or choose another --output")
    failed = []
    for archive in archives:
        by_hand = f"fetch it by hand from {PAGE}/#{archive.year} into {folder}"
        url = f"{base_url.rstrip('/')}/{archive.year}/{archive.name}"
        length = archive.size if archive.exact else None
        remote = RemoteFile(url, length, archive.checksum, by_hand)
        try:
            fetch(remote, folder / archive.name, patience)
        except LesionError as error:
            failed.append((archive.name, str(error)))
    return failed


def _in_words(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
