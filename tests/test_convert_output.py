"""What a conversion leaves behind: whole or nothing, and never another's files."""

import errno
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from convert_archive import (
    Archive,
    audit_rows,
    folder_bytes,
    make_archive,
)

from lesion_d2.commands.convert import convert
from lesion_d2.convert.output import output_folder
from lesion_d2.convert.pair import PairSettings, convert_pair
from lesion_d2.convert.pairs import find_pairs
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


@pytest.mark.parametrize("resize", ["none", 32])
def test_nothing_is_written_through_a_link_to_an_original(resize, tmp_path):
    archive = make_archive(tmp_path, 4)
    before = folder_bytes(archive.images)
    with output_folder(archive.output, overwrite=False) as folder:
        for path in archive.images.iterdir():  # as a second process would
            (folder / "images" / path.name).hardlink_to(path)
        settings = PairSettings(folder / "images", Fraction(1), resize, 255, False, False)
        for pair in find_pairs(archive.images, archive.masks)[0]:
            with pytest.raises(FileExistsError):
                convert_pair(pair, settings)
    assert folder_bytes(archive.images) == before


def test_a_second_process_is_refused(tmp_path):
    archive = make_archive(tmp_path, 2)
    with suppress(KeyboardInterrupt), output_folder(archive.output, overwrite=False):
        with pytest.raises(LesionError, match="another process"):
            convert(archive.options())
        raise KeyboardInterrupt
    convert(archive.options())
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("rename", [1, 2])
def test_a_failure_at_a_rename_leaves_the_earlier_data_set(rename, tmp_path, monkeypatch):
    archive = make_archive(tmp_path, 3)
    convert(archive.options())
    before = folder_bytes(tmp_path)
    original, calls = Path.rename, []

    def fail(self, target):
        calls.append(self)
        if len(calls) == rename:
            raise OSError(errno.EBUSY, "Device or resource busy", str(self))
        return original(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="busy"):
        convert(archive.options(overwrite=True, seed=4))
    monkeypatch.undo()
    assert folder_bytes(tmp_path) == before


def test_a_kill_between_the_renames_is_mended_by_the_next_run(tmp_path):
    archive = make_archive(tmp_path, 3)
    convert(archive.options())
    before = folder_bytes(archive.output)
    archive.output.rename(tmp_path / ".converted.replaced")
    (tmp_path / ".converted.partial").mkdir()
    with pytest.raises(LesionError, match="not empty"):
        convert(archive.options())
    assert folder_bytes(archive.output) == before
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    "name", ["mine.txt", "images/mine.jpg", "images/ISIC_0000000.png", "images/sub/mine.jpg", "x/y"]
)
def test_overwrite_deletes_what_the_data_set_lists_and_nothing_else(name, tmp_path):
    archive = make_archive(tmp_path, 2)
    convert(archive.options())
    path = archive.output / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"mine")
    before = folder_bytes(tmp_path)
    with pytest.raises(LesionError, match="|".join((name, "images/sub", "x"))):
        convert(archive.options(overwrite=True))
    assert folder_bytes(tmp_path) == before


def test_a_file_that_comes_during_the_conversion_is_kept(tmp_path, monkeypatch):
    archive = make_archive(tmp_path, 2)
    convert(archive.options())
    mine = archive.output / "mine.txt"
    monkeypatch.setattr(
        "lesion_d2.commands.convert.write_audit", lambda *_: mine.write_text("kept")
    )
    with pytest.raises(LesionError, match=r"mine\.txt"):
        convert(archive.options(overwrite=True))
    assert mine.read_text() == "kept"


def test_no_usable_pair_says_why_and_keeps_the_audit(tmp_path):
    archive = Archive(tmp_path)
    for number in range(3):
        (archive.images / f"IMD{number:03d}.bmp").write_bytes(b"BM")
    archive.add(7, image=b"")
    words = r"3 image_without_mask \(IMD000\.bmp\), 1 image_empty_file"
    with pytest.raises(LesionError, match=words):
        convert(archive.options())
    rows = audit_rows(archive.output)
    assert [row["reason"] for row in rows].count("image_without_mask") == 3
    archive.add(1)
    assert sum(convert(archive.options()).splits.values()) == 1  # the audit alone is no obstacle

    before = folder_bytes(archive.output)
    (archive.images / "ISIC_0000001.jpg").unlink()
    with pytest.raises(LesionError, match="mask_without_image"):
        convert(archive.options(overwrite=True))
    assert folder_bytes(archive.output) == before
