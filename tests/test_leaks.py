"""The leak search: its search, its figures and what it refuses."""

import csv
import json
import re
from pathlib import Path

import pytest
from figure_files import texts
from leak_files import OWN, make_dataset, near, number, picture, repacked

from lesion_d2.commands.find_leaks import find_leaks
from lesion_d2.errors import LesionError
from lesion_d2.leaks import find_twins, read_images, sheet_figures


def found(folders, workers=1):
    """For each pair: kind, ids, hash distance and score."""
    return [
        (t.kind, t.first.image.image_id, t.second.image.image_id, t.hash_distance, t.score)
        for t in find_twins(read_images(folders), workers)
    ]


# --- the search


@pytest.mark.parametrize("workers", [1, 2])
def test_every_planted_pair_is_found_once_with_its_strongest_kind(planted_dataset, workers):
    pairs = found([planted_dataset], workers)
    assert [(kind, first, second) for kind, first, second, *_ in pairs[:4]] == [
        ("same_bytes", 0, 90),
        ("same_bytes", 4, 10),
        ("same_pixels", 1, 91),
        ("same_pixels", 5, 11),
    ]
    assert {pair[3:] for pair in pairs[:4]} == {(0, None)}
    assert {pair[:3] for pair in pairs[4:]} == {
        ("near_duplicate", 2, 92),
        ("near_duplicate", 3, 31),
        ("near_duplicate", 6, 12),
    }
    scores = [score for *_, score in pairs[4:]]
    assert scores == sorted(scores, reverse=True)
    assert min(scores) >= 19


def test_a_near_duplicate_is_one_of_every_copy_of_an_image(tmp_path):
    copies = {20 + i: OWN[0] if i % 2 else repacked(0) for i in range(9)}
    others = {seed: OWN[seed] for seed in range(1, 6)}
    folder = make_dataset(tmp_path / "a", train=others, val=copies, test={50: near(0)})
    pairs = found([folder])
    assert len([pair for pair in pairs if pair[0] == "same_bytes"]) == 6 + 10  # of 4 and of 5
    assert len([pair for pair in pairs if pair[0] == "same_pixels"]) == 4 * 5
    near_pairs = [pair for pair in pairs if pair[0] == "near_duplicate"]
    assert [pair[1:3] for pair in near_pairs] == [(image_id, 50) for image_id in copies]
    assert len({pair[3:] for pair in near_pairs}) == 1


def test_one_id_in_two_splits_is_two_images(tmp_path):
    folder = make_dataset(tmp_path / "a", train={0: OWN[0]}, test={0: OWN[0]})
    assert found([folder]) == [("same_bytes", 0, 0, 0, None)]


# --- what is written


def test_the_search_counts_each_pair_of_splits(planted_dataset, tmp_path):
    result = find_leaks(planted_dataset, output=tmp_path, sheets=0)
    assert result.leaks == 4
    assert [path.name for path in result.files] == ["leaks.json", "leaks.csv"]
    one = dict.fromkeys(("same_bytes", "same_pixels", "near_duplicate"), 1)
    none = dict.fromkeys(one, 0)
    assert json.loads((tmp_path / "leaks.json").read_text()) == {
        "format": 1,
        "images": {"planted_train": 11, "planted_val": 1, "planted_test": 5},
        "leaks": [
            {"first": "planted_train", "second": "planted_val", **none, "near_duplicate": 1},
            {"first": "planted_train", "second": "planted_test", **one},
            {"first": "planted_val", "second": "planted_test", **none},
        ],
        "inside_one_split": one,
        "training": "planted_train",
        "with_twin_in_training": {
            "planted_val": {"images": 1, "with_twin": 1, "share": 1.0},
            "planted_test": {"images": 5, "with_twin": 3, "share": 0.6},
        },
    }
    with open(tmp_path / "leaks.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["kind"], row["first_id"], row["second_id"]) for row in rows[:2]] == [
        ("same_bytes", number(4), number(10)),
        ("same_pixels", number(5), number(11)),
    ]
    assert rows[0] == {
        "kind": "same_bytes", "hash_distance": "0", "score": "",
        "first_dataset": "planted", "first_split": "train", "first_id": number(4),
        "second_dataset": "planted", "second_split": "test", "second_id": number(10),
    }  # fmt: skip
    assert {row["second_id"] for row in rows[2:]} == {number(12), number(31)}
    said = str(result)
    assert "planted_test: 3 of 5 images (60.0%) have a twin in planted_train" in said
    assert re.search(r"^planted_train - planted_test +1 +1 +1$", said, re.M)
    assert re.search(r"^inside one split \(no leak\) +1 +1 +1$", said, re.M)
    assert "\n4 leaks\n" in said


