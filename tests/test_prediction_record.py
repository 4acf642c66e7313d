"""The record that a folder of predictions keeps: no row lost, no file of others touched."""

import errno
import json
import os
import sys
import tempfile
from pathlib import Path

import pytest
from convert_archive import folder_bytes
from dark_pixels import DarkPixels, picture, predict, rows
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tiny import load_tool

from lesion_d2.errors import LesionError
from lesion_d2.files import alone, unescape_name
from lesion_d2.images.inputs import find_images
from lesion_d2.results.predictions import FORMATS, PredictionFolder


def check(output):
    """Check that each mask has one row, and each row its mask and overlay; return the names."""
    found = [row for table in output.glob("predictions*.csv") for row in rows(table)]
    masks = {path for path in (output / "masks").rglob("*") if path.is_file()}
    overlays = {path for path in (output / "overlays").rglob("*") if path.is_file()}
    assert masks == {output / unescape_name(row["mask"]) for row in found}
    assert len(found) == len(masks) == len(overlays)
    assert len({row["file"] for row in found}) == len(found)
    assert not list(output.rglob(".*"))
    return sorted(
        row["mask"].removeprefix("masks/").removesuffix("_segmentation.png") for row in found
    )


@pytest.fixture
def folder(tmp_path):
    for name in ("1/lesion.png", "2/lesion.png", "2/other.png"):
        picture(tmp_path / "in" / name)
    return tmp_path / "in"


def test_folders_are_kept(folder, tmp_path):
    assert predict(folder, tmp_path / "out") == []
    assert check(tmp_path / "out") == ["1/lesion", "2/lesion", "2/other"]


@pytest.mark.parametrize("spelling", ["in", "in/1/..", "link"])
def test_another_spelling_of_the_path_adds_no_row(spelling, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(folder)
    predict(folder, tmp_path / "out")
    before = folder_bytes(tmp_path / "out")
    assert predict(spelling, tmp_path / "out") == []
    assert folder_bytes(tmp_path / "out") == before


def test_two_calls_with_equal_names_lose_nothing(folder, tmp_path):
    assert predict(folder / "1", tmp_path / "out") == []
    ((file, reason),) = predict(folder / "2", tmp_path / "out")
    assert file == folder / "2" / "lesion.png"
    assert f"take the place of that of {folder / '1' / 'lesion.png'}" in reason
    assert check(tmp_path / "out") == ["lesion", "other"]
    assert rows(tmp_path / "out" / "failed.csv") == [{"file": str(file), "reason": reason}]
    assert predict(folder / "1", tmp_path / "out") == []
    assert check(tmp_path / "out") == ["lesion", "other"]


def test_names_that_only_seem_to_differ(tmp_path):
    for name in ("a.png", "a.jpg", "a.jpg.png", "A.png"):
        picture(tmp_path / "in" / name, suffix="JPEG" if name.endswith("jpg") else "PNG")
    ((file, reason),) = predict(tmp_path / "in", tmp_path / "out")
    assert file.name == "a.jpg.png"
    assert "take the place" in reason
    assert check(tmp_path / "out") == ["A.png", "a.jpg", "a.png"]


def test_a_changed_photograph_is_done_again(folder, tmp_path):
    predict(folder, tmp_path / "out")
    before = folder_bytes(tmp_path / "out")
    picture(folder / "2" / "lesion.png", 3)
    predict(folder, tmp_path / "out")
    after = folder_bytes(tmp_path / "out")
    assert check(tmp_path / "out") == ["1/lesion", "2/lesion", "2/other"]
    assert {name for name in after if after[name] != before[name] and "csv" not in name} == {
        "masks/2/lesion_segmentation.png",
        "overlays/2/lesion.jpg",
    }


@pytest.mark.parametrize("overlays", [True, False])
def test_nothing_stays_of_a_photograph_that_has_become_unreadable(overlays, folder, tmp_path):
    predict(folder, tmp_path / "out")
    (folder / "1" / "lesion.png").write_bytes(b"no image")
    ((file, _),) = predict(folder, tmp_path / "out", overlays=overlays)
    assert file == folder / "1" / "lesion.png"
    assert check(tmp_path / "out") == ["2/lesion", "2/other"]


@pytest.mark.parametrize("cut", range(1, 40, 3))
def test_a_row_torn_anywhere_is_done_again(cut, tmp_path):
    photographs = tmp_path / "läsion 皮膚"
    for name in ("a.png", "皮膚.png"):
        picture(photographs / name)
    predict(photographs, tmp_path / "out")
    expected = folder_bytes(tmp_path / "out" / "masks")
    table = tmp_path / "out" / "predictions.csv"
    data = table.read_bytes()
    start = data.index("皮膚.png".encode())
    table.write_bytes(data[: start - 3 + cut])
    assert predict(photographs, tmp_path / "out") == []
    assert check(tmp_path / "out") == ["a", "皮膚"]
    assert folder_bytes(tmp_path / "out" / "masks") == expected


def test_a_table_saved_with_a_byte_order_mark_is_read(folder, tmp_path):
    output = tmp_path / "out"
    predict(folder, output)
    table = output / "predictions.csv"
    before = folder_bytes(output / "masks")
    table.write_text("\ufeff" + table.read_text().replace("\n", "\r\n"), encoding="utf-8")
    stamps = {path: path.stat().st_mtime_ns for path in (output / "masks").rglob("*.png")}
    assert predict(folder, output, formats=["coco"]) == []
    assert check(output) == ["1/lesion", "2/lesion", "2/other"]
    assert folder_bytes(output / "masks") == before
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    table.write_text("\ufeff" + table.read_text(), encoding="utf-8")
    PredictionFolder(output).remove()
    assert list(output.iterdir()) == []


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (",", ";", "has semicolons between columns; save it with commas"),
        (",", "\t", "has no column file; put it back, or choose another folder"),
        ("mask,", "Maske,", "has no column mask; put it back"),
    ],
)
def test_a_table_that_a_spreadsheet_saved_otherwise(old, new, message, folder, tmp_path):
    output = tmp_path / "out"
    predict(folder, output)
    table = output / "predictions.csv"
    table.write_text(table.read_text().replace(old, new))
    before = folder_bytes(output)
    for use in (
        lambda: predict(folder, output),
        lambda: predict(folder, output, (1, 2)),
        lambda: PredictionFolder(output).rows(),
        lambda: PredictionFolder(output).remove(),
    ):
        with pytest.raises(LesionError, match=rf"predictions.csv: {message}"):
            use()
        assert folder_bytes(output) == before


