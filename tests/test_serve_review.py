"""Reviewing predictions: what is shown, and what is on disk when."""

import csv
import hashlib
import os
import re
import resource
import shutil

import cv2
import httpx2
import numpy as np
import pytest
from serving import running

from lesion_d2.commands.convert import ConvertOptions, convert
from lesion_d2.errors import LesionError
from lesion_d2.files import write_csv
from lesion_d2.images.fill import fill_rings
from lesion_d2.results.predictions import COLUMNS
from lesion_d2.synthetic import render
from lesion_d2.web.app import review_app
from lesion_d2.web.review import Review

ESTIMATES = {"ISIC_0000001": 0.9, "deep/ISIC_0000002": 0.3, "ISIC_0000003": 0.7, "ISIC_0000004": 0}
SHA = "0" * 64


@pytest.fixture
def folders(tmp_path):
    """Photographs, and predictions of them as tools/predict.py writes them; the last is empty."""
    photographs, predictions = tmp_path / "photographs", tmp_path / "predictions"
    predictions.mkdir()
    (predictions / "settings.json").write_text(f'{{"weights_sha256": "{SHA}"}}')
    with open(predictions / "predictions.csv", "w", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS, restval="0")
        writer.writeheader()
        for index, (name, estimated) in enumerate(ESTIMATES.items()):
            image, mask = render(7, index, 96, 128)
            photograph = photographs / f"{name}.jpg"
            photograph.parent.mkdir(parents=True, exist_ok=True)
            photograph.write_bytes(cv2.imencode(".jpg", image)[1].tobytes())
            path = predictions / "masks" / f"{name}_segmentation.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), mask if estimated else np.zeros_like(mask))
            row = {"file": str(photograph), "mask": str(path.relative_to(predictions))}
            state = photograph.stat()
            row |= {"file_bytes": state.st_size, "file_modified_ns": state.st_mtime_ns}
            writer.writerow({**row, "estimated_iou": estimated, "seconds": "1"})
    return photographs, predictions


@pytest.fixture
def review(folders):
    return Review(folders[1], folders[0])


def hashes(folder):
    return {
        path.relative_to(folder): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and "reviewed" not in path.relative_to(folder).parts
    }


def rows(folders):
    with open(folders[1] / "reviewed" / "review.csv", newline="") as stream:
        return list(csv.DictReader(stream))


def reviewed(folders):
    masks = folders[1] / "reviewed" / "masks"
    return {
        str(path.relative_to(masks)).removesuffix("_segmentation.png"): cv2.imread(str(path), -1)
        for path in masks.rglob("*.png")
    }


def test_the_least_sure_come_first(review):
    names = [item.name for item in review.items]
    assert names == sorted(ESTIMATES, key=ESTIMATES.get)
    assert review.left_out == []


def test_a_decision_is_on_disk_when_it_is_answered(folders):
    before = [hashes(folder) for folder in folders]
    review = Review(folders[1], folders[0])
    square = [[10, 10], [30, 10], [30, 40.2], [10, 40.2]]
    with review.alone(), running(review_app(review)) as url:
        listed = httpx2.get(f"{url}/api/review").json()
        assert [item["word"] for item in listed] == ["unsure", "unsure", "look again", "sure"]
        for number, content, count in [
            (0, {"decision": "reject"}, 0),
            (1, {"decision": "accept"}, 1),
            (2, {"decision": "correct", "rings": [square]}, 2),
            (3, {"decision": "accept"}, 3),
            (3, {"decision": "reject"}, 2),
        ]:
            answer = httpx2.post(f"{url}/api/review/{number}", json=content)
            assert answer.json()["decision"] == content["decision"]
            assert rows(folders)[-1]["decision"] == content["decision"]
            assert len(reviewed(folders)) == count
        kept = httpx2.post(f"{url}/api/review/2", json={"decision": "accept"})
        assert kept.json()["decision"] == "correct"  # what is shown is accepted
        assert httpx2.get(f"{url}/api/review/2").json()["area_pixels"] == 20 * 30
        listed = httpx2.get(f"{url}/api/review").json()
        assert [i["decision"] for i in listed] == ["reject", "accept", "correct", "reject"]
        shown = httpx2.get(f"{url}/api/review/1/picture")
        assert cv2.imdecode(np.frombuffer(shown.content, np.uint8), 1).shape == (96, 128, 3)
    assert [hashes(folder) for folder in folders] == before
    masks = reviewed(folders)
    np.testing.assert_array_equal(masks["ISIC_0000003"] == 255, fill_rings([square], (96, 128)))
    predicted = folders[1] / "masks" / "deep" / "ISIC_0000002_segmentation.png"
    row = rows(folders)[1]
    assert row["predicted_sha256"] == hashlib.sha256(predicted.read_bytes()).hexdigest()
    assert row["reviewed_sha256"] == row["predicted_sha256"]
    assert row["model_sha256"] == SHA
    photograph = folders[0] / "deep" / "ISIC_0000002.jpg"
    assert row["photograph_sha256"] == hashlib.sha256(photograph.read_bytes()).hexdigest()
    assert row["who"]
    corrected = rows(folders)[2]
    assert corrected["reviewed_sha256"] != corrected["predicted_sha256"]


