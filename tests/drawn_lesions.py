"""Drawn lesions that differ in their pattern alone, and changed copies of them."""

import cv2
import numpy as np


def noise(rng, height, width, scale):
    """Smooth noise with blobs of about `scale` pixels, in [0, 1]."""
    field = cv2.GaussianBlur(rng.standard_normal((height, width)), (0, 0), scale)
    return (field - field.min()) / np.ptp(field)


def lesion(seed, height=384, width=512):
    """A dark, patterned lesion in the middle of plain skin: same layout, own pattern per seed."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    radius = np.hypot((x - width / 2) / width, (y - height / 2) / height)
    edge = 0.25 + 0.06 * (noise(rng, height, width, width / 16) - 0.5)
    inside = 1 / (1 + np.exp((radius - edge) * 80))
    pattern = 0.6 * noise(rng, height, width, width / 40) + 0.4 * noise(rng, height, width, 5)
    skin = 0.97 + 0.03 * noise(rng, height, width, 3)
    grey = skin * (1 - inside * (0.3 + 0.6 * pattern))
    return np.clip(grey[..., None] * np.array([150, 175, 225]), 0, 255).astype(np.uint8)


def warped(image, angle=0.0, scale=1.0, shift=(0, 0)):
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), angle, scale)
    matrix[:, 2] += shift
    return cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REFLECT)


def recoloured(image):
    bent = 255 * (image / 255) ** np.array([1.6, 1.3, 0.8])
    return np.clip(bent * [0.9, 0.8, 1.1] + [20, 0, 0], 0, 255).astype(np.uint8)


def recompressed(image):
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 30])[1], 1)
