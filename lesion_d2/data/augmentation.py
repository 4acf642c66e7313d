"""The original experiment's colour augmentations, as Detectron2 augmentations.

None of them moves a pixel, so masks, boxes and coordinates stay as they are. All draw from
numpy's global generator, as Detectron2's own augmentations do; the mapper seeds it per sample.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from detectron2.config import CfgNode
from detectron2.data import transforms as T

Range = tuple[float, float]


class RandomGaussianBlur(T.Augmentation):
    """Blur with a Gaussian of random standard deviation, in pixels."""

    def __init__(self, sigma: Range) -> None:
        super().__init__()
        self.sigma = sigma

    def get_transform(self, image: np.ndarray) -> T.Transform:
        """Draw a blur for an (H, W, 3) uint8 image."""
        sigma = np.random.uniform(*self.sigma)
        if sigma < 1e-3:  # OpenCV reads a sigma of 0 as "choose one for me"
            return T.NoOpTransform()
        return T.ColorTransform(lambda img: cv2.GaussianBlur(img, (0, 0), sigma))


class RandomCoarseDropout(T.Augmentation):
    """Black out random rectangles.

    Args:
        count: smallest and largest number of rectangles, both included.
        side: smallest and largest side of a rectangle, as a share of the image's side.
    """

    def __init__(self, count: tuple[int, int], side: Range) -> None:
        super().__init__()
        self.count = count
        self.side = side

    def get_transform(self, image: np.ndarray) -> T.Transform:
        """Draw rectangles for an (H, W, 3) uint8 image."""
        shape = np.array(image.shape[:2])
        number = np.random.randint(self.count[0], self.count[1] + 1)
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
        super().__init__()
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
        super().__init__()
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
        super().__init__()
        self.augmentations = list(augmentations)

    def __call__(self, aug_input: T.AugInput) -> T.Transform:
        """Apply the drawn augmentations to ``aug_input`` in place and return them."""
        number = np.random.randint(len(self.augmentations) + 1)
        order = np.random.permutation(len(self.augmentations))[:number]
        return T.TransformList([self.augmentations[i](aug_input) for i in order])


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
