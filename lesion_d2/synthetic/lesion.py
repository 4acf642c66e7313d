"""A lesion: outline, border, colours and inner pattern.

The border is the level set of a smoothed, noisy outline: one field gives the irregular edge, its
softness and the mask, so the mask is exact by construction.
"""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from lesion_d2.synthetic.noise import SUBPIXEL_BITS, Field, Image, smooth_noise

SIZE = (0.18, 0.77)  # square root of the lesion's share of the frame
CENTRE_SPREAD = 0.09  # standard deviation of the centre, in frame sides
OFF_CENTRE = (0.12, 0.3)  # chance of a lesion well off the centre, and its spread
ASPECT = (0.55, 1.0)
LOBES = range(2, 8)  # Fourier orders of the outline
LOBE_STRENGTH = (0.1, 0.4)
SECOND_BLOB = 0.3  # chance of a second, overlapping blob
OUTLINE_POINTS = 180

RAMP = (0.08, 0.22)  # blur of the outline, in lesion radii
JAGGEDNESS = (0.04, 0.22)
SOFTNESS = (0.25, 1.1)  # width of the visible border in units of the ramp

# Share of the skin's light that comes back through each pigment (BGR). Melanin takes blue first,
# deep melanin scatters blue back, blood lets red through, and scar-like regression is pale.
BROWNS = ((0.42, 0.60, 0.80), (0.30, 0.44, 0.66), (0.20, 0.29, 0.47), (0.45, 0.55, 0.78))
ACCENTS = (
    (0.42, 0.60, 0.82),  # light brown
    (0.22, 0.30, 0.46),  # dark brown
    (0.13, 0.14, 0.18),  # black
    (0.66, 0.52, 0.46),  # blue-grey
    (0.52, 0.46, 0.82),  # red
    (0.92, 0.84, 0.86),  # white
)
ACCENT_COUNT = (0, 4)
STRENGTH = (0.55, 1.0)
FAINT_CHANCE = 0.17
FAINT_STRENGTH = (0.35, 0.5)
MOTTLE = (0.03, 0.11)
DARK_CENTRE = (0.05, 0.5)
PATTERN_STRENGTH = (0.05, 0.3)


def _contour(rng: np.random.Generator) -> NDArray[np.float64]:
    """A closed irregular curve around the origin, radius about 1: (OUTLINE_POINTS, 2), x and y."""
    angle = np.linspace(0, 2 * math.pi, OUTLINE_POINTS, endpoint=False)
    strength = rng.uniform(*LOBE_STRENGTH)
    radius = np.ones_like(angle)
    for order in LOBES:
        wave = np.cos(order * angle + rng.uniform(0, 2 * math.pi))
        radius += strength / order * rng.normal() * wave
    radius = np.clip(radius, 0.35, 1.8)
    points = np.stack([radius * np.cos(angle), rng.uniform(*ASPECT) * radius * np.sin(angle)], 1)
    turn = rng.uniform(0, math.pi)
    rotation = np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
    return points @ rotation


def _outline(rng: np.random.Generator, height: int, width: int) -> tuple[Image, float]:
    """Draw the union of blobs: uint8 (height, width) 0 or 255, and its radius in pixels."""
    off_chance, off_spread = OFF_CENTRE
    spread = off_spread if rng.random() < off_chance else CENTRE_SPREAD
    centre = np.clip(rng.normal(0.5, spread, 2), 0.1, 0.9) * (width, height)
    blobs = [_contour(rng)]
    if rng.random() < SECOND_BLOB:
        blobs.append(rng.uniform(0.5, 0.9) * _contour(rng) + rng.normal(0, 0.5, 2))
    area = rng.uniform(*SIZE) ** 2 * height * width
    radius = math.sqrt(area / math.pi)
    outline = np.zeros((height, width), np.uint8)
    for _ in range(2):  # the first drawing measures the shape, the second has the wanted area
        outline[:] = 0
        for blob in blobs:
            points = np.rint((centre + radius * blob) * (1 << SUBPIXEL_BITS)).astype(np.int32)
            cv2.fillPoly(outline, [points], 255, shift=SUBPIXEL_BITS)
        radius *= min(math.sqrt(area / max(cv2.countNonZero(outline), 1)), 2.0)
    return outline, math.sqrt(area / math.pi)


