"""The converter end to end: from folders to a data set folder."""

import itertools
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
