"""Weights from files: read once, without running code, hashed, complete and finite."""

import hashlib
import io
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import safetensors.torch
import torch
from detectron2.utils.file_io import PathManager
from torch.nn.modules.utils import consume_prefix_in_state_dict_if_present

from lesion_d2.errors import LesionError
from lesion_d2.files import open_regular
from lesion_d2.onnx_format import read_arrays, read_texts

MAX_BYTES = 4 << 30  # a checkpoint of the largest network of the model zoo has a third of it
_ADVICE = "give a .pth file of tensors and plain values, such as OUTPUT_DIR/model_best.pth"
# Where training tools put the weights in their files: Detectron2, Lightning and MMDetection, pycls.
_MODEL_KEYS = ("model", "state_dict", "model_state_dict", "model_state")
# What files begin with that are often taken for weights.
_FOREIGN = (
    (b"version https://git-lfs", "is a Git LFS pointer; fetch the file with `git lfs pull`"),
    (b"<", "is a web page, not weights; download the file itself"),
    (b"\x1f\x8b", "is compressed with gzip; unpack it"),
)
# What the arrays of Detectron2's model zoo need to be unpickled.
_ARRAYS = {
    *((f"numpy.{core}.multiarray", "_reconstruct") for core in ("core", "_core")),
    *((f"numpy.{core}.multiarray", "scalar") for core in ("core", "_core")),
    *(("numpy", "ndarray"), ("numpy", "dtype")),
    *(("collections", "OrderedDict"), ("_codecs", "encode")),
}


def open_weights(path: str | Path) -> IO[bytes]:
    """Open a file of weights, as :func:`lesion_d2.files.open_regular` does."""
    return open_regular(path, MAX_BYTES, _ADVICE)


def read_checkpoint(path: str | Path) -> tuple[dict[str, Any], str]:
    """Return a file's content, with the weights by name as ``"model"``, and its SHA-256.

    It is read once, and no code in it is run. It is a checkpoint of this project or another tool's
    (``.pth``), a bundle (``.safetensors`` or ``.onnx``), or a file of Detectron2's model zoo
    (``.pkl``).

    Raises:
        LesionError: if it cannot be read, or a weight is not finite.
    """
    with open_weights(path) as stream:
        start = stream.read(64)
        for beginning, reason in _FOREIGN:
            if start.lstrip().startswith(beginning):
                raise LesionError(f"{path}: {reason}")
        data = start + stream.read()
    content = _decode(str(path), data)
    if not isinstance(content, dict):
        raise LesionError(f"{path}: holds a {type(content).__name__}, not weights; {_ADVICE}")
    found = [key for key in _MODEL_KEYS if isinstance(content.get(key), Mapping)]
    state, content = (content.pop(found[0]), content) if found else (content, {})
    weights = content["model"] = {str(key): value for key, value in state.items()}
    for prefix in ("module.", "model."):  # of DistributedDataParallel, of Lightning
        consume_prefix_in_state_dict_if_present(weights, prefix)
    check_tensors(str(path), weights)
    return content, hashlib.sha256(data).hexdigest()


def check_tensors(path: str, weights: Mapping[str, Any]) -> None:
    """Raise a LesionError unless all are dense tensors of finite real numbers."""
    for name, value in weights.items():
        problem = None
        if not isinstance(value, torch.Tensor):
            problem = f"is a {type(value).__name__}, not a tensor"
        elif value.layout != torch.strided or value.device.type != "cpu" or value.is_quantized:
            problem = "is not a dense tensor"
        elif value.is_complex():
            problem = "is complex"
        elif value.numel() * value.element_size() > value.untyped_storage().nbytes():
            problem = f"has shape {tuple(value.shape)} but not as many values"
        elif value.is_floating_point() and not value.float().isfinite().all():
            problem = "holds NaN or infinite values: the run that wrote it had diverged"
        if problem:
            raise LesionError(f"{path}: {name} {problem}; {_ADVICE}")


def _decode(path: str, data: bytes) -> Any:
    try:
        if path.endswith(".pkl"):
            return _model_zoo(_ArraysOnly(io.BytesIO(data), encoding="latin1").load())
        if path.endswith(".safetensors"):
            return safetensors.torch.load(data)
        if path.endswith(".onnx"):
            return decode_onnx(data)
        if data.startswith(b"PK"):
            _check_members(path, data)
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except LesionError:
        raise
    except Exception as error:  # torch and pickle raise anything, depending on the damage
        found = re.search(r"(?:GLOBAL|class) ([\w.]+)", str(error))
        if isinstance(error, pickle.UnpicklingError) and found:
            raise LesionError(
                f"{path}: holds {found[1]}, and what is no tensor or plain value could run code; "
                "save the weights alone with torch.save(model.state_dict(), FILE)"
            ) from error
        raise LesionError(
            f"{path}: is cut off, damaged or not a file of weights; {_ADVICE}"
        ) from error


