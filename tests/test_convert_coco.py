"""Lesions that were drawn in another tool, as its COCO file has them."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from convert_archive import all_records, audit_rows, lesion_pair
from detectron2.data.datasets.coco import convert_to_coco_json
from picture_files import encode, exif
from pycocotools import mask as coco_mask

from lesion_d2.commands.convert import ConvertOptions, convert
from lesion_d2.data.converted import decode_segmentation
from lesion_d2.errors import LesionError
from lesion_d2.images.run_lengths import encode_mask

HEIGHT, WIDTH = 60, 80
SQUARE, BESIDE = [10, 10, 30, 10, 30, 30, 10, 30], [40, 20, 50, 20, 50, 35, 40, 35]


def runs(mask):
    """Return run lengths as a list, as CVAT writes masks."""
    pixels = mask.flatten(order="F")
    ends = np.flatnonzero(np.diff(pixels)) + 1
    return {"size": list(mask.shape), "counts": np.diff([0, *ends, pixels.size]).tolist()}


def annotation(image_id=1, category_id=1, segmentation=(SQUARE,), **more):
    segmentation = list(segmentation) if isinstance(segmentation, tuple) else segmentation
    entry = {"id": 1, "image_id": image_id, "category_id": category_id}
    return {**entry, "segmentation": segmentation, **more}


def image(number=1, name="a.png", height=HEIGHT, width=WIDTH):
    return {"id": number, "file_name": name, "height": height, "width": width}


class Export:
    """A COCO file and the folder of its images."""

    def __init__(self, root):
        self.images, self.path, self.output = root / "images", root / "coco.json", root / "out"
        self.images.mkdir()
        self.content = {
            "images": [image()],
            "annotations": [annotation()],
            "categories": [{"id": 1, "name": "naevus"}],
        }
        self.add("a.png")

    def add(self, name, data=None):
        path = self.images / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data or encode(lesion_pair(1, HEIGHT, WIDTH)[0], "PNG"))

    def convert(self, category=None, folders=(), **changes):
        self.path.write_text(json.dumps({**self.content, **changes}))
        folders = {"all": ([self.images, *folders], [])}
        more = {"coco": self.path, "category": category, "group": False}
        return convert(ConvertOptions(folders, self.output, **more))

    def mask(self, isic_id="a"):
        segmentation = all_records(self.output)[isic_id][1]["segmentation"]
        return decode_segmentation(segmentation, HEIGHT, WIDTH)

    def rows(self):
        return [(row["isic_id"], row["reason"], row["action"]) for row in audit_rows(self.output)]


@pytest.fixture
def export(tmp_path):
    return Export(tmp_path)


def filled(*polygons):
    return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(list(polygons), HEIGHT, WIDTH)))


def test_a_polygon(export):
    assert export.convert().exit_code == 0
    np.testing.assert_array_equal(export.mask(), filled(SQUARE))
    assert export.rows() == []


@pytest.mark.parametrize("form", ["run lengths of CVAT", "run lengths of Detectron2"])
def test_a_mask(form, export):
    mask = lesion_pair(1, HEIGHT, WIDTH)[1] > 0
    rle = encode_mask(mask)
    rle = {**rle, "counts": rle["counts"].decode()} if "Detectron2" in form else runs(mask)
    export.convert(annotations=[annotation(segmentation=rle, iscrowd=1)])
    np.testing.assert_array_equal(export.mask(), mask)


def test_several_regions_become_one_lesion(export):
    export.convert(annotations=[annotation(), annotation(segmentation=(BESIDE,))])
    np.testing.assert_array_equal(export.mask(), filled(SQUARE, BESIDE))
    assert export.rows() == [
        ("a", "mask_components", "accepted"),
        ("a", "mask_regions", "accepted"),
    ]


def test_the_category_is_named_where_there_are_several(export):
    export.content["categories"].append({"id": 5, "name": "ruler"})
    export.content["annotations"].append(annotation(category_id=5, segmentation=(BESIDE,)))
    with pytest.raises(LesionError, match=r"'naevus', 'ruler'; name the lesion's with --category"):
        export.convert()
    with pytest.raises(LesionError, match="--category"):
        export.convert(category="mole")
    export.convert(category="naevus")
    np.testing.assert_array_equal(export.mask(), filled(SQUARE))
    assert export.rows() == [("a", "mask_other_category", "accepted")]


@pytest.mark.parametrize(
    "name", ["a.png", "sub/dir/a.png", "C:\\photos\\a.png", "/photos/a.png", "./a.png"]
)
def test_the_paths_of_tools(name, export):
    assert export.convert(images=[image(name=name)]).exit_code == 0
    assert [*all_records(export.output)] == ["a"]


def test_equal_names_are_told_apart_by_their_folders(export):
    export.add("p1/x.png")
    export.add("p2/x.png")
    images = [image(1, "p1/x.png"), image(2, "p2/x.png"), image(3, "x.png"), image(4)]
    annotations = [
        annotation(1),
        annotation(2, segmentation=(BESIDE,)),
        annotation(3),
        annotation(4),
    ]
    assert export.convert(images=images, annotations=annotations).exit_code == 2
    assert sorted(all_records(export.output)) == ["a", "p1/x", "p2/x"]
    np.testing.assert_array_equal(export.mask("p2/x"), filled(BESIDE))
    assert export.rows() == [("", "image_missing", "excluded")]


@pytest.mark.parametrize("name", ["b.png", "sub/b.png"])
def test_one_place_in_two_folders(name, export, tmp_path):
    for folder in ("images", "more"):
        export.add(tmp_path / folder / name, encode(lesion_pair(2, HEIGHT, WIDTH)[0], "PNG"))
    images, annotations = [image(1), image(2, name)], [annotation(1), annotation(2)]
    summary = export.convert(folders=[tmp_path / "more"], images=images, annotations=annotations)
    assert [*all_records(export.output)] == ["a"]
    reasons = [(row.reason, row.file, row.detail) for row in summary.rows]
    assert reasons == [
        ("image_missing", name, "2 files are called so"),
        *[("image_without_mask", name, "no record of the COCO file names it alone")] * 2,
    ]


def turned(export):
    export.add("b.jpg", encode(lesion_pair(1, WIDTH, HEIGHT)[0], "JPEG", exif=exif(6)))
    return image(2, "b.jpg", WIDTH, HEIGHT), annotation(2)


# What is beside the good image: a record of an image, an annotation, a file; then the row.
BESIDES = {
    "an image without a region": (image(2, "b.png"), None, "b.png", ("b", "image_without_mask")),
    "an image that is not there": (image(2, "b.png"), annotation(2), None, ("", "image_missing")),
    "a file that is not named": (None, None, "b.png", ("b", "image_without_mask")),
    "a file of another kind": (None, None, "b.txt", ("", "not_an_image")),
    "an image of another size": (
        image(2, "b.png", 50), annotation(2), "b.png", ("b", "mask_size_differs"),
    ),
    "a region outside": (
        image(2, "b.png"), annotation(2, segmentation=([1, 1, 9, 1, 900, 9],)), "b.png",
        ("b", "mask_unreadable"),
    ),
    "a region of two points": (
        image(2, "b.png"), annotation(2, segmentation=([1, 1, 9, 1],)), "b.png",
        ("b", "mask_unreadable"),
    ),
    "a region without a segmentation": (
        image(2, "b.png"), {"image_id": 2, "category_id": 1}, "b.png", ("b", "mask_unreadable"),
    ),
    "an image without a size": (
        {"id": 2, "file_name": "b.png"}, annotation(2), None, ("", "coco_record"),
    ),
    "an image without an id": (
        {"file_name": "b.png", "height": HEIGHT, "width": WIDTH}, {"category_id": 1}, None,
        ("", "coco_record"),
    ),
    "no record": (5, None, None, ("", "coco_record")),
    "an id that is a list": (image([2], "b.png"), None, None, ("", "coco_record")),
}  # fmt: skip


@pytest.mark.parametrize("case", BESIDES)
def test_one_bad_record_costs_nothing_else(case, export):
    record, region, file, row = BESIDES[case]
    if file:
        export.add(file)
    export.content["images"] += [record] * (record is not None)
    export.content["annotations"] += [region] * (region is not None)
    ignored = row[1] == "not_an_image"
    assert export.convert().exit_code == (0 if ignored else 2)
    assert [*all_records(export.output)] == ["a"]
    assert export.rows() == [(*row, "ignored" if ignored else "excluded")]


def test_a_name_that_leaves_no_room_for_results(export):
    name = f"{'n' * 240}.png"
    export.add(name)
    images = [image(), image(2, name)]
    export.convert(images=images, annotations=[annotation(), annotation(2)])
    assert export.rows() == [("n" * 240, "name_too_long", "excluded")]


def test_an_image_twice(export):
    export.add("b.png")
    images = [image(1), image(2, "b.png"), image(3, "b.png")]
    export.convert(images=images, annotations=[annotation(n) for n in (1, 2, 3)])
    assert export.rows() == [("b", "duplicate_id", "excluded")] * 2


# The records of images beside the good one that have the id 2; the rows.
ONE_ID = {
    "of two images": (
        [image(2, "b.png"), image(2, "c.png")],
        [("b", "duplicate_id", "excluded"), ("c", "duplicate_id", "excluded")],
    ),
    "of an image and one that is not there": (
        [image(2, "b.png"), image(2, "none.png"), image(3, "c.png")],
        [("", "image_missing", "excluded"), ("b", "duplicate_id", "excluded")],
    ),
    "of one image": ([image(2, "b.png")] * 2 + [image(3, "c.png")],
                     [("b", "duplicate_id", "excluded")] * 2),
}  # fmt: skip


@pytest.mark.parametrize("case", ONE_ID)
def test_one_id_of_two_records(case, export):
    records, rows = ONE_ID[case]
    for name in ("b.png", "c.png"):
        export.add(name)
    annotations = [annotation(number) for number in (1, 2, 3)]
    annotations.append(annotation(2, segmentation=(BESIDE,)))
    export.convert(images=[image(), *records], annotations=annotations)
    assert export.rows() == rows
    left_out = {row[0] for row in rows}
    assert sorted(all_records(export.output)) == sorted({"a", "b", "c"} - left_out)
    np.testing.assert_array_equal(export.mask(), filled(SQUARE))


def test_drawn_on_the_picture_as_shown(export):
    stored = lesion_pair(1, WIDTH, HEIGHT)[0]  # turned by a quarter, it is 60 high and 80 wide
    export.add("b.jpg", encode(stored, "JPEG", exif=exif(6)))
    images = [image(1), image(2, "b.jpg")]
    export.convert(
        images=images, annotations=[annotation(1), annotation(2, segmentation=(BESIDE,))]
    )
    np.testing.assert_array_equal(export.mask("b"), filled(BESIDE))


def test_an_export_of_detectron2_gives_the_same_lesions(tiny_root, tmp_path):
    convert_to_coco_json("tiny_train", str(tmp_path / "coco.json"))
    folders = {"all": (tiny_root / "images", [])}
    options = {"coco": tmp_path / "coco.json", "resize": "none", "group": False}
    convert(ConvertOptions(folders, tmp_path / "out", **options))
    found, expected = all_records(tmp_path / "out"), all_records(tiny_root)
    assert len(found) == 13
    for isic_id, (_, annotation) in found.items():
        assert annotation["segmentation"] == expected[isic_id][1]["segmentation"]


@pytest.mark.parametrize("content", ["[]", "{}", '{"images": [], "annotations": {}}', "no"])
def test_what_is_no_coco_file(content, export):
    export.path.write_text(content)
    with pytest.raises(LesionError, match=r"coco\.json: (has no lists|not JSON)"):
        convert(ConvertOptions({"all": (export.images, [])}, export.output, coco=export.path))


def test_the_command(export):
    export.convert()
    tool = Path(__file__).parents[1] / "tools" / "convert_isic.py"
    command = [sys.executable, tool, "--images", export.images, "--coco", export.path]
    command += ["--output", export.output]
    done = subprocess.run([*command, "--overwrite"], capture_output=True, text=True)
    assert (done.returncode, done.stdout[:7]) == (0, "1 pairs"), done.stderr
    wrong = [["--masks", export.images], ["--category", "mole"]]
    for more in wrong:
        done = subprocess.run([*command, *more, "--overwrite"], capture_output=True, text=True)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
