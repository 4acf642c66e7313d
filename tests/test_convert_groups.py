"""Splits that are given as lists, and tables of images that belong together."""

import json
from pathlib import PurePosixPath

import pytest
from convert_archive import audit_rows, make_archive, split_ids

from lesion_d2.commands.convert import convert
from lesion_d2.convert.groups import read_groups
from lesion_d2.data.manifest import read_manifest
from lesion_d2.errors import LesionError

IDS = [f"ISIC_{number:07d}" for number in range(12)]
LISTS = {"train": IDS[:6], "val": [f"{name}.jpg" for name in IDS[6:8]], "test": IDS[8:11]}


def as_json(tmp_path):
    path = tmp_path / "lists.json"
    path.write_text(json.dumps(LISTS))
    return path


def as_folder(tmp_path):
    folder = tmp_path / "lists"
    folder.mkdir()
    for split, names in LISTS.items():
        (folder / f"{split}.txt").write_text("\ufeff" + "\r\n".join(names) + "\n\n", "utf-8")
    return folder


@pytest.mark.parametrize("write", [as_json, as_folder])
def test_lists_of_ids(write, tmp_path):
    archive = make_archive(tmp_path)
    convert(archive.options(split_file=write(tmp_path)))
    expected = {"train": IDS[:6], "val": IDS[6:8], "test": IDS[8:11]}
    assert split_ids(archive.output) == expected
    rows = [(row["isic_id"], row["reason"]) for row in audit_rows(archive.output)]
    assert rows == [(IDS[11], "not_in_split_file")]
    manifest = read_manifest(archive.output / "split.json")
    assert (manifest.seed, manifest.splits) == (None, expected)


@pytest.mark.parametrize(
    "lists", [{"train": [1]}, {"train": "a"}, {"train": ["a"], "val": ["a"]}, {"train": []}]
)
def test_lists_that_are_none(lists, tmp_path):
    path = tmp_path / "lists.json"
    path.write_text(json.dumps(lists))
    with pytest.raises(LesionError, match=r"lists\.json: not a split manifest"):
        read_manifest(path)


def test_a_folder_without_lists(tmp_path):
    with pytest.raises(LesionError, match="no id is in it"):
        read_manifest(tmp_path)


def table(tmp_path, lines):
    path = tmp_path / "groups.csv"
    path.write_text("\n".join(lines), "utf-8-sig")
    return path


def test_images_of_a_group_stay_together(tmp_path):
    archive = make_archive(tmp_path)
    # HAM10000's columns; the last image has no line.
    lines = [
        "lesion_id,image_id,dx",
        *(f"HAM_{n % 3},{name},nv" for n, name in enumerate(IDS[:11])),
    ]
    for seed in range(5):
        options = {"groups": table(tmp_path, lines), "seed": seed, "overwrite": True}
        convert(archive.options(**options))
        splits = {
            name: split for split, names in split_ids(archive.output).items() for name in names
        }
        assert all(len({splits[name] for name in IDS[:11][n::3]}) == 1 for n in range(3))
    groups = read_manifest(archive.output / "split.json").groups
    assert groups == [IDS[:11][n::3] for n in range(3)]
    rows = [(row["isic_id"], row["reason"]) for row in audit_rows(archive.output)]
    assert rows == [(IDS[11], "not_in_groups_file")]


def test_patients_join_lesions(tmp_path):
    archive = make_archive(tmp_path, 4)
    lines = ["isic_id;lesion_id;patient_id", f"{IDS[0]};a;p", f"{IDS[1]}.jpg;a;", f"{IDS[2]};b;p",
             f"{IDS[3].lower()};;"]  # fmt: skip
    convert(archive.options(groups=table(tmp_path, lines)))
    assert read_manifest(archive.output / "split.json").groups == [IDS[:3]]


@pytest.mark.parametrize("word", ["NA", "nan", "None", "unknown", " N/A ", "?"])
def test_a_word_for_a_missing_value_is_no_group(word, tmp_path):
    archive = make_archive(tmp_path, 6)
    lines = ["image_id,patient_id", f"{IDS[0]},1", f"{IDS[1]},1"]
    lines += [f"{name},{word}" for name in IDS[2:6]]
    convert(archive.options(groups=table(tmp_path, lines)))
    assert read_manifest(archive.output / "split.json").groups == [IDS[:2]]


PLACES = {
    "p1/l": "p1/l",
    "p2/l": "p2/l",
    "m": "p1/m",
    "x9": "p1/x9",
    "id": "p3/id_img",
    "top": "top",
}


