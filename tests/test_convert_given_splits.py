"""Splits that are given, and photographs of one lesion that a split must keep together."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
from convert_archive import (
    Archive,
    audit_rows,
    folder_bytes,
    lesion_pair,
    make_archive,
    split_ids,
)
from picture_files import encode

from lesion_d2.commands.convert import convert
from lesion_d2.data.manifest import read_manifest


def test_split_file_fixes_the_split(tmp_path):
    archive = make_archive(tmp_path)
    convert(archive.options(seed=5))
    before = read_manifest(archive.output / "split.json")
    archive.add(100)
    (archive.images / "ISIC_0000003.jpg").unlink()
    (archive.images / "ISIC_0000004.jpg").unlink()
    (archive.masks / "ISIC_0000004_segmentation.png").unlink()
    output = tmp_path / "again"
    options = archive.options(output=output, split_file=archive.output / "split.json")
    summary = convert(options)
    after = read_manifest(output / "split.json")
    gone = {"ISIC_0000003", "ISIC_0000004"}
    assert after.splits == {
        split: [isic_id for isic_id in ids if isic_id not in gone]
        for split, ids in before.splits.items()
    }
    assert (
        replace(after, splits=before.splits, input_fingerprint=before.input_fingerprint) == before
    )
    assert after.input_fingerprint != before.input_fingerprint
    assert {(row["isic_id"], row["reason"], row["action"]) for row in audit_rows(output)} == {
        ("ISIC_0000003", "mask_without_image", "excluded"),
        ("ISIC_0000004", "missing_from_input", "excluded"),
        ("ISIC_0000100", "not_in_split_file", "ignored"),
    }
    assert summary.exit_code == 2


def textured_pair(number):
    """Return a picture with detail of its own, and its mask."""
    noise = np.random.default_rng(number).integers(0, 256, (192, 256, 3), np.uint8)
    texture = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 6), None, 0, 255, cv2.NORM_MINMAX)
    return texture, lesion_pair(number, 192, 256)[1]


def archive_with_duplicates(root):
    archive = Archive(root)
    for number in range(10):
        image, mask = textured_pair(number)
        archive.add(number, image, mask)
        if number < 3:
            archive.add(number + 100, cv2.convertScaleAbs(image, alpha=0.8, beta=20), mask)
    return archive


def test_near_duplicates_stay_together(tmp_path):
    archive = archive_with_duplicates(tmp_path)
    expected = [[f"ISIC_{n:07d}", f"ISIC_{n + 100:07d}"] for n in range(3)]
    for seed in range(2):
        convert(archive.options(group=True, seed=seed, overwrite=True))
        manifest = read_manifest(archive.output / "split.json")
        assert manifest.groups == expected
        assert manifest.grouped
        split_of = manifest.split_of()
        assert all(split_of[first] == split_of[second] for first, second in expected)


def test_without_groups(tmp_path):
    archive = archive_with_duplicates(tmp_path)
    assert convert(archive.options(group=False)).groups == 0
    assert not read_manifest(archive.output / "split.json").grouped


@pytest.mark.parametrize("group", [True, False])
def test_images_of_the_same_bytes_stay_together(group, tmp_path):
    archive = make_archive(tmp_path)
    plain = encode(np.full((60, 80, 3), 200, np.uint8), "PNG")  # without a keypoint
    for number in (3, 7, 8):
        archive.add(number, plain, height=60, width=80)
    same = ["ISIC_0000003", "ISIC_0000007", "ISIC_0000008"]
    apart = []
    for seed in range(5):
        convert(archive.options(group=group, seed=seed, overwrite=True))
        manifest = read_manifest(archive.output / "split.json")
        assert (same in manifest.groups) == group
        split_of = manifest.split_of()
        apart.append(len({split_of[isic_id] for isic_id in same}) > 1)
    assert any(apart) != group


def test_images_of_the_same_bytes_in_given_splits_are_noted(tmp_path):
    archive = make_archive(tmp_path, 4)
    for number in (1, 2):
        archive.add(number, encode(np.full((60, 80, 3), 200, np.uint8), "PNG"))
    splits = {"train": ["ISIC_0000000", "ISIC_0000001"], "test": ["ISIC_0000002", "ISIC_0000003"]}
    plain_json(tmp_path / "given", splits)
    convert(archive.options(split_file=tmp_path / "given", group=True))
    rows = [row["isic_id"] for row in audit_rows(archive.output)
            if row["reason"] == "near_duplicate_across_splits"]  # fmt: skip
    assert rows == ["ISIC_0000001", "ISIC_0000002"]


def plain_json(path, splits):
    path.write_text(json.dumps(splits))


def folder_of_lists(path, splits):
    path.mkdir()
    for split, names in splits.items():
        (path / f"{split}.txt").write_text("\n".join(names))


def split_json(path, splits):
    known = {"format": 1, "seed": 7, "test_fraction": 0.3, "val_fraction": 0.1, "grouped": False}
    groups = [["ISIC_0000008", "ISIC_0000009"]]
    content = {**known, "input_fingerprint": "", "splits": splits, "groups": groups}
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("write", [plain_json, folder_of_lists, split_json])
def test_a_split_file_is_searched_for_near_duplicates(write, tmp_path):
    archive = archive_with_duplicates(tmp_path)
    ids = [f"ISIC_{n:07d}" for n in (*range(10), 100, 101, 102)]
    splits = {"train": ids[:7], "val": [*ids[7:9], ids[10]], "test": [ids[9], *ids[11:]]}
    write(tmp_path / "given", splits)
    outputs = {}
    for group in (True, False):
        output = tmp_path / f"out_{group}"
        options = archive.options(output=output, split_file=tmp_path / "given", group=group)
        assert convert(options).exit_code == 0
        rows = [(row["isic_id"], row["reason"], row["action"]) for row in audit_rows(output)]
        found = [*ids[:3], *ids[10:]] if group else []
        assert rows == [(name, "near_duplicate_across_splits", "accepted") for name in found]
        assert split_ids(output) == read_manifest(output / "split.json").splits == splits
        outputs[group] = folder_bytes(output)
        del outputs[group]["audit.csv"]
    assert outputs[True] == outputs[False]


def test_a_split_that_was_searched_is_not_searched_again(tmp_path):
    archive = archive_with_duplicates(tmp_path)
    convert(archive.options(output=tmp_path / "first", group=True))
    again = archive.options(
        output=tmp_path / "again", split_file=tmp_path / "first" / "split.json", group=True
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lesion_d2.convert.pair.signature", None)
        assert convert(again).exit_code == 0
    assert split_ids(tmp_path / "again") == split_ids(tmp_path / "first")


def test_given_splits_are_kept(tmp_path):
    parts = {split: Archive(tmp_path / split) for split in ("train", "val", "test")}
    for number, split in enumerate(["train", "train", "train", "val", "test", "test"]):
        parts[split].add(number, *textured_pair(number))
    parts["val"].add(100, *textured_pair(0))
    for split in ("train", "test"):
        parts[split].add(50, *textured_pair(50))
    folders = {split: (part.images, part.masks) for split, part in parts.items()}
    output = tmp_path / "out"
    summary = convert(parts["train"].options(folders=folders, output=output, group=True))
    assert split_ids(output) == {
        "train": ["ISIC_0000000", "ISIC_0000001", "ISIC_0000002"],
        "val": ["ISIC_0000003", "ISIC_0000100"],
        "test": ["ISIC_0000004", "ISIC_0000005"],
    }
    manifest = read_manifest(output / "split.json")
    assert (manifest.seed, manifest.test_fraction, manifest.grouped) == (None, None, False)
    rows = [(row["isic_id"], row["reason"], row["action"]) for row in audit_rows(output)]
    assert rows == [
        ("ISIC_0000000", "near_duplicate_across_splits", "accepted"),
        ("ISIC_0000050", "id_in_two_splits", "excluded"),
        ("ISIC_0000050", "id_in_two_splits", "excluded"),
        ("ISIC_0000100", "near_duplicate_across_splits", "accepted"),
    ]
    assert summary.exit_code == 2
