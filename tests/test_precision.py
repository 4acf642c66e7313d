"""The warning where bfloat16 is asked for and the processor lacks it."""

from collections import Counter

import pytest
from detectron2.utils import logger as d2_logger

from lesion_d2.engine.trainer import LesionTrainer
from lesion_d2.modeling.build import build_network
from lesion_d2.prediction.segmenter import Segmenter

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
    warnings = [line for line in caplog.messages if "bfloat16" in line]
    assert len(warnings) == (advice is not None)
    assert not advice or f": {advice} is several times as fast" in warnings[0]


@pytest.mark.parametrize("name", ["avx512_bf16", "amx_bf16", "bf16", "sve_bf16"])
def test_a_processor_that_has_it_gives_no_warning(name, processor, tiny_cfg, tmp_path, caplog):
    processor(name)
    build_segmenter(tiny_cfg(tmp_path, PRECISION, "bfloat16"))
    assert not [line for line in caplog.messages if "bfloat16" in line]
