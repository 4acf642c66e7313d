"""A model exported to ONNX: the same lesions as with torch, without torch, and safe to open."""

import hashlib
import json
import re
import sys

import cv2
import numpy as np
import onnx
import pytest
import torch
from agreement import compare
from onnx import TensorProto, helper, numpy_helper
from serving import drawn_jpeg, send
from tiny import CONFIDENCE, NO_FILES, PROVENANCE, ROOT, differences, python, run_python
from torch import nn

from lesion_d2 import LesionPredictor
from lesion_d2.commands.export import export
from lesion_d2.config.load import PRETRAINED_FILE, load_config
from lesion_d2.engine.checkpoint import LesionCheckpointer
from lesion_d2.errors import LesionError
from lesion_d2.images.inputs import find_images
from lesion_d2.modeling import build_network
from lesion_d2.modeling.graph import MaskRCNNGraph
from lesion_d2.modeling.weights import load_trained, read_checkpoint
from lesion_d2.prediction.bundle import read_bundle, read_origin, stored_tensors
from lesion_d2.prediction.onnx_file import read_onnx
from lesion_d2.prediction.segmenter import TorchNetwork
from lesion_d2.synthetic import render

PRETRAINED = ["MODEL.WEIGHTS", "pretrained", "MODEL.DEVICE", "cpu"]
CPU = ["MODEL.DEVICE", "cpu"]
# What `pip install .[onnx]` does not bring.
ABSENT = ("torch", "torchvision", "detectron2", "timm", "safetensors", "fvcore", "scipy",
          "matplotlib", "onnx", "kornia_rs", "contourpy", "jinja2", "tabulate")  # fmt: skip


@pytest.fixture(scope="module")
def lite(tmp_path_factory):
    """The model that comes with the package, exported again."""
    path = tmp_path_factory.mktemp("lite") / "lite.onnx"
    export(load_config(str(ROOT / "configs" / "isic_mrcnn_lite.yaml"), PRETRAINED), path)
    return path


@pytest.fixture(scope="module")
def tiny(bundle, tiny_cfg, tmp_path_factory):
    """The small ResNet-50 of the tests, as a file."""
    folder = tmp_path_factory.mktemp("tiny")
    cfg = tiny_cfg(folder, "INPUT.MIN_SIZE_TEST", 72, "MODEL.WEIGHTS", str(bundle))
    export(cfg, folder / "tiny.onnx")
    return folder / "tiny.onnx"


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
def test_the_shipped_model_is_the_same_with_both(opts, lite):
    images = [
        render(5, n, max(64, height), max(64, width))[0][:height, :width]
        for n, (height, width) in enumerate(SIZES)
    ]
    left, right = LesionPredictor.from_bundle(lite, opts), LesionPredictor.pretrained(opts + CPU)
    assert check_same(left, right, images) >= 3


def test_resnet_is_the_same_with_both(tiny, bundle, tiny_archive):
    images = [cv2.imread(str(path)) for path in sorted(tiny_archive[0].glob("*.jpg"))[:8]]
    left, right = LesionPredictor.from_bundle(tiny), LesionPredictor.from_bundle(bundle, CPU)
    assert check_same(left, right, images) > 0


def test_an_image_in_which_nothing_is_found(lite):
    image = np.full((192, 256, 3), 255, np.uint8)
    (lesion,) = LesionPredictor.from_bundle(lite)([image], channels="RGB")
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


def test_its_tensors_are_those_it_was_made_of(tiny, bundle, lite):
    for exported, source in ((tiny, bundle), (lite, PRETRAINED_FILE)):
        new, old = (read_checkpoint(path)[0]["model"] for path in (exported, source))
        assert differences(new, old) == []
        assert len(new) > 50
        for name, value in new.items():
            wanted = torch.float16 if value.dim() > 1 else torch.float32
            assert value.dtype == (torch.int64 if name.endswith("_tracked") else wanted)


def test_torch_takes_it_as_any_other_file(tiny, bundle, tiny_cfg, tmp_path):
    one, other = read_bundle(tiny), read_bundle(bundle)
    assert differences(one.model.state_dict(), other.model.state_dict()) == []
    assert (one.confidence, read_origin(tiny)[0]) == (CONFIDENCE, CONFIDENCE)
    assert one.sha256 == hashlib.sha256(tiny.read_bytes()).hexdigest()
    cfg = tiny_cfg(tmp_path, "MODEL.WEIGHTS", str(tiny))
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
def test_what_computes_it(make, absent, opts, engine, tiny, monkeypatch):
    if absent:
        monkeypatch.setitem(sys.modules, absent, None)
    model = [tiny] if make == LesionPredictor.from_bundle else []
    assert make(*model, opts).engine.startswith(engine)


