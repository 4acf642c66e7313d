"""A trained model as one ONNX file, which ONNX Runtime computes without torch and Detectron2.

The graph is of :class:`lesion_d2.modeling.graph.MaskRCNNGraph`. What a bundle holds besides its
tensors is in the file's metadata. A file may come from a stranger: it is parsed before ONNX Runtime
sees it, and refused if it names other files, operators outside the ONNX standard, or graphs inside
graphs, or if its inputs and outputs are not those of such a graph. Memory is bounded.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from yacs.config import CfgNode

from lesion_d2.config.checks import check_config
from lesion_d2.config.load import merge_options
from lesion_d2.cpus import thread_limit
from lesion_d2.errors import LesionError
from lesion_d2.files import open_regular
from lesion_d2.prediction.candidates import Found
from lesion_d2.prediction.confidence import ConfidenceModel
from lesion_d2.prediction.metadata import FORMAT, GRAPH_STRIDE, MAX_METADATA, read_origin_texts

MAX_BYTES = 1 << 30  # a ResNet-101 in 32 bits has a quarter of it
MAX_MASK_SIDE = 1024
MAX_MEMORY = 4 << 30  # bytes that all graphs of a process may take
# Keys that say what is done around the graph; the others are fixed in it.
CHANGEABLE = (
    *("INPUT.MIN_SIZE_TEST", "INPUT.MAX_SIZE_TEST", "TEST.VIEWS", "TEST.VIEW_SCALES"),
    *("TEST.INSTANCE_CHOICE", "TEST.POSTPROCESSING", "TEST.CONFIDENCE"),
)
_ADVICE = "export the checkpoint (again) with tools/export.py"


@dataclass(frozen=True, eq=False)
class OnnxModel:
    """What a file holds, and the SHA-256 of it."""

    cfg: CfgNode
    network: "OnnxNetwork"
    confidence: ConfidenceModel | None
    provenance: dict[str, Any]
    sha256: str


def read_onnx(path: str | Path, opts: Sequence[Any] = ()) -> OnnxModel:
    """Read what :func:`lesion_d2.prediction.graph_file.write_onnx` wrote.

    ``opts`` are alternating keys and values over the file's config, of :data:`CHANGEABLE`.

    Raises:
        LesionError: if it is missing, damaged, not such a file, or a key cannot be changed.
    """
    with open_regular(path, MAX_BYTES, _ADVICE) as stream:
        data = stream.read()
    try:
        metadata = _check_file(data)
        cfg = CfgNode(json.loads(metadata["config"]))
        check_config(cfg)
        fixed = json.loads(metadata["config"])
        merge_options(cfg, opts)
        for key in map(str, opts[::2]):
            if key not in CHANGEABLE and _value(cfg, key) != _value(fixed, key):
                raise LesionError(
                    f"{key}: is fixed in an .onnx file; give one of {', '.join(CHANGEABLE)}, or "
                    "export the model anew"
                )
        check_config(cfg)
        confidence, provenance = read_origin_texts(metadata, str(path), cfg.TEST.CONFIDENCE)
        network = OnnxNetwork(data, int(cfg.TEST.DETECTIONS_PER_IMAGE))
    except LesionError as error:
        raise LesionError(f"{path}: {error}") from error
    except Exception as error:  # damage shows in as many ways as the file has values
        reason = str(error).strip().partition("\n")[0]
        raise LesionError(
            f"{path}: is not a model exported to ONNX ({reason:.200}); {_ADVICE}"
        ) from error
    return OnnxModel(cfg, network, confidence, provenance, hashlib.sha256(data).hexdigest())


class OnnxNetwork:
    """A graph as a :class:`~lesion_d2.prediction.candidates.Network`, on the CPU.

    Raises:
        ValueError: if its inputs or outputs are not those of an exported graph.
    """

    def __init__(self, data: bytes, detections: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = thread_limit()
        options.log_severity_level = 4
        _limit_memory()
        options.add_session_config_entry("session.use_env_allocators", "1")
        # Threads that wait for work must not take it from others.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(data, options, ["CPUExecutionProvider"])
        parts = [*self._session.get_inputs(), *self._session.get_outputs()]
        found = {part.name: (part.type, part.shape) for part in parts}
        side = found.get("masks", ("", [0, 0, 0]))[1][-1]
        if not isinstance(side, int) or not 0 < side <= MAX_MASK_SIDE:
            raise ValueError(f"its masks have a side of {side!r}")
        sides = found.get("image", ("", [3, "", ""]))[1][1:]
        expected = {
            "image": ("tensor(float)", [3, *sides]),
            "size": ("tensor(int64)", [2]),
            "scores": ("tensor(float)", [detections]),
            "boxes": ("tensor(float)", [detections, 4]),
            "masks": ("tensor(float)", [detections, side, side]),
        }
        fixed = any(isinstance(side, int) for side in sides)
        if found != expected or len(parts) != len(expected) or fixed:
            raise ValueError(f"its inputs and outputs are {found}")
        self._shapes = [tuple(expected[name][1]) for name in ("scores", "boxes", "masks")]

    def __call__(self, images: npt.NDArray) -> list[Found]:
        """Return what is found in images of shape (N, C, H, W), uint8 or float32.

        Raises:
            LesionError: if the graph fails, or gives what cannot be.
        """
        return [self._find(image) for image in images]

    def sharing(self, workers: int) -> AbstractContextManager[None]:
        """Do nothing: all calls share the session's threads."""
        return nullcontext()

    def _find(self, image: npt.NDArray) -> Found:
        height, width = image.shape[1:]
        padding = ((0, 0), (0, -height % GRAPH_STRIDE), (0, -width % GRAPH_STRIDE))
        inputs = {
            "image": np.pad(image.astype(np.float32), padding),
            "size": np.array([height, width]),
        }
        try:
            outputs = self._session.run(["scores", "boxes", "masks"], inputs)
        except Exception as error:  # ONNX Runtime's exceptions have no common base
            reason = str(error).partition("\n")[0]
            raise LesionError(f"the ONNX graph cannot be computed ({reason:.200})") from error
        scores, boxes, masks = map(np.asarray, outputs)
        bounds = ((scores, 0, 1), (boxes, 0, max(height, width)), (masks, 0, 1))
        if [part.shape for part, *_ in bounds] != self._shapes or not all(
            ((low <= part) & (part <= high)).all()
            for part, low, high in bounds  # NaN is not
        ):
            raise LesionError(f"the ONNX graph gives values that cannot be; {_ADVICE}")
        kept = np.flatnonzero(scores > 0)
        return Found(scores[kept], boxes[kept], masks[kept])


