"""What is done to a picture before the model sees it: random colours and geometry, resizing.

All draw from numpy's global generator, as Detectron2's own augmentations do; the mapper seeds it
per sample. The ranges are config keys, see :mod:`lesion_d2.config.defaults`.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from detectron2.data.detection_utils import build_augmentation

Range = tuple[float, float]


class RandomGaussianBlur(T.Augmentation):
    """Blur with a Gaussian of random standard deviation, in pixels."""

    def __init__(self, sigma: Range) -> None:
        self.sigma = sigma

    def get_transform(self, image: np.ndarray) -> T.Transform:
        """Draw a blur for an (H, W, 3) uint8 image."""
        sigma = np.random.uniform(*self.sigma)
        if sigma < 1e-3:  # OpenCV reads a sigma of 0 as "choose one for me"
            return T.NoOpTransform()
        return T.ColorTransform(lambda img: cv2.GaussianBlur(img, (0, 0), sigma))


class RandomCoarseDropout(T.Augmentation):
    """Black out ``count`` random rectangles, their ``side`` a share of the image's side."""

    def __init__(self, count: tuple[int, int], side: Range) -> None:
        self.count = count
        self.side = side

    def get_transform(self, image: np.ndarray) -> T.Transform:
        """Draw rectangles for an (H, W, 3) uint8 image."""
        shape = np.array(image.shape[:2])
        number = np.random.randint(self.count[0], self.count[1] + 1)  # both ends included
        sizes = np.maximum(1, np.random.uniform(*self.side, size=(number, 2)) * shape).astype(int)
        corners = (np.random.uniform(size=(number, 2)) * (shape - sizes + 1)).astype(int)

        def black_out(img: np.ndarray) -> np.ndarray:
            img = img.copy()
            for (top, left), (height, width) in zip(corners, sizes, strict=True):
                img[top : top + height, left : left + width] = 0
            return img

        return T.ColorTransform(black_out)


class RandomBrightnessChannel(T.Augmentation):
    """Add a random amount, in grey levels, to the value channel of the HSV image."""

    def __init__(self, shift: Range) -> None:
        self.shift = shift

    def get_transform(self, image: np.ndarray) -> T.Transform:
        """Draw a shift for an (H, W, 3) uint8 image."""
        shift = np.random.uniform(*self.shift)

        def brighten(img: np.ndarray) -> np.ndarray:
            # Whether the channels are BGR or RGB makes no difference to V.
            hsv = cv2.cvtColor(img, cv2.COLOR_BGR2HSV)
            value = hsv[..., 2].astype(np.float32) + shift
            hsv[..., 2] = np.clip(np.rint(value), 0, 255).astype(np.uint8)
            return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)

        return T.ColorTransform(brighten)


class RandomSharpen(T.Augmentation):
    """Blend the image with a sharpened copy of it; ``alpha`` is the copy's share."""

    def __init__(self, alpha: Range) -> None:
        self.alpha = alpha

    def get_transform(self, image: np.ndarray) -> T.Transform:
        """Draw a blend for an (H, W, 3) uint8 image."""
        alpha = np.random.uniform(*self.alpha)
        kernel = np.full((3, 3), -alpha, np.float32)
        kernel[1, 1] = 1 + 8 * alpha  # (1 - alpha) * identity + alpha * (9 - eight neighbours)
        return T.ColorTransform(lambda img: cv2.filter2D(img, -1, kernel))


class RandomSubset(T.Augmentation):
    """Apply a random number of the given augmentations, from none to all, in random order."""

    def __init__(self, augmentations: Sequence[T.Augmentation]) -> None:
        self.augmentations = list(augmentations)

    def __call__(self, aug_input: T.AugInput) -> T.Transform:
        """Apply the drawn augmentations to ``aug_input`` in place and return them."""
        number = np.random.randint(len(self.augmentations) + 1)
        order = np.random.permutation(len(self.augmentations))[:number]
        return T.TransformList([self.augmentations[i](aug_input) for i in order])


class AffineTransform(T.Transform):
    """An affine map of the pixel grid; what comes from outside the picture gets one colour.

    Args:
        matrix: float of shape (2, 3), maps (x, y) of the source to (x, y) of the result. Integer
            coordinates are pixel centres, as in OpenCV.
        size: (height, width) of the result.
        fill: colour outside the source, one value a channel.
    """

    def __init__(self, matrix: np.ndarray, size: tuple[int, int], fill: Sequence[float]) -> None:
        self.matrix = matrix
        self.size = size
        self.fill = tuple(fill)

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        """Resample an (H, W, 3) picture, linearly."""
        size = self.size[::-1]
        return cv2.warpAffine(img, self.matrix, size, flags=cv2.INTER_LINEAR, borderValue=self.fill)

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        """Resample an (H, W) mask, taking the nearest value; outside is 0."""
        return cv2.warpAffine(segmentation, self.matrix, self.size[::-1], flags=cv2.INTER_NEAREST)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        """Map (N, 2) points, x and y, whose integers are corners of pixels."""
        return (coords - 0.5) @ self.matrix[:, :2].T + self.matrix[:, 2] + 0.5


class RandomGeometry(T.Augmentation):
    """Flip with even odds in each direction, turn, zoom and shift; the size stays.

    Args:
        rotation: range of the angle in degrees.
        zoom: range of the magnification, drawn evenly on a logarithmic scale.
        shift: largest shift in each direction, as a share of the picture's side.
        fill: as of :class:`AffineTransform`.
    """

    def __init__(self, rotation: Range, zoom: Range, shift: float, fill: Sequence[float]) -> None:
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


class ResizeShortestEdge(T.ResizeShortestEdge):
    """Detectron2's, but that no side of a very long and thin image becomes 0."""

    def get_transform(self, image: np.ndarray) -> T.Transform:
        """Return the transform of an image of shape (H, W, C)."""
        transform = super().get_transform(image)
        if isinstance(transform, T.ResizeTransform):
            transform.new_h = max(1, transform.new_h)
            transform.new_w = max(1, transform.new_w)
        return transform


def build_colour_augmentation(cfg: CfgNode) -> RandomSubset:
    """Build the random subset of the four augmentations from ``cfg.INPUT.COLOUR``."""
    colour = cfg.INPUT.COLOUR
    return RandomSubset(
        [
            RandomGaussianBlur(colour.BLUR_SIGMA),
            RandomCoarseDropout(colour.DROPOUT_COUNT, colour.DROPOUT_SIDE),
            RandomBrightnessChannel(colour.BRIGHTNESS),
            RandomSharpen(colour.SHARPEN),
        ]
    )


def build_augmentations(cfg: CfgNode, is_train: bool) -> list[T.Augmentation]:
    """Return all that a config asks for; what is random only in training.

    Colours come first, so that a blur of a pixel means a pixel of the file, then geometry, with the
    model's mean colour outside, then Detectron2's own: resizing, and a flip where it is set.
    """
    augmentations: list[T.Augmentation] = []
    if is_train and cfg.INPUT.COLOUR.ENABLED:
        augmentations.append(build_colour_augmentation(cfg))
    if is_train and cfg.INPUT.GEOMETRY.ENABLED:
        ranges = cfg.INPUT.GEOMETRY
        augmentations.append(
            RandomGeometry(ranges.ROTATION, ranges.ZOOM, ranges.SHIFT, cfg.MODEL.PIXEL_MEAN)
        )
    resize, *others = build_augmentation(cfg, is_train)
    style = "range" if resize.is_range else "choice"
    resize = ResizeShortestEdge(resize.short_edge_length, resize.max_size, style)
    return [*augmentations, resize, *others]
