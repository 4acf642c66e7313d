"""An estimate of the IoU that a submitted mask will reach, from what the prediction looks like."""

import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lesion_d2.errors import LesionError
from lesion_d2.files import read_json
from lesion_d2.prediction.lesion import Lesion

logger = logging.getLogger(__name__)

LARGEST = 1e6  # a weight or intercept of an estimate between 0 and 1 is never near
FEATURES = ("score", "sharpness", "agreement", "area_share", "border_share", "candidates")


# What an estimated IoU is called from which value on. Chosen on validation, docs/serve.md: of those
# that are sure less than 1 % are failures, of those that are unsure half are.
WORDS = {"sure": 0.85, "look again": 0.68, "unsure": 0.0}


def word_for(estimated_iou: float | None) -> str | None:
    """Return what an estimated IoU is called, a key of :data:`WORDS`; None for none."""
    if estimated_iou is None:
        return None
    return next(word for word, level in WORDS.items() if estimated_iou >= level)


def feature_row(lesion: Lesion) -> list[float]:
    """Return the features of a lesion, in the order of :data:`FEATURES`."""
    return [float(getattr(lesion, name)) for name in FEATURES]


@dataclass(frozen=True)
class ConfidenceModel:
    """A linear model of the Jaccard index, cut off at 0 and 1; an empty mask is estimated 0.

    Attributes:
        weights: one for each of :data:`FEATURES`, in that order.
        intercept: the estimate where all features are 0.
        fitted_on: what it was fitted on: data set, number of images, weights and settings.
    """

    weights: list[float]
    intercept: float
    fitted_on: dict[str, Any]

    def __call__(self, lesion: Lesion) -> float:
        """Estimate the Jaccard index of a prediction, in [0, 1]."""
        return float(self.estimate(np.array([feature_row(lesion)]))[0])

    def estimate(self, features: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Estimate from rows of features, shape (N, number of :data:`FEATURES`)."""
        estimated = np.clip(features @ np.array(self.weights) + self.intercept, 0, 1)
        return np.where(features[:, FEATURES.index("area_share")] == 0, 0, estimated)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for :func:`confidence_from_dict`."""
        return {"features": list(FEATURES), **asdict(self)}


def confidence_from_dict(content: Any, origin: str, *hashes: str) -> ConfidenceModel:
    """Return the model of a parsed JSON file, which ``origin`` names.

    Warns if it was fitted on a model whose weights have none of these SHA-256 ``hashes``.

    Raises:
        LesionError: if it is not one of this version's features.
    """
    try:
        if tuple(content["features"]) != FEATURES or len(content["weights"]) != len(FEATURES):
            raise ValueError(f"its features are not {', '.join(FEATURES)}")
        *weights, intercept = map(_bounded, [*content["weights"], content["intercept"]])
        model = ConfidenceModel(weights, intercept, dict(content["fitted_on"]))
    except (KeyError, TypeError, ValueError) as error:
        raise LesionError(
            f"{origin}: is not a confidence model ({error}); fit one with tools/tune.py"
        ) from error
    fitted = model.fitted_on.get("weights_sha256")
    if fitted and hashes and fitted not in hashes:
        logger.warning(
            f"{origin}: was fitted on weights {fitted:.12}, but these are {hashes[0]:.12}: "
            "estimates of the IoU may be wrong; fit it again with tools/tune.py"
        )
    return model


def _bounded(number: Any) -> float:
    if type(number) not in (int, float) or not abs(number) <= LARGEST:  # NaN is not, either
        raise ValueError(f"{number!r:.20} is not a number between -{LARGEST:g} and {LARGEST:g}")
    return float(number)


def read_confidence(path: str | Path, *hashes: str) -> ConfidenceModel:
    """Read a JSON file of :meth:`ConfidenceModel.to_dict`; see :func:`confidence_from_dict`."""
    content = read_json(Path(path), "fit a confidence model with tools/tune.py")
    return confidence_from_dict(content, str(path), *hashes)


def fit_confidence(
    features: npt.NDArray[np.float64], jaccard: npt.NDArray[np.float64], fitted_on: dict[str, Any]
) -> ConfidenceModel:
    """Fit by ridge regression on standardised features, shape (N, number of :data:`FEATURES`).

    ``jaccard``, shape (N,), was reached; ``fitted_on`` is kept in the model.
    """
    mean, scale = features.mean(0), features.std(0)
    scale[scale < 1e-9] = np.inf  # a feature that never varies gets no weight
    standard = (features - mean) / scale
    # One unit of ridge: nothing beside hundreds of images, but features may be collinear.
    ridge = standard.T @ standard + np.eye(len(scale))
    weights = np.linalg.solve(ridge, standard.T @ (jaccard - jaccard.mean())) / scale
    intercept = jaccard.mean() - weights @ mean
    return ConfidenceModel(weights.tolist(), float(intercept), fitted_on)
