"""What lies between the camera and the skin: hair, bubbles, ink, rulers, patches, vignettes."""

import math
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from lesion_d2.synthetic.noise import SUBPIXEL_BITS, Image, paint, smooth_noise

HAIR_COUNT = (2, 25)
HAIR_COLOURS = ((25, 28, 38), (40, 55, 80), (30, 30, 30), (150, 190, 215))
BUBBLE_COUNT = (1, 9)
INK_COLOURS = ((130, 50, 90), (150, 70, 40), (110, 40, 60), (160, 90, 120))
PATCH_COLOURS = ((60, 200, 235), (200, 120, 40), (70, 160, 60), (60, 60, 210), (190, 220, 240))


def _blank(image: Image) -> Image:
    return np.zeros(image.shape[:2], np.uint8)


def _pen(image: Image, width: float) -> int:
    """Line thickness in pixels for a width given at 450 rows."""
    return max(1, round(width * image.shape[0] / 450))


def _curve(rng: np.random.Generator, start: NDArray, length: float, bend: float) -> NDArray:
    """A quadratic Bezier curve from ``start`` as int32 points with SUBPIXEL_BITS fraction bits."""
    angle = rng.uniform(0, 2 * math.pi)
    along = length * np.array([math.cos(angle), math.sin(angle)])
    across = length * bend * rng.uniform(-1, 1) * np.array([-math.sin(angle), math.cos(angle)])
    t = np.linspace(0, 1, 24)[:, None]
    points = start + t * along + 2 * t * (1 - t) * across
    return np.rint(points * (1 << SUBPIXEL_BITS)).astype(np.int32)


def add_hair(rng: np.random.Generator, image: Image) -> None:
    """Thin curved lines, dark or fair."""
    height, width = image.shape[:2]
    mask = _blank(image)
    bend = rng.uniform(0.1, 0.8)
    for _ in range(rng.integers(*HAIR_COUNT)):
        start = rng.uniform(-0.1, 1.0, 2) * (width, height)
        points = _curve(rng, start, rng.uniform(0.15, 0.8) * width, bend)
        pen = _pen(image, rng.uniform(0.6, 2.4))
        cv2.polylines(mask, [points], False, 255, pen, cv2.LINE_AA, SUBPIXEL_BITS)
    paint(image, mask, HAIR_COLOURS[rng.integers(len(HAIR_COLOURS))], rng.uniform(0.5, 0.9))


