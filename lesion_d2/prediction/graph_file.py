"""Writing a trained model as one ONNX file, which needs torch, onnx and onnxscript."""

import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling import GeneralizedRCNN

from lesion_d2.files import atomic_write
from lesion_d2.modeling.graph import MaskRCNNGraph
from lesion_d2.prediction.confidence import ConfidenceModel
from lesion_d2.prediction.metadata import GRAPH_STRIDE, write_metadata

OPSET = 18


def write_onnx(
    path: str | Path,
    cfg: CfgNode,
    model: GeneralizedRCNN,
    confidence: ConfidenceModel | None,
    provenance: Mapping[str, Any],
) -> None:
    """Write a trained model, prepared for inference in 32 bits, with all that prediction needs.

    It may not be used for anything else afterwards. The provenance is plain values.

    Raises:
        LesionError: if the model is not Mask R-CNN.
    """
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE, cfg.TEST.PRECISION = "cpu", "float32"
    graph = MaskRCNNGraph(model).eval()
    example = (
        torch.zeros(3, 3 * GRAPH_STRIDE, 4 * GRAPH_STRIDE),
        torch.tensor([3 * GRAPH_STRIDE, 4 * GRAPH_STRIDE]),
    )
    sides = {axis: GRAPH_STRIDE * torch.export.Dim(name, min=1, max=256)
             for axis, name in ((1, "rows"), (2, "columns"))}  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what torch says of its own code
        logging.getLogger("onnxscript").setLevel(logging.ERROR)
        program = torch.onnx.export(
            graph,
            example,
            dynamo=True,
            opset_version=OPSET,
            input_names=["image", "size"],
            output_names=["scores", "boxes", "masks"],
            dynamic_shapes={"image": sides, "size": None},
            external_data=False,
            verbose=False,
        )
    assert program is not None
    content = program.model_proto
    del content.metadata_props[:]
    for node in (*content.graph.node, *content.graph.input, *content.graph.output,
                 *content.graph.value_info, content.graph, *content.graph.initializer):  # fmt: skip
        del node.metadata_props[:]  # the exporter's, with paths of this machine
        node.ClearField("doc_string")
    for key, text in write_metadata(cfg, confidence, provenance).items():
        content.metadata_props.add(key=key, value=text)
    with atomic_write(path, "wb") as stream:
        stream.write(content.SerializeToString())
