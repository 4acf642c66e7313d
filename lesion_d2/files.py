"""Files: written whole or not at all, locked, named in tables, read with an error that helps."""

import csv
import errno
import fcntl
import json
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from itertools import count
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout

from lesion_d2.errors import LesionError

_TEMPORARY = ".lesion_d2-{}.tmp"
_NO_TEXT = re.compile(rb"[\x00-\x1f\x7f\\]")  # control characters, and what begins an escape
_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP}  # as some network drives answer
_ESCAPE = re.compile(rb"\\x([0-9a-f]{2})")


@contextmanager
def atomic_write(path: str | Path, mode: str = "w", **kwargs: Any) -> Iterator[IO[Any]]:
    r"""Open a temporary file beside ``path`` and rename it to ``path`` when the block succeeds.

    The folder is created when missing, and what killed processes left in it is removed. If the
    block raises, ``path`` stays as it was. An :class:`OSError` of the writing names ``path``. The
    mode is ``"w"`` (UTF-8, ``\n`` line ends) or ``"wb"``; ``kwargs`` go to :func:`open`.

    Raises:
        LesionError: if ``path`` is a folder.
    """
    path = Path(path)
    if path.is_dir():
        raise LesionError(f"{path}: is a folder; give the name of a file")
    if "b" not in mode:
        kwargs = {"encoding": "utf-8", "newline": "\n", **kwargs}
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _clear_temporaries(path.parent)
        stream = _open_temporary(path.parent, mode, **kwargs)
        temporary = Path(stream.name)
        try:
            with stream:
                yield stream
                stream.flush()
                temporary.replace(path)  # before it is unlocked, which makes it free to be cleared
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name ``path`` in an :class:`OSError` that names no file, as that of a full disk."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


def _open_temporary(folder: Path, mode: str, **kwargs: Any) -> IO[Any]:
    """Create a file of a short name of its own, locked for as long as it is open."""
    while True:
        name = folder / _TEMPORARY.format(secrets.token_hex(8))
        stream = open(name, mode.replace("w", "x"), **kwargs)  # noqa: SIM115 the caller closes it
        with suppress(OSError):  # a file system without locks
            fcntl.flock(stream, fcntl.LOCK_EX)
        if os.fstat(stream.fileno()).st_nlink:
            return stream
        stream.close()  # cleared before it was locked


@cache  # once a process: later ones are of living processes, or of this one
def _clear_temporaries(folder: Path) -> None:
    """Remove the temporary files in a folder that no living process holds a lock on."""
    for path in folder.glob(_TEMPORARY.format("*")):
        with suppress(OSError), open(path) as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()