@pytest.mark.parametrize(
    ("number", "content", "status", "message"),
    [
        (0, {"decision": "accept"}, 422, "nothing is outlined"),
        (0, {"decision": "correct", "rings": []}, 422, "nothing is outlined"),
        (0, {"decision": "correct"}, 422, "rings"),
        (1, {"decision": "accept", "rings": []}, 422, "rings"),
        (1, {"decision": "maybe"}, 422, "accept"),
        (4, {"decision": "accept"}, 404, "0 to 3"),
        (-1, {"decision": "accept"}, 404, "0 to 3"),
    ],
)
def test_what_cannot_be_decided_changes_nothing(folders, review, number, content, status, message):
    with review.alone(), running(review_app(review)) as url:
        answer = httpx2.post(f"{url}/api/review/{number}", json=content)
    assert answer.status_code == status
    assert message in str(answer.json()["detail"])
    assert not (folders[1] / "reviewed" / "review.csv").exists()


def test_a_review_continues(folders, review):
    with review.alone():
        for item, decision in zip(review.items[1:], ["accept", "reject"], strict=False):
            review.decide(item, decision, None)
    again = Review(folders[1], folders[0])
    with again.alone():
        decided = {"deep/ISIC_0000002": "accept", "ISIC_0000003": "reject"}
        assert again.decisions == decided


@pytest.mark.parametrize("decision", ["accept", "correct", "reject"])
@pytest.mark.parametrize("replaced", ["photograph", "predicted", "reviewed"])
def test_a_decision_counts_for_its_files_alone(folders, review, decision, replaced, capsys):
    square = np.zeros((96, 128), bool)
    square[10:30, 10:40] = True
    with review.alone():
        for item in review.items[1:3]:
            review.decide(item, decision, square if decision == "correct" else None)
    masks = folders[1] / "reviewed" / "masks"
    kept = {path: path.read_bytes() for path in masks.rglob("*.png")}
    name = "ISIC_0000003"
    path = {
        "photograph": folders[0] / f"{name}.jpg",
        "predicted": folders[1] / "masks" / f"{name}_segmentation.png",
        "reviewed": masks / f"{name}_segmentation.png",
    }[replaced]
    path.parent.mkdir(parents=True, exist_ok=True)
    before = path.read_bytes() if path.is_file() else b""
    time = path.stat().st_mtime_ns if before else 0
    path.write_bytes(before[:-1] + b"?")  # of the same size
    os.utime(path, ns=(time, time))
    capsys.readouterr()
    again = Review(folders[1], folders[0])
    with again.alone():
        assert again.decisions == {"deep/ISIC_0000002": decision}
    [line] = capsys.readouterr().out.splitlines()
    assert line.startswith(f"undecided: {name}: not as in review.csv: {replaced}_sha256")
    assert not (masks / f"{name}_segmentation.png").exists()
    aside = folders[1] / "reviewed" / "set_aside" / f"{name}_segmentation.1"
    if decision != "reject" or replaced == "reviewed":
        assert line.endswith(str(aside))
        assert aside.read_bytes() == (
            before[:-1] + b"?"
            if replaced == "reviewed"
            else kept[masks / f"{name}_segmentation.png"]
        )
    with again.alone():  # it can be decided again
        again.decide(again.items[2], "reject", None)
    last = Review(folders[1], folders[0])
    with last.alone():
        assert last.decisions == {"deep/ISIC_0000002": decision, name: "reject"}


