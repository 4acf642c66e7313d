"""Predictions in the formats of other tools, each read by a library that knows it."""

import base64
import io
import json
import re

import numpy as np
import pytest
import shapely
import supervision
from convert_archive import folder_bytes
from dark_pixels import DarkPixels, predict, rows
from detectron2.data.datasets import load_coco_json
from PIL import Image, ImageOps
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from scipy import ndimage
from tiny import load_tool

from lesion_d2.errors import LesionError
from lesion_d2.files import write_csv
from lesion_d2.results.formats import write_formats
from lesion_d2.results.predictions import PredictionFolder
from lesion_d2.results.removal import remove_predictions

ALL = ("masks", "coco", "labelme", "geojson")
OUTSIDE, INSIDE = 200, 0


def square(mask=None):
    mask = np.zeros((12, 16), bool) if mask is None else mask
    mask[3:9, 4:10] = True
    return mask


def with_hole():
    mask = square()
    mask[5:7, 6:8] = False
    mask[7, 8] = False  # touches the hole in a corner
    return mask


def two_parts():
    mask = square()
    mask[9:11, 10:16] = True  # touches in a corner, and reaches the border
    return mask


def save(path, mask, orientation=None):
    """Write a photograph of a lesion; with an orientation, its pixels are stored turned."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    pixels = np.where(mask[..., None], INSIDE, OUTSIDE).astype(np.uint8).repeat(3, axis=2)
    Image.fromarray(pixels).save(path, exif=exif)


PHOTOGRAPHS = {
    "square.png": square(),
    "hole.png": with_hole(),
    "1/parts.png": two_parts(),
    "2/parts.png": two_parts()[:, ::-1],
    "läsion 皮膚.png": square()[::-1],
    "none.png": np.zeros((12, 16), bool),
    "all.png": np.ones((12, 16), bool),
    "same.png": two_parts(),
    "same.bmp": with_hole(),
}
TURNED = square(np.zeros((12, 16), bool))


@pytest.fixture
def folder(tmp_path):
    for name, mask in PHOTOGRAPHS.items():
        save(tmp_path / "in" / name, mask)
    save(tmp_path / "in" / "turned.png", TURNED, 6)
    return tmp_path / "in"


@pytest.fixture
def output(folder, tmp_path):
    """What all formats of the photographs are written into."""
    assert predict(folder, tmp_path / "out", formats=ALL) == []
    return tmp_path / "out"


def lesion_of(path):
    """Return the mask of a photograph, as it is to be seen."""
    with Image.open(path) as image:
        return np.array(ImageOps.exif_transpose(image).convert("L")) < 100


def results(output):
    """Yield the name, the photograph and the lesion of each."""
    for row in rows(output / "predictions.csv"):
        name = row["mask"].removeprefix("masks/").removesuffix("_segmentation.png")
        yield name, row, lesion_of(row["file"])


def filled(geometry, shape):
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    return shapely.contains_xy(geometry, x, y)


def test_coco_by_pycocotools(folder, output):
    coco = COCO(str(output / "predictions.json"))
    assert coco.dataset["info"]["weights_sha256"] == "dark"
    assert coco.dataset["categories"] == [{"id": 1, "name": "lesion"}]
    names = {image["file_name"]: image for image in coco.loadImgs(coco.getImgIds())}
    assert names.keys() == {*PHOTOGRAPHS, "turned.png"}
    for name, image in names.items():
        expected = lesion_of(folder / name)
        assert (image["height"], image["width"]) == expected.shape
        found = coco.loadAnns(coco.getAnnIds(image["id"]))
        assert len(found) == expected.any()
        for annotation in found:
            np.testing.assert_array_equal(coco.annToMask(annotation), expected)
            assert annotation["area"] == expected.sum()
            x, y, width, height = map(int, annotation["bbox"])
            part = expected[y : y + height, x : x + width]
            assert part.sum() == expected.sum()
            assert all(side.any() for side in (part[0], part[-1], part[:, 0], part[:, -1]))
            assert (annotation["score"], annotation["category_id"]) == (0.5, 1)
            assert "estimated_iou" not in annotation  # this predictor gives none


def test_coco_as_a_data_set_of_detectron2(folder, output):
    records = load_coco_json(str(output / "predictions.json"), str(folder), "predicted_formats")
    assert len(records) == len(PHOTOGRAPHS) + 1
    for record in records:
        expected = lesion_of(record["file_name"])
        assert (record["height"], record["width"]) == expected.shape
        for annotation in record["annotations"]:
            mask = coco_mask.decode(annotation["segmentation"])
            np.testing.assert_array_equal(mask, expected)


@pytest.mark.parametrize("kind", ["segm", "bbox"])
def test_coco_as_results_of_the_official_evaluation(kind, output):
    truth = COCO(str(output / "predictions.json"))
    found = truth.loadRes(json.loads((output / "predictions.json").read_text())["annotations"])
    evaluation = COCOeval(truth, found, kind)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1)
    assert len(found.anns) == len(PHOTOGRAPHS)  # one has no lesion, one is turned


def test_geojson_by_shapely(output):
    seen = set()
    for name, _, expected in results(output):
        content = json.loads((output / f"geojson/{name}.geojson").read_text())
        assert content["type"] == "FeatureCollection"
        assert content["lesion_d2"]["weights_sha256"] == "dark"
        assert content["lesion_d2"]["score"] == 0.5
        assert len(content["features"]) == expected.any()
        for feature in content["features"]:
            assert feature["type"] == "Feature"
            assert feature["properties"]["objectType"] == "annotation"
            assert feature["properties"]["classification"]["name"] == "lesion"
            geometry = shapely.from_geojson(json.dumps(feature))
            (geometry,) = getattr(geometry, "geoms", [geometry]) if (
                geometry.geom_type == "GeometryCollection"
            ) else [geometry]  # fmt: skip
            assert geometry.is_valid
            np.testing.assert_array_equal(filled(geometry, expected.shape), expected)
            seen.add(geometry.geom_type)
    assert seen == {"Polygon", "MultiPolygon"}


def test_labelme_files_name_their_photographs(output):
    for name, row, expected in results(output):
        path = output / f"labelme/{name}.json"
        content = json.loads(path.read_text())
        assert (path.parent / content["imagePath"]).resolve().samefile(row["file"])
        assert content["imageData"] is None
        assert (content["imageHeight"], content["imageWidth"]) == expected.shape
        assert content["lesion_d2"]["weights_sha256"] == "dark"


def test_shapes_of_labelme_give_the_mask_back(output):
    seen = set()
    for name, _, expected in results(output):
        found = np.zeros_like(expected)
        for shape in json.loads((output / f"labelme/{name}.json").read_text())["shapes"]:
            assert shape["label"] == "lesion"
            seen.add(shape["shape_type"])
            if shape["shape_type"] == "mask":  # both corners are pixels of it
                (left, top), (right, bottom) = shape["points"]
                data = io.BytesIO(base64.b64decode(shape["mask"]))
                found[top : bottom + 1, left : right + 1] = np.array(Image.open(data)) > 0
            else:
                found |= filled(shapely.Polygon(shape["points"]), expected.shape)
        np.testing.assert_array_equal(found, expected)
    assert seen == {"polygon", "mask"}


def test_labelme_by_supervision(folder, output):
    for name in ("1", "2", ""):
        read = supervision.DetectionDataset.from_labelme
        holes = name == ""
        if holes:
            with pytest.warns(UserWarning, match="Skipped unsupported LabelMe shape"):
                dataset = read(str(folder / name), str(output / "labelme" / name))
        else:
            dataset = read(str(folder / name), str(output / "labelme" / name))
        assert dataset.classes == ["lesion"]
        for path, found in dataset.annotations.items():
            expected = lesion_of(path)
            if not expected.any() or np.array_equal(expected, with_hole()):
                assert len(found) == 0
                continue
            ys, xs = np.nonzero(expected)
            assert found.xyxy.tolist() == [[xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]]
            # It draws the outline in, too: up to a pixel more.
            assert (found.mask[0] | ~expected).all()
            assert (~found.mask[0] | ndimage.binary_dilation(expected, np.ones((3, 3)))).all()


def test_coco_names_a_linked_photograph_as_it_was_given(tmp_path):
    save(tmp_path / "lesion.png", square())
    (tmp_path / "lesion.png").rename(tmp_path / "3f2a")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "lesion1.jpg").symlink_to(tmp_path / "3f2a")
    predict(tmp_path / "in", tmp_path / "out", formats=["coco"])
    (image,) = json.loads((tmp_path / "out" / "predictions.json").read_text())["images"]
    assert image["file_name"] == "lesion1.jpg"


def test_by_default_there_are_masks_alone(folder, tmp_path):
    predict(folder, tmp_path / "out")
    predict(folder, tmp_path / "named", formats=["masks"])
    names = {"masks", "overlays", "predictions.csv", "failed.csv", "settings.json"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    assert {path.name for path in (tmp_path / "named").iterdir()} == names


def test_a_second_run_adds_formats_and_predicts_nothing_again(folder, output, tmp_path):
    expected = folder_bytes(output)
    other = tmp_path / "other"
    predict(folder, other)
    times = {path: path.stat().st_mtime_ns for path in (other / "masks").rglob("*.png")}
    for formats in (["geojson"], ["coco", "masks"], ["labelme"]):
        assert predict(folder, other, formats=formats) == []
    assert {path: path.stat().st_mtime_ns for path in times} == times

    def without_times(files):
        return {name: data for name, data in files.items() if not name.endswith(".csv")}

    assert without_times(folder_bytes(other)) == without_times(expected)


def test_a_changed_photograph_changes_in_every_format_that_is_there(folder, output):
    edited = output / "labelme" / "hole.json"
    edited.write_text("edited by hand")
    before = folder_bytes(output)
    save(folder / "square.png", two_parts())
    assert predict(folder, output) == []
    after = folder_bytes(output)
    changed = {name for name in after if after[name] != before[name] and "csv" not in name}
    assert changed == {
        "predictions.json", "masks/square_segmentation.png", "overlays/square.jpg",
        "labelme/square.json", "geojson/square.geojson",
    }  # fmt: skip
    assert edited.read_text() == "edited by hand"
    test_geojson_by_shapely(output)
    test_coco_by_pycocotools(folder, output)


def test_nothing_stays_of_a_photograph_that_has_become_unreadable(folder, output):
    (folder / "square.png").write_bytes(b"no image")
    assert len(predict(folder, output)) == 1
    assert not [name for name in folder_bytes(output) if "square" in name]
    names = [
        i["file_name"] for i in json.loads((output / "predictions.json").read_text())["images"]
    ]
    assert len(names) == len(PHOTOGRAPHS)
    assert "square.png" not in names


def test_shares_have_files_of_their_own_and_a_call_for_all_joins_them(folder, output, tmp_path):
    shared = tmp_path / "shared"
    for number in (1, 2):
        assert predict(folder, shared, (number, 2), formats=ALL) == []
    parts = [
        {image["file_name"] for image in json.loads(path.read_text())["images"]}
        for path in sorted(shared.glob("predictions_*.json"))
    ]
    assert len(parts) == 2
    assert parts[0] & parts[1] == set()
    assert parts[0] | parts[1] == {*PHOTOGRAPHS, "turned.png"}
    assert predict(folder, shared, formats=["coco"]) == []
    for name in ("predictions.json", "geojson/hole.geojson", "labelme/1/parts.json"):
        assert (shared / name).read_bytes() == (output / name).read_bytes()
    remove_predictions(PredictionFolder(shared, (1, 2)))
    assert not (shared / "predictions_1_of_2.json").exists()
    assert (shared / "predictions_2_of_2.json").exists()
    remove_predictions(PredictionFolder(shared))
    assert list(shared.iterdir()) == []


def test_overwrite_removes_all_formats(output):
    remove_predictions(PredictionFolder(output))
    assert list(output.iterdir()) == []


@pytest.mark.parametrize("content", ["cut", "size"])
def test_a_mask_that_was_changed(content, folder, output):
    path = output / "masks" / "square_segmentation.png"
    if content == "cut":
        path.write_bytes(path.read_bytes()[:-20])
    else:
        Image.new("L", (5, 5)).save(path)
    with pytest.raises(LesionError, match=r"square_segmentation\.png: .*delete it"):
        predict(folder, output)
    path.unlink()
    assert predict(folder, output) == []
    test_geojson_by_shapely(output)


@pytest.mark.parametrize("text", ["coc", "", "coco,", "COCO", "coco geojson"])
def test_what_is_no_format(text):
    with pytest.raises(LesionError, match=r"--format: .*masks,coco,labelme,geojson"):
        load_tool("predict").formats(text)


@pytest.mark.parametrize("column", ["score", "estimated_iou"])
def test_a_score_that_is_no_number_is_named_with_its_table_and_row(column, output):
    out = PredictionFolder(output)
    row = next(row for row in out.rows() if row["file"].endswith("hole.png"))
    write_csv(out.table, row, [{**r, column: "0,8"} if r == row else r for r in out.rows()])
    message = f"{out.table}: {column} of {row['file']} is '0,8', not a number from 0 to 1"
    with pytest.raises(LesionError, match=re.escape(message)):
        write_formats(out, ["coco"])


def test_names_of_formats():
    assert load_tool("predict").formats("masks,coco,labelme,geojson") == list(ALL)


def test_an_estimate_is_in_every_format(folder, tmp_path, monkeypatch):
    plain = DarkPixels.__call__

    def estimating(self, images, **options):
        return [
            type(lesion)(**{**lesion.__dict__, "estimated_iou": 0.75})
            for lesion in plain(self, images, **options)
        ]

    monkeypatch.setattr(DarkPixels, "__call__", estimating)
    predict(folder, tmp_path / "out", formats=ALL)
    for path in ("geojson/hole.geojson", "labelme/hole.json"):
        assert (
            json.loads((tmp_path / "out" / path).read_text())["lesion_d2"]["estimated_iou"] == 0.75
        )
    coco = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert {annotation["estimated_iou"] for annotation in coco["annotations"]} == {0.75}
