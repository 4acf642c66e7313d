"""Dealing ids into splits, and the manifest."""

import json
from pathlib import Path

import numpy as np
import pytest

from lesion_d2.convert.split import deal, fingerprint
from lesion_d2.data.manifest import read_input_fingerprint, read_manifest
from lesion_d2.errors import LesionError


def make_ids(count):
    return [f"ISIC_{number:07d}" for number in range(count)]


def sizes(splits):
    return [len(splits[split]) for split in ("train", "val", "test")]


def test_sizes_of_the_seed():
    assert sizes(deal(make_ids(2594), [], 0, 0.25, 0.25)) == [1458, 487, 649]


@pytest.mark.parametrize("seed", range(5))
def test_groups_never_straddle_and_sizes_stay_exact(seed):
    ids = make_ids(2594)
    rng = np.random.default_rng(seed)
    shuffled = [ids[i] for i in rng.permutation(len(ids))[:300]]
    groups = [shuffled[i : i + 3] for i in range(0, 150, 3)]
    groups += [shuffled[i : i + 2] for i in range(150, 300, 2)]
    splits = deal(ids, groups, seed, 0.25, 0.25)
    assert sizes(splits) == [1458, 487, 649]
    assert sorted(i for members in splits.values() for i in members) == ids
    for group in groups:
        assert sum(not set(group).isdisjoint(members) for members in splits.values()) == 1


def test_order_of_ids_and_groups_does_not_matter():
    ids, groups = make_ids(50), [["ISIC_0000003", "ISIC_0000007"], ["ISIC_0000001", "ISIC_0000009"]]
    turned = [group[::-1] for group in groups[::-1]]
    assert deal(ids, groups, 1, 0.3, 0.2) == deal(ids[::-1], turned, 1, 0.3, 0.2)


def test_seed_matters_and_the_deal_is_fixed_for_ever():
    ids = make_ids(12)
    assert deal(ids, [], 0, 0.25, 0.25) != deal(ids, [], 1, 0.25, 0.25)
    # Written down once: a change here would re-deal every published split.
    assert deal(ids, [], 0, 0.25, 0.25)["test"] == ["ISIC_0000002", "ISIC_0000004", "ISIC_0000008"]


@pytest.mark.parametrize(
    ("count", "test", "val", "expected"),
    [
        (1, 0.25, 0.25, [0, 0, 1]),
        (10, 0, 0, [10, 0, 0]),
        (10, 1, 0.25, [0, 0, 10]),
        (10, 0.1, 0.1, [8, 1, 1]),
        (100, 0.07, 0.29, [66, 27, 7]),
    ],
)
def test_held_out_parts_are_rounded_up(count, test, val, expected):
    assert sizes(deal(make_ids(count), [], 0, test, val)) == expected


def test_a_group_too_large_for_the_held_out_parts_goes_to_train():
    ids = make_ids(8)
    splits = deal(ids, [ids[:5]], 0, 0.25, 0.25)
    assert set(ids[:5]) <= set(splits["train"])


def test_fingerprint_ignores_order_and_sees_content():
    assert fingerprint(["a 1 2", "b 3 4"]) == fingerprint(["b 3 4", "a 1 2"])
    assert fingerprint(["a 1 2"]) != fingerprint(["a 1 3"])


GOOD = {
    "format": 1,
    "seed": 0,
    "test_fraction": 0.25,
    "val_fraction": 0.25,
    "grouped": True,
    "input_fingerprint": "x",
    "splits": {"train": ["a"], "val": ["b"], "test": ["c"]},
    "groups": [],
}


def test_good_manifest(tmp_path):
    path = tmp_path / "split.json"
    path.write_text(json.dumps(GOOD))
    assert read_manifest(path).split_of() == {"a": "train", "b": "val", "c": "test"}
    assert read_input_fingerprint(tmp_path) == "x"


def test_an_earlier_manifest_and_a_byte_order_mark(tmp_path):
    earlier = {key.removeprefix("input_"): value for key, value in GOOD.items()}
    path = tmp_path / "split.json"
    path.write_text("\ufeff" + json.dumps(earlier), encoding="utf-8")
    assert read_manifest(path).input_fingerprint == read_input_fingerprint(tmp_path) == "x"


@pytest.mark.parametrize("content", [None, "{}", "[]"])
def test_a_data_set_of_another_tool_has_no_fingerprint(content, tmp_path):
    if content:
        (tmp_path / "split.json").write_text(content)
    assert read_input_fingerprint(tmp_path) is None


@pytest.mark.parametrize(
    "content",
    [
        "no json",
        "[]",
        "{}",
        json.dumps({**GOOD, "format": 2}),
        json.dumps({**GOOD, "splits": {"train": []}}),
        json.dumps({**GOOD, "splits": {"train": ["a"], "val": ["a"], "test": []}}),
        json.dumps({key: GOOD[key] for key in GOOD if key != "seed"}),
    ],
)
def test_bad_manifest(content, tmp_path):
    path = tmp_path / "split.json"
    path.write_text(content)
    with pytest.raises(LesionError, match=r"split\.json"):
        read_manifest(path)


def test_missing_manifest(tmp_path):
    with pytest.raises(LesionError, match="cannot be read"):
        read_manifest(tmp_path / "none.json")


@pytest.mark.parametrize("name", ["isic2018_split.json", "isic2018_split_results.json"])
def test_the_kept_splits_are_dealt_from_their_groups(name):
    kept = read_manifest(Path(__file__).parents[1] / "datasets" / name)
    assert {split: len(ids) for split, ids in kept.splits.items()} == {
        "train": 1458,
        "val": 487,
        "test": 649,
    }
    assert deal(list(kept.split_of()), kept.groups, 0, 0.25, 0.25) == kept.splits
