"""Networks of timm as backbones: frozen in stages, folded, resumed, and given weights."""

import copy
import logging

import pytest
import timm
import torch
from detectron2.modeling import build_model
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import TRAINING, differences, load, run_python, train_run

from lesion_d2.engine.hooks import WeightAverage
from lesion_d2.engine.staged_freeze import backbone_blocks, trainable_table
from lesion_d2.errors import LesionError
from lesion_d2.modeling.precision import computing_in
from lesion_d2.modeling.timm_backbone import TimmBackbone, write_timm_weights
from lesion_d2.prediction.segmenter import prepare_for_inference

BLOCKS = ["stem", "res2", "res3", "res4", "res5"]
LITE = "tf_efficientnet_lite0"
# What each block holds, by the first parts of the names in timm.
MEMBERS = {
    LITE: [
        ["conv_stem", "bn1", "blocks.0"], ["blocks.1"], ["blocks.2"], ["blocks.3", "blocks.4"],
        ["blocks.5", "blocks.6"],
    ],
    "resnet18": [["conv1", "bn1"], ["layer1"], ["layer2"], ["layer3"], ["layer4"]],
    "convnext_atto": [["stem_0", "stem_1"], ["stages_0"], ["stages_1"], ["stages_2"], ["stages_3"]],
}  # fmt: skip


def timm_options(name, *opts):
    """Return overrides that put a timm network in the place of the ResNet of configs/demo.yaml."""
    backbone = ("MODEL.BACKBONE.NAME", "build_timm_fpn_backbone", "MODEL.TIMM.NAME", name)
    return (*backbone, "MODEL.WEIGHTS", "", *opts)


@pytest.fixture(scope="module")
def lite_run(tiny_cfg, tmp_path_factory):
    """A run of 9 iterations in 3 stages of Lite0, its weights averaged."""
    folder = tmp_path_factory.mktemp("lite")
    return train_run(tiny_cfg(folder, *timm_options(LITE, *TRAINING, "SOLVER.EMA_DECAY", 0.9)))


@pytest.mark.parametrize("name", MEMBERS)
def test_blocks_are_counted_as_freeze_at_counts(name):
    for freeze_at in range(6):
        backbone = TimmBackbone(name, freeze_at)
        trains = {key for key, value in backbone.network.named_parameters() if value.requires_grad}
        frozen = [part for block in MEMBERS[name][:freeze_at] for part in block]
        assert trains == {
            key
            for key, _ in backbone.network.named_parameters()
            if not key.startswith(tuple(f"{part}." for part in frozen))
        }


@pytest.mark.parametrize("name", [*MEMBERS, "mobilenetv3_small_050"])
def test_features_have_the_strides_and_channels_they_say(name):
    backbone = TimmBackbone(name).eval()
    found = backbone(torch.zeros(2, 3, 64, 96))
    assert list(found) == list(backbone.output_shape()) == ["res2", "res3", "res4", "res5"]
    for key, spec in backbone.output_shape().items():
        assert found[key].shape == (2, spec.channels, 64 // spec.stride, 96 // spec.stride)
    assert [spec.stride for spec in backbone.output_shape().values()] == [4, 8, 16, 32]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "empty"),
        ("resnet18x", "Unknown model"),
        ("vit_tiny_patch16_224", r"strides \[16, 16, 16\]"),
        ("hrnet_w18_small", "one after the other"),
        ("swin_tiny_patch4_window7_224", "does not take an image of 64x96"),
        ("maxvit_tiny_rw_224", "does not take an image of 64x96"),
    ],
)
def test_a_network_that_does_not_fit_is_refused(name, message):
    with pytest.raises(LesionError, match=rf"MODEL\.TIMM\.NAME.*{message}"):
        TimmBackbone(name)


@pytest.mark.parametrize("name", [LITE, "resnet18"])
def test_the_table_counts_every_parameter_once(name, tiny_cfg, tmp_path):
    model = build_model(tiny_cfg(tmp_path, *timm_options(name, "SOLVER.STAGES", ((1, 3),))))
    assert [key for key, _ in backbone_blocks(model)] == BLOCKS
    _, _, *lines = (line.split() for line in trainable_table(model).splitlines())
    table = {key: (int(count.replace(",", "")), state) for key, count, state in lines}
    assert sum(count for count, _ in table.values()) == sum(p.numel() for p in model.parameters())
    frozen = {key for key, (_, state) in table.items() if state == "frozen"}
    assert frozen == {"stem", "res2", "res3"}


