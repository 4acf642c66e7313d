"""One synthetic picture and its mask: the skin, the lesion in it, and what lies on it."""

import cv2
import numpy as np
from numpy.typing import NDArray

from lesion_d2.errors import LesionError
from lesion_d2.synthetic.artefacts import add_artefacts
from lesion_d2.synthetic.lesion import SOFTNESS, lesion_field, lesion_pattern, lesion_tint
from lesion_d2.synthetic.noise import Field, Image, enlarge, smooth_noise

MIN_SIDE = 64
# Everything smooth is drawn on a frame with this shorter side and enlarged: it is most of the work.
COARSE_SIDE = 144
FINE_EDGE = 0.03  # border detail below the coarse frame's resolution
GRAIN = (1, 6)  # amplitude of the sensor noise in grey levels

# Skin under polarised dermoscopy light, BGR in [0, 1], from very light to dark: read by eye off
# ISIC pictures for the lighter half and continued along the usual Fitzpatrick swatches.
TONES = np.array(
    [
        (0.87, 0.88, 0.95),
        (0.76, 0.79, 0.96),
        (0.62, 0.72, 0.93),
        (0.47, 0.60, 0.82),
        (0.33, 0.45, 0.66),
        (0.22, 0.31, 0.46),
    ]
)
TONE_LEAN = 1.5  # above 1, light skin is more frequent than dark, as in the archive
CAST = 0.07  # largest shift of one channel's gain by the camera's white balance
LIGHT_FALLOFF = (0.0, 0.4)  # share of light lost in the corners
LIGHT_DRIFT = 0.04
MOTTLE = (0.003, 0.025)  # strength of reddish blotches
MOTTLE_TINT = (1.0, 1.0, 0.25)  # of blood, BGR: red light is absorbed least
TEXTURE = (0.004, 0.022)


def check_arguments(seed: int, index: int, height: int, width: int) -> None:
    """Raise :class:`LesionError` for what :func:`render` cannot draw."""
    if seed < 0 or index < 0:
        raise LesionError(f"seed {seed}, index {index}: must not be negative")
    if min(height, width) < MIN_SIDE:
        raise LesionError(f"size {height}x{width}: each side must be at least {MIN_SIDE} pixels")


def _skin_planes(rng: np.random.Generator, height: int, width: int) -> Field:
    """Colour of bare skin without fine texture: float32 (3, height, width), BGR, about [0, 1]."""
    tone = (len(TONES) - 1) * rng.random() ** TONE_LEAN
    below = min(int(tone), len(TONES) - 2)
    colour = TONES[below] + (tone - below) * (TONES[below + 1] - TONES[below])
    colour = colour * (1 + rng.uniform(-CAST, CAST, 3))

    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None]
    light = 1 - np.float32(rng.uniform(*LIGHT_FALLOFF) / 2) * (x * x + y * y)
    light += np.float32(LIGHT_DRIFT) * smooth_noise(rng, height, width, height / 2)

    blood = smooth_noise(rng, height, width, height / 12)
    blood += smooth_noise(rng, height, width, height / 30)
    blood *= np.float32(rng.uniform(*MOTTLE))
    return np.stack(
        [
            np.float32(value) * light * (1 - np.float32(tint) * blood)
            for value, tint in zip(colour, MOTTLE_TINT, strict=True)
        ]
    )


def _skin_texture(rng: np.random.Generator, height: int, width: int) -> Field:
    """Fine relief of the skin as a gain: float32 (height, width) around 1."""
    relief = smooth_noise(rng, height, width, height / rng.uniform(80, 160))
    return 1 + np.float32(rng.uniform(*TEXTURE)) * relief


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

    skin = _skin_planes(rng, *coarse)
    marked = skin * lesion_tint(rng, depth, radius)
    pattern = lesion_pattern(rng, height, width)
    texture = _skin_texture(rng, height, width)
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