def lesion_field(
    rng: np.random.Generator, height: int, width: int
) -> tuple[NDArray[np.uint16], Image, float]:
    """Draw the field whose middle level is the lesion's border.

    Returns:
        ``level``: uint16 (height, width), above 32767 inside the lesion;
        ``depth``: uint8 (height, width), rising from the border to the middle of the lesion;
        the lesion's radius in pixels.
    """
    outline, radius = _outline(rng, height, width)
    # Replicated edges: a lesion that the frame cuts goes on behind it.
    ramp = cv2.GaussianBlur(
        outline, (0, 0), rng.uniform(*RAMP) * radius, borderType=cv2.BORDER_REPLICATE
    )
    # So wide a blur loses nothing at a quarter of the size, and costs a fraction there.
    small = cv2.resize(ramp, (width // 4, height // 4), interpolation=cv2.INTER_LINEAR_EXACT)
    deep = cv2.GaussianBlur(small, (0, 0), 0.45 / 4 * radius, borderType=cv2.BORDER_REPLICATE)
    depth: NDArray = cv2.resize(deep, (width, height), interpolation=cv2.INTER_LINEAR_EXACT)
    level = ramp * np.float32(1 / 255)
    # Noise near the border only: elsewhere it would tear holes and scatter specks.
    noise = smooth_noise(rng, height, width, 0.4 * radius)
    noise += smooth_noise(rng, height, width, 0.12 * radius)
    level += np.float32(4 * rng.uniform(*JAGGEDNESS)) * level * (1 - level) * noise
    return (np.clip(level, 0, 1) * np.float32(65535)).astype(np.uint16), depth, radius


def lesion_tint(rng: np.random.Generator, depth: Image, radius: float) -> Field:
    """Light coming back through the pigment: float32 (3, H, W), BGR, 1 = as bare skin."""
    height, width = depth.shape
    plain = np.array(BROWNS[rng.integers(len(BROWNS))], np.float32)
    tint = np.broadcast_to(plain[:, None, None], (3, height, width))
    for choice in rng.permutation(len(ACCENTS))[: rng.integers(*ACCENT_COUNT)]:
        accent = np.array(ACCENTS[choice], np.float32)[:, None, None]
        where = smooth_noise(rng, height, width, rng.uniform(0.25, 0.8) * radius)
        weight = np.clip(where - np.float32(rng.uniform(-0.3, 0.9)), 0, 1)
        tint = tint + weight * (accent - tint)
    mottle = smooth_noise(rng, height, width, 0.15 * radius)
    mottle += smooth_noise(rng, height, width, 0.06 * radius)
    gain = 1 + np.float32(rng.uniform(*MOTTLE)) * mottle
    gain -= np.float32(rng.uniform(*DARK_CENTRE) / 255) * depth
    faint = rng.random() < FAINT_CHANCE
    strength = np.float32(rng.uniform(*(FAINT_STRENGTH if faint else STRENGTH)))
    return 1 - strength * (1 - tint * gain)


def lesion_pattern(rng: np.random.Generator, height: int, width: int) -> Field:
    """Pigment network, globules or neither, as a gain: float32 (height, width), at most 1."""
    strength = np.float32(rng.uniform(*PATTERN_STRENGTH))
    noise = smooth_noise(rng, height, width, height / rng.uniform(50, 110))
    kind = rng.integers(3)
    if kind == 0:  # lines where the noise crosses zero: a net with irregular holes
        return 1 - strength * np.clip(1 - np.float32(2.5) * np.abs(noise), 0, 1)
    if kind == 1:  # dark dots on the peaks
        return 1 - strength * np.clip(noise - np.float32(0.6), 0, 1)
    return 1 - strength / 4 * np.abs(noise)
