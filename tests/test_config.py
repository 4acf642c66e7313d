"""Configs, and the schedule in epochs."""

from argparse import Namespace

import pytest
import yaml
from tiny import DEMO, ROOT

from lesion_d2.config.checks import RULES
from lesion_d2.config.load import load_config, settle_device
from lesion_d2.config.schedule import Stage, stage_at, stages_from_config
from lesion_d2.errors import LesionError

SEED = str(ROOT / "configs" / "isic_mrcnn.yaml")


@pytest.mark.parametrize("path", sorted(ROOT.glob("configs/*.yaml")), ids=lambda path: path.stem)
def test_every_config_loads_and_what_a_run_dumps_loads_again(path, tmp_path):
    cfg = load_config(str(path), [])
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == 1
    # A colour-only experiment: nothing of Detectron2's own may move a pixel at random.
    assert cfg.INPUT.RANDOM_FLIP == "none"
    assert not cfg.INPUT.CROP.ENABLED
    assert len(cfg.INPUT.MIN_SIZE_TRAIN) == 1 or path.stem.startswith("Base")
    assert cfg.INPUT.MASK_FORMAT == "bitmask"
    (tmp_path / "config.yaml").write_text(cfg.dump())
    again = load_config(str(tmp_path / "config.yaml"), [])
    assert yaml.safe_load(again.dump()) == yaml.safe_load(cfg.dump())


def test_the_original_experiment():
    cfg = load_config(SEED, [])
    assert stages_from_config(cfg) == [Stage(7500, 5), Stage(45_000, 2)]
    assert (cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS) == (45_000, ())
    assert cfg.MODEL.BACKBONE.FREEZE_AT == 2
    assert cfg.TEST.EVAL_PERIOD == cfg.SOLVER.CHECKPOINT_PERIOD == 1500
    assert (
        cfg.INPUT.MEMBER_FLIPS == cfg.INPUT.MEMBER_FLIPS_VAL == ("none", "vertical", "horizontal")
    )
    assert cfg.MODEL.RESNETS.DEPTH == 50
    assert "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x" in cfg.MODEL.WEIGHTS


def test_periods_that_are_given_stay():
    cfg = load_config(SEED, ["TEST.EVAL_PERIOD", 7, "SOLVER.CHECKPOINT_PERIOD", 9])
    assert (cfg.TEST.EVAL_PERIOD, cfg.SOLVER.CHECKPOINT_PERIOD) == (7, 9)


@pytest.mark.parametrize(
    ("key", "right", "wrong"),
    [
        ("SOLVER.MAX_ITER", 45_000, 44_999),
        ("SOLVER.STEPS", (22_500, 31_500), (30_000,)),
        ("MODEL.BACKBONE.FREEZE_AT", 2, 0),
    ],
)
def test_a_derived_key_is_what_it_is_derived_to(key, right, wrong):
    drops = ["SOLVER.LR_DROPS", (0.5, 0.7)]
    load_config(SEED, [*drops, key, right])
    with pytest.raises(LesionError, match=key.rpartition(".")[2]):
        load_config(SEED, [*drops, key, wrong])


@pytest.mark.parametrize("stages", [((1.5, 5), (6, 2)), [[1.5, 5], [6, 2.0]]])
def test_stages_may_end_within_an_epoch(stages):
    cfg = load_config(SEED, ["SOLVER.STAGES", stages, "SOLVER.ITERS_PER_EPOCH", 10])
    found = stages_from_config(cfg)
    assert found == [Stage(15, 5), Stage(60, 2)]
    assert all(type(value) is int for stage in found for value in stage)
    assert (cfg.SOLVER.MAX_ITER, cfg.MODEL.BACKBONE.FREEZE_AT) == (60, 2)


def test_the_fewest_frozen_modules_of_any_stage_are_built_frozen():
    cfg = load_config(SEED, ["SOLVER.STAGES", ((1, 5), (2, 0), (3, 4))])
    assert cfg.MODEL.BACKBONE.FREEZE_AT == 0


