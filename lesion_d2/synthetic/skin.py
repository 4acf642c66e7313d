"""The skin under a lesion: tone, colour cast, lighting and fine texture."""

import numpy as np

from lesion_d2.synthetic.noise import Field, smooth_noise

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


def skin_planes(rng: np.random.Generator, height: int, width: int) -> Field:
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


def skin_texture(rng: np.random.Generator, height: int, width: int) -> Field:
    """Fine relief of the skin as a gain: float32 (height, width) around 1."""
    relief = smooth_noise(rng, height, width, height / rng.uniform(80, 160))
    return 1 + np.float32(rng.uniform(*TEXTURE)) * relief