def test_copies_inside_one_split_are_no_leak(clean_dataset, tmp_path):
    result = find_leaks(clean_dataset, output=tmp_path)
    assert result.leaks == 0
    assert result.summary["inside_one_split"]["same_bytes"] == 1
    assert (tmp_path / "leaks.csv").read_text().count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["leaks.csv", "leaks.json"]


def test_a_second_data_set_is_searched_against_the_training(clean_dataset, tmp_path):
    external = make_dataset(
        tmp_path / "external", test={70: near(0), 71: near(3), 72: picture(72), 2: picture(73)}
    )
    result = find_leaks(clean_dataset, external, output=tmp_path / "out", sheets=0)
    leaks = {(row["first"], row["second"]): row for row in result.summary["leaks"]}
    assert leaks["clean_train", "external_test"]["near_duplicate"] == 2  # both copies of image 0
    assert leaks["clean_test", "external_test"]["near_duplicate"] == 1
    assert sum(row["near_duplicate"] for row in leaks.values()) == result.leaks == 3
    assert result.summary["with_twin_in_training"]["external_test"] == {
        "images": 4, "with_twin": 1, "share": 0.25
    }  # fmt: skip
    assert "external_train" not in str(result)  # it holds no image


# --- the sheets


def test_sheets_show_both_images_of_each_pair(planted_dataset):
    pairs = find_twins(read_images([planted_dataset]), 1)
    (figure,) = sheet_figures(pairs, 1)
    said = texts(figure)
    assert "pairs across splits, 1 to 7 of 7" in said
    assert f"same bytes\n{number(0)}\nplanted_train\n" in said
    assert f"0 bits differ\n{number(90)}\nplanted_train" in said
    assert f"near duplicate, score {pairs[-1].score}" in said
    shown = [ax.images[0].get_array() for ax in figure.axes if ax.images]
    assert len(shown) == 14
    assert {image.shape for image in shown} == {(188, 250, 3)}  # no larger than the panel


def test_pairs_are_paged_up_to_the_limit(planted_dataset, monkeypatch):
    monkeypatch.setattr("lesion_d2.leaks.PAIRS_A_SHEET", 3)
    pairs = find_twins(read_images([planted_dataset]), 1)
    for limit, last in ((0, []), (2, ["1 to 3", "4 to 6"]), (9, ["1 to 3", "4 to 6", "7 to 7"])):
        titles = [figure.get_suptitle() for figure in sheet_figures(pairs, limit)]
        assert titles == [f"pairs across splits, {part} of 7" for part in last]


# --- mistakes


def test_two_data_sets_of_one_name_are_refused(clean_dataset, tmp_path):
    other = make_dataset(tmp_path / "clean", test={0: OWN[0]})
    with pytest.raises(LesionError, match="is called clean like the other data set"):
        find_leaks(clean_dataset, other, output=tmp_path / "out")
    (tmp_path / "link").symlink_to(other)
    found = find_leaks(clean_dataset, tmp_path / "link", output=tmp_path / "out", sheets=0)
    assert found.leaks == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"against": Path("nowhere")}, "nowhere/train.json: cannot be read"),
        ({"output": Path(__file__)}, "test_leaks.py: cannot be created .*--output"),
        ({"output": Path(__file__, "x")}, "cannot be created"),
    ],
)
def test_mistakes_are_named_before_the_search(clean_dataset, options, message):
    with pytest.raises(LesionError, match=message):
        find_leaks(clean_dataset, **options)
