"""Per-image maximum IoU."""

import csv
import json
import time
from argparse import Namespace

import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch
from detectron2.structures import Instances
from detectron2.utils import comm
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lesion_d2.data.members import with_flips
from lesion_d2.engine.launch import launch_run
from lesion_d2.errors import LesionError
from lesion_d2.evaluation.lesion_evaluator import LesionEvaluator
from lesion_d2.evaluation.metrics import METRICS, hold_against, score_image
from lesion_d2.evaluation.statistics import mean_interval
from lesion_d2.images.run_lengths import encode_mask
from lesion_d2.prediction.lesion import Lesion
from lesion_d2.results.evaluation import read_evaluation, write_evaluation

SIZE = (24, 32)
EMPTY = np.zeros(SIZE, bool)
ESTIMATE = 0.7


def rle(mask):
    return mask_util.encode(np.asfortranarray(mask.astype(np.uint8)))


def member(mask, number=0):
    return {
        "image_id": number, "isic_id": f"ISIC_{number:07d}", "file_name": f"{number}.jpg",
        "height": mask.shape[0], "width": mask.shape[1],
        "annotations": [{"segmentation": rle(mask), "category_id": 0}],
    }  # fmt: skip


def output(masks, scores):
    instances = Instances(SIZE)
    instances.scores = torch.tensor(scores, dtype=torch.float32)
    instances.pred_masks = torch.from_numpy(np.array(masks).reshape(-1, *SIZE).astype(bool))
    top = instances.pred_masks[int(instances.scores.argmax())].numpy() if len(masks) else EMPTY
    score = max(scores, default=0.0)
    lesion = Lesion(top, score, len(masks), 0.8, 1.0, float(top.mean()), 0.1, ESTIMATE)
    return {"instances": instances, "lesion": lesion}


def blob(rng):
    """A random disc."""
    row, column = np.mgrid[: SIZE[0], : SIZE[1]]
    centre, radius = rng.uniform((6, 8), (18, 24)), rng.uniform(2, 10)
    return np.hypot(row - centre[0], column - centre[1]) < radius


def slow_iou(left, right):
    union = np.logical_or(left, right).sum()
    return np.logical_and(left, right).sum() / union if union else 0.0


def random_images(count, seed=0):
    """Return (member, output) pairs with 0 to 4 instances each."""
    rng = np.random.default_rng(seed)
    images = []
    for number in range(count):
        found = int(rng.integers(5))
        masks = [blob(rng) for _ in range(found)]
        images.append((member(blob(rng), number), output(masks, rng.uniform(size=found))))
    return images


def evaluate(images, threshold=0.5, folder=None, batch=1):
    evaluator = LesionEvaluator(threshold, masks=folder is not None)
    for start in range(0, len(images), batch):
        evaluator.process(*zip(*images[start : start + batch], strict=True))
    summary = evaluator.evaluate()["lesion"]
    if folder:
        write_evaluation(folder, summary, evaluator.images)
    return summary


def rows(folder):
    with open(folder / "per_image.csv", newline="") as stream:
        return list(csv.DictReader(stream))


@given(st.integers(0, 10_000), st.floats(0, 1))
@settings(max_examples=40, deadline=None)
def test_scores_are_those_of_dense_masks(seed, threshold):
    images = random_images(6, seed)
    best, top, found = [], [], []
    for image, out in images:
        truth = mask_util.decode(image["annotations"][0]["segmentation"])
        # Detectron2's scores are of single precision.
        kept = [
            (float(score), slow_iou(mask.numpy(), truth))
            for score, mask in zip(
                out["instances"].scores, out["instances"].pred_masks, strict=True
            )
            if score >= np.float32(threshold)
        ]
        best.append(max((iou for _, iou in kept), default=0))
        top.append(max(kept)[1] if kept else 0)
        found.append(len(kept))
    summary = evaluate(images, threshold)
    assert summary["mean_max_iou"] == pytest.approx(np.mean(best))
    assert summary["median_max_iou"] == pytest.approx(np.median(best))
    assert summary["mean_top1_iou"] == pytest.approx(np.mean(top))
    assert summary["misses"] == found.count(0)
    assert summary["below_065"] == sum(iou < 0.65 for iou in best)
    assert summary["num_images"] == 6
    assert summary["score_threshold"] == threshold


