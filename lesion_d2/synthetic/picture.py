"""One synthetic picture and its mask."""

import cv2
import numpy as np
from numpy.typing import NDArray

from lesion_d2.errors import LesionError
from lesion_d2.synthetic.artefacts import add_artefacts
from lesion_d2.synthetic.lesion import SOFTNESS, lesion_field, lesion_pattern, lesion_tint
from lesion_d2.synthetic.noise import Field, Image, enlarge, smooth_noise
from lesion_d2.synthetic.skin import skin_planes, skin_texture

MIN_SIDE = 64
# Everything smooth is drawn on a frame with this shorter side and enlarged: it is most of the work.
COARSE_SIDE = 144
FINE_EDGE = 0.03  # border detail below the coarse frame's resolution
GRAIN = (1, 6)  # amplitude of the sensor noise in grey levels


def check_arguments(seed: int, index: int, height: int, width: int) -> None:
    """Raise :class:`LesionError` for what :func:`render` cannot draw."""
    if seed < 0 or index < 0:
        raise LesionError(f"seed {seed}, index {index}: must not be negative")
    if min(height, width) < MIN_SIDE:
        raise LesionError(f"size {height}x{width}: each side must be at least {MIN_SIDE} pixels")


def _to_bytes(plane: Field) -> Image:
    return (np.clip(plane, 0, 1) * np.float32(255)).astype(np.uint8)


def _one_piece(inside: Image) -> Image:
    """Keep the largest 4-connected part of a mask and fill its holes: 0 or 255."""
    x, y, width, height = cv2.boundingRect(inside)
    crop = inside[y : y + height, x : x + width]
    _, labels, stats, _ = cv2.connectedComponentsWithStats(crop, connectivity=4)
    largest = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    # A rim of background joins all that is outside, so one flood fill leaves the holes alone.
    rimmed = np.zeros((height + 2, width + 2), np.uint8)
    rimmed[1:-1, 1:-1] = labels == largest
    cv2.floodFill(rimmed, None, (0, 0), 2, flags=4)
    mask = np.zeros_like(inside)
    mask[y : y + height, x : x + width] = np.where(rimmed[1:-1, 1:-1] == 2, 0, 255)
    return mask


def render(seed: int, index: int, height: int, width: int) -> tuple[Image, Image]:
    """Draw one dermoscopy-like picture.

    The result depends on the four arguments alone: the same on every machine, whatever else is
    drawn and in whatever order.

    Args:
        seed: of the data set; not negative.
        index: of the picture in the data set; not negative.
        height: in pixels, at least ``MIN_SIDE``.
        width: in pixels, at least ``MIN_SIDE``.

    Returns:
        ``image``: uint8 (height, width, 3), BGR;
        ``mask``: uint8 (height, width), 255 on the lesion, 0 elsewhere: one 4-connected part
        without holes, not empty. Artefacts lie over the lesion and do not change it.

    Raises:
        LesionError: a negative seed or index, or a side below ``MIN_SIDE``.
    """
    check_arguments(seed, index, height, width)
    rng = np.random.default_rng([seed, index])
    scale = min(1.0, COARSE_SIDE / min(height, width))
    coarse = (round(height * scale), round(width * scale))

    def full(plane: Field) -> Field:
        return enlarge(_to_bytes(plane), height, width)

    level, depth, radius = lesion_field(rng, *coarse)
    fine = smooth_noise(rng, height, width, height / 120)
    edge = enlarge(level, height, width) - np.float32(0.5) + np.float32(FINE_EDGE) * fine
    mask = _one_piece((edge >= 0).view(np.uint8))
    alpha = np.clip(edge / np.float32(rng.uniform(*SOFTNESS)) + np.float32(0.5), 0, 1)

    skin = skin_planes(rng, *coarse)
    marked = skin * lesion_tint(rng, depth, radius)
    pattern = lesion_pattern(rng, height, width)
    texture = skin_texture(rng, height, width)
    planes = []
    for bare, pigmented in zip(skin, marked, strict=True):
        bare = full(bare)
        plane = (bare + alpha * (full(pigmented) * pattern - bare)) * texture
        planes.append(_to_bytes(plane))
    image: NDArray = cv2.merge(planes)

    add_artefacts(rng, image)
    amplitude = int(rng.integers(*GRAIN))
    grain = rng.integers(-amplitude, amplitude + 1, (height, width), dtype=np.int8)
    noisy: NDArray = cv2.add(image, cv2.merge([grain] * 3), dtype=cv2.CV_8U)
    return noisy, mask