def test_overwrite_deletes_what_its_tables_name(folder, tmp_path, monkeypatch):
    output = tmp_path / "out"
    predict(folder, output)
    mine = [
        output / "masks" / "mine.png",
        output / "masks" / "1" / "mine.png",
        output / "notes.txt",
    ]
    for path in mine:
        path.write_text("mine")
    PredictionFolder(output).remove()
    left = {path for path in output.rglob("*") if path.is_file()}
    assert left == {*mine, output / "settings.json"}
    monkeypatch.setattr(DarkPixels, "settings", {"weights_sha256": "another"})
    assert predict(folder, output) == []
    assert len(rows(output / "predictions.csv")) == 3
    assert "another" in (output / "settings.json").read_text()
    assert {path.read_text() for path in mine} == {"mine"}


def test_overwrite_of_a_share_leaves_the_others(folder, tmp_path):
    output = tmp_path / "out"
    for number in (1, 2):
        predict(folder, output, (number, 2))
    assert check(output) == ["1/lesion", "2/lesion", "2/other"]
    PredictionFolder(output, (2, 2)).remove()
    assert check(output) == ["1/lesion", "2/other"]
    PredictionFolder(output, (1, 2)).remove()
    assert list(output.iterdir()) == []


def test_tables_of_other_names_are_the_users_own(folder, tmp_path):
    output = tmp_path / "out"
    predict(folder, output)
    ours = output / "predictions.csv"
    names = ("predictions_with_diagnosis.csv", "predictions_1_of_2_checked.csv")
    mine = [output / name for name in names]
    for path in mine:
        path.write_text(ours.read_text().replace("masks/1/lesion", "masks/2/other"))
    mine += [output / "predictions_with_diagnosis.json", output / "failed_with_diagnosis.csv"]
    mine[-2].write_text("mine")
    mine[-1].write_text("mine")
    before = [path.read_bytes() for path in mine]
    assert PredictionFolder(output).tables == [ours]
    PredictionFolder(output).remove()
    assert [path.read_bytes() for path in mine] == before
    assert {p.name for p in output.iterdir()} == {"settings.json", *(path.name for path in mine)}
    assert predict(folder, output) == []
    assert len(rows(ours)) == 3


@pytest.mark.parametrize(
    "mask", ["../mine_segmentation.png", "masks/../../mine_segmentation.png", "/mine", "mine", ""]
)
def test_a_table_that_names_other_files_deletes_none(mask, folder, tmp_path):
    output = tmp_path / "out"
    predict(folder, output)
    (tmp_path / "mine_segmentation.png").write_text("mine")
    table = output / "predictions.csv"
    table.write_text(table.read_text().replace("masks/1/lesion_segmentation.png", mask))
    before = folder_bytes(tmp_path / "in")
    predict(folder, output)
    assert check(output) == ["1/lesion", "2/lesion", "2/other"]
    PredictionFolder(output).remove()
    assert (tmp_path / "mine_segmentation.png").read_text() == "mine"
    assert folder_bytes(tmp_path / "in") == before


def test_a_second_process_on_the_same_table_is_refused(folder, tmp_path):
    with alone(tmp_path / "out" / "predictions.csv"):
        with pytest.raises(LesionError, match="another process"):
            predict(folder, tmp_path / "out")
        assert predict(folder, tmp_path / "out", (1, 2)) == []
    assert predict(folder, tmp_path / "out") == []
    assert check(tmp_path / "out") == ["1/lesion", "2/lesion", "2/other"]


