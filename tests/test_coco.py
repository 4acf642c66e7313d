"""COCO records: what is taken, and one error for everything that is not."""

import copy
import json
import os
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask

from lesion_d2.data.coco import FLIP_ID_STEP, read_records
from lesion_d2.data.converted import read_split
from lesion_d2.data.datasets import register_converted, register_dataset
from lesion_d2.data.loader import check_members, load_members
from lesion_d2.errors import LesionError

HEIGHT, WIDTH = 12, 16
ROOT = Path("root")
MASK = np.zeros((HEIGHT, WIDTH), np.uint8)
MASK[3:9, 2:11] = 1
POLYGON = [2, 3, 11, 3, 11, 9, 2, 9]


def compressed():
    rle = coco_mask.encode(np.asfortranarray(MASK))
    return {"size": rle["size"], "counts": rle["counts"].decode()}


def uncompressed():
    pixels = MASK.flatten(order="F")
    ends = np.flatnonzero(np.diff(pixels)) + 1
    return {"size": [HEIGHT, WIDTH], "counts": np.diff([0, *ends, pixels.size]).tolist()}


def image(number=1, **changes):
    usual = {"id": number, "file_name": f"images/a{number}.png", "height": HEIGHT, "width": WIDTH}
    return usual | changes


def annotation(number=1, **changes):
    usual = {"id": number, "image_id": number, "category_id": 7, "segmentation": compressed()}
    return usual | changes


def coco(images=None, annotations=None, categories=None):
    return {
        "images": [image()] if images is None else images,
        "annotations": [annotation()] if annotations is None else annotations,
        "categories": [{"id": 7, "name": "naevus"}] if categories is None else categories,
    }


@pytest.mark.parametrize("segmentation", [compressed(), uncompressed(), [POLYGON]], ids=str)
def test_a_lesion_in_any_of_cocos_forms(segmentation):
    (record,) = read_records(coco(annotations=[annotation(segmentation=segmentation)]), ROOT)
    assert record["file_name"] == "root/images/a1.png"
    assert (record["image_id"], record["isic_id"]) == (1, "a1")
    assert (record["height"], record["width"]) == (HEIGHT, WIDTH)
    (found,) = record["annotations"]
    assert (found["category_id"], found["bbox"]) == (0, [2.0, 3.0, 9.0, 6.0])
    mask = found["segmentation"]
    if isinstance(mask, list):
        mask = coco_mask.merge(coco_mask.frPyObjects(mask, HEIGHT, WIDTH))
    np.testing.assert_array_equal(coco_mask.decode(mask), MASK)


def test_names_are_the_records_own_or_have_folders_where_they_must():
    content = coco([image(1), image(2, file_name="other/a1.jpg"), image(3, isic_id="p/x y")], [])
    names = [record["isic_id"] for record in read_records(content, ROOT)]
    assert names == ["images/a1", "other/a1", "p/x y"]


def test_figures_and_reports_read_the_same_records(tmp_path):
    content = coco([image(2), image(1)], [annotation(1), annotation(2, segmentation=[POLYGON])])
    (tmp_path / "test.json").write_text(json.dumps(content))
    lesions = read_split(tmp_path, "test")
    assert [(lesion.image_id, lesion.isic_id) for lesion in lesions] == [(1, "a1"), (2, "a2")]
    for lesion in lesions:
        assert lesion.path == tmp_path / "images" / f"{lesion.isic_id}.png"
        assert (lesion.original_height, lesion.original_width) == (HEIGHT, WIDTH)
        np.testing.assert_array_equal(lesion.read_mask(), MASK)


def test_records_come_by_rising_id():
    content = coco([image(2), image(1)], [annotation(2), annotation(1)])
    assert [record["image_id"] for record in read_records(content, ROOT)] == [1, 2]


NAN, INF = float("nan"), float("inf")


def masks(*counts):
    return [coco(annotations=[annotation(segmentation={"size": [HEIGHT, WIDTH], "counts": c})])
            for c in counts]  # fmt: skip


