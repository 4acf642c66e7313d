"""Pretrained weights of a timm network, as a file for ``MODEL.WEIGHTS``."""

from pathlib import Path
from typing import Any

import torch

from lesion_d2.errors import LesionError
from lesion_d2.files import atomic_write
from lesion_d2.modeling.timm_backbone import create_network


def write_timm_weights(name: str, source: Path | None, output: Path) -> None:
    """Write the weights of a network's features under the names they have in the backbone.

    Args:
        name: of the network in timm.
        source: file of its weights, under timm's names or, in the same order and shapes, under
            others; None: timm downloads its own.
        output: file to write.

    Raises:
        LesionError: if there is no such network, or the weights cannot be had or are not its own.
    """
    if source and not source.is_file():
        raise LesionError(f"{source}: no such file; give a file of weights of {name}")
    wanted = create_network(name).state_dict()
    if not source:
        wanted = _download(name)
    else:
        # The feature network joins by "_" what the whole network joins by ".".
        given = {key.replace(".", "_"): value for key, value in _read(name, source).items()}
        found = {key: given.get(key.replace(".", "_")) for key in wanted}
        wrong = [key for key, value in found.items() if _shape(value) != wanted[key].shape]
        if wrong:
            raise LesionError(
                f"{source}: {len(wrong)} of {len(wanted)} tensors of {name} are missing or have "
                f"another shape, {wrong[0]} the first; give a file of this network's weights"
            )
        wanted = found
    state = {f"backbone.bottom_up.network.{key}": value for key, value in wanted.items()}
    with atomic_write(output, "wb") as stream:
        torch.save({"model": state, "network": name, "source": source and source.name}, stream)


def _download(name: str) -> dict[str, Any]:
    import timm

    try:
        return timm.create_model(name, features_only=True, pretrained=True).state_dict()
    except Exception as error:  # a download fails in as many ways as there are networks
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise LesionError(
            f"{name}: timm cannot fetch its weights ({reason}); give a file of them as --source"
        ) from error


def _read(name: str, source: Path) -> dict[str, Any]:
    """Return the weights of a file under timm's names."""
    import timm

    try:
        given = timm.models.load_state_dict(str(source), weights_only=True)
    except Exception as error:  # torch and safetensors raise anything, depending on the damage
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise LesionError(
            f"{source}: not weights that can be read without running code ({reason}); give a .pth "
            "or .safetensors file"
        ) from error
    own = timm.create_model(name).state_dict()

    def kinds(state: dict[str, Any]) -> list[tuple[str, Any]]:
        return [(key.rpartition(".")[2], _shape(value)) for key, value in state.items()]

    return dict(zip(own, given.values(), strict=True)) if kinds(own) == kinds(given) else given


def _shape(value: Any) -> torch.Size | None:
    return value.shape if isinstance(value, torch.Tensor) else None