@pytest.fixture
def halves():
    """A lesion, and masks of which one is it, one its left half."""
    truth = np.zeros(SIZE, bool)
    truth[4:12, 8:24] = True
    left = truth.copy()
    left[:, 16:] = False
    return truth, left


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.3])
def test_the_threshold_itself_counts(threshold, halves, tmp_path):
    truth, left = halves
    scores = torch.tensor([threshold, threshold]).float()
    scores[1] = torch.nextafter(scores[1], torch.tensor(0.0))
    evaluate([(member(truth), output([left, truth], scores.tolist()))], threshold, tmp_path)
    (row,) = rows(tmp_path)
    assert row["num_instances"] == "1"
    assert float(row["max_iou"]) == 0.5


def test_the_best_instance_need_not_be_the_top_one(halves, tmp_path):
    truth, left = halves
    images = [(member(truth), output([truth, left], [0.6, 0.9]))]
    summary = evaluate(images, 0.5, tmp_path)
    assert (summary["mean_max_iou"], summary["mean_top1_iou"]) == (1.0, 0.5)
    (row,) = rows(tmp_path)
    assert (float(row["max_iou"]), float(row["top1_iou"])) == (1.0, 0.5)
    assert float(row["top_score"]) == np.float32(0.9)


def test_nothing_found_is_zero(halves, tmp_path):
    truth, _ = halves
    images = [(member(truth), output([], []))]
    assert evaluate(images, 0.5, tmp_path)["misses"] == 1
    (row,) = rows(tmp_path)
    assert [float(row[key]) for key in ("max_iou", "num_instances", "top_score", "top1_iou")] == [
        0
    ] * 4


def test_an_empty_mask_is_an_instance_of_no_overlap(halves):
    truth, _ = halves
    summary = evaluate([(member(truth), output([np.zeros(SIZE, bool)], [0.9]))])
    assert (summary["mean_max_iou"], summary["misses"]) == (0, 0)


@pytest.mark.parametrize("flip", ["vertical", "horizontal"])
def test_a_flipped_member_has_a_flipped_truth(flip):
    rng = np.random.default_rng(4)
    mask = blob(rng)
    (flipped,) = with_flips([member(mask)], [flip])
    turned = mask[::-1] if flip == "vertical" else mask[:, ::-1]
    assert evaluate([(flipped, output([turned], [0.9]))])["mean_max_iou"] == 1
    assert evaluate([(flipped, output([mask], [0.9]))])["mean_max_iou"] < 1