def polygons(*found):
    return [coco(annotations=[annotation(segmentation=polygon)]) for polygon in found]


def images(key, *values):
    return [coco([image(**{key: value})]) for value in values]


BAD = [
    *images("file_name", None, 1, "", ".", "..", "/etc/passwd", "../a.png", "b/../../a.png", "a\0"),
    *images("id", None, "1", -1, 1.0, True, FLIP_ID_STEP, 10**30),
    *images("height", None, "12", 0, -12, 12.0, NAN, INF, True, 10**9),
    *images("width", None, 0, 17),
    coco([image(), image()]),
    coco([image(), image(2, file_name="images/a1.jpg")]),
    coco([image(isic_id="b"), image(2, isic_id="b")]),
    *images("isic_id", None, 1, "", "/etc/passwd", "../a", "a\0", "n" * 240),
    coco([1]),
    coco(categories=[]),
    coco(categories=[{"id": 7}, {"id": 8}]),
    coco(categories=[7]),
    coco(annotations=[annotation(image_id=2)]),
    coco(annotations=[annotation(image_id=[])]),
    coco(annotations=[annotation(category_id=1)]),
    coco(annotations=[annotation(segmentation=None)]),
    coco(annotations=[annotation(segmentation=compressed() | {"size": [WIDTH, HEIGHT]})]),
    coco(annotations=[annotation(segmentation=uncompressed() | {"size": [WIDTH, HEIGHT]})]),
    *masks("", "0", "garbage", "\ud800", "\xff", None, 5, [], [-1, 193], [192.0], [191], [193],
           [10**30], [True] * 192, [192], {}),
    *polygons([], [[]], [[1, 2, 3, 4]], [[1, 2, 3, 4, 5, 6, 7]], ["abcdef"], [[1e9] * 6],
              [[INF] * 6], [[NAN] * 6], [[-2.0] * 6], [["1"] * 6], [[3.0] * 6], [[10**400] * 6],
              [[True] * 6], [POLYGON, None]),
]  # fmt: skip


@pytest.mark.parametrize("content", BAD, ids=range(len(BAD)))
def test_what_cannot_be_right_is_one_line(content):
    with pytest.raises(LesionError) as error:
        read_records(content, ROOT)
    assert "\n" not in str(error.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)


def places(node, path=()):
    """Return the path of each value of a nested structure."""
    entries = node.items() if isinstance(node, dict) else enumerate(node)
    found = [path] if path else []
    if isinstance(node, (dict, list)):
        for key, child in entries:
            found += places(child, (*path, key)) if isinstance(child, (dict, list)) else [
                (*path, key)
            ]  # fmt: skip
    return found


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_any_change_gives_records_or_one_error(data):
    segmentations = [compressed(), uncompressed(), [[float(value) for value in POLYGON]]]
    content = coco(
        [image(n) for n in range(3)],
        [annotation(n, segmentation=copy.deepcopy(s)) for n, s in enumerate(segmentations)],
    )
    for _ in range(data.draw(st.integers(1, 3))):
        *path, last = data.draw(st.sampled_from(places(content)))
        node = content
        for key in path:
            node = node[key]
        old = node[last]
        change = (
            st.text(alphabet=st.characters(max_codepoint=127)) if isinstance(old, str) else JSON
        )
        if isinstance(old, (int, float)):
            change |= st.sampled_from([old + 1, old - 1, -old, old * 1000])
        if data.draw(st.booleans()):
            node[last] = data.draw(change)
        else:
            del node[last]
    text = json.dumps(content)
    try:
        records = read_records(json.loads(text), ROOT)
    except LesionError:
        return
    for record in records:
        size = record["height"], record["width"]
        for found in record["annotations"]:
            mask = found["segmentation"]
            if isinstance(mask, list):
                mask = coco_mask.merge(coco_mask.frPyObjects(mask, *size))
            if size[0] * size[1] < 10**6:
                assert coco_mask.decode(mask).shape == size


