"""A trained model as one ONNX file, which ONNX Runtime computes without torch and Detectron2.

The graph is of :class:`lesion_d2.modeling.graph.MaskRCNNGraph`; its tensors are those of a bundle,
and what a bundle holds besides them is in the file's metadata. A file may come from a stranger:
:mod:`lesion_d2.onnx_format` checks it before ONNX Runtime sees it, and it is refused if its inputs
and outputs are not those of such a graph. Memory is bounded.
"""

import hashlib
import json
from collections.abc import Sequence
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
from lesion_d2.onnx_format import read_texts
from lesion_d2.prediction.candidates import Found
from lesion_d2.prediction.confidence import ConfidenceModel
from lesion_d2.prediction.metadata import (
    CHANGEABLE,
    GRAPH_STRIDE,
    check_format,
    read_origin_texts,
)

MAX_BYTES = 1 << 30  # a ResNet-101 in 32 bits has a quarter of it
MAX_MASK_SIDE = 1024
MAX_MEMORY = 4 << 30  # bytes that all graphs of a process may take
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
        metadata = read_texts(data)
        check_format(metadata)
        cfg = CfgNode(json.loads(metadata["config"]))
        cfg.TEST.setdefault("SECOND_LOOK", 0.0)  # a file from before there was one
        check_config(cfg)
        fixed = json.loads(metadata["config"])
        merge_options(cfg, opts)
        for key in map(str, opts[::2]):
            if key not in CHANGEABLE and _value(cfg, key) != _value(fixed, key):
                raise LesionError(
                    f"{key}: is fixed in what ONNX Runtime computes; install torch and Detectron2 "
                    f"(docs/install.md), or give only some of {', '.join(CHANGEABLE)}"
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

    engine = "ONNX Runtime on the CPU (for a GPU: MODEL.DEVICE cuda)"

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
