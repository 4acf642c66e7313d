"""The warning where bfloat16 is asked for and the processor lacks it."""

import copy
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from logging import WARNING
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from detectron2.engine import AMPTrainer
from detectron2.utils import logger as d2_logger
from detectron2.utils.events import EventStorage
from tiny import run_python
from torch import nn
from torch.optim.swa_utils import AveragedModel

from lesion_d2.engine.trainer import BFloat16Trainer, LesionTrainer, mixed_precision_loop
from lesion_d2.modeling import build_network, precision
from lesion_d2.prediction.segmenter import Segmenter, TorchNetwork

AMP, PRECISION = "SOLVER.AMP.ENABLED", "TEST.PRECISION"
PRESENT = ("avx512_f", "avx512_vnni")


@pytest.fixture
def processor(monkeypatch):
    """Function (names of what it has besides) that replaces the processor by one without bf16."""

    def replace(*names):
        absent = dict.fromkeys(("avx512_bf16", "amx_bf16", "sve_bf16"), False)
        capabilities = {**absent, **dict.fromkeys(PRESENT + names, True)}
        monkeypatch.setattr("torch.cpu.get_capabilities", lambda: capabilities)
        monkeypatch.setattr(d2_logger, "_LOG_COUNTER", Counter())

    return replace


def warned(caplog):
    texts = [record.getMessage() for record in caplog.records if record.levelno >= WARNING]
    return [text for text in texts if "bfloat16" in text]


def build_trainer(cfg):
    return LesionTrainer(cfg)


def build_segmenter(cfg):
    return Segmenter(cfg, build_network(cfg))


@pytest.mark.parametrize(
    ("build", "overrides", "advice"),
    [
        (build_trainer, (AMP, True, PRECISION, "bfloat16"), "SOLVER.AMP.ENABLED False"),
        (build_trainer, (AMP, False, PRECISION, "bfloat16"), None),
        (build_segmenter, (AMP, True, PRECISION, "bfloat16"), "TEST.PRECISION float32"),
        (build_segmenter, (AMP, True, PRECISION, "float32"), None),
    ],
)
def test_what_is_slow_here_is_named_once(
    build, overrides, advice, processor, tiny_cfg, tmp_path, caplog
):
    processor()
    for _ in range(2):
        build(tiny_cfg(tmp_path, *overrides))
    warnings = warned(caplog)
    assert len(warnings) == (advice is not None)
    assert not advice or f": {advice} is several times as fast" in warnings[0]


@pytest.mark.parametrize("name", ["avx512_bf16", "amx_bf16", "bf16", "sve_bf16"])
def test_a_processor_that_has_it_gives_no_warning(name, processor, tiny_cfg, tmp_path, caplog):
    processor(name)
    build_segmenter(tiny_cfg(tmp_path, PRECISION, "bfloat16"))
    assert not warned(caplog)


@pytest.fixture(params=[(7, 5), (8, 0)], ids=["Turing", "Ampere"])
def has_units(request, monkeypatch):
    """Whether the GPU that this machine now seems to have computes in bfloat16."""
    properties = SimpleNamespace(major=request.param[0])
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.current_device", lambda: 0)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda _: properties)
    monkeypatch.setattr(d2_logger, "_LOG_COUNTER", Counter())
    return request.param >= (8, 0)


def test_a_gpu_without_units_for_it_is_named(has_units, caplog):
    TorchNetwork(SimpleNamespace(device=torch.device("cuda")), "bfloat16")
    assert ("TEST.PRECISION float32 is several" in caplog.text) != has_units


def test_a_gpu_trains_in_bfloat16_where_it_can(has_units, caplog):
    loop = mixed_precision_loop(torch.device("cuda"))
    assert loop is (BFloat16Trainer if has_units else AMPTrainer)
    assert ("mixed precision is float16" in caplog.text) != has_units


@pytest.mark.parametrize(("device", "most"), [("cuda", 1), ("cpu", 4)])
def test_one_image_at_a_time_takes_the_memory_of_a_gpu(device, most):
    inside, seen = [], []

    def inference(batch, do_postprocess):
        inside.append(1)
        time.sleep(0.2)
        seen.append(len(inside))
        inside.pop()
        return []

    network = TorchNetwork(SimpleNamespace(device=torch.device(device), inference=inference))
    with ThreadPoolExecutor(4) as executor:
        list(executor.map(network, [np.zeros((1, 3, 4, 4), np.uint8)] * 4))
    assert max(seen) == most


