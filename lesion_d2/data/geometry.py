"""Random geometry: flip, turn, zoom and shift in one resampling of picture and mask."""

from collections.abc import Sequence

import cv2
import numpy as np
from detectron2.config import CfgNode
from detectron2.data import transforms as T


class AffineTransform(T.Transform):
    """An affine map of the pixel grid; what comes from outside the picture gets one colour.

    Args:
        matrix: float of shape (2, 3), maps (x, y) of the source to (x, y) of the result. Integer
            coordinates are pixel centres, as in OpenCV.
        size: (height, width) of the result.
        fill: colour outside the source, one value a channel.
    """

    def __init__(self, matrix: np.ndarray, size: tuple[int, int], fill: Sequence[float]) -> None:
        super().__init__()
        self.matrix = matrix
        self.size = size
        self.fill = tuple(fill)

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        """Resample an (H, W, 3) picture, linearly."""
        return self._warp(img, cv2.INTER_LINEAR, self.fill)

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        """Resample an (H, W) mask, taking the nearest value; outside is 0."""
        return self._warp(segmentation, cv2.INTER_NEAREST, (0.0,))

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        """Map (N, 2) points, x and y, whose integers are corners of pixels."""
        return (coords - 0.5) @ self.matrix[:, :2].T + self.matrix[:, 2] + 0.5

    def _warp(self, img: np.ndarray, interpolation: int, fill: tuple[float, ...]) -> np.ndarray:
        height, width = self.size
        return cv2.warpAffine(
            img, self.matrix, (width, height), flags=interpolation, borderValue=fill
        )


class RandomGeometry(T.Augmentation):
    """Flip with even odds in each direction, turn, zoom and shift; the size stays.

    Args:
        rotation: range of the angle in degrees.
        zoom: range of the magnification, drawn evenly on a logarithmic scale.
        shift: largest shift in each direction, as a share of the picture's side.
        fill: colour of what comes from outside the picture, one value a channel.
    """

    def __init__(
        self,
        rotation: tuple[float, float],
        zoom: tuple[float, float],
        shift: float,
        fill: Sequence[float],
    ) -> None:
        super().__init__()
        self.rotation = rotation
        self.zoom = zoom
        self.shift = shift
        self.fill = fill

    def get_transform(self, image: np.ndarray) -> AffineTransform:
        """Draw a map for an (H, W, 3) picture."""
        height, width = image.shape[:2]
        size = np.array([width, height])
        centre = (size - 1) / 2
        angle = np.deg2rad(np.random.uniform(*self.rotation))
        zoom = np.exp(np.random.uniform(*np.log(self.zoom)))
        flips = np.diag(np.random.choice([-1.0, 1.0], 2))
        shift = np.random.uniform(-self.shift, self.shift, 2) * size
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        linear = zoom * turn @ flips
        offset = centre + shift - linear @ centre
        return AffineTransform(np.column_stack([linear, offset]), (height, width), self.fill)


def build_geometry(cfg: CfgNode) -> RandomGeometry:
    """Build the augmentation of ``cfg.INPUT.GEOMETRY``; outside is the model's mean colour."""
    geometry = cfg.INPUT.GEOMETRY
    return RandomGeometry(
        geometry.ROTATION, geometry.ZOOM, geometry.SHIFT, fill=cfg.MODEL.PIXEL_MEAN
    )
