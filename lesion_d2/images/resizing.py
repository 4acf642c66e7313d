"""How an image is resized for the model, in training and prediction alike."""

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from detectron2.data.detection_utils import build_augmentation


class ResizeShortestEdge(T.ResizeShortestEdge):
    """Detectron2's, but that no side of a very long and thin image becomes 0."""

    def get_transform(self, image: np.ndarray) -> T.Transform:
        """Return the transform of an image of shape (H, W, C)."""
        transform = super().get_transform(image)
        if isinstance(transform, T.ResizeTransform):
            transform.new_h = max(1, transform.new_h)
            transform.new_w = max(1, transform.new_w)
        return transform


def build_resizing(cfg: CfgNode, is_train: bool) -> list[T.Augmentation]:
    """Return Detectron2's augmentations of a config (resize, and flip where it is set)."""
    resize, *others = build_augmentation(cfg, is_train)
    sizes = resize.short_edge_length
    style = "range" if resize.is_range else "choice"
    return [ResizeShortestEdge(sizes, resize.max_size, style), *others]
