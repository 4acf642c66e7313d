"""Writing files so that a crash never leaves half of one behind."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


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
