"""A trained model in one file: what it keeps, and what is refused."""

import hashlib
import json
import shutil
import subprocess

import pytest
import safetensors
import safetensors.torch
import torch
from tiny import CONFIDENCE, NO_FILES, PROVENANCE, ROOT, run_python

import lesion_d2
from lesion_d2.commands.export import export
from lesion_d2.config.load import load_config
from lesion_d2.data.loader import build_test_loader
from lesion_d2.errors import LesionError
from lesion_d2.files import write_json
from lesion_d2.prediction.bundle import read_bundle, write_bundle
from lesion_d2.prediction.segmenter import Segmenter


@pytest.fixture(scope="module")
def content(bundle):
    """The tensors and the metadata of a bundle."""
    data = bundle.read_bytes()
    with safetensors.safe_open(bundle, "pt") as file:
        return safetensors.torch.load(data), dict(file.metadata())


def changed(path, content, *, weights=None, config=None, **metadata):
    """Write a bundle of which some entries are others."""
    tensors, texts = content
    if config:
        texts = texts | {"config": json.dumps(merged(json.loads(texts["config"]), config))}
    texts = {key: text for key, text in (texts | metadata).items() if text is not None}
    safetensors.torch.save_file(tensors | (weights or {}), path, texts)
    return path


def merged(node, changes):
    return node | {
        key: merged(node[key], value) if isinstance(value, dict) else value
        for key, value in changes.items()
    }


def test_what_it_keeps(bundle, straight_run):
    found = read_bundle(bundle)
    assert found.confidence == CONFIDENCE
    assert found.provenance == PROVENANCE
    assert found.sha256 == hashlib.sha256(bundle.read_bytes()).hexdigest()
    assert found.cfg.INPUT.MIN_SIZE_TEST == 72
    assert found.cfg.MODEL.RESNETS == straight_run.trainer.cfg.MODEL.RESNETS
    trained = straight_run.trainer.model.state_dict()
    for name, value in found.model.state_dict().items():
        torch.testing.assert_close(value, trained[name], atol=1e-4, rtol=1e-3)
        if "running" in name:
            assert torch.equal(value, trained[name])


def test_it_names_no_path_of_the_machine(bundle, tmp_path_factory):
    assert str(tmp_path_factory.getbasetemp()).encode() not in bundle.read_bytes()


def test_16_bits_change_no_mask(tiny_cfg, straight_run, bundle, tmp_path):
    cfg = tiny_cfg(tmp_path)
    whole, stored = straight_run.trainer.model.eval(), read_bundle(bundle).model
    for batch in build_test_loader(cfg, "tiny_test"):
        batch[0].update(height=960, width=1280)
        with torch.no_grad():
            left, right = (Segmenter(cfg, model)(batch)[0]["lesion"] for model in (whole, stored))
        union = (left.mask | right.mask).sum()
        assert union > 0
        assert (left.mask & right.mask).sum() / union >= 0.999


def test_statistics_larger_than_16_bits_are_kept(tiny_cfg, straight_run, tmp_path):
    cfg, model = tiny_cfg(tmp_path), straight_run.trainer.model
    (name, *_) = [name for name in model.state_dict() if name.endswith("running_var")]
    before = model.state_dict()[name].clone()
    try:
        model.state_dict()[name].fill_(1e6)
        write_bundle(tmp_path / "a.safetensors", cfg, model, None, PROVENANCE)
    finally:
        model.state_dict()[name].copy_(before)
    found = read_bundle(tmp_path / "a.safetensors")
    assert found.model.state_dict()[name].unique().tolist() == [1e6]
    assert found.confidence is None


def test_it_takes_other_settings(bundle):
    found = read_bundle(bundle, ["TEST.VIEWS", ("identity", "vertical")])
    assert found.cfg.TEST.VIEWS == ("identity", "vertical")


def test_the_device_is_not_that_of_the_training(content, tmp_path):
    config = {"MODEL": {"DEVICE": "cuda:7"}}
    assert read_bundle(changed(tmp_path / "a.safetensors", content, config=config))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("TEST.PRECISION", "float8"),
        ("TEST.DETECTIONS_PER_IMAGE", -1),
        ("MODEL.DEVICE", "potato"),
        ("MODEL.DEVICE", "cuda:99"),
        ("MODEL.DEPTH", 3),
    ],
)
def test_a_wrong_setting(bundle, key, value):
    with pytest.raises(LesionError, match=key):
        lesion_d2.LesionPredictor.from_bundle(bundle, [key, value])


