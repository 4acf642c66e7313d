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
from lesion_d2.files import alone, unescape_name, write_csv
from lesion_d2.images.inputs import find_images
from lesion_d2.results.predictions import COLUMNS, FORMATS, PredictionFolder
from lesion_d2.results.removal import remove_predictions


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
    remove_predictions(PredictionFolder(output))
    assert list(output.iterdir()) == []


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (",", ";", "has semicolons between columns; save it with commas"),
        (",", "\t", "has no column file; put it back, or choose another folder"),
        ("\n", "\r", "its lines end in CR alone; save it with LF"),
        ("mask,", "Maske,", "has no column mask; put it back"),
    ],
)
def test_a_table_that_a_spreadsheet_saved_otherwise(old, new, message, folder, tmp_path):
    output = tmp_path / "out"
    predict(folder, output)
    table = output / "predictions.csv"
    table.write_bytes(table.read_text().replace(old, new).encode())
    before = folder_bytes(output)
    for use in (
        lambda: predict(folder, output),
        lambda: predict(folder, output, (1, 2)),
        lambda: PredictionFolder(output).rows(),
        lambda: remove_predictions(PredictionFolder(output)),
    ):
        with pytest.raises(LesionError, match=rf"predictions.csv: {message}"):
            use()
        assert folder_bytes(output) == before


@pytest.mark.parametrize("column", ["width", "height", "file_bytes", "file_modified_ns"])
def test_a_number_that_a_spreadsheet_rounded(column, folder, tmp_path):
    output = tmp_path / "out"
    predict(folder, output, formats=FORMATS)
    table = output / "predictions.csv"
    found = rows(table)
    found[0][column] = "1.79597E+18"
    write_csv(table, COLUMNS, found)
    (output / "labelme" / "2" / "other.json").write_text("edited by hand")
    before = folder_bytes(output)
    for shard in ((1, 1), (1, 2)):
        message = rf"predictions.csv: {column} of .* is '1.79597E\+18'"
        with pytest.raises(LesionError, match=message):
            predict(folder, output, shard)
        assert folder_bytes(output) == before
    remove_predictions(PredictionFolder(output))
    assert predict(folder, output) == []
    aside = output / "set_aside" / "labelme" / "2" / "other.1"
    assert aside.read_text() == "edited by hand"


def test_a_time_before_1970_is_no_rounded_number(folder, tmp_path):
    os.utime(folder / "1" / "lesion.png", ns=(-1, -1))
    predict(folder, tmp_path / "out")
    assert predict(folder, tmp_path / "out") == []


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
    remove_predictions(PredictionFolder(output))
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
    remove_predictions(PredictionFolder(output, (2, 2)))
    assert check(output) == ["1/lesion", "2/other"]
    remove_predictions(PredictionFolder(output, (1, 2)))
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
    remove_predictions(PredictionFolder(output))
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
    remove_predictions(PredictionFolder(output))
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

    monkeypatch.setattr(PredictionFolder, "write", full)
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


def test_a_renamed_table_loses_nothing(folder, tmp_path):
    output = tmp_path / "out"
    predict(folder, output, formats=FORMATS)
    (output / "labelme" / "1" / "lesion.json").write_text("edited by hand")
    (output / "masks" / "2" / "lesion_segmentation.png").write_text("drawn by hand")
    (output / "overlays" / "2" / "lesion.jpg").write_text("drawn on")
    before = folder_bytes(output / "labelme"), folder_bytes(output / "geojson")
    (output / "predictions.csv").rename(output / "checked.csv")
    assert predict(folder, output, formats=FORMATS) == []
    assert (folder_bytes(output / "labelme"), folder_bytes(output / "geojson")) == before
    assert check(output) == ["1/lesion", "2/lesion", "2/other"]
    assert folder_bytes(output / "set_aside") == {
        "masks/2/lesion_segmentation.1": b"drawn by hand",
        "overlays/2/lesion.1": b"drawn on",
    }


