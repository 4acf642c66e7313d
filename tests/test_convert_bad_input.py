"""Every reason of an audit row in docs/bad_input.md."""

import os
import re
import shutil
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from convert_archive import Archive, all_records, audit_rows, lesion_pair
from picture_files import encode, exif
from PIL import Image
from pycocotools import mask as coco_mask

from lesion_d2.commands.convert import convert
from lesion_d2.errors import LesionError

IMAGE, MASK = lesion_pair(9)
JPEG, PNG = encode(IMAGE, "JPEG", quality=95), encode(MASK, "PNG")
GREY_AS_RGB = np.repeat(MASK[..., None], 3, axis=2)
SOFT = MASK.copy()
SOFT[0, :7] = 100
THREE_COLOURS = IMAGE.copy()
THREE_COLOURS[0, 0] = 9
BLOCKS = encode(np.kron(MASK[::8, ::8], np.ones((8, 8), np.uint8))[:60, :80], "JPEG", quality=100)
TWO_PARTS = MASK.copy()
TWO_PARTS[:4, :4] = 255


def palette_mask(colours):
    image = Image.fromarray(np.where(MASK > 0, 1, 0).astype(np.uint8), "P")
    image.putpalette([value for colour in colours for value in colour])
    return image


def bomb():
    """A PNG of a few bytes that says it has 900 million pixels."""
    header = bytearray(encode(np.zeros((1, 1), np.uint8), "PNG"))
    header[16:24] = (30_000).to_bytes(4, "big") * 2
    header[29:33] = zlib.crc32(header[12:29]).to_bytes(4, "big")
    return bytes(header)


def with_odd_scan_header():
    """A good JPEG whose scan header says something that libjpeg warns about and ignores."""
    scan = JPEG.rindex(b"\xff\xda")
    end = scan + 2 + int.from_bytes(JPEG[scan + 2 : scan + 4], "big")
    return JPEG[: end - 2] + b"\x3e" + JPEG[end - 1 :]


