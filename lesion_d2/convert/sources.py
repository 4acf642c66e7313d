"""The files of a folder or of a zip archive, which is read where it lies."""

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from lzma import LZMAError
from pathlib import Path, PurePosixPath

from lesion_d2.errors import LesionError
from lesion_d2.files import escape_name, walk_files
from lesion_d2.images.source import BadFileError, read_source, read_stream

_ENCRYPTED = 1  # bit 0 of a member's flags (PKWARE's APPNOTE, 4.4.4)


@dataclass(frozen=True)
class SourceFile:
    """A file of the input.

    Attributes:
        root: the folder or archive that was given.
        place: where the file is in it.
        info: of a member of an archive; None in a folder.
    """

    root: Path
    place: PurePosixPath
    info: zipfile.ZipInfo | None = None

    @property
    def name(self) -> str:
        """The place as text for a table."""
        return escape_name(str(self.place))

    @property
    def bare(self) -> PurePosixPath:
        """The place without the suffix of the file."""
        return self.place.with_suffix("")

    @property
    def path(self) -> Path:
        """The file itself; in an archive, where it would be."""
        return self.root / self.place

    @property
    def identity(self) -> tuple[Path, int]:
        """What two spellings of one file have in common."""
        if self.info:
            return self.root.resolve(), self.info.header_offset
        return self.path.parent.resolve() / self.path.name, 0

    def read(self) -> bytes:
        """Return the bytes of an image file.

        Raises:
            BadFileError: as :func:`~lesion_d2.images.source.read_source`; ``unreadable`` also for a
                member that is encrypted, damaged, or compressed in an unknown way.
        """
        if self.info is None:
            return read_source(self.path)
        if self.info.flag_bits & _ENCRYPTED:
            raise BadFileError("unreadable", "encrypted; unpack the archive first")
        try:
            archive = _open_archive(self.root, self.root.stat().st_mtime_ns)
            with archive.open(self.info) as stream:
                return read_stream(stream, self.info.file_size)
        except (
            *(zipfile.BadZipFile, zlib.error, LZMAError, EOFError),
            *(OSError, NotImplementedError, RuntimeError),
        ) as error:
            raise BadFileError("unreadable", str(error) or "the archive is cut") from error


@lru_cache(maxsize=8)
def _open_archive(path: Path, _modified: int) -> zipfile.ZipFile:
    """Return an archive, opened once a process; one that was written anew is another."""
    return zipfile.ZipFile(path)


Places = Path | Sequence[Path]  # a folder or zip archive, or several


def as_paths(places: Places) -> Sequence[Path]:
    """Return one folder or archive as a sequence, too."""
    return [places] if isinstance(places, Path) else places


def list_files(places: Places) -> list[SourceFile]:
    """Return what is in folders and zip archives, with all below, each file once.

    Raises:
        LesionError: if one of them cannot be read, or is neither a folder nor an archive.
    """
    found: dict[tuple[Path, int], SourceFile] = {}
    for root in as_paths(places):
        for file in _members(root) if root.is_file() else _files(root):
            found.setdefault(file.identity, file)
    return list(found.values())


def _files(root: Path) -> list[SourceFile]:
    places = (path.relative_to(root) for path in walk_files(root))
    return [SourceFile(root, PurePosixPath(place)) for place in places]


def _members(root: Path) -> list[SourceFile]:
    try:
        members = _open_archive(root, root.stat().st_mtime_ns).infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise LesionError(
            f"{root}: neither a folder nor a whole zip archive ({error}); unpack it, or download "
            "it again"
        ) from error
    return sorted(
        (
            SourceFile(root, PurePosixPath(info.filename.replace("\\", "/")), info)
            for info in members
            if not info.is_dir()
        ),
        key=lambda file: (file.place, file.identity),
    )
