"""A model exported to ONNX: the same lesions as with torch, and all that a bundle holds."""

import hashlib
import sys

import cv2
import numpy as np
import pytest
import torch
from agreement import compare
from tiny import CONFIDENCE, CPU, PROVENANCE, ROOT, differences
from torch import nn

from lesion_d2 import LesionPredictor
from lesion_d2.config.load import PRETRAINED_FILE, load_config
from lesion_d2.engine.checkpoint import LesionCheckpointer
from lesion_d2.errors import LesionError
from lesion_d2.modeling import build_network
from lesion_d2.modeling.graph import MaskRCNNGraph
from lesion_d2.modeling.weights import load_trained, read_checkpoint
from lesion_d2.prediction.bundle import read_bundle, read_origin, stored_tensors
from lesion_d2.prediction.onnx_file import read_onnx
from lesion_d2.prediction.segmenter import TorchNetwork
from lesion_d2.synthetic import render


def check_same(left, right, images):
    """Demand the same of two predictors, and return in how many images they find something."""
    found = [compare(left, right, image) for image in images]
    assert all(item.good for item in found), found
    return sum(item.instances > 0 for item in found)


SIZES = [(384, 512), (97, 131), (33, 65), (1, 1), (3, 900), (641, 480)]
VIEWS = [
    [],
    ["TEST.VIEWS", ("identity", "rotate90", "horizontal"), "TEST.VIEW_SCALES", (1.0, 0.77)],
    ["INPUT.MIN_SIZE_TEST", 301, "TEST.INSTANCE_CHOICE", "consensus"],
    ["INPUT.MIN_SIZE_TEST", 0],
    ["TEST.SECOND_LOOK", 2.0],
]


@pytest.mark.parametrize("opts", VIEWS, ids=lambda opts: " ".join(map(str, opts)) or "plain")
def test_the_shipped_model_is_the_same_with_both(opts, lite_graph):
    images = [
        render(5, n, max(64, height), max(64, width))[0][:height, :width]
        for n, (height, width) in enumerate(SIZES)
    ]
    left, right = (
        LesionPredictor.from_bundle(lite_graph, opts),
        LesionPredictor.pretrained(opts + CPU),
    )
    assert check_same(left, right, images) >= 3


def test_resnet_is_the_same_with_both(tiny_graph, bundle, tiny_archive):
    images = [cv2.imread(str(path)) for path in sorted(tiny_archive[0].glob("*.jpg"))[:8]]
    left, right = LesionPredictor.from_bundle(tiny_graph), LesionPredictor.from_bundle(bundle, CPU)
    assert check_same(left, right, images) > 0


def test_an_image_in_which_nothing_is_found(lite_graph):
    image = np.full((192, 256, 3), 255, np.uint8)
    (lesion,) = LesionPredictor.from_bundle(lite_graph)([image], channels="RGB")
    (other,) = LesionPredictor.pretrained(CPU)([image], channels="RGB")
    assert (lesion.candidates, lesion.score, lesion.mask.any()) == (0, 0, False)
    assert other.candidates == 0


@pytest.mark.parametrize("name", ["isic_mrcnn.yaml", "isic_mrcnn_cpu_adamw.yaml", "demo.yaml"])
@torch.no_grad()
def test_the_static_form_is_detectron2s(name):
    """Random weights, and every instance kept: many boxes that overlap."""
    options = ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0]
    torch.manual_seed(0)
    model = build_network(load_config(str(ROOT / "configs" / name), options)).eval()
    image = torch.from_numpy(render(5, 0, 90, 127)[0]).permute(2, 0, 1).float()
    (found,) = TorchNetwork(model)(image[None].numpy())
    padded = torch.nn.functional.pad(image, (0, 1, 0, 6))
    scores, boxes, masks = MaskRCNNGraph(model)(padded, torch.tensor([90, 127]))
    count = len(found.scores)
    assert count == np.count_nonzero(scores.numpy()) > 0
    np.testing.assert_allclose(scores.numpy()[:count], found.scores, atol=1e-5)
    np.testing.assert_allclose(boxes.numpy()[:count], found.boxes, atol=1e-2)
    np.testing.assert_allclose(masks.numpy()[:count], found.masks, atol=1e-4)


def test_its_tensors_are_those_it_was_made_of(tiny_graph, bundle, lite_graph):
    for exported, source in ((tiny_graph, bundle), (lite_graph, PRETRAINED_FILE)):
        new, old = (read_checkpoint(path)[0]["model"] for path in (exported, source))
        assert differences(new, old) == []
        assert len(new) > 50
        for name, value in new.items():
            wanted = torch.float16 if value.dim() > 1 else torch.float32
            assert value.dtype == (torch.int64 if name.endswith("_tracked") else wanted)


