"""A trained model in one file: tensors, config, confidence model and where it all comes from.

The file is of the format safetensors (https://huggingface.co/docs/safetensors): a JSON header of
bounded size, then the bytes of the tensors. It can hold no code. What is not a tensor is JSON in
the header's metadata. Weights have 16 bits; tensors of one dimension, which norms and biases are,
take no room and have 32, because a running variance may exceed the largest float16. An ONNX file of
:mod:`lesion_d2.prediction.graph_file` holds the same beside a graph, and is read here, too.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import safetensors.torch
import torch
from detectron2.config import CfgNode
from torch import nn

from lesion_d2.config.checks import check_config
from lesion_d2.config.defaults import get_lesion_cfg
from lesion_d2.config.load import PRETRAINED, PRETRAINED_FILE, merge_options, settle_device
from lesion_d2.errors import LesionError
from lesion_d2.files import atomic_write
from lesion_d2.modeling import build_network
from lesion_d2.modeling.weights import check_tensors, decode_onnx, fill, open_weights
from lesion_d2.onnx_format import MAX_METADATA, read_texts
from lesion_d2.prediction.confidence import ConfidenceModel
from lesion_d2.prediction.metadata import (
    GRAPH_SUFFIX,
    check_format,
    read_origin_texts,
    write_metadata,
)

SUFFIX = ".safetensors"
_ADVICE = "export the checkpoint (again) with tools/export.py"


@dataclass(frozen=True, eq=False)
class Bundle:
    """What a file holds, and the SHA-256 of it.

    The model is in evaluation mode, on the config's device. The provenance is plain values, as
    :mod:`lesion_d2.commands.export` gives them.
    """

    cfg: CfgNode
    model: nn.Module
    confidence: ConfidenceModel | None
    provenance: dict[str, Any]
    sha256: str


def write_bundle(
    path: str | Path,
    cfg: CfgNode,
    model: nn.Module,
    confidence: ConfidenceModel | None,
    provenance: Mapping[str, Any],
) -> None:
    """Write a trained model, not prepared for inference, with all that prediction needs.

    Paths in the config are left out. The provenance is plain values.

    Raises:
        LesionError: if the name has another suffix, or a weight is not finite.
    """
    if Path(path).suffix != SUFFIX:
        raise LesionError(f"{path}: give a name that ends in {SUFFIX}")
    tensors = stored_tensors(path, model)
    metadata = write_metadata(cfg, confidence, provenance)
    with atomic_write(path, "wb") as stream:
        stream.write(safetensors.torch.save(tensors, metadata))


def stored_tensors(path: str | Path, model: nn.Module) -> dict[str, torch.Tensor]:
    """Return a model's tensors by name in the types that a file holds, on the CPU.

    Raises:
        LesionError: if a weight is not finite; it names the file ``path``.
    """
    tensors = {
        name: value.detach().cpu().to(_stored_type(value)).contiguous()
        for name, value in model.state_dict().items()
    }
    check_tensors(str(path), tensors)
    return tensors


def read_bundle(path: str | Path, opts: Sequence[Any] = ()) -> Bundle:
    """Read what :func:`write_bundle` or :func:`lesion_d2.prediction.graph_file.write_onnx` wrote.

    The tensors' names, shapes and types are compared with those of the network that the config
    describes before the network takes memory.

    Args:
        path: of the file, or ``pretrained`` for the model that comes with the package.
        opts: alternating keys and values over the bundle's config. ``TEST.CONFIDENCE`` replaces its
            confidence model; ``MODEL.DEVICE`` is by default the GPU where there is one.

    Raises:
        LesionError: if it is missing, damaged, or not a bundle.
    """
    path = PRETRAINED_FILE if path == PRETRAINED else Path(path)
    with open_weights(path) as stream:
        try:
            if path.suffix == GRAPH_SUFFIX:
                data = stream.read()
                metadata, weights = read_texts(data), decode_onnx(data)
                kinds = {name: _kind(value) for name, value in weights.items()}
            else:
                data = _read_head(stream)
                metadata, kinds = _read_header(data[8:])
            check_format(metadata)
            cfg = get_lesion_cfg()
            cfg.merge_from_other_cfg(CfgNode(json.loads(metadata["config"])))
            cfg.MODEL.DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
            merge_options(cfg, opts)
            settle_device(cfg.MODEL.DEVICE)
            check_config(cfg)
            _check_kinds(kinds, cfg)
            if path.suffix != GRAPH_SUFFIX:
                data += stream.read()
                weights = safetensors.torch.load(data)
            confidence, provenance = read_origin_texts(metadata, str(path), cfg.TEST.CONFIDENCE)
        except LesionError as error:
            raise LesionError(f"{path}: {error}") from error
        except Exception as error:  # a damaged header fails in as many ways as it has values
            reason = str(error).strip().partition("\n")[0]
            raise LesionError(f"{path}: is not a bundle ({reason:.200}); {_ADVICE}") from error
    check_tensors(str(path), weights)
    model = build_network(cfg).eval()
    fill(model, weights, str(path))
    return Bundle(cfg, model, confidence, provenance, hashlib.sha256(data).hexdigest())


def read_origin(path: str | Path) -> tuple[ConfidenceModel | None, dict[str, Any]]:
    """Return the confidence model and the provenance of a bundle whose weights were read already.

    Of any other file that holds weights, it is none and nothing.

    Raises:
        LesionError: if the confidence model is damaged.
    """
    if Path(path).suffix == GRAPH_SUFFIX:
        metadata = read_texts(Path(path).read_bytes())
    elif Path(path).suffix == SUFFIX:
        with safetensors.safe_open(path, "pt") as stream:
            metadata = stream.metadata() or {}
    else:
        return None, {}
    try:
        return read_origin_texts({"confidence": "null", "provenance": "{}"} | metadata, str(path))
    except (ValueError, TypeError, RecursionError) as error:
        raise LesionError(f"{path}: is not a bundle ({error}); {_ADVICE}") from error


def _stored_type(value: torch.Tensor) -> torch.dtype:
    if not value.is_floating_point():
        return value.dtype
    fits = value.dim() > 1 and bool((value.abs() <= torch.finfo(torch.float16).max).all())
    return torch.float16 if fits else torch.float32


def _read_head(stream: IO[bytes]) -> bytes:
    """Return the size of a safetensors file's header, and the header."""
    start = stream.read(8)
    size = int.from_bytes(start, "little")
    if not 2 <= size <= MAX_METADATA:
        raise ValueError("it does not begin with the size of a header")
    return start + stream.read(size)


def _read_header(header: bytes) -> tuple[dict[str, str], dict[str, Any]]:
    """Return the metadata of a safetensors file, and shape and type of each tensor."""
    parts = json.loads(header)
    metadata = parts.pop("__metadata__")
    floats = {"F16": True, "F32": True, "I64": False}
    return metadata, {
        name: (part["shape"], floats.get(part["dtype"])) for name, part in parts.items()
    }


def _kind(value: torch.Tensor) -> tuple[list[int], bool]:
    return list(value.shape), value.is_floating_point()


def _check_kinds(found: dict[str, Any], cfg: CfgNode) -> None:
    """Compare names, shapes and types with those of the network that the config describes."""
    own = build_network(cfg, empty=True).state_dict()
    expected = {name: _kind(value) for name, value in own.items()}
    wrong = [name for name in expected | found if expected.get(name) != found.get(name)]
    if wrong:
        raise ValueError(f"{len(wrong)} tensors are not those of its config, {wrong[0]} the first")
