"""Arrays in, lesions out; one file for it; and files of a folder."""

import csv
import json
import os
import shutil

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from tiny import ROOT, load_tool, run_python

import lesion_d2
from lesion_d2.data.loader import build_test_loader
from lesion_d2.errors import LesionError
from lesion_d2.prediction.bundle import read_bundle, write_bundle
from lesion_d2.prediction.confidence import ConfidenceModel
from lesion_d2.prediction.folder import predict_files, remove_predictions
from lesion_d2.prediction.inputs import find_images, load_image
from lesion_d2.prediction.segmenter import load_segmenter

CONFIDENCE = ConfidenceModel([0.1] * 6, 0.2, {"dataset": "tiny_val"})


@pytest.fixture(scope="module")
def cfg(tiny_cfg, tmp_path_factory):
    return tiny_cfg(tmp_path_factory.mktemp("predictor"), "INPUT.MIN_SIZE_TEST", 72)


@pytest.fixture(scope="module")
def model(straight_run):
    return straight_run.trainer.model.eval()


@pytest.fixture(scope="module")
def bundle(cfg, model, tmp_path_factory):
    path = tmp_path_factory.mktemp("bundle") / "lesion.pth"
    write_bundle(path, cfg, model, CONFIDENCE)
    return path


@pytest.fixture(scope="module")
def predictor(bundle):
    return lesion_d2.LesionPredictor.from_bundle(bundle)


@pytest.fixture
def photographs(tiny_archive, tmp_path):
    """A folder of four images, one of them in a subfolder."""
    folder = tmp_path / "photographs"
    (folder / "more").mkdir(parents=True)
    for number, path in enumerate(sorted(tiny_archive[0].glob("*.jpg"))[:4]):
        shutil.copy(path, folder / "more" if number == 3 else folder)
    return folder


def rows(folder):
    with open(folder / "predictions.csv", newline="") as stream:
        return list(csv.DictReader(stream))


def test_the_predictor_equals_the_evaluation(cfg, straight_run, predictor):
    cfg = cfg.clone()
    cfg.MODEL.WEIGHTS = str(straight_run.folder / "model_final.pth")
    segmenter = load_segmenter(cfg).eval()
    for (member,) in build_test_loader(cfg, "tiny_test"):
        with torch.no_grad():
            expected = segmenter([member])[0]["lesion"]
        image = cv2.imread(member["file_name"])
        (lesion,) = predictor([image], channels="BGR")
        np.testing.assert_array_equal(lesion.mask, expected.mask)
        assert lesion.score == expected.score
        assert lesion.estimated_iou == CONFIDENCE(expected)


def test_rgb_is_bgr_reversed(predictor, photographs):
    image = cv2.imread(str(find_images([str(photographs)])[0]))
    (bgr,) = predictor([image], channels="BGR")
    (rgb,) = predictor([image[:, :, ::-1]], channels="RGB")
    (wrong,) = predictor([image], channels="RGB")
    np.testing.assert_array_equal(bgr.mask, rgb.mask)
    assert bgr.score == rgb.score != wrong.score


def test_a_batch_of_one_size_equals_single_images(predictor):
    images = list(np.random.default_rng(0).integers(0, 256, (3, 60, 80, 3), dtype=np.uint8))
    together = predictor(images, channels="BGR")
    for image, lesion in zip(images, together, strict=True):
        (alone,) = predictor([image], channels="BGR")
        assert alone.score == pytest.approx(lesion.score, abs=1e-5)
        assert (alone.mask == lesion.mask).mean() > 0.99


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (200, 3), (61, 83)])
def test_the_mask_has_the_images_size(predictor, size):
    (lesion,) = predictor([np.full((*size, 3), 200, np.uint8)], channels="RGB")
    assert lesion.mask.shape == size
    assert lesion.mask.dtype == bool


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
        "image.jpg",
        None,
    ],
)
def test_what_is_no_image(predictor, image):
    with pytest.raises(LesionError, match="image"):
        predictor([image], channels="RGB")


def test_unknown_channels(predictor):
    with pytest.raises(LesionError, match="channels"):
        predictor([], channels="GBR")


def test_no_image_is_no_lesion(predictor):
    assert predictor([], channels="RGB") == []


def test_from_a_config_and_weights(straight_run, predictor, photographs):
    folder = straight_run.folder
    (folder / "run.yaml").write_text(straight_run.trainer.cfg.dump())
    other = lesion_d2.LesionPredictor.from_config(
        folder / "run.yaml", folder / "model_final.pth", ["INPUT.MIN_SIZE_TEST", 72]
    )
    assert other.settings == predictor.settings
    image = cv2.imread(str(find_images([str(photographs)])[0]))
    (left,), (right,) = (p([image], channels="BGR") for p in (other, predictor))
    np.testing.assert_array_equal(left.mask, right.mask)


