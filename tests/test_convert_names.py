"""Names of images and masks, ISIC's and others: what is paired, and under which id."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from convert_archive import all_records, audit_rows, lesion_pair, read_split
from picture_files import encode

from lesion_d2.commands.convert import ConvertOptions, convert
from lesion_d2.data.coco import read_records
from lesion_d2.errors import LesionError

CASES = Path(__file__).parent / "data" / "cases"
IMAGE, MASK = lesion_pair(1)
KINDS = {"jpg": "JPEG", "png": "PNG", "bmp": "BMP", "tif": "TIFF", "webp": "WEBP", "gif": "GIF"}


def write(root, *names):
    """Write a picture for each name in ``images``, a mask for each in ``masks``."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        kind = KINDS[path.suffix.lower()[1:]]
        is_mask = re.search(r"masks|_(lesion|mask|contour|outline|R1)", name)
        path.write_bytes(encode(MASK if is_mask else IMAGE, kind))
    return root


def run(root, images="", masks="", **changes):
    """Convert and return ids of the pairs with the files paired, and rows of the audit."""
    options = {"folders": {"all": (root / images, root / masks)}, "group": False, **changes}
    output = root.with_name("out")
    convert(ConvertOptions(output=output, **options))
    rows = [
        (row["isic_id"], row["file"], row["reason"], row["action"]) for row in audit_rows(output)
    ]
    return sorted(all_records(output)), [row for row in rows if row[3] != "accepted"]