def test_what_was_drawn_before_the_first_prediction_stays(folder, tmp_path):
    output = tmp_path / "out"
    predict(folder / "1", output, formats=["labelme"])
    (output / "labelme" / "other.json").write_text("drawn by hand")
    (folder / "2" / "lesion.png").unlink()
    assert predict(folder / "2", output) == []
    assert (output / "labelme" / "other.json").read_text() == "drawn by hand"
    (folder / "2" / "other.png").write_bytes(b"no image")
    assert len(predict(folder / "2", output)) == 1
    aside = {"labelme/other.1": b"drawn by hand"}
    assert folder_bytes(output / "set_aside") == aside


def test_an_edited_file_of_a_changed_photograph_is_set_aside(folder, tmp_path, capsys):
    output = tmp_path / "out"
    for number in (1, 2):
        edited = output / "geojson" / "2" / "lesion.geojson"
        picture(folder / "2" / "lesion.png", number)
        predict(folder, output, formats=FORMATS)
        edited.write_text(f"edited {number}")
    capsys.readouterr()
    picture(folder / "2" / "lesion.png", 3)
    assert predict(folder, output) == []
    aside = output / "set_aside" / "geojson" / "2" / "lesion.2"
    assert capsys.readouterr().out == f"set aside: {edited} is now {aside}\n"
    assert folder_bytes(output / "set_aside") == {
        "geojson/2/lesion.1": b"edited 1",
        "geojson/2/lesion.2": b"edited 2",
    }


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


@pytest.mark.parametrize("shards", [1, 2])
def test_photographs_that_were_moved_keep_their_rows(shards, folder, tmp_path):
    output = tmp_path / "out"
    for number in range(1, shards + 1):
        predict(folder, output, (number, shards), formats=FORMATS)
    (output / "labelme" / "2" / "other.json").write_text("edited by hand")
    before = folder_bytes(output / "masks")
    stamps = {path: path.stat().st_mtime_ns for path in (output / "masks").rglob("*.png")}
    folder.rename(tmp_path / "moved")
    assert predict(tmp_path / "moved", output, formats=FORMATS) == []
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert folder_bytes(output / "masks") == before
    files = {row["file"] for row in rows(output / "predictions.csv")}
    assert files == {str(path) for path in (tmp_path / "moved").rglob("*.png")}
    assert len(json.loads((output / "predictions.json").read_text())["images"]) == 3
    content = json.loads((output / "labelme" / "1" / "lesion.json").read_text())
    place = output / "labelme" / "1" / content["imagePath"]
    assert place.samefile(tmp_path / "moved" / "1" / "lesion.png")
    assert (output / "labelme" / "2" / "other.json").read_text() == "edited by hand"
    picture(tmp_path / "moved" / "1" / "lesion.png", 3)  # changes after it was moved
    before.pop("1/lesion_segmentation.png")
    for _ in range(2):
        assert predict(tmp_path / "moved", output, formats=FORMATS) == []
        assert before.items() < folder_bytes(output / "masks").items()
        assert len(rows(output / "predictions.csv")) == 3


@pytest.mark.parametrize("closed", ["overlays", "labelme"])
def test_a_result_that_may_not_be_read_is_set_aside(closed, folder, tmp_path, monkeypatch):
    output = tmp_path / "out"
    predict(folder / "1", output, formats=["labelme"])
    if closed == "overlays":
        (output / "predictions.csv").unlink()
    else:
        picture(folder / "1" / "lesion.png", 3)
    read = Path.read_bytes

    def refuse(path):
        if path.parent.name == closed:
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert predict(folder / "1", output) == []
    assert [path.parent.name for path in (output / "set_aside").rglob("*.1")] == [closed]


def test_another_photograph_in_the_place_of_one_that_is_gone(folder, tmp_path):
    predict(folder / "1", tmp_path / "out")
    (folder / "1" / "lesion.png").unlink()
    picture(folder / "2" / "lesion.png", 3)
    ((file, reason),) = predict(folder / "2", tmp_path / "out")
    assert file == folder / "2" / "lesion.png"
    assert f"{folder / '1' / 'lesion.png'}, which is gone; --overwrite" in reason


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
    assert {path.name for path, _ in failed} == {"pipe.png", "gone.png"}
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
