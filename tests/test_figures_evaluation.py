import numpy as np
import pytest
from figure_files import (
    assert_png,
    make_dataset,
    make_run,
    rle,
    square,
    summary,
    texts,
)

from lesion_d2.commands import plot
from lesion_d2.data.converted import read_split
from lesion_d2.errors import LesionError
from lesion_d2.figures.boxplot import boxplot_figure
from lesion_d2.figures.predictions import choose, predictions_figure
from lesion_d2.results.evaluation import read_evaluation


@pytest.fixture
def dataset(tmp_path):
    return make_dataset(tmp_path)


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path)


def test_boxplot_has_our_quartiles_and_the_seeds():
    values = np.random.default_rng(3).beta(8, 2, 200)
    values[:4] = 0
    figure = boxplot_figure(list(values), summary(mean_max_iou=values.mean()))
    (ax,) = figure.axes
    ours, seed = (patch.get_path().vertices[:, 1] for patch in ax.patches)
    np.testing.assert_allclose([ours.min(), ours.max()], np.percentile(values, [25, 75]))
    assert [seed.min(), seed.max()] == [0.82, 0.90]
    levels = [tuple(line.get_ydata()) for line in ax.lines]
    assert (np.median(values),) * 2 in levels
    assert (np.mean(values),) in levels
    assert (0.865, 0.865) in levels
    assert {(0.82, 0.71), (0.90, 0.96), (0.85,)} <= set(levels)
    said = texts(figure)
    for part in (
        *("isic2018_test", "200 images\nScores of 0.65 and above", "4 of them at 0.0"),
        *("0.123 to 0.789", "original experiment\n(published; other images)"),
    ):
        assert part in said


@pytest.mark.parametrize(
    ("which", "expected"), [("best", [2, 4]), ("worst", [1, 0]), ("median", [3, 0])]
)
def test_choice_by_iou(which, expected):
    assert choose([0.4, 0.0, 0.9, 0.5, 0.8], which, 2, seed=0) == expected


def test_random_choice_depends_on_the_seed_alone():
    iou = [0.5] * 50
    first = choose(iou, "random", 6, seed=1)
    assert first == choose(iou, "random", 6, seed=1)
    assert first != choose(iou, "random", 6, seed=2)
    assert len(set(first)) == 6
    assert sorted(choose(iou, "random", 99, seed=1)) == list(range(50))


def test_predictions_name_score_and_iou_of_the_instance_that_counts(dataset):
    lesions = read_split(dataset, "test")
    hits = [
        {"score": 0.91, "iou": 0.2, "segmentation": rle(square(18))},
        {"score": 0.75, "iou": 0.5, "segmentation": rle(square(14))},
    ]
    images = [(lesions[0], hits), (lesions[1], [])]
    figure = predictions_figure(images, "tiny_test")
    left, right, _, nothing = figure.axes
    assert left.get_title() == "ISIC_0000030"
    assert right.get_title() == "score 0.75, IoU 0.50 (best of 2)"
    assert nothing.get_title() == "nothing found, IoU 0"
    assert len(nothing.collections) == 1  # the ground truth alone
    truth, other, counts = right.collections
    assert truth.get_paths()[0].vertices[:, 0].min() == 9.5
    assert other.get_paths()[0].vertices[:, 0].min() == 17.5
    assert other.get_linestyle() != counts.get_linestyle()
    assert counts.get_paths()[0].vertices[:, 0].min() == 13.5
    assert not np.array_equal(truth.get_edgecolor(), counts.get_edgecolor())


def test_flipped_copies_are_left_out_of_the_predictions(dataset, run):
    evaluation = run / "eval" / "tiny_test"
    with open(evaluation / "per_image.csv", "a") as stream:
        stream.write("10000030,ISIC_0000030,0.0\n")
    (path,) = plot.draw_predictions(evaluation, dataset, which="worst")
    assert_png(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("metrics.json", None, "metrics.json: cannot be read.*tools/eval.py"),
        ("metrics.json", "{}", "metrics.json: lacks the key 'dataset'"),
        ("per_image.csv", None, "per_image.csv: cannot be read.*tools/eval.py"),
        ("per_image.csv", "image_id,max_iou\n", "per_image.csv: holds no image"),
        ("per_image.csv", "image_id\n30\n", "per_image.csv: has no column max_iou"),
        ("per_image.csv", "image_id,max_iou\n30,high\n", "per_image.csv: no number at"),
        ("per_image.csv", "image_id,max_iou\n77,0.5\n", "image 77 of tiny_test is not in"),
        ("predictions.json", None, "predictions.json: cannot be read.*tools/eval.py"),
        ("predictions.json", '[{"image_id": 30}]', "predictions.json: .*'segmentation'"),
    ],
)
def test_broken_evaluation(dataset, run, name, content, message):
    evaluation = run / "eval" / "tiny_test"
    (evaluation / name).unlink()
    if content is not None:
        (evaluation / name).write_text(content)
    with pytest.raises(LesionError, match=message):
        plot.draw_evaluation(evaluation, dataset)


def test_evaluation_files_are_read_by_image(run):
    evaluation = read_evaluation(run / "eval" / "tiny_test")
    assert evaluation.max_iou == {30: 1.0, 31: 0.5, 32: 0.0}
