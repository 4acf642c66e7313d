"""Checkpoints: written whole, read without running code, complete."""

import argparse
import gzip
import hashlib
import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from lesion_d2.engine.checkpoint import LesionCheckpointer
from lesion_d2.errors import LesionError
from lesion_d2.modeling.weights import load_trained, read_checkpoint


class Bomb:
    """Unpickling it creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Linear(3, 2)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_saved_model_comes_back(model, tmp_path):
    LesionCheckpointer(model, str(tmp_path)).save("model", note=7)
    assert names(tmp_path) == ["last_checkpoint", "model.pth"]
    other = nn.Linear(3, 2)
    load_trained(other, str(tmp_path / "model.pth"))
    assert torch.equal(other.weight, model.weight)
    assert LesionCheckpointer(other, str(tmp_path)).resume_or_load("")["note"] == 7


def test_an_untagged_file_is_not_what_a_resume_continues_from(model, tmp_path):
    checkpointer = LesionCheckpointer(model, str(tmp_path))
    checkpointer.save("first")
    checkpointer.save("best", tag=False)
    assert checkpointer.get_checkpoint_file() == str(tmp_path / "first.pth")


def test_other_processes_than_the_main_one_write_nothing(model, tmp_path):
    LesionCheckpointer(model, str(tmp_path), save_to_disk=False).save("model")
    assert names(tmp_path) == []


def test_an_interrupted_save_leaves_the_old_file(model, tmp_path, monkeypatch):
    checkpointer = LesionCheckpointer(model, str(tmp_path))
    checkpointer.save("model")
    checkpointer.save("next")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def disk_full(content, stream):
        stream.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", disk_full)
    with pytest.raises(OSError, match="No space"):
        checkpointer.save("model")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_every_checkpoint_of_a_run_loads_without_running_code(straight_run):
    files = sorted(straight_run.folder.glob("*.pth"))
    assert {"model_best.pth", "model_final.pth", "model_0000000.pth"} <= {f.name for f in files}
    for file in files:
        assert {"model", "trainer"} <= torch.load(file, weights_only=True).keys()


def test_code_in_a_checkpoint_is_refused_and_not_run(model, tmp_path):
    torch.save({"model": model.state_dict(), "x": Bomb(tmp_path / "ran")}, tmp_path / "evil.pth")
    with pytest.raises(LesionError, match=r"evil\.pth: holds .*run code"):
        load_trained(model, str(tmp_path / "evil.pth"))
    assert not (tmp_path / "ran").exists()
    # The file is really dangerous.
    torch.load(tmp_path / "evil.pth", weights_only=False)
    assert (tmp_path / "ran").exists()


def test_a_pickle_under_the_name_of_a_checkpoint_is_refused_too(model, tmp_path):
    (tmp_path / "evil.pth").write_bytes(pickle.dumps({"model": Bomb(tmp_path / "ran")}))
    with pytest.raises(LesionError, match=r"evil\.pth"):
        load_trained(model, str(tmp_path / "evil.pth"))
    assert not (tmp_path / "ran").exists()


def test_a_resume_refuses_code_too(model, tmp_path):
    torch.save({"model": model.state_dict(), "x": Bomb(tmp_path / "ran")}, tmp_path / "evil.pth")
    (tmp_path / "last_checkpoint").write_text("evil.pth")
    with pytest.raises(LesionError, match=r"evil\.pth"):
        LesionCheckpointer(model, str(tmp_path)).resume_or_load("")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("suffix", [".pth", ".pkl", ".pyth"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-40],
        lambda data: data[:100],
        lambda data: b"",
        lambda data: b"text\xff\n",
    ],
    ids=["end missing", "start only", "empty", "text"],
)
def test_a_damaged_file_is_named(damage, suffix, model, tmp_path):
    content = {"model": model.state_dict(), "model_state": model.state_dict()}
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pkl":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(LesionError, match=rf"weights\{suffix}"):
        LesionCheckpointer(model).load(str(path))


def test_a_pickle_of_the_model_zoo(model, tmp_path):
    numbers = {"weight": model.weight.detach().numpy() + 1, "bias": model.bias.detach().numpy()}
    path = tmp_path / "zoo.pkl"
    path.write_bytes(pickle.dumps({"model": numbers, "__author__": "somebody"}))
    LesionCheckpointer(model, str(tmp_path)).load(str(path))
    assert torch.equal(model.weight, torch.tensor(numbers["weight"]))


def test_a_pickle_of_caffe2(tmp_path):
    """Its names are Caffe2's, and Detectron2 knows which of its own they mean."""
    model = nn.Sequential()
    model.add_module("stem", nn.Module())
    model.stem.conv1 = nn.Conv2d(3, 64, 7, bias=False)
    kernel = np.random.default_rng(0).normal(size=(64, 3, 7, 7)).astype(np.float32)
    path = tmp_path / "R-50.pkl"
    blobs = {"conv1_w": kernel, "conv1_w_momentum": kernel}
    path.write_bytes(pickle.dumps({"blobs": blobs, "cfg": "text"}, protocol=2))
    LesionCheckpointer(model, str(tmp_path)).load(str(path))
    np.testing.assert_array_equal(model.stem.conv1.weight.detach().numpy(), kernel)


