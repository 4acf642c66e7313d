"""ONNX files of strangers, damaged files and what is no file: refused before they run.

Most are a graph of the same inputs and outputs, of little more than constants.
"""

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tiny import CONFIDENCE, CPU, NO_FILES

from lesion_d2 import LesionPredictor
from lesion_d2.errors import LesionError
from lesion_d2.modeling import build_network
from lesion_d2.modeling.weights import load_trained, read_checkpoint
from lesion_d2.prediction.bundle import read_bundle
from lesion_d2.prediction.onnx_file import read_onnx


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
def content(tiny_graph):
    return onnx.load(str(tiny_graph))


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
def test_damaged_files(damage, tiny_graph, tmp_path):
    path = tmp_path / "other.onnx"
    path.write_bytes(DAMAGE[damage](tiny_graph.read_bytes()))
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
