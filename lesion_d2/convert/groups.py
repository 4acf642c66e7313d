"""A table that says which images show the same lesion, or are of the same patient."""

import csv
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

from lesion_d2.data.manifest import without_suffix
from lesion_d2.errors import LesionError

# As HAM10000 and ISIC write them; of the first that is there.
_IMAGE_COLUMNS = ("image_id", "isic_id", "image_name", "image", "id")
# Each that is there counts: all lesions of a patient stay together.
_GROUP_COLUMNS = ("lesion_id", "patient_id", "group")
# What R, pandas and people write where they have no value.
_MISSING = ("", "na", "n/a", "<na>", "nan", "none", "null", "unknown", "-", "?")


def read_groups(
    path: Path, places: Mapping[str, PurePosixPath]
) -> tuple[list[tuple[str, str]], list[str]]:
    """Read a CSV file with a line an image.

    Its columns are ``image_id`` (or ``isic_id``, ``image_name``, ``image``, ``id``), and one or
    more of ``lesion_id``, ``patient_id`` and ``group``. An empty cell is no group, nor is a word
    for a missing value, such as ``NA``.

    Args:
        path: of the file.
        places: of each id where its image lies below the input, without the suffix. A line names an
            image by its id, or by its place with more folders before it, or fewer.

    Returns:
        pairs of the given ids that have a group in common, enough to connect each group, and the
        ids that the file does not name, sorted.

    Raises:
        LesionError: if it is missing, lacks a column, names none of the ids, or names two images
            that could both be the same one.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            # Only the delimiter: what else the sniffer says of one line, such as how a quote is
            # written, is a guess.
            delimiter = csv.Sniffer().sniff(stream.readline(), ",;\t").delimiter
            stream.seek(0)
            reader = csv.DictReader(stream, delimiter=delimiter, skipinitialspace=True)
            lines, names = list(reader), reader.fieldnames or []
    except OSError as error:
        raise LesionError(f"{path}: cannot be read ({error.strerror}); give a CSV file") from error
    except (csv.Error, ValueError) as error:
        raise LesionError(f"{path}: not a CSV file ({error}); save it as one") from error
    columns = [name for name in _GROUP_COLUMNS if name in names]
    image = next((name for name in _IMAGE_COLUMNS if name in names), None)
    if not columns or image is None:
        raise LesionError(
            f"{path}: has the columns {', '.join(map(str, names))}; it needs image_id, and "
            "lesion_id, patient_id or group"
        )
    find = _finder(places)
    members: dict[tuple[str, str], list[str]] = defaultdict(list)
    named: dict[str, str] = {}
    for line in lines:
        name = without_suffix((line[image] or "").strip()).casefold().replace("\\", "/")
        if isic_id := find(name):
            if (other := named.setdefault(isic_id, name)) != name:
                raise LesionError(
                    f"{path}: {other} and {name} could both be the image {places[isic_id]}; name "
                    "images as they lie below the input folder"
                )
            for column in columns:
                group = (line[column] or "").strip()
                if group.casefold() not in _MISSING:
                    members[column, group].append(isic_id)
    if not named:
        raise LesionError(f"{path}: its column {image} names none of the images; compare the names")
    edges = [(group[0], other) for group in members.values() for other in group[1:]]
    return edges, sorted(places.keys() - named.keys())


def _finder(places: Mapping[str, PurePosixPath]) -> Callable[[str], str | None]:
    """Return what finds the id of a name; None for none, or if it could be of several."""
    known = {isic_id.casefold(): isic_id for isic_id in places}
    whole: dict[tuple[str, ...], set[str]] = defaultdict(set)
    ends: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for isic_id, place in places.items():
        parts = tuple(str(place).casefold().split("/"))
        whole[parts].add(isic_id)
        for start in range(len(parts)):
            ends[parts[start:]].add(isic_id)

    def find(name: str) -> str | None:
        if name in known:
            return known[name]
        parts = tuple(part for part in name.split("/") if part not in ("", "."))
        longer = (whole[parts[i:]] for i in range(1, len(parts)) if parts[i:] in whole)
        found = ends.get(parts) or next(longer, set())
        return min(found) if len(found) == 1 else None

    return find
