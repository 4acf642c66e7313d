"""Reading a JSON file with an error that says what to do."""

import json
from pathlib import Path
from typing import Any

from lesion_d2.errors import LesionError


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
