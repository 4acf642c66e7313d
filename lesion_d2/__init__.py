"""Mask R-CNN for ISIC 2018 lesion boundary segmentation, built on Detectron2.

Importing the package imports neither Detectron2 nor torch, which take seconds, so that the
converter and ``--help`` start at once. Converted data sets are registered with Detectron2's
catalogs by ``import lesion_d2.data.datasets``.
"""

from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "LesionPredictor":
        from lesion_d2.prediction.predictor import LesionPredictor

        return LesionPredictor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
