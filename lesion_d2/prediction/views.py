"""Views of an image for test-time augmentation, and the way back."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn.functional import interpolate

from lesion_d2.errors import LesionError

# Whether rows and columns swap first, then which axes are reversed: -2 top to bottom, -1 left to
# right. These are the eight symmetries of a rectangle's pixels; "rotate90" is counter-clockwise.
SYMMETRIES: dict[str, tuple[bool, tuple[int, ...]]] = {
    "identity": (False, ()),
    "horizontal": (False, (-1,)),
    "vertical": (False, (-2,)),
    "rotate180": (False, (-2, -1)),
    "rotate90": (True, (-2,)),
    "rotate270": (True, (-1,)),
    "transpose": (True, ()),
    "antitranspose": (True, (-2, -1)),
}


@dataclass(frozen=True)
class View:
    """One way to look at an image.

    Attributes:
        symmetry: a key of :data:`SYMMETRIES`.
        scale: by which both sides are multiplied.
    """

    symmetry: str
    scale: float = 1.0

    def apply(self, image: torch.Tensor) -> torch.Tensor:
        """Return the view of an image of shape (C, H, W), any dtype; scaled ones are float32."""
        swap, axes = SYMMETRIES[self.symmetry]
        if self.scale != 1:
            size = [max(1, round(side * self.scale)) for side in image.shape[-2:]]
            image = interpolate(image[None].float(), size, mode="bilinear", antialias=True)[0]
        return (image.transpose(-2, -1) if swap else image).flip(axes)

    def turned(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return (height, width) of an unscaled view of an image of that size."""
        return size[::-1] if SYMMETRIES[self.symmetry][0] else size

    def restore(self, maps: torch.Tensor) -> torch.Tensor:
        """Turn maps of shape (..., H, W) made on an unscaled view back to the image."""
        swap, axes = SYMMETRIES[self.symmetry]
        maps = maps.flip(axes)
        return maps.transpose(-2, -1) if swap else maps


def build_views(symmetries: Sequence[str], scales: Sequence[float]) -> list[View]:
    """Return each symmetry at each scale.

    Raises:
        LesionError: if there is none, or one is unknown, repeated or not positive.
    """
    unknown = [name for name in symmetries if name not in SYMMETRIES]
    if unknown or not symmetries or len(set(symmetries)) != len(symmetries):
        raise LesionError(
            f"TEST.VIEWS: {tuple(symmetries)} is not a selection of {tuple(SYMMETRIES)}; give each "
            "at most once and at least one"
        )
    if not scales or len(set(scales)) != len(scales) or not all(0.1 <= s <= 10 for s in scales):
        raise LesionError(
            f"TEST.VIEW_SCALES: {tuple(scales)}; give one or more different numbers, 0.1 to 10"
        )
    return [View(name, float(scale)) for scale in scales for name in symmetries]
