"""Mask R-CNN for ISIC 2018 lesion boundary segmentation, built on Detectron2.

Importing the package registers every converted data set below ``$DETECTRON2_DATASETS`` with
Detectron2's catalogs. It does not itself import Detectron2 or torch, which take seconds, so that
the converter and ``--help`` start at once: the registration runs as soon as ``detectron2.data``
is imported, or now if it already is.
"""

import importlib.util
from types import ModuleType
from typing import Any

import wrapt

__version__ = "0.1.0"

if importlib.util.find_spec("detectron2") is None:
    raise ImportError(
        "lesion_d2 needs Detectron2, which pip cannot find under that name: run `make install`, "
        "or choose one of the two ways in docs/install.md"
    )


@wrapt.when_imported("detectron2.data")
def _register(_module: ModuleType) -> None:
    from lesion_d2.data.datasets import register_converted

    register_converted()


def __getattr__(name: str) -> Any:
    if name == "LesionPredictor":
        from lesion_d2.prediction.predictor import LesionPredictor

        return LesionPredictor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