def test_torch_takes_it_as_any_other_file(tiny_graph, bundle, tiny_cfg, tmp_path):
    one, other = read_bundle(tiny_graph), read_bundle(bundle)
    assert differences(one.model.state_dict(), other.model.state_dict()) == []
    assert (one.confidence, read_origin(tiny_graph)[0]) == (CONFIDENCE, CONFIDENCE)
    assert one.sha256 == hashlib.sha256(tiny_graph.read_bytes()).hexdigest()
    cfg = tiny_cfg(tmp_path, "MODEL.WEIGHTS", str(tiny_graph))
    trained, started = build_network(cfg), build_network(cfg)
    assert load_trained(trained, cfg.MODEL.WEIGHTS) == one.sha256
    LesionCheckpointer(started).load(cfg.MODEL.WEIGHTS)  # as fine-tuning does
    for model in (trained, started):
        assert differences(model.state_dict(), other.model.state_dict()) == []


def test_a_weight_that_16_bits_cannot_hold_has_32():
    model = nn.Linear(2, 2)
    model.weight.data[0, 0] = 1e5
    tensors = stored_tensors("a.onnx", model)
    assert tensors["weight"].dtype == torch.float32
    assert tensors["weight"][0, 0] == 1e5
    model.weight.data[0, 0] = torch.inf
    with pytest.raises(LesionError, match=r"a\.onnx: weight holds NaN or infinite"):
        stored_tensors("a.onnx", model)


CHANGED = [["TEST.VIEWS", ("identity", "vertical")], ["INPUT.MIN_SIZE_TEST", 96]]


@pytest.mark.parametrize("make", [LesionPredictor.pretrained, LesionPredictor.from_bundle])
@pytest.mark.parametrize(
    ("absent", "opts", "engine"),
    [
        *((None, opts, "ONNX Runtime on the CPU") for opts in ([], *CHANGED)),
        *((None, opts, "torch on cpu") for opts in (CPU, ["TEST.PRECISION", "bfloat16"])),
        ("onnxruntime", [], "torch on cpu"),
        ("detectron2", CPU, "ONNX Runtime on the CPU"),
    ],
)
def test_what_computes_it(make, absent, opts, engine, tiny_graph, monkeypatch):
    if absent:
        monkeypatch.setitem(sys.modules, absent, None)
    model = [tiny_graph] if make == LesionPredictor.from_bundle else []
    assert make(*model, opts).engine.startswith(engine)


def test_what_it_keeps(tiny_graph, bundle, tmp_path_factory):
    model = read_onnx(tiny_graph)
    assert model.confidence == CONFIDENCE
    assert model.provenance == PROVENANCE | {
        "bundle_sha256": hashlib.sha256(bundle.read_bytes()).hexdigest(), "metrics": []
    }  # fmt: skip
    assert model.sha256 == hashlib.sha256(tiny_graph.read_bytes()).hexdigest()
    assert model.cfg.MODEL.RESNETS.DEPTH == read_bundle(bundle).cfg.MODEL.RESNETS.DEPTH
    for place in (tmp_path_factory.getbasetemp(), ROOT):
        assert str(place).encode() not in tiny_graph.read_bytes()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("TEST.PRECISION", "bfloat16"),
        ("MODEL.DEVICE", "cuda"),
        ("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.5),
    ],
)
def test_a_setting_that_the_graph_fixes(tiny_graph, key, value):
    with pytest.raises(LesionError, match=f"{key}: is fixed"):
        read_onnx(tiny_graph, [key, value])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("TEST.VIEWS", ("sideways",)),
        ("TEST.VIEW_SCALES", (0,)),
        ("TEST.INSTANCE_CHOICE", "best"),
        ("INPUT.MIN_SIZE_TEST", -1),
        ("NO.SUCH_KEY", 1),
        ("TEST.CONFIDENCE", "no_such_file"),
    ],
)
def test_a_wrong_setting(tiny_graph, key, value):
    named = "no_such_file" if key == "TEST.CONFIDENCE" else key
    with pytest.raises(LesionError, match=named):
        LesionPredictor.from_bundle(tiny_graph, [key, value])


def test_other_networks_are_refused(tiny_cfg, tmp_path):
    model = build_network(
        tiny_cfg(tmp_path, "MODEL.META_ARCHITECTURE", "UNet", "MODEL.RESNETS.WIDTH_PER_GROUP", 64,
                 "MODEL.RESNETS.STEM_OUT_CHANNELS", 64, "MODEL.RESNETS.RES2_OUT_CHANNELS", 256)
    )  # fmt: skip
    with pytest.raises(LesionError, match=r"UNet cannot be exported.*safetensors"):
        MaskRCNNGraph(model)
