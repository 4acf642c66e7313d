"""The one exception type for what a user can get wrong, and how tools show it."""

import sys
import warnings
from collections.abc import Callable


class LesionError(Exception):
    """Something the user can mend.

    The message names the file or key, says what is wrong with it and what to do.
    """


# What comes before the message of one in the text of a traceback.
TRACEBACK_MARK = f"{LesionError.__module__}.{LesionError.__qualname__}: "


def run_tool(main: Callable[[], int | None]) -> None:
    """Run a command-line tool and exit with its status.

    A :class:`LesionError` becomes one line on standard error and exit status 1;
    an interrupt becomes exit status 130. Anything else is a defect of ours and keeps its traceback.
    """
    # Raised inside torchvision and Detectron2 when they are imported; nothing a user can mend.
    warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", FutureWarning)
    try:
        status = main() or 0
    except LesionError as error:
        # From another process it comes with that one's traceback.
        message = " ".join(str(error).rpartition(TRACEBACK_MARK)[2].split())
        print(f"error: {message}", file=sys.stderr)
        status = 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = 130
    sys.exit(status)
