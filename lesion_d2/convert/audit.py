"""The audit: one row for each image or mask that is not half of a perfect pair."""

import csv
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

from lesion_d2.files import atomic_write
from lesion_d2.images.source import BadFileError

Action = Literal["accepted", "excluded", "ignored"]


class AuditRow(NamedTuple):
    """One line of ``audit.csv``.

    Attributes:
        isic_id: the id, or an empty string for a file whose name is not an ISIC name.
        file: path relative to the input folder it was found in, with ``/``; what is no text is
            written as :func:`lesion_d2.files.escape_name` does.
        reason: a short constant, listed in ``docs/bad_input.md``.
        action: ``accepted`` (used, worth knowing), ``excluded`` (a pair was lost)
            or ``ignored`` (the file is no part of the data set).
        detail: what was seen, in words.
    """

    isic_id: str
    file: str
    reason: str
    action: Action
    detail: str = ""


class ExcludedError(Exception):
    """A pair that cannot be used, with the row that says why."""

    def __init__(self, row: AuditRow) -> None:
        super().__init__(row)
        self.row = row


class FileNotes:
    """Collects what is noteworthy about one file of a pair.

    Args:
        isic_id: of the pair.
        name: the file's name for the audit.
        kind: ``image`` or ``mask``, put before every reason.
    """

    def __init__(self, isic_id: str, name: str, kind: str) -> None:
        self._isic_id = isic_id
        self._name = name
        self._kind = kind
        self.rows: list[AuditRow] = []

    def accept(self, reason: str, detail: str) -> None:
        """Note something about a file that is used."""
        self.rows.append(self._row(reason, "accepted", detail))

    @contextmanager
    def excluding(self) -> Iterator[None]:
        """Turn the :class:`BadFileError` of a block into this file's :class:`ExcludedError`."""
        try:
            yield
        except BadFileError as error:
            raise ExcludedError(self._row(error.reason, "excluded", str(error))) from error

    def _row(self, reason: str, action: Action, detail: str) -> AuditRow:
        return AuditRow(self._isic_id, self._name, f"{self._kind}_{reason}", action, detail)


def write_audit(path: Path, rows: Iterable[AuditRow]) -> None:
    """Write the rows, sorted, as CSV with a header line."""
    with atomic_write(path) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(AuditRow._fields)
        writer.writerows(sorted(rows))