def test_the_files(tmp_path):
    images = random_images(9)
    summary = evaluate(images[::-1], 0.3, tmp_path)
    header, *_ = (tmp_path / "per_image.csv").read_text().splitlines()
    assert header.split(",") == [
        "image_id", "isic_id", "num_instances", "top_score", "max_iou", "top1_iou",
        "jaccard", "threshold_jaccard", "dice", "sensitivity", "specificity", "accuracy",
        "score", "candidates", "sharpness", "agreement", "area_share", "border_share",
        "estimated_iou",
    ]  # fmt: skip
    table = rows(tmp_path)
    assert [int(row["image_id"]) for row in table] == list(range(9))
    assert [row["isic_id"] for row in table] == [f"ISIC_{number:07d}" for number in range(9)]
    assert np.mean([float(row["max_iou"]) for row in table]) == summary["mean_max_iou"]

    predictions = json.loads((tmp_path / "predictions.json").read_text())
    assert len(predictions) == sum(int(row["num_instances"]) for row in table) > 5
    for item in predictions:
        assert set(item) == {
            "image_id", "isic_id", "category_id", "score", "score_threshold", "iou", "bbox",
            "segmentation",
        }  # fmt: skip
        assert item["score_threshold"] == 0.3
        image, out = images[item["image_id"]]
        assert (item["isic_id"], item["category_id"]) == (image["isic_id"], 1)
        position = out["instances"].scores.tolist().index(item["score"])
        mask = mask_util.decode(item["segmentation"]).astype(bool)
        np.testing.assert_array_equal(mask, out["instances"].pred_masks[position])
        truth = mask_util.decode(image["annotations"][0]["segmentation"])
        assert item["iou"] == pytest.approx(slow_iou(mask, truth))
        lines, columns = np.nonzero(mask)
        left, top = columns.min(), lines.min()
        assert item["bbox"] == [left, top, columns.max() + 1 - left, lines.max() + 1 - top]
    for row, (image, out) in zip(table, images, strict=True):
        truth = mask_util.decode(image["annotations"][0]["segmentation"]).astype(bool)
        lesion = out["lesion"]
        outcome = hold_against(*map(encode_mask, (truth, lesion.mask)))
        for name, value in score_image(outcome).items():
            if name not in ("max_iou", "top1_iou"):
                assert float(row[name]) == value
        assert float(row["score"]) == lesion.score
        assert float(row["area_share"]) == lesion.area_share
        assert float(row["estimated_iou"]) == ESTIMATE
        for part, expected in (("submission", lesion.mask), ("truth", truth)):
            with Image.open(tmp_path / part / f"{row['isic_id']}_segmentation.png") as mask:
                assert mask.mode == "L"
                np.testing.assert_array_equal(np.array(mask), expected * np.uint8(255))
    for name in METRICS:
        values = np.array([float(row[name]) for row in table])
        low, high = mean_interval(values)
        found = [summary[f"mean_{name}{end}"] for end in ("", "_low", "_high")]
        assert found == [values.mean(), low, high]
    jaccard = [float(row["jaccard"]) for row in table]
    assert summary["submitted_below_065"] == sum(value < 0.65 for value in jaccard)
    empty = [not out["lesion"].mask.any() for _, out in images]
    assert summary["submitted_empty"] == sum(empty)
    order = [(item["image_id"], -item["score"]) for item in predictions]
    assert order == sorted(order)


def test_an_earlier_evaluation_in_the_folder_is_gone(tmp_path):
    evaluate(random_images(9), 0.3, tmp_path)
    left = [tmp_path / "report.html", tmp_path / "boxplot.png", tmp_path / "predictions_best.png"]
    left += [tmp_path / "truth" / "patient" / "1_segmentation.png"]  # an id may have a folder
    left[-1].parent.mkdir()
    own = [tmp_path / "notes.txt", tmp_path / "submission" / "notes.txt"]
    for path in (*left, *own):
        path.write_text("earlier")
    evaluate(random_images(4), 0.3, tmp_path)
    names = {f"ISIC_{number:07d}_segmentation.png" for number in range(4)}
    assert {path.name for path in (tmp_path / "submission").iterdir()} == names | {"notes.txt"}
    assert {path.name for path in (tmp_path / "truth").glob("*.png")} == names
    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in own)


def test_what_cannot_be_written_whole_is_no_evaluation(tmp_path, monkeypatch):
    evaluate(random_images(9), 0.3, tmp_path)

    def full_disk(path, mode):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("lesion_d2.results.evaluation.atomic_write", full_disk)
    with pytest.raises(OSError, match="No space left"):
        evaluate(random_images(4), 0.3, tmp_path)
    assert not (tmp_path / "metrics.json").exists()
    with pytest.raises(LesionError, match=r"metrics.json: cannot be read"):
        read_evaluation(tmp_path)


def test_flipped_copies_have_no_mask_of_their_own(tmp_path):
    rng = np.random.default_rng(4)
    members = with_flips([member(blob(rng), 1), member(blob(rng), 2)], ("none", "vertical"))
    summary = evaluate([(item, output([], [])) for item in members], folder=tmp_path)
    assert summary["num_images"] == len(rows(tmp_path)) == 4
    assert len(list((tmp_path / "submission").iterdir())) == 2


def test_the_quartiles(tmp_path):
    summary = evaluate(random_images(9), 0.3, tmp_path)
    values = sorted(float(row["max_iou"]) for row in rows(tmp_path))
    found = [summary[f"{name}_max_iou"] for name in ("q1", "median", "q3")]
    assert found == pytest.approx([values[2], values[4], values[6]])


def test_values_for_the_event_storage_are_numbers():
    assert all(isinstance(value, (int, float)) for value in evaluate(random_images(3)).values())