@cache
def _limit_memory() -> None:
    """Let all graphs of this process together take no more than :data:`MAX_MEMORY`."""
    memory = onnxruntime.OrtMemoryInfo(
        "Cpu",
        onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR,
        0,
        onnxruntime.OrtMemType.DEFAULT,
    )
    default = -1
    limits = onnxruntime.OrtArenaCfg(MAX_MEMORY, default, default, default)
    onnxruntime.create_and_register_allocator(memory, limits)


def _value(node: Any, key: str) -> Any:
    for name in key.split("."):
        node = node[name]
    return list(node) if isinstance(node, tuple) else node


# Fields of ONNX's messages: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto, version 3.
_MODEL_GRAPH, _MODEL_OPSET, _MODEL_METADATA = 7, 8, 14
_MODEL_KNOWN = {1, 2, 3, 4, 5, 6, _MODEL_GRAPH, _MODEL_OPSET, _MODEL_METADATA}
_GRAPH_NODE, _GRAPH_TENSOR = 1, 5
_GRAPH_KNOWN = {_GRAPH_NODE, 2, _GRAPH_TENSOR, 10, 11, 12, 13, 14, 16}
_NODE_ATTRIBUTE, _NODE_DOMAIN = 5, 7
_ATTRIBUTE_TENSOR = 5
_ATTRIBUTE_KNOWN = {1, 2, 3, 4, _ATTRIBUTE_TENSOR, 7, 8, 9, 13, 20, 21}  # no graph, nothing sparse
_TENSOR_KNOWN = {1, 2, 4, 5, 7, 8, 9, 10, 11, 12, 16}  # neither external_data nor data_location


def _check_file(data: bytes) -> Mapping[str, str]:
    """Return a file's metadata; a ValueError says what it must not hold."""
    metadata: dict[str, str] = {}
    size = 0
    for field, value in _fields(memoryview(data), _MODEL_KNOWN, "model"):
        if field == _MODEL_GRAPH:
            _check_graph(value)
        elif field == _MODEL_OPSET:
            if any(number == 1 and bytes(text) for number, text in _fields(value)):
                raise ValueError("it has operators outside the ONNX standard")
        elif field == _MODEL_METADATA:
            size += len(value)
            entry = dict(_fields(value))
            metadata[bytes(entry[1]).decode()] = bytes(entry[2]).decode()
    if size > MAX_METADATA:
        raise ValueError(f"its metadata have {size} bytes, more than {MAX_METADATA}")
    if metadata.get("format") != FORMAT:
        raise ValueError(f"its format is not {FORMAT!r}")
    return metadata


def _check_graph(graph: memoryview) -> None:
    for field, value in _fields(graph, _GRAPH_KNOWN, "graph"):
        if field == _GRAPH_TENSOR:
            _check_tensor(value)
        elif field == _GRAPH_NODE:
            for part, content in _fields(value):
                if part == _NODE_DOMAIN and bytes(content):
                    raise ValueError("it has operators outside the ONNX standard")
                if part == _NODE_ATTRIBUTE:
                    for number, item in _fields(content, _ATTRIBUTE_KNOWN, "attribute"):
                        if number == _ATTRIBUTE_TENSOR:
                            _check_tensor(item)


def _check_tensor(tensor: memoryview) -> None:
    for _ in _fields(tensor, _TENSOR_KNOWN, "tensor"):
        pass


def _fields(
    message: memoryview, known: set[int] | None = None, name: str = ""
) -> Iterator[tuple[int, Any]]:
    """Yield number and value of each field of a message in protobuf's wire format."""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        field, kind = key >> 3, key & 7
        if known is not None and field not in known:
            raise ValueError(f"a {name} in it has a field {field}, which an exported one has not")
        if kind == 0:
            value, place = _varint(message, place)
            yield field, value
            continue
        if kind == 2:
            length, place = _varint(message, place)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError("it is not of the format protobuf")
        if place + length > len(message):
            raise ValueError("it is cut off")
        yield field, message[place : place + length]
        place += length


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 64:
        byte = message[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
        shift += 7
    raise ValueError("it is not of the format protobuf")