def test_the_stage_is_a_function_of_the_iteration():
    stages = [Stage(3, 5), Stage(5, 2), Stage(6, 4)]
    assert [stage_at(stages, i).freeze_at for i in range(8)] == [5, 5, 5, 2, 2, 4, 4, 4]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("STAGES", ()),
        ("STAGES", (5, 2)),
        ("STAGES", ((5, 5, 1), (30, 2))),
        ("STAGES", ((5,), (30, 2))),
        ("STAGES", (("five", 5), (30, 2))),
        ("STAGES", ((5, "5"), (30, 2))),
        ("STAGES", ((5, 5), (5, 2))),
        ("STAGES", ((5, 5), (4, 2))),
        ("STAGES", ((0, 5), (30, 2))),
        ("STAGES", ((0.0001, 5), (30, 2))),
        ("STAGES", ((float("inf"), 5),)),
        ("STAGES", ((float("nan"), 5),)),
        ("STAGES", ((5, 6), (30, 2))),
        ("STAGES", ((5, -1), (30, 2))),
        ("STAGES", ((5, 2.5), (30, 2))),
        ("STAGES", 30),
        ("ITERS_PER_EPOCH", 0),
        ("ITERS_PER_EPOCH", -1500),
        ("LR_DROPS", (0.9, 0.7)),
        ("LR_DROPS", (0.7, 0.7)),
        ("LR_DROPS", (0.0,)),
        ("LR_DROPS", (1.0,)),
        ("LR_DROPS", (-0.5,)),
    ],
)
def test_a_wrong_schedule(key, value):
    with pytest.raises(LesionError, match=rf"SOLVER\.{key}"):
        load_config(SEED, [f"SOLVER.{key}", value])


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (["SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "value"], "CLIP_TYPE.*'norm'"),
        (["SEED", "-1"], "SEED"),
        (["SOLVER.OPTIMIZER", "Adam"], "'SGD', 'AdamW'"),
        (["SOLVER.BASE_LEARNING_RATE", "1"], "BASE_LEARNING_RATE"),
        (["NO.SUCH.KEY", "1"], "NO"),
        (["SOLVER.STAGES.FIRST", "1"], "SOLVER.STAGES.FIRST"),
        (["SOLVER.BASE_LR", "fast"], "BASE_LR"),
        (["SOLVER.MAX_ITER"], "SOLVER.MAX_ITER"),
    ],
)
def test_a_wrong_override_is_named(opts, message):
    with pytest.raises(LesionError, match=message):
        load_config(SEED, opts)