def test_what_is_set_aside_stays_and_is_never_converted(folders, review, tmp_path):
    reviewed_mask = folders[1] / "reviewed" / "masks" / "ISIC_0000003_segmentation.png"
    with review.alone():
        review.decide(review.items[1], "accept", None)
    for content in (b"first", b"second"):
        reviewed_mask.write_bytes(content)
        with Review(folders[1], folders[0]).alone():
            pass
    aside = folders[1] / "reviewed" / "set_aside"
    found = {path.name: path.read_bytes() for path in aside.iterdir()}
    assert found == {
        "ISIC_0000003_segmentation.1": b"first",
        "ISIC_0000003_segmentation.2": b"second",
    }
    pairs = (folders[0], folders[1] / "reviewed")
    summary = convert(ConvertOptions({"all": pairs}, tmp_path / "converted", group=False))
    assert sum(summary.splits.values()) == 1
    assert "mask_unreadable" not in {row.reason for row in summary.rows}


def test_what_a_kill_has_torn_is_decided_again(folders, review, capsys):
    table = folders[1] / "reviewed" / "review.csv"
    with review.alone():
        review.decide(review.items[1], "accept", None)
        review.decide(review.items[3], "accept", None)
    # The last row is cut, and of another decision only the mask is there.
    table.write_bytes(table.read_bytes()[:-20])
    orphan = folders[1] / "reviewed" / "masks" / "ISIC_0000003_segmentation.png"
    shutil.copy(folders[1] / "masks" / "ISIC_0000003_segmentation.png", orphan)
    again = Review(folders[1], folders[0])
    with again.alone():
        assert again.decisions == {"deep/ISIC_0000002": "accept"}
        assert list(reviewed(folders)) == ["deep/ISIC_0000002"]
        again.decide(again.items[3], "reject", None)
    aside = folders[1] / "reviewed" / "set_aside"
    names = ["ISIC_0000003", "ISIC_0000001"]
    assert capsys.readouterr().out.splitlines() == [
        f"undecided: {name}: review.csv has no row of its mask; the reviewed mask is now "
        f"{aside / name}_segmentation.1"
        for name in names
    ]
    last = Review(folders[1], folders[0])
    with last.alone():
        assert last.decisions == {"deep/ISIC_0000002": "accept", "ISIC_0000001": "reject"}


def test_a_table_torn_at_any_byte_keeps_its_whole_rows(folders, review):
    """Without its newline a row is whole; a torn one never spoils those that follow it."""
    reviewed_folder = folders[1] / "reviewed"
    first, second, third = review.items[1:]
    table = reviewed_folder / "review.csv"
    square = np.zeros((96, 128), bool)
    square[10:30, 10:40] = True
    with review.alone():
        review.decide(first, "accept", None)
        before = table.read_bytes()
        review.decide(second, "correct", square)
        middle = table.read_bytes()
        review.decide(third, "reject", None)
    # As another program quotes it: a tear may leave the quotation mark open.
    whole = middle.replace(b"ISIC_0000003", b'"ISIC_0000003"')
    kept = {first.name: "accept"}
    for end in [*range(len(before), len(whole) + 1, 7), len(whole) - 2, len(whole) - 1]:
        shutil.rmtree(reviewed_folder / "set_aside", ignore_errors=True)
        table.write_bytes(whole[:end])
        mask = reviewed_folder / "masks" / f"{second.name}_segmentation.png"
        mask_bytes = mask.read_bytes()
        again = Review(folders[1], folders[0])
        with again.alone():
            counts = end >= len(whole) - 1
            assert again.decisions == kept | ({second.name: "correct"} if counts else {})
            again.decide(again.items[3], "reject", None)
        last = Review(folders[1], folders[0])
        with last.alone():
            assert last.decisions == again.decisions
        mask.write_bytes(mask_bytes)


def test_a_torn_rejection_is_told_from_a_torn_acceptance(folders, review):
    table = folders[1] / "reviewed" / "review.csv"
    with review.alone():
        review.decide(review.items[1], "accept", None)
        review.decide(review.items[2], "reject", None)
        lines = table.read_bytes().splitlines(keepends=True)
    accepted, rejected = lines[1], lines[2]
    table.write_bytes(lines[0] + accepted + rejected.rstrip(b"\n"))
    again = Review(folders[1], folders[0])
    with again.alone():
        assert again.decisions[review.items[2].name] == "reject"
    # The row of an acceptance that ends before its last hash is not whole.
    table.write_bytes(lines[0] + rejected + accepted[: accepted.rindex(b",") + 1])
    again = Review(folders[1], folders[0])
    with again.alone():
        assert again.decisions == {review.items[2].name: "reject"}
    assert table.read_bytes() == lines[0] + rejected