def test_the_fingerprint_tells_ids_and_truths_apart():
    def fingerprint(images):
        evaluator = LesionEvaluator(0.5)
        for image, out in images:
            evaluator.process([image], [out])
        evaluator.evaluate()
        return evaluator.split_fingerprint

    images = random_images(4)
    assert fingerprint(images) == fingerprint(images[::-1])
    other_prediction = [(images[0][0], output([], [])), *images[1:]]
    assert fingerprint(images) == fingerprint(other_prediction)
    other_truth = [(member(EMPTY, 0), images[0][1]), *images[1:]]
    other_id = [({**images[0][0], "image_id": 77}, images[0][1]), *images[1:]]
    prints = {fingerprint(i) for i in (images, other_truth, other_id, images[:3])}
    assert len(prints) == 4


def test_a_truth_at_another_size():
    truth = np.zeros((48, 64), bool)
    truth[:24] = True
    record = {**member(EMPTY), "truth": truth, "height": 48, "width": 64}
    out = output([], [])
    lesion = Lesion(truth, 0.9, 1, 1.0, 1.0, 0.5, 0.5)
    evaluator = LesionEvaluator(0.5)
    evaluator.process([record], [{**out, "lesion": lesion}])
    assert evaluator.evaluate()["lesion"]["mean_jaccard"] == 1


def test_batches_do_not_matter():
    assert evaluate(random_images(9), batch=4) == evaluate(random_images(9), batch=1)


class SlowEvaluator(LesionEvaluator):
    """Notes how many images wait whenever one has been scored."""

    def __init__(self):
        self.waiting = []
        super().__init__(0.5)

    def _score(self, member, output):
        time.sleep(0.005)
        self.waiting.append(len(self._scored) - len(self.waiting))
        return super()._score(member, output)


def test_few_images_wait_for_their_scores():
    evaluator = SlowEvaluator()
    for image, out in random_images(30):
        evaluator.process([image], [out])
    evaluator.evaluate()
    assert len(evaluator.waiting) == 30
    assert max(evaluator.waiting) <= 4


def test_an_image_that_cannot_be_scored_is_named():
    image, out = random_images(1)[0]
    with pytest.raises(LesionError, match=r"0\.jpg: 2 annotations"):
        evaluate([({**image, "annotations": image["annotations"] * 2}, out)])


def test_reset_forgets():
    evaluator = LesionEvaluator(0.5)
    for _ in range(2):
        evaluator.reset()
        evaluator.process(*zip(*random_images(3), strict=True))
    assert evaluator.evaluate()["lesion"]["num_images"] == 3


def test_no_image_at_all():
    with pytest.raises(LesionError, match="no image"):
        LesionEvaluator(0.5).evaluate()


def test_an_image_that_comes_twice():
    images = random_images(3)
    with pytest.raises(LesionError, match="twice"):
        evaluate([*images, images[1]])


def evaluate_share(args):
    """Evaluate every second image in each of two processes."""
    folder = args.folder
    evaluator = LesionEvaluator(0.3, masks=True)
    for image, out in random_images(9)[comm.get_rank() :: 2]:
        evaluator.process([image], [out])
    summary = evaluator.evaluate()
    (folder / f"rank{comm.get_rank()}.json").write_text(json.dumps(summary))
    if summary:
        write_evaluation(folder, summary["lesion"], evaluator.images)


def test_two_processes_equal_one_to_the_digit(tmp_path):
    one = tmp_path / "one"
    evaluate(random_images(9), 0.3, one)
    two = tmp_path / "two"
    two.mkdir()
    machine = {"num_machines": 1, "machine_rank": 0, "dist_url": "auto"}
    launch_run(evaluate_share, Namespace(folder=two, num_gpus=2, **machine))
    expected = {"lesion": evaluate(random_images(9), 0.3)}
    assert json.loads((two / "rank0.json").read_text()) == expected
    assert json.loads((two / "rank1.json").read_text()) is None
    files = [path.relative_to(one) for path in one.rglob("*.*")]
    assert len(files) == 3 + 2 * 9
    for name in files:
        assert (two / name).read_bytes() == (one / name).read_bytes()