def test_a_half_size_bundle(cfg, model, bundle, predictor, tmp_path, photographs):
    small = tmp_path / "half.pth"
    write_bundle(small, cfg, model, None, torch.float16)
    assert small.stat().st_size < 0.6 * bundle.stat().st_size
    half = lesion_d2.LesionPredictor.from_bundle(small)
    image = cv2.imread(str(find_images([str(photographs)])[0]))
    (lesion,), (whole,) = (p([image], channels="BGR") for p in (half, predictor))
    assert lesion.score == pytest.approx(whole.score, abs=0.01)
    assert lesion.estimated_iou is None
    assert half.settings["model_sha256"] != predictor.settings["model_sha256"]


def test_a_bundle_takes_other_settings(bundle):
    cfg, _, confidence = read_bundle(bundle, ["TEST.VIEWS", ("identity", "vertical")])
    assert cfg.TEST.VIEWS == ("identity", "vertical")
    assert confidence == CONFIDENCE


def test_a_bundle_with_a_wrong_setting(bundle):
    with pytest.raises(LesionError, match=r"TEST\.PRECISION: 'float8'"):
        lesion_d2.LesionPredictor.from_bundle(bundle, ["TEST.PRECISION", "float8"])


class Harmful:
    def __reduce__(self):
        return os.mkdir, ("harm",)


