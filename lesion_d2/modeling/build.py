"""Building what a config names."""

from typing import Any

from detectron2.config import CfgNode
from detectron2.modeling import build_model

import lesion_d2.modeling  # noqa: F401  what configs name
from lesion_d2.errors import LesionError


def build_network(cfg: CfgNode) -> Any:
    """Return the network of a config, on its device.

    Raises:
        LesionError: if the config names a part that does not exist.
    """
    try:
        return build_model(cfg)
    except KeyError as error:
        if "registry" not in str(error):
            raise
        raise LesionError(
            f"MODEL: {error.args[0]} Give a name of Detectron2 or of lesion_d2/modeling/"
        ) from error