def test_value_clipping_is_allowed_when_it_is_off():
    off = ["SOLVER.CLIP_GRADIENTS.ENABLED", False, "SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "value"]
    assert load_config(SEED, off).SOLVER.MAX_ITER == 45_000


@pytest.mark.parametrize(
    "content",
    [
        "SOLVER: [unclosed",
        "SOLVER:\n\tTABS: 1",
        "- a\n- list",
        "just text",
        "SOLVER:\n  NO_SUCH_KEY: 1",
        "_BASE_: nowhere.yaml",
        "SEED: !!python/object/apply:os.mkdir [made]",
    ],
)
def test_a_wrong_file_is_named_and_runs_nothing(content, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wrong.yaml").write_text(content)
    with pytest.raises(LesionError, match=r"wrong\.yaml"):
        load_config("wrong.yaml", [])
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("config_file", ["", "nowhere.yaml", "."])
def test_a_missing_file(config_file):
    with pytest.raises(LesionError, match=r"--config-file.*configs/"):
        load_config(config_file, [])


NAN, INF = float("nan"), float("inf")
BAD_VALUES = [
    ("OUTPUT_DIR", ""),
    ("SEED", 10**20),
    ("MODEL.DEVICE", "potato"),
    ("MODEL.DEVICE", "cuda:0"),
    ("MODEL.DEVICE", "cuda:99"),
    ("MODEL.DEVICE", ""),
    ("MODEL.MASK_ON", False),
    ("MODEL.KEYPOINT_ON", True),
    ("MODEL.PIXEL_STD", [0.0, 1.0, 1.0]),
    ("MODEL.PIXEL_STD", [1.0]),
    ("MODEL.PIXEL_MEAN", [NAN, 0.0, 0.0]),
    ("MODEL.RESNETS.DEPTH", 77),
    ("MODEL.FPN.OUT_CHANNELS", 0),
    ("MODEL.ROI_HEADS.NUM_CLASSES", 0),
    ("MODEL.ROI_HEADS.NUM_CLASSES", 80),
    ("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 1.5),
    ("MODEL.RPN.PRE_NMS_TOPK_TEST", 0),
    ("MODEL.ROI_BOX_HEAD.FC_DIM", 10**9),
    ("MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA", NAN),
    ("INPUT.FORMAT", "XYZ"),
    ("INPUT.FORMAT", "L"),
    ("INPUT.MASK_FORMAT", "polygon"),
    ("INPUT.MIN_SIZE_TRAIN", ()),
    ("INPUT.MIN_SIZE_TRAIN", (-64,)),
    ("INPUT.MIN_SIZE_TRAIN", ("a",)),
    ("INPUT.MIN_SIZE_TRAIN_SAMPLING", "foo"),
    ("INPUT.MIN_SIZE_TRAIN_SAMPLING", "range"),
    ("INPUT.MAX_SIZE_TRAIN", 0),
    ("INPUT.MIN_SIZE_TEST", 100_000),
    ("INPUT.MIN_SIZE_TEST", -1),
    ("INPUT.MAX_SIZE_TEST", 0),
    ("INPUT.RANDOM_FLIP", "diagonal"),
    ("INPUT.MEMBER_FLIPS", ()),
    ("INPUT.MEMBER_FLIPS", ("diagonal",)),
    ("INPUT.MEMBER_FLIPS", ("none", "vertical", "none")),
    ("INPUT.MEMBER_FLIPS_VAL", ("diagonal",)),
    ("INPUT.COLOUR.BLUR_SIGMA", ("a", "b")),
    ("INPUT.COLOUR.BLUR_SIGMA", (1.0,)),
    ("INPUT.COLOUR.DROPOUT_COUNT", (5, 1)),
    ("INPUT.COLOUR.DROPOUT_COUNT", (0.5, 1)),
    ("INPUT.COLOUR.BRIGHTNESS", (-INF, INF)),
    ("INPUT.GEOMETRY.ZOOM", (0.0, 1.0)),
    ("INPUT.GEOMETRY.SHIFT", -0.1),
    ("DATASETS.VAL", ("a", "b")),
    ("DATASETS.TRAIN", (1,)),
    ("DATALOADER.NUM_WORKERS", -1),
    ("SOLVER.IMS_PER_BATCH", 0),
    ("SOLVER.IMS_PER_BATCH", -4),
    ("SOLVER.IMS_PER_BATCH", 1_000_000),
    ("SOLVER.BASE_LR", -0.1),
    ("SOLVER.BASE_LR", 0.0),
    ("SOLVER.BASE_LR", NAN),
    ("SOLVER.BASE_LR", INF),
    ("SOLVER.BASE_LR_END", 1.0),
    ("SOLVER.MOMENTUM", -1.0),
    ("SOLVER.MOMENTUM", 1.0),
    ("SOLVER.WEIGHT_DECAY", -1.0),
    ("SOLVER.WEIGHT_DECAY_BIAS", "a"),
    ("SOLVER.GAMMA", 0.0),
    ("SOLVER.WARMUP_ITERS", -1),
    ("SOLVER.WARMUP_METHOD", "cold"),
    ("SOLVER.LR_DROPS", ("a",)),
    ("SOLVER.LR_SCHEDULER_NAME", "Foo"),
    ("SOLVER.CHECKPOINTS_KEPT", 0),
    ("SOLVER.CHECKPOINT_PERIOD", -1),
    ("SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "foo"),
    ("SOLVER.CLIP_GRADIENTS.CLIP_VALUE", 0.0),
    ("TEST.EVAL_PERIOD", -5),
    ("TEST.DETECTIONS_PER_IMAGE", -1),
    ("TEST.DETECTIONS_PER_IMAGE", 0),
    ("TEST.SCORE_THRESH", 50.0),
    ("TEST.LOSS_IMAGES", -1),
    ("TEST.VIEWS", (["a"],)),
    ("TEST.VIEWS", ()),
    ("TEST.VIEW_SCALES", ("a",)),
    ("TEST.VIEW_SCALES", (1000.0,)),
    ("TEST.SECOND_LOOK", -1.0),
    ("TEST.POSTPROCESSING", (5,)),
    ("DATALOADER.SAMPLER_TRAIN", "RepeatFactorTrainingSampler"),
    ("INPUT.CROP.ENABLED", True),
    ("SOLVER.REFERENCE_WORLD_SIZE", 8),
    ("TEST.AUG.ENABLED", True),
    ("TEST.EXPECTED_RESULTS", [["bbox", "AP", 38.5, 0.2]]),
]


@pytest.mark.parametrize(("key", "value"), BAD_VALUES, ids=str)
def test_a_value_that_cannot_be_is_one_line_that_says_what_can(key, value):
    with pytest.raises(LesionError, match=rf"^{key}: .*; give ") as error:
        load_config(DEMO, [key, value])
    assert "\n" not in str(error.value)


def test_a_gpu_that_torch_has_no_kernels_for_is_one_line(monkeypatch):
    def fail(_):
        raise RuntimeError("CUDA error: no kernel image is available for execution\nCompile with")

    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.empty", lambda *_, device: Namespace(add_=fail))
    with pytest.raises(LesionError, match=r"^MODEL\.DEVICE: 'cuda' .*execution\); .*docs/install"):
        settle_device("cuda")


@pytest.mark.parametrize("value", [None, "text", 10**400, -1, NAN, True, (), [[]], {"a": 1}, 0.5])
def test_a_rule_answers_for_any_value(value):
    for rule in RULES.values():
        assert rule.fits(value) in (True, False)


def test_an_option_after_the_overrides_says_where_it_belongs():
    with pytest.raises(LesionError, match=r"^--resume: options stand before the first KEY VALUE"):
        load_config(DEMO, ["SEED", "1", "--resume"])
