"""Files in, masks and a table out; tools/export.py and tools/predict.py."""

import csv
import json

import cv2
import numpy as np
import pytest
import torch
from convert_archive import folder_bytes
from PIL import Image
from tiny import ROOT, load_tool, run_python

import lesion_d2
from lesion_d2.commands.predict import predict_files
from lesion_d2.errors import LesionError
from lesion_d2.files import write_json
from lesion_d2.images.inputs import find_images
from lesion_d2.images.reading import read_image
from lesion_d2.prediction.confidence import ConfidenceModel
from lesion_d2.prediction.predictor import outline_image
from lesion_d2.results.predictions import PredictionFolder
from lesion_d2.results.removal import remove_predictions
from lesion_d2.synthetic import render
from lesion_d2.web.outlines import outline_picture


def rows(folder):
    with open(folder / "predictions.csv", newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_folder(predictor, photographs, tmp_path):
    files = find_images([str(photographs)])
    output = tmp_path / "out"
    assert predict_files(predictor, files, PredictionFolder(output)) == []
    table = rows(output)
    assert [row["file"] for row in table] == [str(file.path) for file in files]
    for file, row in zip(files, table, strict=True):
        image = cv2.imread(str(file.path))
        (lesion,) = predictor([image], channels="BGR")
        mask_file = output / "masks" / f"{file.name}_segmentation.png"
        assert output / row["mask"] == mask_file
        with Image.open(mask_file) as mask:
            assert mask.mode == "L"
            np.testing.assert_array_equal(np.array(mask), lesion.mask * np.uint8(255))
        assert int(row["area_pixels"]) == lesion.mask.sum()
        assert (int(row["width"]), int(row["height"])) == image.shape[1::-1]
        assert tuple(int(row[key]) for key in ("x0", "y0", "x1", "y1")) == lesion.box
        assert float(row["score"]) == pytest.approx(lesion.score, abs=1e-4)
        assert float(row["estimated_iou"]) == pytest.approx(lesion.estimated_iou, abs=1e-4)
        overlay = cv2.imread(str(output / "overlays" / f"{file.name}.jpg"))
        assert overlay.shape == image.shape


def test_any_number_of_workers_gives_the_same(predictor, photographs, tmp_path):
    (photographs / "broken.jpg").write_bytes(b"")
    files = find_images([str(photographs)])
    threads = torch.get_num_threads()
    for workers in (1, 3):
        failed = predict_files(
            predictor, files, PredictionFolder(tmp_path / str(workers)), workers=workers
        )
        assert [file.name for file, _ in failed] == ["broken.jpg"]
    assert torch.get_num_threads() == threads
    one, three = ([row | {"seconds": ""} for row in rows(tmp_path / n)] for n in ("1", "3"))
    assert one == three
    assert folder_bytes(tmp_path / "1" / "masks") == folder_bytes(tmp_path / "3" / "masks")


@pytest.mark.parametrize(("limit", "workers", "expected"), [(1, 1, 1), (2, 1, 2), (4, 2, 2)])
def test_a_workers_threads_are_its_share_and_no_more_than_the_user_allows(
    predictor, limit, workers, expected, monkeypatch
):
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    before = torch.get_num_threads()
    torch.set_num_threads(limit)
    try:
        with predictor.sharing(workers):
            assert torch.get_num_threads() == expected
        assert torch.get_num_threads() == limit
    finally:
        torch.set_num_threads(before)


def test_no_worker(predictor, tmp_path):
    with pytest.raises(LesionError, match="--workers: 0"):
        predict_files(predictor, [], PredictionFolder(tmp_path / "out"), workers=0)


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_large_photograph_is_read_smaller(orientation, predictor, tmp_path):
    height, width = 1200, 2000
    image = cv2.resize(
        np.random.default_rng(0).integers(0, 256, (6, 10, 3), np.uint8), (width, height)
    )
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(image).save(tmp_path / "large.jpg", exif=exif)
    pixels, size = read_image(tmp_path / "large.jpg", predictor.enough)
    whole, _ = read_image(tmp_path / "large.jpg")
    assert size == whole.shape[:2] == ((height, width) if orientation == 1 else (width, height))
    assert pixels.shape[:2] == (size[0] // 8, size[1] // 8)  # 1200 / 8 is just above 2 x 72
    small = cv2.resize(whole, pixels.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(pixels.astype(int) - small).mean() < 2

    predict_files(predictor, find_images([str(tmp_path)]), PredictionFolder(tmp_path / "out"))
    (row,) = rows(tmp_path / "out")
    assert (int(row["height"]), int(row["width"])) == size
    mask = cv2.imread(str(tmp_path / "out" / row["mask"]), cv2.IMREAD_UNCHANGED)
    overlay = cv2.imread(str(tmp_path / "out" / "overlays" / "large.jpg"))
    assert mask.shape == size
    assert max(overlay.shape) == 1024
    (lesion,) = predictor([whole], channels="BGR")
    assert (lesion.mask == (mask > 0)).mean() > 0.99


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_what_is_shown_changes_no_mask(suffix, predictor, tmp_path):
    image, _ = render(5, 0, 1300, 2000)
    photograph = tmp_path / "in" / f"large.{suffix}"
    photograph.parent.mkdir()
    cv2.imwrite(str(photograph), image)
    files = find_images([str(photograph)])
    for overlays in (True, False):
        folder = PredictionFolder(tmp_path / str(overlays))
        assert predict_files(predictor, files, folder, overlays=overlays) == []
    with_overlay, without = (
        [row | {"seconds": ""} for row in rows(tmp_path / name)] for name in ("True", "False")
    )
    assert with_overlay == without
    assert folder_bytes(tmp_path / "True" / "masks") == folder_bytes(tmp_path / "False" / "masks")
    data = photograph.read_bytes()
    lesion, seen = outline_image(predictor, data)
    assert lesion.mask.any()
    for side, shape in ((200, (325, 500)), (1024, (1300, 2000)), (5000, (1300, 2000))):
        other, shown = outline_image(predictor, data, side)
        np.testing.assert_array_equal(other.mask, lesion.mask)
        assert other.score == lesion.score
        assert shown.shape[:2] == (shape if suffix == "jpg" else (1300, 2000))
    for picture in (True, False):
        outline, other = outline_picture(predictor, data, picture)
        assert (outline.picture is not None) == picture
        np.testing.assert_array_equal(other.mask, lesion.mask)
        assert outline.score == lesion.score
    assert seen.shape[:2] == ((163, 250) if suffix == "jpg" else (1300, 2000))


def test_a_stopped_run_continues(predictor, photographs, tmp_path):
    files = find_images([str(photographs)])
    straight, output = tmp_path / "straight", tmp_path / "out"
    predict_files(predictor, files, PredictionFolder(straight), overlays=False)
    predict_files(predictor, files[:3], PredictionFolder(output), overlays=False)
    first = output / "masks" / f"{files[0].name}_segmentation.png"
    before = first.stat().st_mtime_ns
    (output / "masks" / f"{files[1].name}_segmentation.png").unlink()  # its row is worth nothing
    with open(output / "predictions.csv", "a") as stream:
        stream.write(f"{files[3].path},masks/")  # torn by a kill

    predict_files(predictor, files, PredictionFolder(output), overlays=False)
    assert first.stat().st_mtime_ns == before
    for file in files:
        name = f"masks/{file.name}_segmentation.png"
        assert (output / name).read_bytes() == (straight / name).read_bytes()

    def stable(folder):
        return sorted(
            [{key: row[key] for key in row if key != "seconds"} for row in rows(folder)],
            key=lambda row: row["file"],
        )

    assert stable(output) == stable(straight)


@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_shards_share_the_files_without_overlap_or_loss(count, predictor, photographs, tmp_path):
    (photographs / "broken.jpg").write_bytes(b"")
    files = find_images([str(photographs)])
    whole, output = tmp_path / "whole", tmp_path / "out"
    predict_files(predictor, files, PredictionFolder(whole), overlays=False)
    failed = []
    for number in range(1, count + 1):
        failed += predict_files(
            predictor, files, PredictionFolder(output, (number, count)), overlays=False
        )
    assert [file.name for file, _ in failed] == ["broken.jpg"]
    tables = sorted(output.glob("predictions*.csv"))
    assert len(tables) == count
    found = [row["file"] for table in tables for row in csv.DictReader(table.open(newline=""))]
    assert sorted(found) == sorted(row["file"] for row in rows(whole))
    assert folder_bytes(whole / "masks") == folder_bytes(output / "masks")
    remove_predictions(PredictionFolder(output))
    assert list(output.iterdir()) == []


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/2/3", "-1/2"])
def test_what_is_no_shard(text):
    with pytest.raises(ValueError):  # noqa: PT011 argparse makes a line of any
        load_tool("predict").shard(text)


def test_files_that_cannot_be_used_are_reported(predictor, photographs, tmp_path):
    bad = {
        "cut.jpg": next(photographs.glob("*.jpg")).read_bytes()[:500],
        "empty.png": b"",
        "text.jpg": b"no image",
    }
    for name, data in bad.items():
        (photographs / name).write_bytes(data)
    Image.fromarray(np.full((8, 8), 70_000, np.int32)).save(photographs / "deep.tif")
    failed = predict_files(
        predictor, find_images([str(photographs)]), PredictionFolder(tmp_path / "out")
    )
    assert {file.name for file, _ in failed} == {*bad, "deep.tif"}
    assert all(reason for _, reason in failed)
    assert len(rows(tmp_path / "out")) == 4
    with open(tmp_path / "out" / "failed.csv", newline="") as stream:
        assert len(list(csv.DictReader(stream))) == 4


@pytest.mark.parametrize(
    ("key", "value", "name"),
    [
        ("TEST.VIEWS", ("vertical",), "views"),
        ("INPUT.MAX_SIZE_TEST", 80, "max_size_test"),
        ("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.3, "instance_score_threshold"),
        ("MODEL.ROI_HEADS.NMS_THRESH_TEST", 0.3, "instance_nms_threshold"),
        ("TEST.DETECTIONS_PER_IMAGE", 1, "instances_per_image"),
        ("MODEL.RPN.PRE_NMS_TOPK_TEST", 7, "proposals_before_nms"),
        ("MODEL.RPN.POST_NMS_TOPK_TEST", 7, "proposals_after_nms"),
        ("TEST.CONFIDENCE", "confidence.json", "confidence_sha256"),
    ],
)
def test_other_settings_are_refused(
    key, value, name, bundle, predictor, photographs, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    write_json(tmp_path / "confidence.json", ConfidenceModel([0.0] * 6, 0.5, {}).to_dict())
    files = find_images([str(photographs)])[:1]
    predict_files(predictor, files, PredictionFolder(tmp_path / "out"))
    other = lesion_d2.LesionPredictor.from_bundle(bundle, [key, value])
    with pytest.raises(LesionError, match=rf"another {name};.*--overwrite"):
        predict_files(other, files, PredictionFolder(tmp_path / "out"))
    remove_predictions(PredictionFolder(tmp_path / "out"))
    assert list((tmp_path / "out").iterdir()) == []
    predict_files(other, files, PredictionFolder(tmp_path / "out"))


def test_a_folder_of_an_earlier_version_goes_on(bundle, predictor, photographs, tmp_path):
    files = find_images([str(photographs)])
    folder = PredictionFolder(tmp_path / "out")
    predict_files(predictor, files[:1], folder)
    settings = json.loads(folder.settings.read_text())
    del settings["instances_per_image"], settings["confidence_sha256"]
    write_json(folder.settings, settings)
    predict_files(predictor, files, folder)
    assert len(rows(folder.root)) == len(files)
    other = lesion_d2.LesionPredictor.from_bundle(bundle, ["TEST.VIEWS", ("vertical",)])
    with pytest.raises(LesionError, match="another views"):
        predict_files(other, files, folder)


@pytest.mark.parametrize("content", ["", "[]", "{", "[" * 100_000])
def test_settings_that_cannot_be_read_are_refused(content, predictor, photographs, tmp_path):
    files = find_images([str(photographs)])[:1]
    predict_files(predictor, files, PredictionFolder(tmp_path / "out"))
    (tmp_path / "out" / "settings.json").write_text(content)
    with pytest.raises(LesionError, match=r"its settings\.json is damaged"):
        predict_files(predictor, files, PredictionFolder(tmp_path / "out"))


def test_a_folder_of_something_else_is_left_alone(predictor, photographs):
    files = find_images([str(photographs)])
    for settings in (None, '{"editor.fontSize": 14}'):
        if settings:
            (photographs / "settings.json").write_text(settings)
            (photographs / "predictions.csv").write_text(
                "file,mask,width,height,score,estimated_iou\n"
                "a.jpg,masks/a_segmentation.png,1,1,1,\n"
            )
            (photographs / "masks").mkdir()
            (photographs / "masks" / "a_segmentation.png").write_text("drawn by hand")
        before = folder_bytes(photographs)
        with pytest.raises(LesionError, match="is not empty and holds no predictions"):
            predict_files(predictor, files, PredictionFolder(photographs))
        remove_predictions(PredictionFolder(photographs))
        assert folder_bytes(photographs) == before


def test_the_tools(straight_run, tiny_root, photographs, tmp_path):
    environment = {"DETECTRON2_DATASETS": str(tiny_root.parent)}
    config = straight_run.folder / "run.yaml"
    config.write_text(straight_run.trainer.cfg.dump())
    weights = straight_run.folder / "model_final.pth"
    bundle = tmp_path / "lesion.safetensors"
    status, out, err = run_python(
        ROOT / "tools" / "export.py", "--config-file", config, "--output", bundle,
        "MODEL.WEIGHTS", weights, **environment,
    )  # fmt: skip
    assert status == 0, err
    assert "MB" in out
    (photographs / "broken.jpg").write_bytes(b"")
    command = (
        ROOT / "tools" / "predict.py", "--bundle", bundle, "--input", photographs,
        "--output", tmp_path / "out", "--no-overlays",
    )  # fmt: skip
    status, out, err = run_python(*command, **environment)
    assert status == 2, err
    assert "4 of 5 images" in out
    assert "broken.jpg" in err
    assert json.loads((tmp_path / "out" / "settings.json").read_text())["views"] == ["identity"]
    assert not (tmp_path / "out" / "overlays").exists()

    status, _, err = run_python(*command, "--config-file", config)
    assert (status, err.count("\n")) == (1, 1)