@pytest.mark.parametrize(("first", "last", "freeze_at"), [(-1, 2, 5), (2, 5, 2), (5, 8, 4)])
def test_a_stage_moves_what_it_trains_and_nothing_else(first, last, freeze_at, lite_run):
    before = lite_run.start if first < 0 else lite_run.checkpoint(first)["model"]
    after = lite_run.checkpoint(last)["model"]
    for position, parts in enumerate(MEMBERS[LITE], start=1):
        prefixes = tuple(f"backbone.bottom_up.network.{part}." for part in parts)
        names = [key for key in before if key.startswith(prefixes)]
        assert any("running_var" in key for key in names)
        moved = [key for key in names if not torch.equal(before[key], after[key])]
        assert moved == ([] if position <= freeze_at else names)


def test_a_resumed_run_is_the_run_that_never_stopped(lite_run, tiny_cfg, tmp_path):
    for name in ("model_0000004.pth", "model_best.pth"):
        (tmp_path / name).write_bytes((lite_run.folder / name).read_bytes())
    (tmp_path / "last_checkpoint").write_text("model_0000004.pth")
    options = timm_options(LITE, *TRAINING, "SOLVER.EMA_DECAY", 0.9)
    resumed = train_run(tiny_cfg(tmp_path, *options), resume=True)
    assert differences(resumed.final(), lite_run.final()) == []


def test_the_average_is_that_of_the_formula(lite_run):
    key = "roi_heads.mask_head.deconv.weight"
    expected = lite_run.checkpoint(0)["model"][key]
    for count in range(1, 9):
        decay = min(0.9, (1 + count) / (10 + count))
        expected = decay * expected + (1 - decay) * lite_run.checkpoint(count)["model"][key]
    state = lite_run.final()["trainer"]["hooks"]["WeightAverage"]
    assert int(state["n_averaged"]) == 9
    torch.testing.assert_close(state[f"module.{key}"], expected)


def test_the_best_model_is_an_average(lite_run):
    best = load(lite_run.folder / "model_best.pth")
    checkpoint = lite_run.checkpoint(best["trainer"]["iteration"])
    average = checkpoint["trainer"]["hooks"]["WeightAverage"]
    assert (
        differences(
            {f"module.{key}": value for key, value in best["model"].items()},
            {key: value for key, value in average.items() if key != "n_averaged"},
        )
        == []
    )


@settings(deadline=None, max_examples=20)
@given(values=st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=30), decay=st.floats(0.01, 0.999))
def test_an_average_stays_between_what_it_averages(values, decay):
    model = torch.nn.Linear(1, 1)
    average = WeightAverage(model, decay)
    for value in values:
        torch.nn.init.constant_(model.weight, value)
        average.after_step()
    found = float(average.model.weight.detach())
    assert min(values) - 1e-2 <= found <= max(values) + 1e-2


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-5), ("bfloat16", 0.1)])
@pytest.mark.parametrize("name", [LITE, "resnet18", "mobilenetv3_small_050"])
@torch.no_grad()
def test_folded_it_sees_the_same(name, precision, tolerance, tiny_cfg, tmp_path):
    torch.manual_seed(0)
    before = build_model(tiny_cfg(tmp_path, *timm_options(name)))
    before.train()
    for _ in range(3):  # running statistics that are not the initial ones
        before.backbone(torch.randn(4, 3, 64, 96))
    before.eval()
    after = copy.deepcopy(before)
    prepare_for_inference(after, precision)
    images = torch.randn(2, 3, 64, 96)
    old = before.backbone(images)  # in 32 bits, what both precisions come near
    with computing_in(precision, after):
        new = after.backbone(images)
    assert not any("running_mean" in key for key in after.backbone.state_dict())
    for key, features in old.items():
        assert new[key].dtype == getattr(torch, precision)
        assert (new[key] - features).norm() < tolerance * features.norm()


