"""Files: written whole or not at all, read with an error that says what to do, hashed."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from lesion_d2.errors import LesionError


@contextmanager
def atomic_write(path: str | Path, mode: str = "w", **kwargs: Any) -> Iterator[IO[Any]]:
    r"""Open a temporary file beside ``path`` and rename it to ``path`` when the block succeeds.

    Args:
        path: the file to write; its folder is created when missing.
        mode: ``"w"`` (UTF-8, ``\n`` line ends) or ``"wb"``.
        kwargs: passed on to :func:`open`.

    If the block raises, the temporary file is removed and ``path`` stays as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    if "b" not in mode:
        kwargs = {"encoding": "utf-8", "newline": "\n", **kwargs}
    try:
        with open(temporary, mode, **kwargs) as stream:
            yield stream
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_json(path: Path, remedy: str) -> Any:
    """Return what the JSON file ``path`` holds.

    Raises:
        LesionError: the file is missing or not JSON; its message ends in ``remedy``.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise LesionError(f"{path}: cannot be read ({error.strerror}); {remedy}") from error
    except ValueError as error:
        raise LesionError(f"{path}: not JSON ({error}); {remedy}") from error


def file_sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file, as hexadecimal digits."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