@pytest.fixture
def dataset(tmp_path):
    """Function (content, name) -> registered split of a folder that holds two image files."""

    def write(content, name="foreign"):
        folder = tmp_path / name
        (folder / "images").mkdir(parents=True)
        for number in (1, 2):
            Image.new("RGB", (WIDTH, HEIGHT)).save(folder / "images" / f"a{number}.png")
        (folder / "train.json").write_text(json.dumps(content))
        register_dataset(name, folder)
        return folder

    return write


def two(**changes):
    return coco([image(1), image(2, **changes)], [annotation(1), annotation(2)])


def test_files_that_fit_pass(dataset):
    dataset(two())
    check_members(("foreign_train",), evaluation=True)


def test_a_folder_without_a_manifest_is_registered(dataset, monkeypatch):
    folder = dataset(two())
    monkeypatch.setenv("DETECTRON2_DATASETS", str(folder.parent))
    DatasetCatalog.pop("foreign_train")
    register_converted()
    assert len(DatasetCatalog.get("foreign_train")) == 2


@pytest.fixture
def registered(dataset):
    """Register a list of dicts as a data set of a user's own; yield how to."""
    names = []

    def register(records):
        names.append(f"own{len(names)}")
        DatasetCatalog.register(names[-1], lambda: records)
        return names[-1]

    yield register
    for name in names:
        DatasetCatalog.remove(name)


def own_records(folder):
    register_coco_instances("own_coco", {}, str(folder / "train.json"), str(folder))
    records = DatasetCatalog.get("own_coco")
    DatasetCatalog.remove("own_coco")
    MetadataCatalog.remove("own_coco")
    return records


def test_a_set_that_detectron2_registered_can_be_used_and_repeated(dataset, registered):
    name = registered(own_records(dataset(two())))
    check_members([name, name], evaluation=True)
    ids = [member["isic_id"] for member in load_members([name, name], ("none",))]
    assert ids == ["a1", "a2"] * 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda records: records[1].update(file_name=records[0]["file_name"]),
            "2 images are called",
        ),
        (lambda records: records[1]["annotations"][0].update(category_id=1), "several categories"),
    ],
)
def test_a_set_of_a_users_own_that_cannot_be_used(change, words, dataset, registered):
    records = own_records(dataset(two()))
    change(records)
    with pytest.raises(LesionError, match=words):
        check_members([registered(records)], evaluation=False)


@pytest.mark.parametrize("count", [0, 2])
def test_an_evaluation_needs_one_lesion_an_image(count, dataset):
    content = two()
    content["annotations"][1:] = [annotation(2 + n, image_id=2) for n in range(count)]
    dataset(content)
    with pytest.raises(LesionError, match=rf"a2\.png: {count} annotations"):
        check_members(("foreign_train",), evaluation=True)
    if count:
        check_members(("foreign_train",), evaluation=False)
    else:
        with pytest.raises(LesionError, match=r"a2\.png: 0 annotations"):
            check_members(("foreign_train",), evaluation=False)


def spoil(path, how):
    path.unlink()
    if how == "folder":
        path.mkdir()
    elif how == "pipe":
        os.mkfifo(path)
    elif how == "text":
        path.write_text("text")
    elif how == "empty":
        path.touch()
    elif how == "size":
        Image.new("RGB", (WIDTH, HEIGHT + 1)).save(path)


@pytest.mark.parametrize("how", ["missing", "folder", "pipe", "text", "empty", "size"])
def test_a_file_that_cannot_be_used_is_named_before_any_work(how, dataset):
    folder = dataset(two())
    spoil(folder / "images" / "a2.png", how)
    with pytest.raises(LesionError, match=r"images/a2\.png: "):
        check_members(("foreign_train",), evaluation=False)


def test_a_data_set_of_detectron2_that_is_not_here():
    with pytest.raises(LesionError, match="'coco_2017_val' cannot be read"):
        check_members(("coco_2017_val",), evaluation=True)