@contextmanager
def alone(path: Path, timeout: float = 0) -> Iterator[None]:
    """Let no other process into such a block for ``path`` at the same time.

    The lock is the file ``.<name>.lock`` beside ``path``. It ends with this process, however that
    ends.

    Raises:
        LesionError: if another process is in there for more than ``timeout`` seconds, or the disk
            has no locks.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_name(f".{path.name}.lock"), timeout=timeout)
    try:
        lock.acquire()
    except Timeout as error:
        remedy = "wait until it has ended, or choose another folder"
        raise LesionError(f"{path}: another process is writing it; {remedy}") from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        Path(lock.lock_file).unlink(missing_ok=True)
        raise LesionError(f"{path}: its disk has no locks; choose a folder on another") from error
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def set_aside(path: Path, place: Path) -> Path:
    """Move a file to the first free of ``place.1``, ``place.2``, ...; return its new path."""
    for number in count(1):
        new = place.with_name(f"{place.name}.{number}")
        if not os.path.lexists(new):
            break
    new.parent.mkdir(parents=True, exist_ok=True)
    return path.rename(new)


def escape_name(name: str | Path) -> str:
    r"""Return a file name as one line of UTF-8 that any table can hold.

    Bytes that are not UTF-8, control characters and backslashes become ``\xNN``: ``caf\xe9.jpg``.
    """
    data = _NO_TEXT.sub(lambda match: b"\\x%02x" % ord(match[0]), os.fsencode(name))
    return data.decode("utf-8", "backslashreplace")


def unescape_name(text: str) -> str:
    """Undo :func:`escape_name`."""
    return os.fsdecode(_ESCAPE.sub(lambda match: bytes([int(match[1], 16)]), text.encode()))


def walk_files(
    folder: Path,
    enter: Callable[[Path], bool] = lambda folder: True,
    unreadable: Callable[[Path], None] | None = None,
) -> Iterator[Path]:
    """Yield what is under ``folder`` and is no folder, in an order of the names alone.

    Links to folders are followed; a folder that is there twice, or inside itself, is visited once,
    and one that ``enter`` is false for, never.

    Raises:
        LesionError: if a folder cannot be read. With ``unreadable``, which then takes those below,
            only if it is the first.
    """

    def fail(error: OSError) -> None:
        if unreadable and Path(error.filename) != folder:
            unreadable(Path(error.filename))
            return
        problem = f"cannot be read as a folder ({error.strerror}); give a folder that can be"
        raise LesionError(f"{error.filename}: {problem}") from error

    visited = set()
    for parent, folders, names in os.walk(folder, onerror=fail, followlinks=True):
        real = os.path.realpath(parent)
        if real in visited:
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if enter(Path(parent, name)))
        for name in sorted(names):
            yield Path(parent, name)


def write_csv(path: Path, head: Sequence[str], rows: Iterable[Iterable[Any]]) -> None:
    """Write a table whole or not at all; a row that is a mapping gives the columns of ``head``."""
    with atomic_write(path) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(head)
        for row in rows:
            writer.writerow(map(row.get, head) if isinstance(row, Mapping) else row)


def read_whole_rows(path: Path, columns: Iterable[str] = ()) -> list[dict[str, str]]:
    """Return the rows of a table that grows, by column; one that a kill has torn is left out.

    Raises:
        LesionError: if the table, saved again by another program, lacks one of ``columns``, or the
            ends of its lines.
    """
    if not path.is_file():
        return []
    with open(path, encoding="utf-8-sig", errors="replace", newline="") as stream:
        lines = [line.replace("\0", "") for line in stream]
        whole = [line for line in lines if line.endswith("\n")]
        if not whole and any(line.endswith("\r") for line in lines):
            raise LesionError(f"{path}: its lines end in CR alone; save it with LF or CR and LF")
        rows = csv.DictReader(whole)
        if rows.fieldnames:
            check_columns(path, rows.fieldnames, columns, "put it back, or choose another folder")
        return [row for row in rows if None not in row and None not in row.values()]


def check_columns(path: Path, found: Iterable[str], needed: Iterable[str], remedy: str) -> None:
    """Raise a :class:`LesionError` that ends in ``remedy`` if the table ``path`` lacks a column."""
    names = list(found)
    for name in needed:
        if name not in names:
            if ";" in "".join(names):
                raise LesionError(f"{path}: has semicolons between columns; save it with commas")
            raise LesionError(f"{path}: has no column {name}; {remedy}")


def write_json(path: Path, content: Any, **kwargs: Any) -> None:
    """Write JSON whole or not at all; ``kwargs`` go to :func:`json.dump`."""
    with atomic_write(path) as stream:
        json.dump(content, stream, indent=1, **kwargs)
        stream.write("\n")


def read_json(path: Path, remedy: str) -> Any:
    """Return what the JSON file ``path`` holds.

    Raises:
        LesionError: the file is missing or not JSON; its message ends in ``remedy``.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise LesionError(f"{path}: cannot be read ({error.strerror}); {remedy}") from error
    except (ValueError, RecursionError) as error:
        raise LesionError(f"{path}: not JSON ({error}); {remedy}") from error


def open_regular(path: str | Path, limit: int, advice: str) -> IO[bytes]:
    """Open a model's file to read its bytes.

    Raises:
        LesionError: if it is missing, not a regular file, empty, or has more than ``limit`` bytes;
            it ends in ``advice``.
    """
    try:
        status = Path(path).stat()
        if not stat.S_ISREG(status.st_mode):  # a FIFO would wait for ever
            raise LesionError(f"{path}: is not a regular file; {advice}")
        if not 0 < status.st_size <= limit:
            raise LesionError(
                f"{path}: has {status.st_size} bytes, a model has 1 to {limit}; {advice}"
            )
        return open(path, "rb")
    except OSError as error:
        raise LesionError(f"{path}: cannot be read ({error.strerror}); {advice}") from error