def damaged_jpeg():
    """A JPEG with a hole of zeros in its pixels and all markers in place."""
    noise = np.random.default_rng(0).integers(0, 256, IMAGE.shape, np.uint8)
    data = bytearray(encode(noise, "JPEG", quality=95))
    data[len(data) // 2 : len(data) // 2 + 200] = bytes(200)
    return bytes(data)


# The pair ISIC_0000009 as (image, mask), None for a good one; reason; whether it is used.
CONTENT_CASES = {
    "image of no bytes": (b"", None, "image_empty_file", False),
    "image is text": (b"not an image at all", None, "image_unreadable", False),
    "image is a GIF": (encode(MASK, "GIF"), None, "image_not_rgb", True),
    "image is a PDF": (b"%PDF-1.7 " + JPEG, None, "image_unreadable", False),
    "image cut in half": (JPEG[: len(JPEG) // 2], None, "image_unreadable", False),
    "image without its last byte": (JPEG[:-1], None, "image_unreadable", False),
    "progressive image cut": (
        encode(IMAGE, "JPEG", progressive=True)[:-60],
        None,
        "image_unreadable",
        False,
    ),
    "image cut in its header": (JPEG[:40], None, "image_unreadable", False),
    "image with a hole": (damaged_jpeg(), None, "image_unreadable", False),
    "PNG image cut": (encode(IMAGE, "PNG")[:-20], None, "image_unreadable", False),
    "image of 900 megapixels": (bomb(), None, "image_too_large", False),
    "image of 16 bits": (
        encode(MASK.astype(np.uint16) * 257, "PNG"),
        None,
        "image_16_bit",
        True,
    ),
    "grey image": (encode(MASK, "JPEG"), None, "image_not_rgb", True),
    "image with alpha": (
        encode(np.dstack([IMAGE, MASK]), "PNG"),
        None,
        "image_not_rgb",
        True,
    ),
    "image turned by EXIF": (
        encode(np.rot90(IMAGE), "JPEG", exif=exif(6)),
        None,
        "image_exif_rotation",
        True,
    ),
    "image with a warning": (
        with_odd_scan_header(),
        None,
        "image_decoder_warning",
        True,
    ),
    "mask with a warning": (
        None,
        BLOCKS.replace(b"\xff\xdb", b"\0\0\xff\xdb", 1),
        "mask_decoder_warning",
        True,
    ),
    "mask of no bytes": (None, b"", "mask_empty_file", False),
    "mask is text": (None, b"not a mask", "mask_unreadable", False),
    "mask cut in half": (None, PNG[: len(PNG) // 2], "mask_unreadable", False),
    "mask without its end": (None, PNG[:-4], "mask_unreadable", False),
    "mask of 900 megapixels": (None, bomb(), "mask_too_large", False),
    "mask of another size": (None, MASK[:-1], "mask_size_differs", False),
    "mask turned": (None, np.rot90(MASK), "mask_size_differs", False),
    "mask turned by EXIF": (
        None,
        encode(np.rot90(MASK), "PNG", exif=exif(6)),
        "mask_exif_rotation",
        True,
    ),
    "mask in colour, channels equal": (None, GREY_AS_RGB, "mask_colour", True),
    "mask in more than two colours": (None, THREE_COLOURS, "mask_channels_differ", False),
    "mask with a grey palette": (
        None,
        encode(palette_mask([(0, 0, 0), (255, 255, 255)]), "PNG"),
        "mask_palette",
        True,
    ),
    "mask with a coloured palette": (
        None,
        encode(palette_mask([(0, 0, 0), (128, 0, 0)]), "PNG"),
        "mask_two_values",
        True,
    ),
    "mask red on black": (None, MASK[..., None] & np.uint8([255, 0, 0]), "mask_two_values", True),
    "mask blue on white": (
        None,
        np.where(MASK[..., None] > 0, 255, np.uint8([0, 0, 255])),
        "mask_two_values",
        True,
    ),
    "mask drawn in alpha alone": (
        None,
        encode(np.dstack([MASK * 0, MASK * 0, MASK * 0, MASK]), "PNG"),
        "mask_alpha",
        True,
    ),
    "mask with alpha": (
        None,
        encode(Image.merge("LA", [Image.fromarray(MASK), Image.new("L", (80, 60), 9)]), "PNG"),
        "mask_alpha",
        True,
    ),
    "mask of 16 bits, 0 and 65535": (None, MASK.astype(np.uint16) * 257, "mask_16_bit", True),
    "mask of 16 bits, 0 and 1020": (None, MASK.astype(np.uint16) * 4, "mask_16_bit", True),
    "mask of 16 bits, many values": (
        None,
        SOFT.astype(np.uint16) * 4,
        "mask_16_bit_values",
        False,
    ),
    "mask with values between": (None, SOFT, "mask_values_between", True),
    "mask with nothing": (None, MASK * 0, "mask_empty", False),
    "mask of 0 and 1": (None, MASK // 255, "mask_two_values", True),
    "mask of 0 and 128": (None, MASK // 255 * 128, "mask_two_values", True),
    "mask of 7 and 9": (None, MASK // 255 * 2 + 7, "mask_two_values", True),
    "mask of grey 7 alone": (None, MASK * 0 + 7, "mask_empty", False),
    "mask of lesion and skin swapped": (None, 255 - MASK, "mask_maybe_inverted", True),
    "mask all lesion": (None, MASK | 255, "mask_all_lesion", True),
    "mask in two parts": (None, TWO_PARTS, "mask_components", True),
}


# Whose masks are not that of the good pair.
OTHER_MASKS = {
    "mask_all_lesion", "mask_components", "mask_decoder_warning", "mask_maybe_inverted"
}  # fmt: skip


def add_good_pairs(archive):
    for number in (1, 2, 3):
        archive.add(number)
    return archive


@pytest.mark.parametrize("case", CONTENT_CASES)
def test_content(case, tmp_path, capfd):
    image, mask, reason, used = CONTENT_CASES[case]
    archive = add_good_pairs(Archive(tmp_path)).add(9, image, mask)
    summary = convert(archive.options())
    # Only the progress bar: neither OpenCV nor libpng print a word.
    lines = capfd.readouterr().err.replace("\r", "\n").splitlines()
    assert [line for line in lines if line and not line.startswith("converting:")] == []

    rows = audit_rows(archive.output)
    assert [(row["isic_id"], row["reason"]) for row in rows] == [("ISIC_0000009", reason)]
    assert rows[0]["action"] == ("accepted" if used else "excluded")
    assert summary.exit_code == (0 if used else 2)
    records = all_records(archive.output)
    assert sorted(records) == [f"ISIC_{n:07d}" for n in ([1, 2, 3] + [9] * used)]
    linked = sorted(path.stem for path in (archive.output / "images").iterdir())
    assert linked == sorted(records)
    if used and reason not in OTHER_MASKS:
        lesion = coco_mask.decode(records["ISIC_0000009"][1]["segmentation"])
        assert np.array_equal(lesion * 255, MASK)


def test_detail_counts_what_it_reports(tmp_path):
    archive = Archive(tmp_path).add(1, mask=SOFT).add(2, mask=TWO_PARTS)
    convert(archive.options())
    details = [row["detail"] for row in audit_rows(archive.output)]
    assert details[0].startswith("7 pixels")
    assert details[1].startswith("2 separate parts")


def test_damaged_jpeg_is_found_at_every_scale(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (600, 800, 3), np.uint8)
    data = bytearray(encode(image, "JPEG"))
    data[len(data) // 2 : len(data) // 2 + 200] = bytes(200)
    archive = (
        Archive(tmp_path).add(1, height=600, width=800).add(2, bytes(data), height=600, width=800)
    )
    for resize in ("none", 400, 300, 200, 90):
        summary = convert(archive.options(resize=resize, overwrite=True))
        assert [row.reason for row in summary.rows] == ["image_unreadable"], resize


def image_without_mask(archive):
    (archive.masks / "ISIC_0000009_segmentation.png").unlink()


def mask_without_image(archive):
    (archive.images / "ISIC_0000009.jpg").unlink()


def two_images(archive):
    (archive.images / "again").mkdir()
    shutil.copy(archive.images / "ISIC_0000009.jpg", archive.images / "again")


def two_masks(archive):
    source = archive.masks / "ISIC_0000009_segmentation.png"
    shutil.copy(source, archive.masks / "isic_0000009_SEGMENTATION.PNG")


def upper_case_and_nested(archive):
    (archive.images / "a" / "b").mkdir(parents=True)
    (archive.images / "ISIC_0000009.jpg").rename(archive.images / "a" / "b" / "ISIC_0000009.JPG")
    source = archive.masks / "ISIC_0000009_segmentation.png"
    source.rename(archive.masks / "ISIC_0000009_Segmentation.PNG")


def archive_texts(archive):
    for folder in (archive.images, archive.masks):
        (folder / "ATTRIBUTION.txt").write_text("CC0")
        (folder / "LICENSE.txt").write_text("CC0")


def other_files(archive):
    (archive.images / "Thumbs.db").write_bytes(b"x")
    (archive.masks / ".DS_Store").write_bytes(b"x")


def superpixels(archive):
    (archive.images / "ISIC_0000009_superpixels.png").write_bytes(PNG)


# What is done to the folders; the rows as (id, reason, action); whether the pair is used.
NAME_CASES = [
    (image_without_mask, [("ISIC_0000009", "image_without_mask", "excluded")], False),
    (mask_without_image, [("ISIC_0000009", "mask_without_image", "excluded")], False),
    (two_images, [("ISIC_0000009", "duplicate_id", "excluded")] * 3, False),
    (two_masks, [("ISIC_0000009", "duplicate_id", "excluded")] * 3, False),
    (upper_case_and_nested, [], True),
    (archive_texts, [], True),
    (other_files, [("", "not_an_image", "ignored")] * 2, True),
    (superpixels, [("", "not_isic_name", "ignored")], True),
]


@pytest.mark.parametrize(("change", "expected", "used"), NAME_CASES)
def test_names(change, expected, used, tmp_path):
    archive = add_good_pairs(Archive(tmp_path)).add(9)
    change(archive)
    summary = convert(archive.options())
    rows = audit_rows(archive.output)
    assert [(row["isic_id"], row["reason"], row["action"]) for row in rows] == expected
    assert summary.exit_code == (0 if used else 2)
    records = all_records(archive.output)
    assert ("ISIC_0000009" in records) == used
    assert len(records) == 3 + used
    if used:
        assert records["ISIC_0000009"][0]["file_name"] == "images/ISIC_0000009.jpg"


def test_unreadable_file_of_somebody_else(tmp_path):
    archive = add_good_pairs(Archive(tmp_path)).add(9)
    path = archive.images / "ISIC_0000009.jpg"
    path.unlink()
    path.symlink_to(tmp_path / "gone.jpg")
    assert [row.reason for row in convert(archive.options()).rows] == ["image_unreadable"]


def test_non_ascii_paths(tmp_path):
    archive = Archive(tmp_path / "läsion 皮膚").add(1).add(2, height=800, width=1000)
    convert(archive.options())
    for image, _ in all_records(archive.output).values():
        data = np.fromfile(archive.output / image["file_name"], np.uint8)
        assert cv2.imdecode(data, cv2.IMREAD_COLOR).shape[:2] == (image["height"], image["width"])


def test_a_name_that_is_no_text_costs_nothing_else(tmp_path):
    archive = add_good_pairs(Archive(tmp_path))
    Path(os.fsdecode(bytes(archive.images) + b"/caf\xe9\n.txt")).write_text("note")
    assert convert(archive.options()).exit_code == 0
    (row,) = audit_rows(archive.output)
    assert (row["file"], row["reason"]) == ("caf\\xe9\\x0a.txt", "not_an_image")


@pytest.mark.parametrize("error", [MemoryError, ValueError("odd"), RuntimeError("of a library")])
def test_whatever_a_pair_raises_is_a_row(error, tmp_path, monkeypatch):
    def fail(*_args):
        raise error

    archive = add_good_pairs(Archive(tmp_path))
    monkeypatch.setattr("lesion_d2.convert.pair.read_lesion", fail)
    with pytest.raises(LesionError, match="3 pair_failed"):
        convert(archive.options())
    assert {row["reason"] for row in audit_rows(archive.output)} == {"pair_failed"}


def test_links_to_folders_are_followed(tmp_path):
    archive = Archive(tmp_path).add(1)
    elsewhere = Archive(tmp_path / "elsewhere").add(2)
    (archive.images / "more").symlink_to(elsewhere.images)
    (archive.masks / "more").symlink_to(elsewhere.masks)
    (archive.images / "again").symlink_to(archive.images)
    assert convert(archive.options()).rows == []
    assert all_records(archive.output).keys() == {"ISIC_0000001", "ISIC_0000002"}


def test_lesion_that_vanishes_is_excluded(tmp_path):
    mask = np.zeros((800, 1000), np.uint8)
    mask[400, 500] = 255
    archive = add_good_pairs(Archive(tmp_path)).add(9, mask=mask, height=800, width=1000)
    assert [row.reason for row in convert(archive.options()).rows] == ["mask_empty"]


def test_table_in_the_documentation_is_complete():
    text = (Path(__file__).parents[1] / "docs" / "bad_input.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\|.*\| `([a-z0-9_]+)` \|$", text, re.MULTILINE))
    tested = {case[2] for case in CONTENT_CASES.values()}
    tested |= {row[1] for _, rows, _ in NAME_CASES for row in rows}
    elsewhere = {
        "pair_failed",  # above
        # in test_convert.py
        "id_in_two_splits",
        "near_duplicate_across_splits",
        "not_in_split_file",
        "missing_from_input",
        # in test_convert_names.py
        *("mask_of_two_images", "name_too_long", "no_part_of_a_pair"),
        "unsafe_path",  # in test_convert_zip.py
        # in test_convert_coco.py
        *("image_missing", "coco_record", "mask_other_category", "mask_regions"),
        # in test_convert_groups.py
        *("not_in_groups_file", "group_across_splits"),
    }
    assert documented == tested | elsewhere