# Files; folders of images and masks; options; ids; rows.
CASES_OF_NAMES = {
    "a mask called as its image": (
        ("images/case 12.JPG", "masks/case 12.png"), ("images", "masks"), {}, ["case 12"], [],
    ),
    "suffixes, in any case": (
        ("images/a.jpg", "masks/a_Mask.PNG", "images/b.tif", "masks/b_LESION.bmp"),
        ("images", "masks"), {}, ["a", "b"], [],
    ),
    "side by side": (
        ("a.jpg", "a_mask.png", "b.png", "b_contour.png"), ("", ""), {}, ["a", "b"], [],
    ),
    "a suffix of one's own": (
        ("a.jpg", "a_outline.png", "a_mask.png"), ("", ""), {"mask_suffixes": ["_outline"]}, ["a"],
        [("", "a_mask.png", "no_part_of_a_pair", "ignored")],
    ),
    "a suffix of the images": (
        ("D1_orig.jpg", "D1_contour.png", "D2.jpg", "D2_contour.png"), ("", ""),
        {"image_suffix": "_ORIG"}, ["D1", "D2"], [],
    ),
    "PH2": (
        ("IMD002/IMD002_Dermoscopic_Image/IMD002.bmp", "IMD002/IMD002_lesion/IMD002_lesion.bmp",
         "IMD002/IMD002_roi/IMD002_R1_Label4.bmp"), ("", ""), {}, ["IMD002"],
        [("", "IMD002/IMD002_roi/IMD002_R1_Label4.bmp", "no_part_of_a_pair", "ignored")],
    ),
    "one name in two folders": (
        ("images/p1/x.jpg", "images/p2/x.jpg", "masks/p1/x.png", "masks/p2/x_mask.png",
         "images/y.jpg", "masks/y.png"), ("images", "masks"), {}, ["p1/x", "p2/x", "y"], [],
    ),
    "one name in folders with folders for each kind": (
        ("p1/images/x.jpg", "p1/masks/x_mask.png", "p2/images/x.jpg", "p2/masks/x_mask.png"),
        ("", ""), {}, ["p1/images/x", "p2/images/x"], [],
    ),
    "one name, and a mask that may be of either": (
        ("images/a/x.jpg", "images/b/x.jpg", "masks/x.png", "images/y.jpg", "masks/y.png"),
        ("images", "masks"), {}, ["y"],
        [("x", name, "duplicate_id", "excluded") for name in ("a/x.jpg", "b/x.jpg", "x.png")],
    ),
    "an image whose name ends like a mask's": (
        ("images/left_lesion.jpg", "masks/left_lesion.png", "images/left.jpg", "images/a.jpg",
         "masks/a.png"), ("images", "masks"),
        {}, ["a"], [("left", "left.jpg", "image_without_mask", "excluded"),
                    ("left", "left_lesion.png", "mask_of_two_images", "excluded"),
                    ("left_lesion", "left_lesion.jpg", "image_without_mask", "excluded")],
    ),
    "the same without the other image": (
        ("images/left_lesion.jpg", "masks/left_lesion.png"), ("images", "masks"), {},
        ["left_lesion"], [],
    ),
    "the same side by side": (
        ("left_lesion.jpg", "left_lesion_mask.png"), ("", ""), {}, ["left_lesion"], [],
    ),
    "masks in a folder of the images": (
        ("all/a.jpg", "all/masks/a.png"), ("all", "all/masks"), {}, ["a"], [],
    ),
    "copies of images among the masks": (
        ("images/a.jpg", "masks/a_mask.png", "masks/a.jpg"), ("images", "masks"), {}, ["a"],
        [("", "a.jpg", "no_part_of_a_pair", "ignored")],
    ),
    "two formats of one image": (
        ("a.jpg", "a.png", "a_mask.png", "b.jpg", "b_mask.png"), ("", ""), {}, ["b"],
        [("a", name, "duplicate_id", "excluded") for name in ("a.jpg", "a.png", "a_mask.png")],
    ),
    "halves": (
        ("images/a.jpg", "images/b.jpg", "masks/b.png", "masks/c_mask.png"), ("images", "masks"),
        {}, ["b"], [("a", "a.jpg", "image_without_mask", "excluded"),
                    ("c", "c_mask.png", "mask_without_image", "excluded")],
    ),
    "ISIC 2019": (
        ("images/ISIC_0000003_downsampled.jpg", "masks/ISIC_0000003_segmentation.png"),
        ("images", "masks"), {}, ["ISIC_0000003"], [],
    ),
    "ISIC 2016 and 2017": (
        ("images/ISIC_0000003.jpg", "images/ISIC_0000003_superpixels.png",
         "masks/ISIC_0000003_Segmentation.png"), ("images", "masks"), {}, ["ISIC_0000003"],
        [("", "ISIC_0000003_superpixels.png", "not_isic_name", "ignored")],
    ),
    "a name of ISIC twice": (
        ("images/a/ISIC_0000003.jpg", "images/b/ISIC_0000003.jpg", "images/x.jpg", "masks/x.png",
         "masks/a/ISIC_0000003_segmentation.png"), ("images", "masks"), {}, ["x"],
        [("ISIC_0000003", name, "duplicate_id", "excluded")
         for name in ("a/ISIC_0000003.jpg", "a/ISIC_0000003_segmentation.png",
                      "b/ISIC_0000003.jpg")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES_OF_NAMES)
def test_names(case, tmp_path):
    files, folders, options, ids, rows = CASES_OF_NAMES[case]
    root = write(tmp_path / "in", *files)
    found, left = run(root, *folders, **options)
    assert found == ids
    assert left == sorted(rows)


def test_every_pair_has_its_own_mask(tmp_path):
    """The pictures differ, so a mask that came to another image would show."""
    root = tmp_path / "in"
    for number in range(4):
        image, mask = lesion_pair(number)
        for path, pixels in ((f"{number}/i/x.png", image), (f"{number}/m/x_seg.bmp", mask)):
            (root / path).parent.mkdir(parents=True)
            (root / path).write_bytes(encode(pixels, KINDS[path[-3:]]))
    run(root)
    (output,) = {tmp_path / "out"}
    for number in range(4):
        record, annotation = all_records(output)[f"{number}/i/x"]
        assert annotation["area"] == (lesion_pair(number)[1] > 0).sum()
        assert (output / record["file_name"]).read_bytes() == (
            root / f"{number}/i/x.png"
        ).read_bytes()


def test_numbers_and_names_in_the_coco_files(tmp_path):
    root = write(tmp_path / "in", *CASES_OF_NAMES["one name in two folders"][0])
    run(root, "images", "masks")
    records = []
    for split in ("train", "val", "test"):
        content = read_split(tmp_path / "out", split)
        assert content["info"]["description"] == f"Lesions, {split} split"
        records += read_records(content, tmp_path / "out")
    assert sorted((r["image_id"], r["isic_id"]) for r in records) == [
        (1, "p1/x"),
        (2, "p2/x"),
        (3, "y"),
    ]
    assert all(Path(record["file_name"]).is_file() for record in records)
    run(root, "images", "masks", overwrite=True)  # files in folders are its own, too


def test_a_name_that_leaves_no_room_for_results(tmp_path):
    root = write(
        tmp_path / "in",
        "images/a.png",
        "masks/a.png",
        f"images/{'n' * 240}.png",
        f"masks/{'n' * 240}.png",
    )
    ids, rows = run(root, "images", "masks")
    assert ids == ["a"]
    assert [row[2] for row in rows] == ["name_too_long"]


def test_a_name_that_is_no_text(tmp_path):
    root = write(tmp_path / "in", "images/a.png", "masks/a.png")
    for folder in ("images", "masks"):
        (root / folder / "a.png").rename(root / folder / "caf\udce9\n.png")
    assert run(root, "images", "masks") == (["caf\\xe9\\x0a"], [])


@pytest.mark.parametrize("suffixes", [[], [""]])
def test_a_suffix_is_needed(suffixes, tmp_path):
    root = write(tmp_path / "in", "images/a.png", "masks/a.png")
    with pytest.raises(LesionError, match="mask_suffixes"):
        run(root, "images", "masks", mask_suffixes=suffixes)


def test_the_command(tmp_path):
    root = write(tmp_path / "in", "a.jpg", "a_outline.png")
    command = [sys.executable, "tools/convert_isic.py", "--images", root, "--masks", root]
    command += ["--output", tmp_path / "out", "--mask-suffix", "_outline"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert (done.returncode, done.stderr.count("Error")) == (0, 0), done.stderr
    assert done.stdout.startswith("1 pairs (train 0, val 0, test 1), 0 excluded")
    shutil.rmtree(tmp_path / "out")
