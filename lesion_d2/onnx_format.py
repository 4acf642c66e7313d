"""A model in ONNX's format, taken apart without running anything: its texts and its weights.

The format is https://github.com/onnx/onnx/blob/main/onnx/onnx.proto, version 3, in protobuf's wire
format. A file may come from a stranger: it is refused if it names other files, operators outside
the ONNX standard, or graphs inside graphs. What is read is never larger than the file.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

MAX_METADATA = 4 << 20  # bytes; the config of a ResNet-101 has 10 thousand

# Numbers of fields.
_MODEL_GRAPH, _MODEL_OPSET, _MODEL_METADATA = 7, 8, 14
_MODEL_KNOWN = {1, 2, 3, 4, 5, 6, _MODEL_GRAPH, _MODEL_OPSET, _MODEL_METADATA}
_GRAPH_NODE, _GRAPH_TENSOR = 1, 5
_GRAPH_KNOWN = {_GRAPH_NODE, 2, _GRAPH_TENSOR, 10, 11, 12, 13, 14, 16}
_NODE_ATTRIBUTE, _NODE_DOMAIN = 5, 7
_ATTRIBUTE_TENSOR = 5
_ATTRIBUTE_KNOWN = {1, 2, 3, 4, _ATTRIBUTE_TENSOR, 7, 8, 9, 13, 20, 21}  # no graph, nothing sparse
_TENSOR_SIDE, _TENSOR_TYPE, _TENSOR_NAME, _TENSOR_BYTES = 1, 2, 8, 9
_TENSOR_KNOWN = {  # neither external_data nor data_location
    *(_TENSOR_SIDE, _TENSOR_TYPE, 4, 5, 7, _TENSOR_NAME, _TENSOR_BYTES, 10, 11, 12, 16)
}
# Types of tensors that weights have.
_TYPES: dict[int, np.dtype] = {1: np.dtype("<f4"), 7: np.dtype("<i8"), 10: np.dtype("<f2")}


def read_texts(data: bytes) -> dict[str, str]:
    """Return the metadata of a file, once it is sure that it holds nothing that it must not.

    Raises:
        ValueError: if it is no such file, or holds something else; other types if it is damaged.
    """
    texts: dict[str, str] = {}
    size = 0
    for field, value in _fields(memoryview(data), _MODEL_KNOWN, "model"):
        if field == _MODEL_GRAPH:
            _check_graph(value)
        elif field == _MODEL_OPSET:
            if any(number == 1 and _text(text) for number, text in _fields(value)):
                raise ValueError("it has operators outside the ONNX standard")
        elif field == _MODEL_METADATA:
            size += len(value)
            entry = dict(_fields(value))
            texts[_text(entry[1])] = _text(entry[2])
    if size > MAX_METADATA:
        raise ValueError(f"its metadata have {size} bytes, more than {MAX_METADATA}")
    return texts


def read_arrays(data: bytes) -> dict[str, npt.NDArray]:
    """Return the tensors of a file's graph by name, read-only: float32, float16 or int64.

    Raises:
        ValueError: if one is of another type, damaged, or there twice; other types as above.
    """
    arrays: dict[str, npt.NDArray] = {}
    for field, graph in _fields(memoryview(data), _MODEL_KNOWN, "model"):
        if field == _MODEL_GRAPH:
            for part, tensor in _fields(graph, _GRAPH_KNOWN, "graph"):
                if part == _GRAPH_TENSOR:
                    name, array = _read_tensor(tensor)
                    if name in arrays:
                        raise ValueError(f"it has two tensors {name}")
                    arrays[name] = array
    return arrays


def _read_tensor(tensor: memoryview) -> tuple[str, npt.NDArray]:
    sides, kind, name, content = [], 0, "", memoryview(b"")
    for field, value in _fields(tensor, _TENSOR_KNOWN, "tensor"):
        if field == _TENSOR_SIDE:
            sides.append(int(value))
        elif field == _TENSOR_TYPE:
            kind = value
        elif field == _TENSOR_NAME:
            name = _text(value)
        elif field == _TENSOR_BYTES:
            content = value
    if kind not in _TYPES:
        raise ValueError(f"the type of its tensor {name} is {kind}, that of no weight")
    if len(content) != math.prod(sides) * _TYPES[kind].itemsize:
        raise ValueError(f"its tensor {name} has {len(content)} bytes for a shape of {sides}")
    return name, np.frombuffer(content, _TYPES[kind]).reshape(sides)


def _check_graph(graph: memoryview) -> None:
    for field, value in _fields(graph, _GRAPH_KNOWN, "graph"):
        if field == _GRAPH_TENSOR:
            _check_tensor(value)
        elif field == _GRAPH_NODE:
            for part, content in _fields(value):
                if part == _NODE_DOMAIN and _text(content):
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


def _text(value: Any) -> str:
    if not isinstance(value, memoryview):  # bytes() would take as much memory as the number says
        raise ValueError("it has a number where a text belongs")
    return bytes(value).decode()


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