def test_a_pickle_runs_no_code(model, tmp_path):
    path = tmp_path / "zoo.pkl"
    path.write_bytes(pickle.dumps({"model": {"weight": Bomb(tmp_path / "ran")}}))
    with pytest.raises(LesionError, match=r"zoo\.pkl: holds pathlib"):
        LesionCheckpointer(model, str(tmp_path)).load(str(path))
    assert not (tmp_path / "ran").exists()


def prefixed(prefix, state):
    return {prefix + name: value for name, value in state.items()}


@pytest.mark.parametrize("key", ["model", "state_dict", "model_state_dict", "model_state", None])
@pytest.mark.parametrize("prefix", ["", "module.", "model."])
@pytest.mark.parametrize("legacy", [False, True])
def test_files_of_other_tools(key, prefix, legacy, model, tmp_path):
    state = prefixed(prefix, model.state_dict())
    content = {key: state, "epoch": 7, "meta": {"version": "1"}} if key else state
    path = tmp_path / "other.pth"
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    other = nn.Linear(3, 2)
    assert load_trained(other, str(path)) == hashlib.sha256(path.read_bytes()).hexdigest()
    assert torch.equal(other.weight, model.weight)


def test_safetensors(model, tmp_path):
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file(model.state_dict(), path)
    other = nn.Linear(3, 2)
    load_trained(other, str(path))
    assert torch.equal(other.weight, model.weight)


def saved(content):
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


def zipped(compression, **members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(f"archive/{name.replace('_', '.')}", data)
    return stream.getvalue()


UNREADABLE = {
    "empty": (b"", "has 0 bytes"),
    "cut": (saved({"weight": torch.zeros(2, 3)})[:-50], "cut off"),
    "an HTML page": (b"\n<!DOCTYPE html><title>404</title>", "web page"),
    "a Git LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a", "LFS"),
    "compressed": (gzip.compress(b"weights"), "gzip"),
    "a picture": (b"\x89PNG\r\n\x1a\n", "not a file of weights"),
    "another archive": (zipped(zipfile.ZIP_STORED, readme_txt="hello"), "not one of torch"),
    "a bomb": (zipped(zipfile.ZIP_DEFLATED, data_pkl=bytes(10**8)), "more than its own size"),
    "a numpy scalar": (saved({"model": {}, "best": np.float64(0.5)}), "multiarray.scalar"),
    "options": (saved({"model": {}, "args": argparse.Namespace(lr=1)}), "argparse.Namespace"),
    "a list": (saved([torch.zeros(2)]), "holds a list"),
    "a tensor": (saved(torch.zeros(2)), "holds a Tensor"),
    "a number": (saved({"model": {"weight": 1.0}}), "weight is a float"),
    "no weights": (saved({"epoch": 1}), "epoch is a int"),
    "sparse": (saved({"weight": torch.eye(3).to_sparse()}), "weight is not a dense"),
    "no values": (saved({"weight": torch.zeros(3, device="meta")}), "weight is not a dense"),
    "few values": (saved({"weight": torch.zeros(1).expand(10**12)}), "not as many values"),
    "complex": (saved({"weight": torch.zeros(2, 3, dtype=torch.complex64)}), "weight is complex"),
    "NaN": (saved({"weight": torch.full((2, 3), torch.nan)}), "weight holds NaN"),
    "infinite": (saved({"bias": torch.tensor([0, torch.inf]).half()}), "bias holds NaN or inf"),
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_each_kind_has_its_own_sentence(kind, model, tmp_path):
    data, words = UNREADABLE[kind]
    path = tmp_path / "other.pth"
    path.write_bytes(data)
    with pytest.raises(LesionError) as found:
        load_trained(model, str(path))
    message = str(found.value)
    assert words in message
    assert message.startswith(f"{path}: ")
    assert "weights_only" not in message  # torch's advice, the last thing to do
    assert "\n" not in message
    assert "\x1b" not in message


@pytest.mark.parametrize("percent", range(0, 100, 4))
def test_any_cut_is_named(percent, model, tmp_path):
    path = tmp_path / "other.pth"
    data = saved({"model": model.state_dict()})
    path.write_bytes(data[: len(data) * percent // 100])
    with pytest.raises(LesionError, match=r"other\.pth"):
        load_trained(model, str(path))


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_what_is_no_regular_file(suffix, model, tmp_path):
    path = tmp_path / f"other.{suffix}"
    os.mkfifo(path)
    with pytest.raises(LesionError, match="not a regular file"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (nn.Linear(3, 2, bias=False), r"1 tensors .* bias"),
        (nn.Linear(4, 2), r"1 tensors .* weight"),
        (nn.Conv2d(1, 1, 1, bias=False), "2 tensors"),
        (nn.Sequential(nn.Linear(3, 2)), "4 tensors"),
    ],
)
def test_a_file_of_another_model_is_refused(other, message, model, tmp_path):
    LesionCheckpointer(other, str(tmp_path)).save("other")
    with pytest.raises(LesionError, match=message):
        load_trained(model, str(tmp_path / "other.pth"))


@pytest.mark.parametrize("weights", ["", "nowhere.pth", "."])
def test_a_missing_file(weights, model):
    with pytest.raises(LesionError, match=r"MODEL\.WEIGHTS.*no such file"):
        load_trained(model, weights)