def test_what_it_keeps(tiny, bundle, tmp_path_factory):
    model = read_onnx(tiny)
    assert model.confidence == CONFIDENCE
    assert model.provenance == PROVENANCE | {
        "bundle_sha256": hashlib.sha256(bundle.read_bytes()).hexdigest(), "metrics": []
    }  # fmt: skip
    assert model.sha256 == hashlib.sha256(tiny.read_bytes()).hexdigest()
    assert model.cfg.MODEL.RESNETS.DEPTH == read_bundle(bundle).cfg.MODEL.RESNETS.DEPTH
    for place in (tmp_path_factory.getbasetemp(), ROOT):
        assert str(place).encode() not in tiny.read_bytes()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("TEST.PRECISION", "bfloat16"),
        ("MODEL.DEVICE", "cuda"),
        ("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.5),
    ],
)
def test_a_setting_that_the_graph_fixes(tiny, key, value):
    with pytest.raises(LesionError, match=f"{key}: is fixed"):
        read_onnx(tiny, [key, value])


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
def test_a_wrong_setting(tiny, key, value):
    named = "no_such_file" if key == "TEST.CONFIDENCE" else key
    with pytest.raises(LesionError, match=named):
        LesionPredictor.from_bundle(tiny, [key, value])


def test_other_networks_are_refused(tiny_cfg, tmp_path):
    model = build_network(
        tiny_cfg(tmp_path, "MODEL.META_ARCHITECTURE", "UNet", "MODEL.RESNETS.WIDTH_PER_GROUP", 64,
                 "MODEL.RESNETS.STEM_OUT_CHANNELS", 64, "MODEL.RESNETS.RES2_OUT_CHANNELS", 256)
    )  # fmt: skip
    with pytest.raises(LesionError, match=r"UNet cannot be exported.*safetensors"):
        MaskRCNNGraph(model)


# A graph of the same inputs and outputs, of little more than constants.


def small(content, *nodes):
    """Return a copy of a model whose graph is only ``nodes`` and what gives the outputs."""
    model = onnx.ModelProto()
    model.CopyFrom(content)
    graph = model.graph
    outputs = {value.name: [part.dim_value for part in value.type.tensor_type.shape.dim]
               for value in graph.output}  # fmt: skip
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    for name, shape in outputs.items():
        value = helper.make_tensor(name, TensorProto.FLOAT, shape, np.zeros(shape).flatten())
        graph.node.append(helper.make_node("Constant", [], [name], value=value))
    graph.node.extend(nodes)
    return model


@pytest.fixture(scope="module")
def content(tiny):
    return onnx.load(str(tiny))


def find(path):
    image = np.zeros((72, 96, 3), np.uint8)
    (lesion,) = LesionPredictor.from_bundle(path)([image], channels="RGB")
    return lesion


def test_the_small_graph_itself_is_taken(content, tmp_path):
    onnx.save(small(content), str(tmp_path / "a.onnx"))
    assert find(tmp_path / "a.onnx").candidates == 0


def with_text(key, text):
    def change(model):
        kept = [(part.key, part.value) for part in model.metadata_props if part.key != key]
        del model.metadata_props[:]
        for name, value in [*kept, *([(key, text)] if text is not None else [])]:
            model.metadata_props.add(key=name, value=value)

    return change


def with_config(**changes):
    def change(model):
        (text,) = [part.value for part in model.metadata_props if part.key == "config"]
        config = json.loads(text)
        for name, values in changes.items():
            config[name].update(values)
        with_text("config", json.dumps(config))(model)

    return change


def external(model):
    tensor = model.graph.initializer.add(name="w", data_type=TensorProto.FLOAT, dims=[4])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/hostname")


def external_constant(model):
    node = model.graph.node.add(op_type="Constant", output=["w"])
    value = node.attribute.add(name="value", type=onnx.AttributeProto.TENSOR)
    value.t.dims.append(4)
    value.t.external_data.add(key="location", value="../other")


def foreign_operator(model):
    model.graph.node.add(op_type="Run", domain="stranger", input=["image"], output=["w"])


def foreign_set(model):
    model.opset_import.add(domain="com.microsoft", version=1)


def own_function(model):
    model.functions.add(name="f", domain="own")


def inner_graph(model):
    attribute = model.graph.node.add(op_type="If", input=["size"]).attribute.add(name="then_branch")
    attribute.g.name = "inner"


def unknown_operator(model):
    model.graph.node.add(op_type="NoSuch", input=["image"], output=["w"])


def another_output(model):
    model.graph.output.add().CopyFrom(model.graph.input[0])


def infinite(model):
    model.graph.node[1].attribute[0].t.float_data[0] = np.inf


