"""Tools where torch, Detectron2 or ONNX Runtime cannot be imported."""

import re

import pytest
from serving import drawn_jpeg, send
from tiny import ROOT, python, run_python

from lesion_d2 import LesionPredictor
from lesion_d2.images.inputs import find_images
from lesion_d2.synthetic import render

# What `pip install .[onnx]` does not bring.
ABSENT = ("torch", "torchvision", "detectron2", "timm", "safetensors", "fvcore", "scipy",
          "matplotlib", "onnx", "kornia_rs", "contourpy", "jinja2", "tabulate")  # fmt: skip
# Runs a tool where some packages cannot be imported.
WITHOUT = (
    "import runpy, sys; sys.modules.update(dict.fromkeys({absent!r}));"
    "sys.argv = ['tool', *sys.argv[1:]]; runpy.run_path({tool!r}, run_name='__main__')"
)


def run_without(absent, tool, *arguments):
    return run_python(
        "-c", WITHOUT.format(absent=absent, tool=str(ROOT / "tools" / tool)), *arguments
    )


def test_predicting_without_torch_and_detectron2(lite_graph, photographs, tmp_path):
    status, stdout, stderr = run_without(
        ABSENT, "predict.py", "--model", lite_graph, "--input", photographs,
        "--output", tmp_path / "out",
        "--format", "coco,labelme,geojson", "TEST.VIEWS", "('identity', 'vertical')",
    )  # fmt: skip
    assert status == 0, stderr
    assert stdout.splitlines() == [
        f"model: {lite_graph}; computed by ONNX Runtime on the CPU (for a GPU: MODEL.DEVICE cuda)",
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
        (("detectron2", "onnxruntime"), [], "pip install onnxruntime"),
        (ABSENT, ["MODEL.DEVICE", "cuda"], "MODEL.DEVICE: is fixed.*install torch and Detectron2"),
        (ABSENT, ["--config-file", "a.yaml"], "this needs .*make install"),
        ((*ABSENT, "onnxruntime"), ["--model", "a.onnx"], "pip install onnxruntime"),
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
