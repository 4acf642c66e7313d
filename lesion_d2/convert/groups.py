"""A table that says which images show the same lesion, or are of the same patient."""

import csv
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path

from lesion_d2.data.manifest import without_suffix
from lesion_d2.errors import LesionError

# As HAM10000 and ISIC write them; of the first that is there.
_IMAGE_COLUMNS = ("image_id", "isic_id", "image_name", "image", "id")
# Each that is there counts: all lesions of a patient stay together.
_GROUP_COLUMNS = ("lesion_id", "patient_id", "group")
# What R, pandas and people write where they have no value.
_MISSING = ("", "na", "n/a", "<na>", "nan", "none", "null", "unknown", "-", "?")


def read_groups(path: Path, ids: Collection[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """Read a CSV file with a line an image.

    Its columns are ``image_id`` (or ``isic_id``, ``image_name``, ``image``, ``id``), and one or
    more of ``lesion_id``, ``patient_id`` and ``group``. An empty cell is no group, nor is a word
    for a missing value, such as ``NA``. A name may have the image's folders before it.

    Returns:
        pairs of the given ids that have a group in common, enough to connect each group, and the
        ids that the file does not name, sorted.

    Raises:
        LesionError: if it is missing, lacks a column, or names none of the ids.
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
    known = {isic_id.casefold(): isic_id for isic_id in ids}
    members: dict[tuple[str, str], list[str]] = defaultdict(list)
    named = set()
    for line in lines:
        name = without_suffix((line[image] or "").strip()).casefold().replace("\\", "/")
        # An id has its folders only where another image has its name.
        if isic_id := known.get(name) or known.get(name.rpartition("/")[2]):
            named.add(isic_id)
            for column in columns:
                group = (line[column] or "").strip()
                if group.casefold() not in _MISSING:
                    members[column, group].append(isic_id)
    if not named:
        raise LesionError(f"{path}: its column {image} names none of the images; compare the names")
    edges = [(group[0], other) for group in members.values() for other in group[1:]]
    return edges, sorted(set(ids) - named)