@pytest.mark.parametrize("kind", ["missing", "empty", "code", "checkpoint", "format", "config"])
def test_files_that_are_no_bundle(kind, bundle, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "other.pth"
    content = torch.load(bundle, weights_only=True)
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "code":
        torch.save({"format": 1, "harm": Harmful()}, path)
    elif kind == "checkpoint":
        torch.save({"model": content["model"]}, path)
    elif kind == "format":
        torch.save(content | {"format": 99}, path)
    elif kind == "config":
        torch.save(content | {"config": "MODEL: {META_ARCHITECTURE: Nothing}"}, path)
    with pytest.raises(LesionError, match=r"other\.pth"):
        read_bundle(path)
    assert not (tmp_path / "harm").exists()


def test_a_folder(predictor, photographs, tmp_path):
    files = find_images([str(photographs)])
    output = tmp_path / "out"
    assert predict_files(predictor, files, output) == []
    table = rows(output)
    assert [row["file"] for row in table] == [str(file) for file in files]
    for file, row in zip(files, table, strict=True):
        image = cv2.imread(str(file))
        (lesion,) = predictor([image], channels="BGR")
        mask_file = output / "masks" / f"{file.stem}_segmentation.png"
        assert output / row["mask"] == mask_file
        with Image.open(mask_file) as mask:
            assert mask.mode == "L"
            np.testing.assert_array_equal(np.array(mask), lesion.mask * np.uint8(255))
        assert int(row["area_pixels"]) == lesion.mask.sum()
        assert (int(row["width"]), int(row["height"])) == image.shape[1::-1]
        assert tuple(int(row[key]) for key in ("x0", "y0", "x1", "y1")) == lesion.box
        assert float(row["score"]) == pytest.approx(lesion.score, abs=1e-4)
        assert float(row["estimated_iou"]) == pytest.approx(lesion.estimated_iou, abs=1e-4)
        overlay = cv2.imread(str(output / "overlays" / f"{file.stem}.jpg"))
        assert overlay.shape == image.shape


def test_any_number_of_workers_gives_the_same(predictor, photographs, tmp_path):
    (photographs / "broken.jpg").write_bytes(b"")
    files = find_images([str(photographs)])
    threads = torch.get_num_threads()
    for workers in (1, 3):
        failed = predict_files(predictor, files, tmp_path / str(workers), workers=workers)
        assert [file.name for file, _ in failed] == ["broken.jpg"]
    assert torch.get_num_threads() == threads
    one, three = ([row | {"seconds": ""} for row in rows(tmp_path / n)] for n in ("1", "3"))
    assert one == three
    for mask in (tmp_path / "1" / "masks").iterdir():
        assert (tmp_path / "3" / "masks" / mask.name).read_bytes() == mask.read_bytes()


def test_no_worker(predictor, tmp_path):
    with pytest.raises(LesionError, match="--workers: 0"):
        predict_files(predictor, [], tmp_path / "out", workers=0)


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_large_photograph_is_read_smaller(orientation, predictor, tmp_path):
    height, width = 1200, 2000
    image = cv2.resize(
        np.random.default_rng(0).integers(0, 256, (6, 10, 3), np.uint8), (width, height)
    )
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(image).save(tmp_path / "large.jpg", exif=exif)
    pixels, size = load_image(tmp_path / "large.jpg", predictor.enough)
    whole, _ = load_image(tmp_path / "large.jpg")
    assert size == whole.shape[:2] == ((height, width) if orientation == 1 else (width, height))
    assert pixels.shape[:2] == (size[0] // 8, size[1] // 8)  # 1200 / 8 is just above 2 x 72
    small = cv2.resize(whole, pixels.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(pixels.astype(int) - small).mean() < 2

    predict_files(predictor, [tmp_path / "large.jpg"], tmp_path / "out")
    (row,) = rows(tmp_path / "out")
    assert (int(row["height"]), int(row["width"])) == size
    mask = cv2.imread(str(tmp_path / "out" / row["mask"]), cv2.IMREAD_UNCHANGED)
    overlay = cv2.imread(str(tmp_path / "out" / "overlays" / "large.jpg"))
    assert mask.shape == size
    assert max(overlay.shape) == 1024
    (lesion,) = predictor([whole], channels="BGR")
    assert (lesion.mask == (mask > 0)).mean() > 0.99


def test_a_stopped_run_continues(predictor, photographs, tmp_path):
    files = find_images([str(photographs)])
    straight, output = tmp_path / "straight", tmp_path / "out"
    predict_files(predictor, files, straight, overlays=False)
    predict_files(predictor, files[:3], output, overlays=False)
    first = output / "masks" / f"{files[0].stem}_segmentation.png"
    before = first.stat().st_mtime_ns
    (output / "masks" / f"{files[1].stem}_segmentation.png").unlink()  # its row is worth nothing
    with open(output / "predictions.csv", "a") as stream:
        stream.write(f"{files[3]},masks/")  # torn by a kill

    predict_files(predictor, files, output, overlays=False)
    assert first.stat().st_mtime_ns == before
    for file in files:
        name = f"masks/{file.stem}_segmentation.png"
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
    predict_files(predictor, files, whole, overlays=False)
    failed = []
    for number in range(1, count + 1):
        failed += predict_files(predictor, files, output, overlays=False, shard=(number, count))
    assert [file.name for file, _ in failed] == ["broken.jpg"]
    tables = sorted(output.glob("predictions*.csv"))
    assert len(tables) == count
    found = [row["file"] for table in tables for row in csv.DictReader(table.open(newline=""))]
    assert sorted(found) == sorted(row["file"] for row in rows(whole))
    for mask in (whole / "masks").iterdir():
        assert (output / "masks" / mask.name).read_bytes() == mask.read_bytes()
    remove_predictions(output)
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
    Image.fromarray(np.full((8, 8), 40_000, np.uint16)).save(photographs / "deep.png")
    failed = predict_files(predictor, find_images([str(photographs)]), tmp_path / "out")
    assert {file.name for file, _ in failed} == {*bad, "deep.png"}
    assert all(reason for _, reason in failed)
    assert len(rows(tmp_path / "out")) == 4
    with open(tmp_path / "out" / "failed.csv", newline="") as stream:
        assert len(list(csv.DictReader(stream))) == 4


def test_other_settings_are_refused(bundle, predictor, photographs, tmp_path):
    files = find_images([str(photographs)])[:1]
    predict_files(predictor, files, tmp_path / "out")
    other = lesion_d2.LesionPredictor.from_bundle(bundle, ["TEST.VIEWS", ("vertical",)])
    with pytest.raises(LesionError, match=r"another views.*--overwrite"):
        predict_files(other, files, tmp_path / "out")
    remove_predictions(tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
    predict_files(other, files, tmp_path / "out")


def test_a_folder_of_something_else_is_left_alone(predictor, photographs):
    before = sorted(photographs.rglob("*"))
    with pytest.raises(LesionError, match="not empty"):
        predict_files(predictor, [], photographs)
    remove_predictions(photographs)
    assert sorted(photographs.rglob("*")) == before


def test_what_is_found(photographs):
    stems = [path.stem for path in find_images([str(photographs)])]
    assert len(stems) == 4
    assert stems == sorted(stems)
    (photographs / "x_segmentation.png").write_bytes(b"")
    (photographs / "notes.txt").write_bytes(b"")
    assert [path.stem for path in find_images([str(photographs)])] == stems
    assert len(find_images([str(photographs / "*.jpg")])) == 3
    assert len(find_images([str(photographs / "**" / "*.jpg")])) == 4
    one = str(photographs / f"{stems[0]}.jpg")
    assert find_images([one, one]) == [photographs / f"{stems[0]}.jpg"]


@pytest.mark.parametrize("text", ["nowhere", "nowhere/*.jpg", "empty"])
def test_inputs_without_an_image(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(LesionError, match=f"--input: {text}".replace("*", r"\*")):
        find_images([text])


def test_two_files_of_one_name(photographs):
    name = sorted(photographs.glob("*.jpg"))[0].name
    shutil.copy(photographs / name, photographs / "more" / name)
    with pytest.raises(LesionError, match="one name"):
        find_images([str(photographs)])


def test_the_tools(straight_run, tiny_root, photographs, tmp_path):
    environment = {"DETECTRON2_DATASETS": str(tiny_root.parent)}
    config = straight_run.folder / "run.yaml"
    config.write_text(straight_run.trainer.cfg.dump())
    weights = straight_run.folder / "model_final.pth"
    bundle = tmp_path / "lesion.pth"
    status, out, err = run_python(
        ROOT / "tools" / "export.py", "--config-file", config, "--output", bundle, "--half",
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