def test_another_confidence_model(bundle, tmp_path):
    other = type(CONFIDENCE)([0.0] * 6, 0.25, {"weights_sha256": "0" * 64})
    write_json(tmp_path / "other.json", other.to_dict())
    options = ["TEST.CONFIDENCE", str(tmp_path / "other.json")]
    assert read_bundle(bundle, options).confidence == other
    with pytest.raises(LesionError, match="no_such_file"):
        read_bundle(bundle, ["TEST.CONFIDENCE", "no_such_file"])


@pytest.mark.parametrize(("fitted", "warnings"), [("0" * 64, 0), ("1" * 64, 1)])
def test_a_confidence_model_of_other_weights_is_named(fitted, warnings, content, tmp_path, caplog):
    model = type(CONFIDENCE)([0.0] * 6, 0.25, {"weights_sha256": fitted})
    text = json.dumps(model.to_dict())
    read_bundle(changed(tmp_path / "a.safetensors", content, confidence=text))
    assert len([line for line in caplog.messages if "fitted on weights" in line]) == warnings


def raw(header, body=b""):
    text = json.dumps(header).encode() if not isinstance(header, bytes) else header
    return len(text).to_bytes(8, "little") + text + body


DAMAGE = {
    "empty": lambda data: b"",
    "short": lambda data: data[:5],
    "cut in the header": lambda data: data[:1000],
    "cut in the tensors": lambda data: data[:-1],
    "longer": lambda data: data + b"0",
    "a text": lambda data: b"weights of a model\n",
    "zeros": lambda data: bytes(100),
    "a header of 4 EB": lambda data: b"\xff" * 8 + data[8:],
    "a header of no JSON": lambda data: raw(b"{" * 1000),
    "a deep header": lambda data: raw(b"[" * 100_000),
    "a header of a list": lambda data: raw([]),
    "no metadata": lambda data: raw({}),
    "a pickle": lambda data: b"\x80\x04.",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_files(damage, bundle, tmp_path):
    path = tmp_path / "other.safetensors"
    path.write_bytes(DAMAGE[damage](bundle.read_bytes()))
    with pytest.raises(LesionError, match=r"other\.safetensors: "):
        read_bundle(path)


NAME = "roi_heads.box_predictor.cls_score.weight"
GOOD = CONFIDENCE.to_dict()
CHANGES = {
    "NaN": {"weights": {NAME: torch.full((2, 64), torch.nan)}},
    "infinite": {"weights": {NAME: torch.full((2, 64), torch.inf, dtype=torch.float16)}},
    "another shape": {"weights": {NAME: torch.zeros(3, 64)}},
    "whole numbers": {"weights": {NAME: torch.zeros(2, 64, dtype=torch.int64)}},
    "complex numbers": {"weights": {NAME: torch.zeros(2, 64, dtype=torch.complex64)}},
    "a tensor too many": {"weights": {"more": torch.zeros(2)}},
    "another format": {"format": "lesion_d2 99"},
    "no format": {"format": None},
    "a config that is no JSON": {"config": None, "provenance": "{"},
    "an unknown key": {"config": {"MODEL": {"MORE": 1}}},
    "an unknown network": {"config": {"MODEL": {"META_ARCHITECTURE": "Nothing"}}},
    "a network of no memory": {"config": {"MODEL": {"FPN": {"OUT_CHANNELS": 2**20}}}},
    "another order of channels": {"config": {"INPUT": {"FORMAT": "XYZ"}}},
    "grey images": {"config": {"INPUT": {"FORMAT": "L"}}},
    "a deviation of 0": {"config": {"MODEL": {"PIXEL_STD": [1.0, 0.0, 1.0]}}},
    "a count of -1": {"config": {"TEST": {"DETECTIONS_PER_IMAGE": -1}}},
    "no confidence": {"confidence": None},
    "a confidence of text": {"confidence": '"high"'},
    "a confidence without bounds": {"confidence": json.dumps(GOOD | {"intercept": 1e308})},
    "a confidence of a huge integer": {"confidence": json.dumps(GOOD | {"intercept": 10**400})},
    "a confidence of a truth value": {"confidence": json.dumps(GOOD | {"intercept": True})},
    "a deep confidence": {"confidence": "[" * 100_000},
}


@pytest.mark.parametrize("change", CHANGES)
def test_contents_that_do_not_fit(change, content, tmp_path):
    path = changed(tmp_path / "other.safetensors", content, **CHANGES[change])
    with pytest.raises(LesionError, match=r"other\.safetensors: "):
        read_bundle(path)


def test_a_tensor_that_is_missing(content, tmp_path):
    tensors, texts = content
    path = tmp_path / "other.safetensors"
    rest = {name: value for name, value in tensors.items() if name != NAME}
    safetensors.torch.save_file(rest, path, texts)
    with pytest.raises(LesionError, match=f"1 tensors are not those of its config, {NAME}"):
        read_bundle(path)


def test_a_bundle_of_an_earlier_version(tmp_path):
    path = tmp_path / "lesion.pth"
    torch.save({"format": 1, "config": "", "model": {}}, path)
    with pytest.raises(LesionError, match="export"):
        read_bundle(path)


@pytest.mark.parametrize("make", NO_FILES)
def test_what_is_no_file_to_read(make, tmp_path):
    path = tmp_path / "other.safetensors"
    NO_FILES[make](path)
    with pytest.raises(LesionError, match=r"other\.safetensors: "):
        read_bundle(path)


def test_a_name_without_the_suffix(tiny_cfg, straight_run, tmp_path):
    with pytest.raises(LesionError, match=r"\.safetensors"):
        write_bundle(tmp_path / "a.pth", tiny_cfg(tmp_path), straight_run.trainer.model, None, {})


def test_the_tool(straight_run, tiny_root, tmp_path):
    """Exports a checkpoint, with the evaluation of it that there is and not another."""
    weights = straight_run.folder / "model_final.pth"
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    cfg = straight_run.trainer.cfg.clone()
    cfg.OUTPUT_DIR = str(tmp_path)
    (tmp_path / "config.yaml").write_text(cfg.dump())
    for name, its_weights in (("tiny_val", sha256), ("tiny_test", "0" * 64)):
        folder = tmp_path / "eval" / name
        folder.mkdir(parents=True)
        metrics = {"dataset": name, "weights_sha256": its_weights, "mean_jaccard_low": 0.25}
        (folder / "metrics.json").write_text(json.dumps(metrics))
    path = tmp_path / "lesion.safetensors"
    status, out, errors = run_python(
        *(ROOT / "tools" / "export.py", "--config-file", tmp_path / "config.yaml"),
        *("--output", path, "MODEL.WEIGHTS", weights),
        DETECTRON2_DATASETS=tiny_root.parent,
    )
    assert status == 0, errors
    assert out == f"{path}: {path.stat().st_size / 1e6:.1f} MB\n"
    provenance = read_bundle(path).provenance
    assert provenance["weights"] == "model_final.pth"
    assert provenance["weights_sha256"] == sha256
    assert provenance["seed"] == cfg.SEED
    assert provenance["metrics"] == [{"dataset": "tiny_val", "mean_jaccard_low": 0.25}]
    manifest = json.loads((tiny_root / "split.json").read_text())
    fingerprints = {key: manifest[key] for key in manifest if key.endswith("fingerprint")}
    assert provenance["data"] == {"tiny_train": fingerprints, "tiny_val": fingerprints}
    assert fingerprints
    moved = shutil.copy(weights, tmp_path / "model_final.pth")
    (tmp_path / "data.json").write_text('{"tiny_train": {"records_sha256": "1"}}')
    export(load_config(str(tmp_path / "config.yaml"), ["MODEL.WEIGHTS", str(moved)]), path)
    assert read_bundle(path).provenance["data"] == {"tiny_train": {"records_sha256": "1"}}
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if head.returncode == 0:
        assert provenance["commit"].startswith(head.stdout.strip())