@pytest.mark.parametrize("decision", ["correct", "reject"])
def test_a_decision_that_cannot_be_written_leaves_the_one_before(folders, review, decision):
    table = folders[1] / "reviewed" / "review.csv"
    first, second = np.zeros((2, 96, 128), bool)
    first[10:30, 10:40] = second[50:60, 50:60] = True
    item = review.items[1]
    with review.alone():
        review.decide(item, "correct", first)
        # Files may not grow beyond what the table has now and half a row, as on a full disk.
        size = table.stat().st_size + 100
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
        try:
            with pytest.raises(OSError, match=r"review\.csv"):
                review.decide(item, decision, second if decision == "correct" else None)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert table.stat().st_size == size  # torn
        np.testing.assert_array_equal(review.mask(item), first)
    again = Review(folders[1], folders[0])
    with again.alone():
        assert again.decisions == {item.name: "correct"}
        np.testing.assert_array_equal(again.mask(item), first)
        again.decide(item, "correct", second)
        np.testing.assert_array_equal(again.mask(item), second)
    assert [row["decision"] for row in rows(folders)] == ["correct", "correct"]


@pytest.mark.parametrize("table", ["predictions.csv", "reviewed/review.csv"])
def test_a_table_that_a_spreadsheet_saved_with_semicolons_is_refused(folders, review, table):
    with review.alone():
        review.decide(review.items[1], "accept", None)
    path = folders[1] / table
    path.write_text(path.read_text().replace(",", ";").rstrip())
    before = hashes(folders[1]), path.read_bytes()
    with (
        pytest.raises(LesionError, match=f"{path}: has semicolons"),
        Review(folders[1], folders[0]).alone(),
    ):
        pass
    assert (hashes(folders[1]), path.read_bytes()) == before
    assert len(reviewed(folders)) == 1


@pytest.mark.parametrize("text", ["0,3", "3000", "nan", "-1", "unsure"])
def test_an_estimate_that_is_no_number_is_named_with_its_table_and_row(folders, text):
    table = folders[1] / "predictions.csv"
    with open(table, newline="") as stream:
        found = list(csv.DictReader(stream))
    found[1]["estimated_iou"] = text
    write_csv(table, COLUMNS, found)
    message = f"{table}: estimated_iou of {found[1]['file']} is '{text}', not a number from 0 to 1"
    with pytest.raises(LesionError, match=re.escape(message)):
        Review(folders[1], folders[0])


@pytest.mark.parametrize("lines", [slice(0, None), slice(0, 1), slice(1, None), slice(2, 3)])
def test_a_table_of_decisions_with_lines_that_end_in_cr_is_refused(folders, review, lines):
    with review.alone():
        for item in review.items[1:]:
            review.decide(item, "accept", None)
    table = folders[1] / "reviewed" / "review.csv"
    written = table.read_bytes().splitlines(keepends=True)
    written[lines] = [line.replace(b"\n", b"\r") for line in written[lines]]
    table.write_bytes(b"".join(written))
    before = table.read_bytes(), hashes(folders[1] / "reviewed")
    problem = f"^{table}: (its lines end in CR|has no column)"
    with pytest.raises(LesionError, match=problem), review.alone():
        pass
    assert (table.read_bytes(), hashes(folders[1] / "reviewed")) == before
    assert len(reviewed(folders)) == 3
    table.write_bytes(table.read_bytes().replace(b"\r", b"\r\n"))  # as a spreadsheet saves it
    with review.alone():
        assert len(review.decisions) == 3


def test_two_reviews_at_a_time_are_refused(folders, review):
    other = Review(folders[1], folders[0])
    with review.alone(), pytest.raises(LesionError, match="another process"), other.alone():
        pass


def test_what_does_not_fit_is_left_out_and_named(folders):
    photographs, predictions = folders
    (photographs / "ISIC_0000001.jpg").unlink()
    (photographs / "ISIC_0000003.jpg").write_bytes(b"another")
    (predictions / "masks" / "ISIC_0000004_segmentation.png").unlink()
    review = Review(predictions, photographs)
    with review.alone():
        assert [item.name for item in review.items] == ["deep/ISIC_0000002"]
        reasons = dict(review.left_out)
    assert "no photograph of this name" in reasons["ISIC_0000001"]
    assert "changed since" in reasons["ISIC_0000003"]
    assert "mask is missing" in reasons["ISIC_0000004"]


