"""The converter end to end: from folders to a data set folder."""

import itertools
import json
import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from convert_archive import (
    Archive,
    all_records,
    audit_rows,
    folder_bytes,
    lesion_pair,
    make_archive,
    split_ids,
)
from picture_files import encode, every_format, exif
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from lesion_d2.commands.convert import convert
from lesion_d2.data.manifest import read_manifest
from lesion_d2.images.reading import read_image

REPOSITORY = Path(__file__).parents[1]
ORIGINALS = REPOSITORY.parent / "shared" / "data" / "isic-originals"


def test_records(tmp_path):
    archive = make_archive(tmp_path)
    summary = convert(archive.options())
    assert summary.exit_code == 0
    assert summary.splits == {"train": 6, "val": 3, "test": 3}
    assert audit_rows(archive.output) == []
    assert split_ids(archive.output) == read_manifest(archive.output / "split.json").splits
    records = all_records(archive.output)
    for number in range(12):
        image, annotation = records[f"ISIC_{number:07d}"]
        height, width = (750, 1001) if number % 3 == 0 else (61, 83)
        size = (188, 251) if number % 3 == 0 else (61, 83)
        name = f"ISIC_{number:07d}.jpg"
        assert image == {
            "id": number, "file_name": f"images/{name}", "height": size[0], "width": size[1],
            "isic_id": f"ISIC_{number:07d}", "original_height": height, "original_width": width,
        }  # fmt: skip
        assert cv2.imread(str(archive.output / "images" / name)).shape[:2] == size
        lesion = coco_mask.decode(annotation["segmentation"])
        assert lesion.shape == size
        assert annotation["area"] == lesion.sum()
        rows, columns = np.flatnonzero(lesion.any(axis=1)), np.flatnonzero(lesion.any(axis=0))
        x, y = columns[0], rows[0]
        assert annotation["bbox"] == [x, y, columns[-1] - x + 1, rows[-1] - y + 1]
        assert annotation["image_id"] == number
        assert annotation["category_id"] == 1
        assert annotation["iscrowd"] == 0


def test_mask_that_stays_is_exact_and_image_untouched(tmp_path):
    archive = Archive(tmp_path).add(1).add(2)
    convert(archive.options())
    lesion = coco_mask.decode(all_records(archive.output)["ISIC_0000002"][1]["segmentation"])
    assert np.array_equal(lesion * 255, lesion_pair(2)[1])
    source = archive.images / "ISIC_0000002.jpg"
    assert (archive.output / "images" / "ISIC_0000002.jpg").samefile(source)


def test_foreground_rule(tmp_path):
    mask = np.zeros((60, 80), np.uint8)
    mask[20:30, 20:30] = [0, 1, 100, 127, 128, 129, 200, 254, 255, 255]
    archive = Archive(tmp_path).add(1, mask=mask)
    for foreground, columns in ((255, 2), (128, 5)):
        convert(archive.options(foreground=foreground, overwrite=True))
        assert all_records(archive.output)["ISIC_0000001"][1]["area"] == columns * 10


def test_polygons_give_back_all_but_holes(tmp_path):
    mask = lesion_pair(1)[1]
    mask[2, 2] = 255  # one pixel
    mask[50, 3:9] = 255  # one row
    filled = mask.copy()
    mask[30:33, 40:43] = 0  # a hole, unless outside the lesion
    assert filled[30:33, 40:43].all()
    archive = Archive(tmp_path).add(1, mask=mask)
    convert(archive.options(polygons=True))
    image, annotation = all_records(archive.output)["ISIC_0000001"]
    rles = coco_mask.frPyObjects(annotation["segmentation"], image["height"], image["width"])
    assert np.array_equal(coco_mask.decode(coco_mask.merge(rles)) * 255, filled)
    assert annotation["area"] == (mask > 0).sum()


@pytest.mark.parametrize("polygons", [False, True])
def test_readable_by_pycocotools_and_detectron2(polygons, tmp_path):
    from detectron2.data.datasets import load_coco_json

    archive = make_archive(tmp_path, 6)
    convert(archive.options(polygons=polygons))
    path = archive.output / "train.json"
    coco = COCO(str(path))
    dicts = load_coco_json(str(path), str(archive.output), "test_convert_train")
    assert len(dicts) == len(coco.imgs) == len(coco.anns) == 3
    for entry in dicts:
        assert Path(entry["file_name"]).is_file()
        assert len(entry["annotations"]) == 1
        mask = coco.annToMask(coco.imgToAnns[entry["image_id"]][0])
        assert mask.shape == (entry["height"], entry["width"])
        assert mask.any()


def test_byte_identical_for_workers_and_folder_order(tmp_path, monkeypatch):
    archive = make_archive(tmp_path)
    (archive.images / "ISIC_0000005.jpg").write_bytes(b"bad")
    outputs = []
    walk = os.walk

    def backwards(*args, **kwargs):
        for parent, folders, names in walk(*args, **kwargs):
            folders.reverse()
            yield parent, folders, sorted(names, reverse=True)

    for workers, turned in ((1, False), (3, False), (1, True)):
        if turned:
            monkeypatch.setattr("os.walk", backwards)
        output = tmp_path / f"out{len(outputs)}"
        convert(archive.options(output=output, workers=workers, group=True))
        outputs.append(folder_bytes(output))
    assert outputs[0] == outputs[1] == outputs[2]


