"""Import each named module as the first of the project: first_imports.py NAME ... prints JSON.

Libraries that take seconds are there before. Detectron2 is not: its order of imports matters.
"""

import importlib
import json
import os
import sys
import traceback
import warnings

warnings.simplefilter("ignore")
for library in ("torch", "torchvision", "timm", "scipy.optimize", "matplotlib.pyplot", "cv2"):
    importlib.import_module(library)


def error_of(name):
    """Return what an import in a child of this process raises, or an empty string."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        with os.fdopen(writing, "w") as stream:
            try:
                importlib.import_module(name)
            except BaseException:
                stream.write(traceback.format_exc())
                stream.flush()
                os._exit(1)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as stream:
        text = stream.read()
    _, status = os.waitpid(child, 0)
    return text or ("" if status == 0 else f"ended with status {status}")


print(json.dumps({name: error_of(name) for name in sys.argv[1:]}))