def test_a_photograph_of_another_time_is_left_out_unless_a_decision_knows_it(
    folders, review, capsys
):
    photographs, predictions = folders
    names = [item.name for item in review.items]
    _, replaced, decided, undecided = names
    with review.alone():
        for item in review.items[1:3]:
            review.decide(item, "accept", None)
    for name in (replaced, decided, undecided):
        path = photographs / f"{name}.jpg"
        data = path.read_bytes()
        path.write_bytes(data[:-1] + b"?" if name == replaced else data)
        os.utime(path, ns=(1, 1))
    again = Review(predictions, photographs)
    with again.alone():
        assert [item.name for item in again.items] == [names[0], decided]
        assert again.decisions == {decided: "accept"}
    why = "the photograph has changed since; predict it again"
    assert again.left_out == [(name, why) for name in sorted((replaced, undecided))]
    printed = capsys.readouterr()
    assert printed.out.startswith(f"undecided: {replaced}: not as in review.csv: photograph_sha256")
    assert "checking decisions" in printed.err
    assert list(reviewed(folders)) == [decided]


def test_a_link_to_nothing_is_left_out(folders, tmp_path):
    first = Review(folders[1], folders[0]).items[0]
    first.photograph.unlink()
    first.photograph.symlink_to(tmp_path / "nothing")
    review = Review(folders[1], folders[0])
    assert review.left_out == [(first.name, "the photograph is a link to nothing")]


def test_a_copy_has_a_time_of_its_own(folders, tmp_path):
    copy = shutil.copytree(folders[0], tmp_path / "copy", copy_function=shutil.copyfile)
    review = Review(folders[1], copy)
    with review.alone():
        assert (len(review.items), review.left_out) == (len(ESTIMATES), [])


@pytest.mark.parametrize("time", ["1.71235E+18", ""])
def test_a_time_that_another_program_has_rounded_tells_nothing(folders, time):
    table = folders[1] / "predictions.csv"
    with open(table, newline="") as stream:
        found = [{**row, "file_modified_ns": time} for row in csv.DictReader(stream)]
    write_csv(table, COLUMNS, found)
    review = Review(folders[1], folders[0])
    with review.alone():
        assert (len(review.items), review.left_out) == (len(ESTIMATES), [])


def test_nothing_left_to_review_is_said(folders, review):
    for item in review.items:
        os.utime(item.photograph, ns=(1, 1))
    again = Review(folders[1], folders[0])
    with (
        pytest.raises(LesionError, match=r"none can be reviewed; ISIC_0000001: .* changed since"),
        again.alone(),
    ):
        pass


@pytest.mark.parametrize("copied", [False, True])
def test_a_picture_beside_it_that_differs_in_the_suffix_hides_no_photograph(
    folders, tmp_path, copied
):
    photographs, predictions = folders
    if copied:
        photographs = shutil.copytree(photographs, tmp_path / "copy")
    for name in ESTIMATES:
        (photographs / f"{name}.png").write_bytes(b"another")
    review = Review(predictions, photographs)
    assert review.left_out == []
    found = {item.name: item.photograph for item in review.items}
    assert found == {name: photographs / f"{name}.jpg" for name in ESTIMATES}


def test_a_photograph_is_taken_by_its_path_before_its_name(folders):
    photographs, predictions = folders
    (photographs.parent / "ISIC_0000001.jpg").write_bytes(b"another")
    review = Review(predictions, photographs.parent)
    assert review.left_out == []
    found = {item.name: item.photograph for item in review.items}
    assert found == {name: photographs / f"{name}.jpg" for name in ESTIMATES}


def test_folders_without_anything_to_review_are_named(folders, tmp_path):
    photographs, predictions = folders
    with pytest.raises(LesionError, match=r"--review: .*holds no predictions"):
        Review(photographs, photographs)
    for place in (predictions / "masks", tmp_path / "nowhere"):
        with pytest.raises(LesionError, match=f"^--images: {place}: no image there"):
            Review(predictions, place)
    shutil.move(photographs / "deep", tmp_path / "deep")
    with pytest.raises(LesionError, match="none can be reviewed"):
        Review(predictions, tmp_path / "deep")


def test_what_was_reviewed_converts_to_a_data_set(folders, review, tmp_path):
    with review.alone():
        for item in review.items[1:]:
            review.decide(item, "accept", None)
    pairs = (folders[0], folders[1] / "reviewed" / "masks")
    summary = convert(ConvertOptions({"all": pairs}, tmp_path / "reviewed", group=False))
    assert sum(summary.splits.values()) == 3
    assert [row.reason for row in summary.rows] == ["image_without_mask"]