def test_moved_folder_still_reads(tmp_path):
    archive = make_archive(tmp_path, 4)
    convert(archive.options())
    moved = tmp_path / "elsewhere" / "moved"
    moved.parent.mkdir()
    archive.output.rename(moved)
    for image, _ in all_records(moved).values():
        assert cv2.imread(str(moved / image["file_name"])).shape[0] == image["height"]


@pytest.mark.parametrize("refused", [["hardlink_to"], ["hardlink_to", "symlink_to"]])
def test_file_systems_without_links(refused, tmp_path, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise PermissionError

    for name in refused:
        monkeypatch.setattr(Path, name, refuse)
    archive = Archive(tmp_path).add(1)
    convert(archive.options())
    image = archive.output / "images" / "ISIC_0000001.jpg"
    assert image.is_symlink() == (refused == ["hardlink_to"])
    assert image.read_bytes() == (archive.images / "ISIC_0000001.jpg").read_bytes()


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


def test_one_folder_for_images_and_masks(tmp_path):
    archive = make_archive(tmp_path / "both", 3)
    (tmp_path / "both" / "odd.txt").write_text("x")
    folders = {"all": (tmp_path / "both", tmp_path / "both")}
    summary = convert(archive.options(folders=folders, output=tmp_path / "out"))
    assert sum(summary.splits.values()) == 3
    assert [row.file for row in summary.rows] == ["odd.txt"]


@pytest.mark.skipif(not ORIGINALS.is_dir(), reason=f"{ORIGINALS} is not there")
@pytest.mark.parametrize(("resize", "longest"), [("original", 1072), ("none", 4288), (320, 320)])
def test_real_originals(resize, longest, tmp_path):
    folders = {
        "all": (
            ORIGINALS / "ISIC2018_Task1-2_Training_Input",
            ORIGINALS / "ISIC2018_Task1_Training_GroundTruth",
        )
    }
    summary = convert(
        replace(Archive(tmp_path).options(), folders=folders, resize=resize, prescale=1.0)
    )
    assert summary.splits == {"train": 20, "val": 7, "test": 9}
    assert summary.count("excluded") == 0
    records = all_records(tmp_path / "converted")
    assert max(max(image["height"], image["width"]) for image, _ in records.values()) == longest


def test_png_images_that_stay_keep_their_suffix(tmp_path):
    archive = Archive(tmp_path).add(1)
    image, _ = lesion_pair(1)
    (archive.images / "ISIC_0000001.jpg").unlink()
    (archive.images / "ISIC_0000001.PNG").write_bytes(encode(image, "PNG"))
    convert(archive.options())
    assert all_records(archive.output)["ISIC_0000001"][0]["file_name"] == "images/ISIC_0000001.png"


@pytest.mark.parametrize("resize", ["none", 40])
def test_one_lesion_in_every_format(resize, tmp_path):
    picture, mask = lesion_pair(3)
    images = every_format(picture)
    masks = {"png": "PNG", "bmp": "BMP", "tif": "TIFF", "jp2": "JPEG2000", "gif": "GIF"}
    archive = Archive(tmp_path)
    suffixes = itertools.cycle(masks)
    for number, name in enumerate(images):
        suffix = next(suffixes)
        archive.add(number, images[name], encode(mask, masks[suffix]))
        name = f"ISIC_{number:07d}_segmentation"
        (archive.masks / f"{name}.png").rename(archive.masks / f"{name}.{suffix.upper()}")
    summary = convert(archive.options(resize=resize))
    assert summary.count("excluded") == 0
    records = all_records(archive.output)
    assert len(records) == len(images) > 30
    lesions = {annotation["segmentation"]["counts"] for _, annotation in records.values()}
    assert len(lesions) == 1
    whole, _ = read_image(archive.images / "ISIC_0000000.jpg")
    for image, _ in records.values():
        pixels, size = read_image(archive.output / image["file_name"])
        assert size == (image["height"], image["width"])
        # One bit a pixel is far from the colours, and still darker on the lesion.
        assert abs(pixels.mean() - whole.mean()) < 50


def test_what_a_summary_asks(tmp_path):
    mask = lesion_pair(1)[1]
    archive = Archive(tmp_path).add(1).add(2, mask=255 - mask).add(3, mask=encode(mask, "JPEG"))
    lines = str(convert(archive.options())).splitlines()
    assert lines[0].startswith("question: 1 masks have more than two values")
    assert "--foreground 128" in lines[0]
    assert lines[1].startswith("question: 1 masks are lesion on more than 90% of their border")
    assert lines[2].startswith("3 pairs")
    lines = str(convert(archive.options(foreground=128, overwrite=True))).splitlines()
    assert ["--foreground" in line for line in lines] == [False, False]


def test_a_mask_drawn_on_the_stored_pixels_is_recognised(tmp_path):
    picture, mask = lesion_pair(1)
    image = encode(picture, "JPEG", exif=exif(6))
    archive = Archive(tmp_path).add(1, image, mask).add(2)
    summary = convert(archive.options())
    (row,) = [row for row in summary.rows if row.action == "excluded"]
    assert row.detail == "80x60, image 60x80; it fits the image as stored, before its EXIF rotation"