@pytest.mark.parametrize("device", ["cpu", "cuda", "mps"])
def test_a_step_computes_in_bfloat16_on_the_device_of_the_model(device, monkeypatch):
    class Model(nn.Linear):
        def forward(self, x):
            return {"loss": super().forward(x).sum()}

    asked = []
    monkeypatch.setattr(
        "lesion_d2.engine.trainer.autocast", lambda *given: asked.append(given) or nullcontext()
    )
    model = Model(2, 1)
    model.device = torch.device(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = BFloat16Trainer(model, [torch.ones(1, 2)], optimizer)
    trainer.iter = 0
    with EventStorage():
        trainer.run_step()
    assert asked == [(device, torch.bfloat16)]


# Predicts in both precisions, and trains a step in bfloat16 between.
WORK = """
import copy

import torch
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage
from lesion_d2.config.load import load_config
from lesion_d2.engine.trainer import BFloat16Trainer
from lesion_d2.modeling import build_network
from lesion_d2.prediction.segmenter import prepare_for_inference
from lesion_d2.prediction.segmenter import Segmenter

def predict(precision):
    cfg.TEST.PRECISION = precision
    segmenter = Segmenter(cfg, model).eval()
    with torch.inference_mode():
        (found,) = segmenter([{"image": image, "height": 64, "width": 96}])
    print(found["lesion"].score)

cfg = load_config("configs/demo.yaml", ["MODEL.DEVICE", "cpu"])
torch.manual_seed(0)
model = build_network(cfg)
image = torch.randint(0, 256, (3, 64, 96), dtype=torch.uint8)
predict("float32")
predict("bfloat16")
truth = Instances((64, 96), gt_classes=torch.tensor([0]))
truth.gt_boxes = Boxes([[8.0, 8, 60, 50]])
truth.gt_masks = BitMasks(torch.ones(1, 64, 96, dtype=torch.bool))
pupil = copy.deepcopy(model).train()
optimizer = torch.optim.SGD(pupil.parameters(), lr=0.1)
trainer = BFloat16Trainer(pupil, [[{"image": image, "instances": truth}]], optimizer)
trainer.iter = 0
with EventStorage():
    trainer.run_step()
prepare_for_inference(model, "bfloat16")
predict("bfloat16")
"""


@pytest.mark.parametrize("instructions", ["AVX2", "SSE41"])
def test_older_processors_compute_in_bfloat16(instructions):
    """oneDNN reads its limit once a process; torch itself always asks the processor."""
    status, out, errors = run_python("-W", "ignore", "-c", WORK, ONEDNN_MAX_CPU_ISA=instructions)
    assert status == 0, errors
    exact, *fast = map(float, out.split())
    assert fast == pytest.approx([exact, exact], abs=0.05)


def test_where_onednn_refuses_torch_computes(monkeypatch):
    """What a processor with bfloat16 instructions does when oneDNN is held to older ones."""

    def refuse(module, inputs):
        if torch.backends.mkldnn.enabled and inputs[0].dtype == torch.bfloat16:
            raise RuntimeError("could not create a primitive descriptor for a convolution")

    hook = nn.modules.module.register_module_forward_pre_hook(refuse)
    precision._onednn_takes_bfloat16.cache_clear()
    try:
        with torch.backends.mkldnn.flags(enabled=True):
            precision.settle_bfloat16(torch.device("cpu"), "TEST.PRECISION float32")
            assert not torch.backends.mkldnn.enabled
            conv = nn.Conv2d(3, 3, 3).to(torch.bfloat16)
            assert conv(torch.ones(1, 3, 5, 5, dtype=torch.bfloat16)).isfinite().all()
    finally:
        hook.remove()
        precision._onednn_takes_bfloat16.cache_clear()


def test_depthwise_convolutions_train_in_32_bits_beside_others_in_16():
    torch.manual_seed(0)
    exact = nn.Sequential(
        nn.Conv2d(4, 8, 1), nn.Conv2d(8, 8, 5, stride=2, groups=8), nn.Conv2d(8, 4, 1)
    )
    mixed = copy.deepcopy(exact)
    names = list(mixed.state_dict())
    precision.lay_out_for_bfloat16(mixed)
    average = AveragedModel(mixed)  # a copy must compute with its own weights
    types = []
    for module in mixed:
        module.register_forward_hook(lambda module, x, y: types.append(y.dtype))
    image = torch.rand(2, 4, 32, 32)
    with torch.autocast("cpu", torch.bfloat16):
        found = mixed(image)
    assert types == [torch.bfloat16, torch.float32, torch.bfloat16]
    assert list(mixed.state_dict()) == names
    torch.testing.assert_close(found.float(), exact(image), rtol=0.05, atol=0.02)
    found.sum().backward()
    exact(image).sum().backward()
    for ours, theirs in zip(mixed.parameters(), exact.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=0.05, atol=0.5)
    before = average(image).detach()
    with torch.no_grad():
        for parameter in mixed.parameters():
            parameter.zero_()
    torch.testing.assert_close(average(image), before)
    torch.testing.assert_close(before, exact(image))