def odd_error(*_args, **_kwargs):
    raise ZeroDivisionError("of a library")


def test_whatever_one_file_raises_is_a_row(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("lesion_d2.commands.predict.draw_overlay", odd_error)
    failed = predict(folder, tmp_path / "out")
    assert [reason for _, reason in failed] == ["ZeroDivisionError: of a library"] * 3
    assert check(tmp_path / "out") == []
    monkeypatch.undo()
    assert predict(folder, tmp_path / "out") == []
    assert check(tmp_path / "out") == ["1/lesion", "2/lesion", "2/other"]


def test_a_full_disk_stops_and_is_no_row(folder, tmp_path, monkeypatch):
    def full(*_args):
        raise OSError(28, "No space left on device", "mask.png")

    monkeypatch.setattr("lesion_d2.commands.predict.write_mask", full)
    with pytest.raises(OSError, match="No space"):
        predict(folder, tmp_path / "out")


def test_a_photograph_that_may_not_be_looked_at_is_a_row(folder, tmp_path, monkeypatch):
    stat = Path.stat

    def refuse(path, **options):
        if path == folder / "1" / "lesion.png":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", refuse)
    ((file, reason),) = predict(folder, tmp_path / "out")
    assert (file, reason) == (folder / "1" / "lesion.png", "Permission denied")
    assert check(tmp_path / "out") == ["2/lesion", "2/other"]


@pytest.mark.parametrize(
    ("good", "bad", "status"), [(1, 0, 0), (1, 1, 2), (0, 1, 1)], ids=["all", "some", "none"]
)
def test_the_exit_status(good, bad, status, tmp_path, monkeypatch):
    for number in range(good + bad):
        picture(tmp_path / "in" / f"{number}.png")
        if number >= good:
            (tmp_path / "in" / f"{number}.png").write_bytes(b"no image")
    pretrained = "lesion_d2.prediction.predictor.LesionPredictor.pretrained"
    monkeypatch.setattr(pretrained, lambda _: DarkPixels())
    arguments = ["--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["predict.py", *arguments])
    assert load_tool("predict").main() == status


@pytest.mark.parametrize("name", ["n" * 236, "n" * 251, "ж" * 120, "皮" * 80])
def test_long_names(name, tmp_path):
    picture(tmp_path / "in" / f"{name}.png")
    picture(tmp_path / "in" / "short.png")
    fits = len(f"{name}_segmentation.png".encode()) <= 255
    failed = predict(tmp_path / "in", tmp_path / "out")
    assert [(path.stem, reason) for path, reason in failed] == (
        [] if fits else [(name, "File name too long")]
    )
    assert check(tmp_path / "out") == sorted(["short", name] if fits else ["short"])


def test_pipes_broken_links_and_folders_of_an_image_s_name(tmp_path):
    photographs = tmp_path / "in"
    picture(photographs / "good.png")
    picture(photographs / "folder.png" / "inside.png")
    os.mkfifo(photographs / "pipe.png")
    (photographs / "gone.png").symlink_to(tmp_path / "nowhere")
    picture(photographs / "._good.png")
    failed = predict(photographs, tmp_path / "out")
    assert {path.name for path, _ in failed} == {"pipe.png", "nowhere"}
    assert check(tmp_path / "out") == ["folder.png/inside", "good"]


def test_the_output_inside_the_input(folder):
    for _ in range(3):
        assert predict(folder, folder / "out") == []
        assert check(folder / "out") == ["1/lesion", "2/lesion", "2/other"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.binary(min_size=1, max_size=30).filter(
            lambda name: not {0, 47} & {*name} and not name.startswith(b".")
        ),
        min_size=1,
        max_size=4,
        unique=True,
    )
)
@example([b"caf\xe9", b"caf\xe9\\xe9", b"a\nb", b"\xff\xfe"])
def test_names_of_any_bytes(names):
    with tempfile.TemporaryDirectory() as root:
        photographs, output = Path(root, "in"), Path(root, "out")
        for name in names:
            picture(photographs / os.fsdecode(name + b".png"))
        files = find_images([str(photographs)])
        assert {os.fsencode(file.path.name) for file in files} == {name + b".png" for name in names}
        for _ in range(2):
            assert predict(photographs, output, formats=FORMATS) == []
            check(output)
            coco = json.loads((output / "predictions.json").read_text())
            found = {os.fsencode(image["file_name"]) for image in coco["images"]}
            assert found == {name + b".png" for name in names}
            for path in (output / "labelme").iterdir():
                image = path.parent / json.loads(path.read_text())["imagePath"]
                assert image.name.removesuffix(".png") == path.name.removesuffix(".json")
                assert image.is_file()
            table = rows(output / "predictions.csv")
            assert {unescape_name(row["file"]) for row in table} == {str(f.path) for f in files}