def renamed(state):
    """Return the tensors under other names, in order, as ports of weights have them."""
    return {f"layer{i}.{key.split('.')[-1]}": value for i, (key, value) in enumerate(state.items())}


@pytest.mark.parametrize("rename", [dict, renamed])
@pytest.mark.parametrize("name", [LITE, "convnext_atto"])
def test_weights_of_a_file_arrive(name, rename, tmp_path):
    source, output = tmp_path / "source.pth", tmp_path / "weights.pth"
    torch.manual_seed(1)
    whole = timm.create_model(name).eval()
    torch.save(rename(whole.state_dict()), source)
    write_timm_weights(name, source, output)
    backbone = TimmBackbone(name).eval()
    assert backbone.load_state_dict(load(output)["model"], strict=True)
    images = torch.randn(1, 3, 64, 64)
    expected = whole.forward_intermediates(images, intermediates_only=True)[-1]
    assert (backbone(images)["res5"] - expected).norm() < 1e-5 * expected.norm()


def other_network(path):
    torch.save(timm.create_model("resnet18").state_dict(), path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (other_network, f"tensors of {LITE} are missing"),
        (lambda path: path.write_bytes(b"no weights"), "not weights"),
        (lambda path: torch.save({"a": print}, path), "without running code"),
        (lambda path: None, "no such file"),
    ],
)
def test_wrong_files_are_refused(damage, message, tmp_path):
    source, output = tmp_path / "source.pth", tmp_path / "weights.pth"
    damage(source)
    with pytest.raises(LesionError, match=rf"^{source}: .*{message}"):
        write_timm_weights(LITE, source, output)
    assert not output.exists()


def test_the_tool_says_what_is_wrong_in_one_line(tmp_path):
    source, output = tmp_path / "source.pth", tmp_path / "weights.pth"
    other_network(source)
    arguments = ("--network", LITE, "--source", source, "--output", output)
    status, stdout, stderr = run_python("tools/timm_weights.py", *arguments)
    assert (status, stdout) == (1, "")
    assert stderr.startswith(f"error: {source}: ")
    assert stderr.count("\n") == 1


def test_without_a_network_the_tool_asks_for_a_file(tmp_path):
    arguments = ("--network", LITE, "--output", tmp_path / "weights.pth")
    status, _, stderr = run_python("tools/timm_weights.py", *arguments, HF_HUB_OFFLINE="1")
    assert status == 1
    assert stderr.splitlines()[-1].startswith(f"error: {LITE}: timm cannot fetch its weights")
    assert stderr.endswith("give a file of them as --source\n")
    assert list(tmp_path.iterdir()) == []


def test_training_refuses_weights_of_another_backbone(tiny_cfg, tmp_path):
    source, output = tmp_path / "source.pth", tmp_path / "weights.pth"
    other_network(source)
    write_timm_weights("resnet18", source, output)
    options = timm_options(LITE, *TRAINING, "MODEL.WEIGHTS", str(output))
    with pytest.raises(LesionError, match=r"MODEL\.WEIGHTS.*weights of the backbone are missing"):
        train_run(tiny_cfg(tmp_path / "run", *options))
    assert not list((tmp_path / "run").glob("*.pth"))


def test_training_takes_the_weights_it_is_given(tiny_cfg, tmp_path, caplog):
    source, output = tmp_path / "source.pth", tmp_path / "weights.pth"
    other_network(source)
    write_timm_weights("resnet18", source, output)
    opts = ("SOLVER.ITERS_PER_EPOCH", 1, "SOLVER.STAGES", ((1, 5),), "SOLVER.EMA_DECAY", 0.5)
    options = timm_options("resnet18", "MODEL.WEIGHTS", str(output), *opts)
    with caplog.at_level(logging.INFO, "lesion_d2"):
        run = train_run(tiny_cfg(tmp_path / "run", *options))
    assert "model_best are of the average" in caplog.text
    final, given_weights = run.final()["model"], load(output)["model"]
    prefix = "backbone.bottom_up."
    assert all(torch.equal(final[prefix + key], value) for key, value in given_weights.items())