def not_a_number(model):
    model.graph.node[0].attribute[0].t.float_data[0] = np.nan


def large_memory(model):
    size = helper.make_tensor("size_of_y", TensorProto.INT64, [1], [1 << 34])
    model.graph.initializer.append(size)
    one = model.graph.node.add()
    one.CopyFrom(helper.make_node("ReduceSum", ["image"], ["x"], keepdims=0))
    model.graph.node.add().CopyFrom(helper.make_node("Expand", ["x", "size_of_y"], ["y"]))
    model.graph.node.add().CopyFrom(helper.make_node("ReduceMin", ["y"], ["low"], keepdims=0))
    model.graph.node[0].output[0] = "plain"
    model.graph.node.add().CopyFrom(helper.make_node("Add", ["plain", "low"], ["scores"]))


GOOD = CONFIDENCE.to_dict()
CHANGES = {
    "external data": external,
    "external data in a constant": external_constant,
    "an operator of another domain": foreign_operator,
    "operators of another domain": foreign_set,
    "a function": own_function,
    "a graph in a graph": inner_graph,
    "an unknown operator": unknown_operator,
    "another output": another_output,
    "infinite boxes": infinite,
    "scores that are no numbers": not_a_number,
    "64 GB": large_memory,
    "no format": with_text("format", None),
    "another format": with_text("format", "lesion_d2 99"),
    "no config": with_text("config", None),
    "a config that is no JSON": with_text("config", "{"),
    "a config of a list": with_text("config", "[]"),
    "a deep config": with_text("config", "[" * 100_000),
    "large metadata": with_text("more", "x" * (5 << 20)),
    "grey images": with_config(INPUT={"FORMAT": "L"}),
    "a count that is not the graph's": with_config(TEST={"DETECTIONS_PER_IMAGE": 4}),
    "an unknown view": with_config(TEST={"VIEWS": ["sideways"]}),
    "a confidence of text": with_text("confidence", '"high"'),
    "a confidence without bounds": with_text("confidence", json.dumps(GOOD | {"intercept": 1e308})),
    "a provenance of a number": with_text("provenance", "3"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_of_a_stranger(change, content, tmp_path):
    model = small(content)
    CHANGES[change](model)
    (tmp_path / "other.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(LesionError):
        find(tmp_path / "other.onnx")


READERS = (read_onnx, read_bundle, read_checkpoint)

# What ONNX Runtime does not look at, or what only torch must be sure of.

NAME = "roi_heads.box_predictor.cls_score.weight"


def tensor(model):
    (found,) = [part for part in model.graph.initializer if part.name == NAME]
    return found


def with_tensor(array):
    return lambda model: tensor(model).CopyFrom(numpy_helper.from_array(array, NAME))


def no_tensor(model):
    model.graph.initializer.remove(tensor(model))


def two_tensors(model):
    model.graph.initializer.add().CopyFrom(tensor(model))


def short_tensor(model):
    tensor(model).raw_data = tensor(model).raw_data[:-1]


def huge_tensor(model):
    tensor(model).ClearField("raw_data")
    tensor(model).dims[:] = [1 << 40, 1 << 20]


def negative_tensor(model):
    tensor(model).dims[:] = [-2, -64]


def numbers_of_another_field(model):
    array = numpy_helper.to_array(tensor(model)).astype(np.float32)
    other = helper.make_tensor(NAME, TensorProto.FLOAT, array.shape, array.flatten())
    tensor(model).CopyFrom(other)


TENSORS = {
    "missing": no_tensor,
    "twice": two_tensors,
    "cut": short_tensor,
    "1 EB": huge_tensor,
    "negative sides": negative_tensor,
    "no bytes": numbers_of_another_field,
    "a tensor too many": lambda model: model.graph.initializer.add(name="w", data_type=1),
    "another shape": with_tensor(np.zeros((3, 64), np.float16)),
    "64 bits": with_tensor(np.zeros((2, 64))),
    "whole numbers": with_tensor(np.zeros((2, 64), np.int64)),
    "NaN": with_tensor(np.full((2, 64), np.nan, np.float32)),
    "infinite": with_tensor(np.full((2, 64), np.inf, np.float16)),
    "a network of no memory": with_config(MODEL={"FPN": {"OUT_CHANNELS": 2**20}}),
    "an unknown network": with_config(MODEL={"META_ARCHITECTURE": "Nothing"}),
    **{
        name: CHANGES[name]
        for name in CHANGES
        if CHANGES[name] not in (unknown_operator, another_output, infinite, not_a_number)
        and name not in ("64 GB", "a count that is not the graph's", "an unknown view")
    },
}


@pytest.mark.parametrize("change", TENSORS)
def test_a_file_that_torch_refuses(change, content, tmp_path):
    path, model = tmp_path / "other.onnx", onnx.ModelProto()
    model.CopyFrom(content)
    TENSORS[change](model)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(LesionError, match=r"other\.onnx"):
        LesionPredictor.from_bundle(path, CPU)


@pytest.mark.parametrize("change", ["missing", "another shape", "64 bits", "external data"])
def test_weights_that_torch_refuses(change, content, tiny_cfg, tmp_path):
    path, model = tmp_path / "other.onnx", onnx.ModelProto()
    model.CopyFrom(content)
    TENSORS[change](model)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(LesionError, match=r"other\.onnx"):
        load_trained(build_network(tiny_cfg(tmp_path)), str(path))


DAMAGE = {
    "empty": lambda data: b"",
    "cut": lambda data: data[:-1],
    "cut in the graph": lambda data: data[:1000],
    "zeros": lambda data: bytes(100),
    "ones": lambda data: b"\xff" * 100,
    "a text": lambda data: b"a model\n",
    "a length of 4 EB": lambda data: b"\x3a" + b"\xff" * 8 + b"\x3f" + data,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_files(damage, tiny, tmp_path):
    path = tmp_path / "other.onnx"
    path.write_bytes(DAMAGE[damage](tiny.read_bytes()))
    for read in READERS:
        with pytest.raises(LesionError, match=r"other\.onnx: "):
            read(path)


@pytest.mark.parametrize("make", NO_FILES)
def test_what_is_no_file_to_read(make, tmp_path):
    path = tmp_path / "other.onnx"
    NO_FILES[make](path)
    for read in READERS:
        with pytest.raises(LesionError, match=r"other\.onnx: "):
            read(path)


# Runs a tool where some packages cannot be imported.
WITHOUT = (
    "import runpy, sys; sys.modules.update(dict.fromkeys({absent!r}));"
    "sys.argv = ['tool', *sys.argv[1:]]; runpy.run_path({tool!r}, run_name='__main__')"
)


def run_without(absent, tool, *arguments):
    return run_python(
        "-c", WITHOUT.format(absent=absent, tool=str(ROOT / "tools" / tool)), *arguments
    )


def test_predicting_without_torch_and_detectron2(lite, photographs, tmp_path):
    status, stdout, stderr = run_without(
        ABSENT, "predict.py", "--model", lite, "--input", photographs, "--output", tmp_path / "out",
        "--format", "coco,labelme,geojson", "TEST.VIEWS", "('identity', 'vertical')",
    )  # fmt: skip
    assert status == 0, stderr
    assert stdout.splitlines() == [
        f"model: {lite}; computed by ONNX Runtime on the CPU (for a GPU: MODEL.DEVICE cuda)",
        f"4 of 4 images: {tmp_path / 'out'}",
    ]
    names = [file.name for file in find_images([str(photographs)])]
    assert all((tmp_path / "out" / "masks" / f"{n}_segmentation.png").is_file() for n in names)


def test_serving_without_torch_and_detectron2():
    process = python("-c", WITHOUT.format(absent=ABSENT, tool=str(ROOT / "tools" / "serve.py")),
                     "--port", 0)  # fmt: skip
    try:
        process.stdout.readline()
        assert process.stdout.readline().startswith("computed by ONNX Runtime")
        address = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())[0]
        answer = send(address, drawn_jpeg(0, 384, 512))
        assert answer.status_code == 200
    finally:
        process.kill()
        process.communicate()
    (lesion,) = LesionPredictor.pretrained()([render(5, 0, 384, 512)[0]], channels="BGR")
    assert answer.json()["estimated_iou"] == pytest.approx(lesion.estimated_iou, abs=0.02)


@pytest.mark.parametrize(
    ("absent", "arguments", "words"),
    [
        (("torch",), ["--model", "a.safetensors"], "this needs torch.*make install"),
        (("detectron2",), ["--model", "a.safetensors"], "this needs Detectron2.*make install"),
        (("detectron2", "onnxruntime"), [], r"pip install 'lesion_d2\[onnx\]'"),
        (ABSENT, ["MODEL.DEVICE", "cuda"], "MODEL.DEVICE: is fixed.*install torch and Detectron2"),
        (ABSENT, ["--config-file", "a.yaml"], "this needs .*make install"),
        ((*ABSENT, "onnxruntime"), ["--model", "a.onnx"], r"pip install 'lesion_d2\[onnx\]'"),
    ],
)
def test_one_line_says_what_to_install(absent, arguments, words, photographs, tmp_path):
    status, _, stderr = run_without(
        absent, "predict.py", "--input", photographs, "--output", tmp_path / "out", *arguments
    )
    (line,) = stderr.splitlines()
    assert status == 1
    assert line.startswith("error: ")
    assert re.search(words, line)