@pytest.mark.parametrize(
    ("name", "found"),
    [
        *(("p1/l.jpg", "p1/l"), ("im/p1/l.jpg", "p1/l"), ("/data/im/p2/l", "p2/l"), ("l", None)),
        *(("P1\\M.JPG", "m"), ("m.jpg", "m"), ("im/p1/m", "m"), ("p2/m", None)),
        *(("p2/x9.jpg", None), ("x9", "x9"), ("id", "id"), ("id_img.png", "id"), ("./top", "top")),
        *(("any/top.jpg", "top"), ("op", None), ("", None)),
    ],
)
def test_names_of_a_table_and_places_of_images(name, found, tmp_path):
    places = {isic_id: PurePosixPath(place) for isic_id, place in PLACES.items()}
    sure = "p1/l" if found == "p2/l" else "p2/l"
    path = table(tmp_path, ["image,group", f"{sure},1", f"{name},1"])
    edges, others = read_groups(path, places)
    assert edges == ([(sure, found)] if found else [])
    assert others == sorted(set(PLACES) - {sure, found})


def test_two_names_of_a_table_for_one_image(tmp_path):
    path = table(tmp_path, ["image,group", "p1/top,1", "p2/top,2"])
    with pytest.raises(LesionError, match=r"groups\.csv: p1/top and p2/top could both be .* top;"):
        read_groups(path, {"top": PurePosixPath("top")})


def test_images_that_the_table_does_not_name_are_asked_about(tmp_path):
    archive = make_archive(tmp_path, 4)
    lines = ["image_id,group", f"{IDS[0]},a", f"{IDS[1]},a"]
    question, _ = str(convert(archive.options(groups=table(tmp_path, lines)))).splitlines()
    assert question.startswith("question: 2 images are not in the table of --groups")


def test_a_split_that_groups_leave_short_is_asked_about(tmp_path):
    archive = make_archive(tmp_path)
    lines = ["image_id,group", *(f"{name},{number // 6}" for number, name in enumerate(IDS))]
    summary = convert(archive.options(groups=table(tmp_path, lines)))
    assert summary.splits == {"train": 12, "val": 0, "test": 0}
    test, val, _ = str(summary).splitlines()
    assert test.startswith("question: test lacks 3 of 3 images")
    assert val.startswith("question: val lacks 3 of 3 images")


def test_a_table_of_groups_is_no_search_for_near_duplicates(tmp_path):
    archive = make_archive(tmp_path)
    lines = ["image_id,group", *(f"{name},{name}" for name in IDS)]
    convert(archive.options(groups=table(tmp_path, lines), group=False))
    assert not read_manifest(archive.output / "split.json").grouped


@pytest.mark.parametrize(
    "cells",
    [
        '"naevus, ""blue"" type","{0}","{1}"',
        '"a ""quoted"", word" ,{0},{1}',
        '"two\nlines, ""one"" cell", {0}, "{1}"',
        "3' wide,{0},{1}",
    ],
)
@pytest.mark.parametrize("head", ["note,image_id,group", '"note", "image_id", "group"'])
def test_quotes_of_a_table(head, cells, tmp_path):
    archive = make_archive(tmp_path, 4)
    lines = [cells.format(name, group) for name, group in zip(IDS[:4], "aabb", strict=True)]
    convert(archive.options(groups=table(tmp_path, [head, *lines])))
    assert read_manifest(archive.output / "split.json").groups == [IDS[:2], IDS[2:4]]


def test_a_group_across_given_splits_is_noted(tmp_path):
    archive = make_archive(tmp_path, 4)
    lists = tmp_path / "lists.json"
    lists.write_text(json.dumps({"train": IDS[:2], "test": IDS[2:4]}))
    lines = ["image,group", *(f"{name},{group}" for name, group in zip(IDS, "aabb", strict=False))]
    convert(archive.options(split_file=lists, groups=table(tmp_path, lines)))
    assert audit_rows(archive.output) == []
    lines[2] = f"{IDS[1]},b"
    convert(archive.options(split_file=lists, groups=table(tmp_path, lines), overwrite=True))
    rows = [(row["isic_id"], row["reason"], row["action"]) for row in audit_rows(archive.output)]
    assert rows == [(name, "group_across_splits", "accepted") for name in IDS[1:4]]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([], "CSV|columns"),
        (["image_id,dx", f"{IDS[0]},nv"], "it needs image_id"),
        (["lesion_id,dx", "a,nv"], "it needs image_id"),
        (["image_id,lesion_id", "other,a"], "names none of the images"),
        (["\0"], "columns|CSV"),
    ],
)
def test_tables_that_cannot_be_used(lines, words, tmp_path):
    archive = make_archive(tmp_path, 2)
    with pytest.raises(LesionError, match=words):
        convert(archive.options(groups=table(tmp_path, lines)))
    with pytest.raises(LesionError, match=r"none\.csv: cannot be read"):
        convert(archive.options(groups=tmp_path / "none.csv"))
    assert not archive.output.exists()
