"""What a conversion leaves behind: whole or nothing, and never another's files."""

from dataclasses import replace
from pathlib import Path

import pytest
from convert_archive import (
    Archive,
    folder_bytes,
    make_archive,
)

from lesion_d2.commands.convert import convert
from lesion_d2.errors import LesionError

REPOSITORY = Path(__file__).parents[1]


@pytest.mark.parametrize("early", [True, False])
def test_strict_writes_nothing(early, tmp_path):
    archive = make_archive(tmp_path, 4)
    path = archive.images / "ISIC_0000002.jpg"
    if early:
        path.unlink()
    else:
        path.write_bytes(b"")
    with pytest.raises(LesionError, match="ISIC_0000002"):
        convert(archive.options(strict=True))
    assert sorted(tmp_path.iterdir()) == [archive.images, archive.masks]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
@pytest.mark.parametrize("existing", [False, True])
def test_interrupted_run_leaves_nothing(error, existing, tmp_path, monkeypatch):
    archive = make_archive(tmp_path, 4)
    if existing:
        convert(archive.options())
    before = folder_bytes(tmp_path)

    def stop(*_args):
        raise error

    monkeypatch.setattr("lesion_d2.commands.convert.write_audit", stop)
    with pytest.raises(error):
        convert(archive.options(overwrite=True, seed=3))
    assert folder_bytes(tmp_path) == before


def test_killed_run_does_not_stand_in_the_way(tmp_path):
    archive = make_archive(tmp_path, 4)
    left = tmp_path / ".converted.partial" / "images"
    left.mkdir(parents=True)
    (left / "ISIC_9999999.jpg").write_bytes(b"x")
    convert(archive.options())
    assert len(list((archive.output / "images").iterdir())) == 4
    assert not left.exists()


def test_output_that_is_not_empty(tmp_path):
    archive = make_archive(tmp_path, 4)
    archive.output.mkdir()
    convert(archive.options())  # an empty folder is welcome
    with pytest.raises(LesionError, match="not empty"):
        convert(archive.options())
    archive.add(50)
    assert sum(convert(archive.options(overwrite=True)).splits.values()) == 5


@pytest.mark.parametrize("content", [["notes.txt"], ["split.json", "notes.txt"]])
def test_overwrite_never_deletes_anything_else(content, tmp_path):
    archive = make_archive(tmp_path, 4)
    archive.output.mkdir()
    for name in content:
        (archive.output / name).write_text("mine")
    before = folder_bytes(tmp_path)
    with pytest.raises(LesionError, match=r"notes\.txt"):
        convert(archive.options(overwrite=True))
    assert folder_bytes(tmp_path) == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test_fraction": 1.5}, "test_fraction"),
        ({"val_fraction": -0.1}, "val_fraction"),
        ({"prescale": 0.0}, "prescale"),
        ({"prescale": 2.0}, "prescale"),
        ({"resize": 0}, "resize"),
        ({"workers": 0}, "workers"),
        ({"split_file": Path("no.json")}, r"no\.json"),
    ],
)
def test_options_without_sense(changes, message, tmp_path):
    archive = make_archive(tmp_path, 1)
    with pytest.raises(LesionError, match=message):
        convert(archive.options(**changes))
    assert not archive.output.exists()


@pytest.mark.parametrize("where", ["images/out", "."])
def test_output_apart_from_the_input(where, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    options = Archive(tmp_path / "x").add(1).options(folders={"all": (folder, folder)})
    with pytest.raises(LesionError, match="apart"):
        convert(replace(options, output=tmp_path / where, overwrite=True))
    assert folder.is_dir()


def test_no_input(tmp_path):
    with pytest.raises(LesionError, match="no usable pair"):
        convert(Archive(tmp_path).options())
    with pytest.raises(LesionError, match="missing"):
        convert(Archive(tmp_path / "b").options(folders={"all": (tmp_path / "missing",) * 2}))
