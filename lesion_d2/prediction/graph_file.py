"""Writing a trained model as one ONNX file, which needs torch, onnx and onnxscript."""

import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import torch
from detectron2.config import CfgNode
from detectron2.modeling import GeneralizedRCNN
from onnx import helper, numpy_helper
from torch import nn
from torch.func import functional_call

from lesion_d2.files import atomic_write
from lesion_d2.modeling.graph import MaskRCNNGraph
from lesion_d2.prediction.bundle import stored_tensors
from lesion_d2.prediction.confidence import ConfidenceModel
from lesion_d2.prediction.metadata import GRAPH_STRIDE, write_metadata

OPSET = 18


class _Stored(nn.Module):
    """A graph that is given the model's tensors as they are stored, and computes in 32 bits.

    As inputs they pass the exporter as they are, under their own names.
    """

    def __init__(self, model: GeneralizedRCNN) -> None:
        super().__init__()
        self.network = MaskRCNNGraph(model).eval()

    def forward(
        self, image: torch.Tensor, size: torch.Tensor, stored: dict[str, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        state = {
            f"model.{name}": value.float() if value.is_floating_point() else value
            for name, value in stored.items()
        }
        return functional_call(self.network, state, (image, size))


def write_onnx(
    path: str | Path,
    cfg: CfgNode,
    model: GeneralizedRCNN,
    confidence: ConfidenceModel | None,
    provenance: Mapping[str, Any],
) -> None:
    """Write a trained model, on the CPU and not prepared for inference, with all it needs.

    The graph computes in 32 bits. Its initializers are the model's tensors and no others, by their
    names in torch, in the types of a bundle. The model may not be used for anything else
    afterwards. The provenance is plain values.

    Raises:
        LesionError: if the model is not Mask R-CNN, or a weight is not finite.
    """
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE, cfg.TEST.PRECISION = "cpu", "float32"
    tensors = stored_tensors(path, model)
    content = _export(_Stored(model), tensors)
    graph = content.graph
    del content.metadata_props[:]
    for part in (*graph.node, *graph.input, *graph.output, *graph.value_info, graph,
                 *graph.initializer):  # fmt: skip
        del part.metadata_props[:]  # the exporter's, with paths of this machine
        part.ClearField("doc_string")
    constants = [
        helper.make_node("Constant", [], [tensor.name], value=tensor)
        for tensor in graph.initializer
    ]
    nodes = [*constants, *graph.node]
    inputs = [value for value in graph.input if value.name not in tensors]
    del graph.initializer[:], graph.node[:], graph.input[:]
    graph.node.extend(nodes)
    graph.input.extend(inputs)
    graph.initializer.extend(
        numpy_helper.from_array(value.numpy(), name) for name, value in tensors.items()
    )
    for key, text in write_metadata(cfg, confidence, provenance).items():
        content.metadata_props.add(key=key, value=text)
    with atomic_write(path, "wb") as stream:
        stream.write(content.SerializeToString())


def _export(network: _Stored, tensors: dict[str, torch.Tensor]) -> onnx.ModelProto:
    sides = {axis: GRAPH_STRIDE * torch.export.Dim(name, min=1, max=256)
             for axis, name in ((1, "rows"), (2, "columns"))}  # fmt: skip
    example = torch.zeros(3, 3 * GRAPH_STRIDE, 4 * GRAPH_STRIDE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what torch says of its own code
        logging.getLogger("onnxscript").setLevel(logging.ERROR)
        program = torch.onnx.export(
            network,
            (example, torch.tensor(example.shape[1:])),
            kwargs={"stored": tensors},
            dynamo=True,
            opset_version=OPSET,
            input_names=["image", "size", *tensors],
            output_names=["scores", "boxes", "masks"],
            dynamic_shapes={"image": sides, "size": None, "stored": dict.fromkeys(tensors)},
            external_data=False,
            verbose=False,
        )
    assert program is not None
    return program.model_proto
