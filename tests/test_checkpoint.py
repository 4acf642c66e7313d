"""Checkpoints: written whole, read without running code, complete."""

import logging
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

from lesion_d2.engine.checkpoint import LesionCheckpointer
from lesion_d2.errors import LesionError
from lesion_d2.modeling.weights import load_trained


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
    with pytest.raises(LesionError, match=r"evil\.pth: .*without running code"):
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


def test_a_pickle_is_read_with_a_warning(model, tmp_path, caplog):
    numbers = {"weight": model.weight.detach().numpy() + 1, "bias": model.bias.detach().numpy()}
    path = tmp_path / "zoo.pkl"
    path.write_bytes(pickle.dumps({"model": numbers, "__author__": "somebody"}))
    expected = torch.tensor(numbers["weight"])
    with caplog.at_level(logging.WARNING, "lesion_d2"):
        LesionCheckpointer(model).load(str(path))
    assert torch.equal(model.weight, expected)
    assert any("zoo.pkl" in r.message and "run code" in r.message for r in caplog.records)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (nn.Linear(3, 2, bias=False), r"1 parameters .* bias"),
        (nn.Linear(4, 2), r"1 parameters .* weight"),
        (nn.Conv2d(1, 1, 1, bias=False), "2 parameters"),
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