def add_bubbles(rng: np.random.Generator, image: Image) -> None:
    """Air bubbles in the contact gel: a bright ring, a dark rim inside it and a highlight."""
    height, width = image.shape[:2]
    for _ in range(rng.integers(*BUBBLE_COUNT)):
        radius = max(2, round(height * 0.012 * math.exp(rng.uniform(-0.7, 1.6))))
        x, y = (int(value) for value in rng.uniform(0, 1, 2) * (width, height))
        pen = _pen(image, rng.uniform(0.8, 2))
        ring, rim, glint = _blank(image), _blank(image), _blank(image)
        cv2.circle(ring, (x, y), radius, 255, pen, cv2.LINE_AA)
        cv2.circle(rim, (x, y), max(radius - 2 * pen, 1), 255, pen, cv2.LINE_AA)
        spot = (x - radius // 3, y - radius // 3)
        cv2.circle(glint, spot, max(radius // 5, 1), 255, cv2.FILLED, cv2.LINE_AA)
        paint(image, rim, (40, 40, 50), 0.2)
        paint(image, ring, (245, 245, 250), rng.uniform(0.25, 0.6))
        paint(image, glint, (255, 255, 255), 0.9)


def add_ink(rng: np.random.Generator, image: Image) -> None:
    """Marker strokes or dots of a surgical pen, mostly near the edge of the frame."""
    height, width = image.shape[:2]
    mask = _blank(image)
    for _ in range(rng.integers(1, 5)):
        angle = rng.uniform(0, 2 * math.pi)
        start = np.array(
            [width * (0.5 + 0.42 * math.cos(angle)), height * (0.5 + 0.42 * math.sin(angle))]
        )
        length = 0.0 if rng.random() < 0.4 else rng.uniform(0.1, 0.3) * height
        points = _curve(rng, start, length, 0.3)
        pen = _pen(image, rng.uniform(10, 26))
        cv2.polylines(mask, [points], False, 255, pen, cv2.LINE_AA, SUBPIXEL_BITS)
    # Ink settles in the furrows of the skin.
    worn = np.clip(smooth_noise(rng, height, width, height / 60) * 30 + 210, 0, 255)
    soaked = np.minimum(cv2.GaussianBlur(mask, (0, 0), height / 150), worn.astype(np.uint8))
    paint(image, soaked, INK_COLOURS[rng.integers(len(INK_COLOURS))], rng.uniform(0.5, 0.9))


def add_ruler(rng: np.random.Generator, image: Image) -> None:
    """A millimetre scale along one edge, or a short bar lying anywhere near it."""
    height, width = image.shape[:2]
    mask = _blank(image)
    step = height * rng.uniform(0.02, 0.05)
    tick = height * rng.uniform(0.015, 0.03)
    turn = math.radians(rng.choice([0, 0, 180, 90, 270, rng.uniform(0, 360)]))
    along = np.array([math.cos(turn), math.sin(turn)])
    inward = np.array([math.sin(turn), -math.cos(turn)])
    # From the frame's centre outwards to a line near the edge.
    reach = abs(inward[0]) * width / 2 + abs(inward[1]) * height / 2
    middle = np.array([width / 2, height / 2]) - inward * reach * rng.uniform(0.75, 0.97)
    count = int(rng.integers(6, 30))
    pen = _pen(image, rng.uniform(1, 2.5))

    def line(start: NDArray, end: NDArray) -> None:
        ends = np.rint(np.stack([start, end]) * (1 << SUBPIXEL_BITS)).astype(np.int32)
        cv2.polylines(mask, [ends], False, 255, pen, cv2.LINE_AA, SUBPIXEL_BITS)

    for number in range(count + 1):
        foot = middle + along * step * (number - count / 2)
        line(foot, foot + inward * tick * (2 if number % 5 == 0 else 1))
    line(middle - along * step * count / 2, middle + along * step * count / 2)
    paint(image, mask, (30, 30, 30), rng.uniform(0.6, 0.95))


def add_patch(rng: np.random.Generator, image: Image) -> None:
    """A round coloured sticker that reaches in from one side."""
    height, width = image.shape[:2]
    mask = _blank(image)
    angle = rng.uniform(0, 2 * math.pi)
    radius = height * rng.uniform(0.15, 0.35)
    x = width / 2 + (width / 2 + 0.45 * radius) * math.cos(angle)
    y = height / 2 + (height / 2 + 0.45 * radius) * math.sin(angle)
    cv2.circle(mask, (round(x), round(y)), round(radius), 255, cv2.FILLED, cv2.LINE_AA)
    paint(image, mask, PATCH_COLOURS[rng.integers(len(PATCH_COLOURS))], 0.92)


def add_vignette(rng: np.random.Generator, image: Image) -> None:
    """Black corners outside the round field of view of the dermoscope."""
    height, width = image.shape[:2]
    x, y = rng.normal(0.5, 0.015, 2) * (width, height)
    across = np.square(np.arange(width, dtype=np.float32) - np.float32(x))
    down = np.square(np.arange(height, dtype=np.float32) - np.float32(y))
    beyond = np.sqrt(across + down[:, None])
    beyond -= np.float32(width * rng.uniform(0.48, 0.6))
    mask = np.clip(beyond * np.float32(255 / (height * rng.uniform(0.01, 0.12))), 0, 255)
    dark = int(rng.integers(5, 40))
    paint(image, mask.astype(np.uint8), (dark, dark, dark), 1.0)


# In the order they lie on one another, each with the share of pictures that show it.
ARTEFACTS: tuple[tuple[Callable[[np.random.Generator, Image], None], float], ...] = (
    (add_ink, 0.12),
    (add_hair, 0.35),
    (add_bubbles, 0.2),
    (add_ruler, 0.15),
    (add_patch, 0.05),
    (add_vignette, 0.25),
)


def add_artefacts(rng: np.random.Generator, image: Image) -> None:
    """Draw a random choice of artefacts over ``image``, a uint8 (H, W, 3) BGR array, in place."""
    for add, chance in ARTEFACTS:
        if rng.random() < chance:
            add(rng, image)