def decode_onnx(data: bytes) -> dict[str, torch.Tensor]:
    """Return the tensors by name of a file that ``tools/export.py`` wrote as ``.onnx``.

    Raises:
        ValueError: if it is damaged or holds what such a file has not; other types as
            :func:`lesion_d2.onnx_format.read_texts`.
    """
    read_texts(data)
    return {name: torch.from_numpy(array.copy()) for name, array in read_arrays(data).items()}


def _check_members(path: str, data: bytes) -> None:
    """Refuse archives that hold more than the file: torch compresses nothing."""
    members = zipfile.ZipFile(io.BytesIO(data)).infolist()
    if sum(member.file_size for member in members) > len(data):
        raise LesionError(f"{path}: unpacks to more than its own size; {_ADVICE}")
    if not any(member.filename.endswith("/data.pkl") for member in members):
        raise LesionError(f"{path}: is a zip archive, but not one of torch; {_ADVICE}")


class _ArraysOnly(pickle.Unpickler):
    """Knows numpy's arrays and nothing that could run code."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ARRAYS:
            raise pickle.UnpicklingError(f"class {module}.{name}")
        return super().find_class(module, name)


def _model_zoo(content: dict[str, Any]) -> dict[str, Any]:
    """Return what Detectron2's checkpointer makes of a pickle of its own or of Caffe2's zoo."""
    if "model" not in content or "__author__" not in content:
        blobs = content.get("blobs", content)
        weights = {name: value for name, value in blobs.items() if not name.endswith("_momentum")}
        content = {"model": weights, "__author__": "Caffe2", "matching_heuristics": True}
    content["model"] = {name: torch.as_tensor(array) for name, array in content["model"].items()}
    return content


def fetch_weights(weights: str) -> None:
    """Download ``MODEL.WEIGHTS`` if it is an address; raise a LesionError if it cannot be had."""
    if not weights:
        return
    try:
        found = Path(PathManager.get_local_path(weights)).is_file()
        reason = "no such file"
    except Exception as error:  # a download fails in as many ways as there are networks
        found, reason = False, str(error).strip().partition("\n")[0] or type(error).__name__
    if not found:
        remedy = (
            "without a network, download the file on another machine and pass it as"
            if "://" in weights
            else "tools/timm_weights.py writes that of a timm network (--help says how); or give"
        )
        raise LesionError(
            f"MODEL.WEIGHTS: {weights}: {reason}; {remedy} MODEL.WEIGHTS path/to/file, or "
            "MODEL.WEIGHTS '' to start from random weights"
        )


def check_trained_file(weights: str) -> None:
    """Raise a LesionError if there is no file ``weights``."""
    if not Path(weights).is_file():
        raise LesionError(
            f"MODEL.WEIGHTS: {weights or '(empty)'}: no such file; give a checkpoint that "
            "tools/train_net.py wrote, such as OUTPUT_DIR/model_best.pth"
        )


def load_trained(model: torch.nn.Module, weights: str) -> str:
    """Fill a model from a checkpoint of the same config, and return the SHA-256 of what was read.

    Raises:
        LesionError: if the file cannot be read, or its tensors are not the model's (pretrained
            weights, or another config's).
    """
    check_trained_file(weights)
    content, sha256 = read_checkpoint(weights)
    fill(model, content["model"], f"MODEL.WEIGHTS: {weights}")
    return sha256


def fill(model: torch.nn.Module, weights: Mapping[str, torch.Tensor], origin: str) -> None:
    """Fill a model with just its own tensors; ``origin`` names the file in the LesionError."""
    own = {name: value.shape for name, value in model.state_dict().items()}
    # What other versions stored beside the weights, and this model lacks.
    constant = re.compile(r"cell_anchors|(^|\.)(pixel_mean|pixel_std|num_batches_tracked)$")
    found = {
        name: value.shape
        for name, value in weights.items()
        if name in own or not constant.search(name)
    }
    wrong = [name for name in own | found if own.get(name) != found.get(name)]
    if wrong:
        raise LesionError(
            f"{origin}: {len(wrong)} tensors are not those of the model (missing, of another "
            f"shape, or unknown to it), {wrong[0]} the first; give a trained checkpoint and the "
            "config it was trained with"
        )
    model.load_state_dict({name: weights[name] for name in own})
