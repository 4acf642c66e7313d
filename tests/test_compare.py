"""Comparing evaluations, and reading their folders."""

import csv
import json
import runpy
from pathlib import Path

import cv2
import numpy as np
import pytest
from figure_files import HEIGHT, WIDTH, assert_png, make_dataset, square, texts

from lesion_d2.errors import LesionError
from lesion_d2.evaluation.compare import changed_most, compare, compare_rows
from lesion_d2.evaluation.compare_report import describe, make_report, write_report
from lesion_d2.evaluation.official import SCORES
from lesion_d2.evaluation.statistics import mean_interval, paired_interval
from lesion_d2.figures.comparison import (
    changed_images_figure,
    changes_figure,
    read_submitted,
)
from lesion_d2.figures.dataset_files import read_split
from lesion_d2.figures.evaluation_files import find_evaluation, read_evaluation

ROOT = Path(__file__).parents[1]
TOOL = ROOT / "tools" / "compare.py"
IMAGES = 12
METRICS = {
    "dataset": "tiny_test",
    "fingerprint": "f" * 64,
    "split_fingerprint": "a" * 64,
    "resolution": "data set",
    "weights": "output/run/model_best.pth",
    "weights_sha256": "0" * 64,
    "seed": 0,
    "versions": {"torch": "2.6.0"},
    "score_threshold": 0.5,
    "min_size_test": 64,
    "views": ["identity"],
    "view_scales": [1.0],
    "instance_choice": "top_score",
    "postprocessing": ["threshold"],
    "mask_threshold": 0.5,
}


def scores_of(seed, images=IMAGES):
    """Columns of per_image.csv; image ids count from 30."""
    rng = np.random.default_rng(seed)
    table = {name: rng.uniform(0.3, 1, images) for name in SCORES}
    return {
        "image_id": np.arange(30, 30 + images),
        "isic_id": np.array([f"ISIC_{number:07d}" for number in range(30, 30 + images)]),
        "num_instances": rng.integers(0, 3, images),
        "estimated_iou": np.array([""] * images),
        **table,
    }


def write_evaluation(folder, table, **metrics):
    """Write the two files of an evaluation that are read here; None drops a key."""
    folder.mkdir(parents=True)
    rows = zip(*(column.tolist() for column in table.values()), strict=True)
    with open(folder / "per_image.csv", "w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(table)
        writer.writerows(rows)
    values = METRICS | {"num_images": len(table["image_id"])} | metrics
    kept = {key: value for key, value in values.items() if value is not None}
    (folder / "metrics.json").write_text(json.dumps(kept))
    return folder


@pytest.fixture
def pair(tmp_path):
    """Two comparable evaluations, the second with the same scores but for four images' jaccard."""
    table = scores_of(0)
    table["jaccard"][:] = 0.7
    better = table | {"jaccard": table["jaccard"].copy()}
    better["jaccard"][[1, 4, 6, 9]] = 0.8, 0.6, 0.75, 0.8
    return (
        write_evaluation(tmp_path / "first", table),
        write_evaluation(tmp_path / "second", better, views=["identity", "horizontal"]),
    )


def row_of(rows, run, metric):
    (row,) = (row for row in rows if (row.run, row.metric) == (run, metric))
    return row


# --- figures of a comparison


def test_rows_are_matched_by_image(tmp_path):
    first, second = scores_of(1, 40), scores_of(2, 40)
    order = np.random.default_rng(3).permutation(40)
    shuffled = {name: column[order] for name, column in second.items()}
    folders = write_evaluation(tmp_path / "a", first), write_evaluation(tmp_path / "b", shuffled)
    rows = compare_rows(compare(folders))
    assert len(rows) == 2 * (len(SCORES) + 2)
    for name in SCORES:
        baseline, row = row_of(rows, 1, name), row_of(rows, 2, name)
        assert baseline.mean == pytest.approx(first[name].mean())
        assert (baseline.low, baseline.high) == mean_interval(first[name])
        assert (row.low, row.high) == mean_interval(second[name])
        assert baseline.difference is baseline.better is None
        assert row.difference == pytest.approx(row.mean - baseline.mean)
        interval = paired_interval(second[name], first[name])
        assert (row.difference_low, row.difference_high) == interval
        assert row.images == row.better + row.worse + row.equal == 40
        assert row.better == sum(b > a for a, b in zip(first[name], second[name], strict=True))


def test_fewer_failures_are_better(tmp_path):
    first, second = scores_of(1), scores_of(1)
    first["jaccard"][:] = 0.65
    first["jaccard"][:3] = 0.6499
    second["jaccard"][:] = 0.9
    second["jaccard"][5] = 0.1
    first["num_instances"][:], second["num_instances"][:] = 1, 2
    first["num_instances"][7] = 0
    folders = write_evaluation(tmp_path / "a", first), write_evaluation(tmp_path / "b", second)
    rows = compare_rows(compare(folders))
    failed = row_of(rows, 2, "submitted_below_065")
    assert row_of(rows, 1, "submitted_below_065").mean == 3 / IMAGES
    assert (failed.mean, failed.difference) == (1 / IMAGES, pytest.approx(-2 / IMAGES))
    assert (failed.better, failed.worse, failed.equal) == (3, 1, IMAGES - 4)
    missed = row_of(rows, 2, "missed")
    assert (missed.mean, missed.better, missed.worse) == (0, 1, 0)


def test_images_that_changed_most(pair):
    comparison = compare(pair)
    changes = changed_most(comparison, "jaccard", 2)
    assert [(change.change, change.isic_id) for change in changes] == [
        ("gain", "ISIC_0000031"),
        ("gain", "ISIC_0000039"),
        ("loss", "ISIC_0000034"),
    ]
    assert (changes[0].baseline, changes[0].value) == (0.7, 0.8)
    assert changes[2].difference == pytest.approx(-0.1)
    assert changed_most(comparison, "dice", 2) == []


def test_every_run_is_compared_with_the_first(tmp_path):
    folders = [write_evaluation(tmp_path / f"{seed}", scores_of(seed)) for seed in range(3)]
    comparison = compare(folders)
    rows = compare_rows(comparison)
    for run in (2, 3):
        difference = scores_of(run - 1)["dice"] - scores_of(0)["dice"]
        assert row_of(rows, run, "dice").difference == pytest.approx(difference.mean())
        (gain, _) = (item for item in changed_most(comparison, "dice", 1) if item.run == run)
        assert gain.difference == pytest.approx(difference.max())


def test_what_differs_is_shown_and_what_does_not_is_not(pair):
    text = describe(make_report(compare(pair), "jaccard", 10))
    assert "12 images, the same in all runs, at the size of the data set's images" in text
    lines = [line.split() for line in text.splitlines()]
    assert ["views", "identity", "identity,", "horizontal"] in lines
    assert not any(line[:1] == ["weights"] for line in lines)
    assert ["34", "ISIC_0000034", "0.7000", "0.6000", "-0.1000"] in lines
    jaccard = next(line for line in lines if line[:2] == ["jaccard", "+0.0125"])
    assert jaccard[-3:] == ["3", "1", "8"]
    assert "largest gains of 2 over 1 by dice: none" in describe(
        make_report(compare(pair), "dice", 10)
    )


# --- refusals


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        ("split_fingerprint", "b" * 64, "is aaaaaaaaaaaa... in {} and bbbbbbbbbbbb... in {}"),
        ("split_fingerprint", None, "is aaaaaaaaaaaa... in {} and not stated in {}"),
        ("score_threshold", 0.7, "is 0.5 in {} and 0.7 in {}"),
        ("resolution", "original", "is data set in {} and original in {}"),
    ],
)
def test_other_conditions_are_refused_unless_forced(key, value, shown, tmp_path):
    folders = (
        write_evaluation(tmp_path / "a", scores_of(0)),
        write_evaluation(tmp_path / "b", scores_of(1), **{key: value}),
    )
    with pytest.raises(LesionError) as error:
        compare(folders)
    problem = f"{key} {shown.format(*folders)}"
    assert problem in str(error.value)
    assert "--force" in str(error.value)
    text = describe(make_report(compare(folders, force=True), "jaccard", 3))
    assert f"Not comparable, and forced: {problem}. All figures are of the 12 images" in text


def test_what_neither_states_is_not_taken_to_be_the_same(tmp_path):
    folders = [
        write_evaluation(tmp_path / name, scores_of(0), split_fingerprint=None) for name in "ab"
    ]
    with pytest.raises(LesionError, match=r"split_fingerprint is not stated in .* and not stated"):
        compare(folders)


def test_other_images_are_refused_unless_forced(tmp_path):
    first, second = scores_of(0), scores_of(1)
    second["image_id"] = second["image_id"] + 4
    folders = write_evaluation(tmp_path / "a", first), write_evaluation(tmp_path / "b", second)
    message = f"image ids are 12 in {folders[0]} and 12 in {folders[1]}, 8 of them in both"
    with pytest.raises(LesionError, match=r"--force") as error:
        compare(folders)
    assert message in str(error.value)
    comparison = compare(folders, force=True)
    assert comparison.image_ids.tolist() == list(range(34, 42))
    row = row_of(compare_rows(comparison), 2, "dice")
    assert row.mean == pytest.approx(second["dice"][:8].mean())
    assert row.difference == pytest.approx((second["dice"][:8] - first["dice"][4:]).mean())
    assert "of the 8 images that are in all runs" in describe(make_report(comparison, "dice", 3))


def test_no_shared_image_is_refused_even_if_forced(tmp_path):
    second = scores_of(1)
    second["image_id"] = second["image_id"] + 100
    folders = (
        write_evaluation(tmp_path / "a", scores_of(0)),
        write_evaluation(tmp_path / "b", second),
    )
    with pytest.raises(LesionError, match="no image is in all of them"):
        compare(folders, force=True)


def test_a_missing_metric_is_refused_unless_forced(tmp_path):
    second = scores_of(1)
    del second["dice"], second["jaccard"]
    folders = (
        write_evaluation(tmp_path / "a", scores_of(0)),
        write_evaluation(tmp_path / "b", second),
    )
    message = f"jaccard, dice: in {folders[0]} and not in {folders[1]}"
    with pytest.raises(LesionError) as error:
        compare(folders)
    assert message in str(error.value)
    with pytest.raises(LesionError, match="and not in") as error:
        compare(folders[::-1])
    assert message in str(error.value)
    comparison = compare(folders, force=True)
    assert "submitted_below_065" not in comparison.scores[0]
    with pytest.raises(LesionError, match=r"--metric jaccard: not in every.* max_iou, top1_iou"):
        make_report(comparison, "jaccard", 3)
    text = describe(make_report(comparison, "accuracy", 3))
    assert message in text
    assert "\ndice" not in text


def test_every_difference_is_named_at_once(tmp_path):
    folders = (
        write_evaluation(tmp_path / "a", scores_of(0)),
        write_evaluation(tmp_path / "b", scores_of(1), score_threshold=0.7),
        write_evaluation(tmp_path / "c", scores_of(1, 10), resolution="original"),
    )
    with pytest.raises(LesionError) as error:
        compare(folders)
    for part in ("score_threshold is 0.5", "resolution is data set", "image ids are 12"):
        assert part in str(error.value)


# --- folders


def test_a_run_stands_for_its_only_evaluation(pair, tmp_path):
    run = tmp_path / "run"
    write_evaluation(run / "eval" / "tiny_test", scores_of(2))
    (run / "metrics.json").write_text('{"iteration": 19}\n')
    assert find_evaluation(run) == run / "eval" / "tiny_test"
    assert find_evaluation(pair[0]) == pair[0]
    assert compare([run, pair[0]]).evaluations[0].folder == run / "eval" / "tiny_test"


def test_a_run_of_several_evaluations_is_refused_by_name(tmp_path):
    for name in ("tiny_test", "tiny_val"):
        write_evaluation(tmp_path / "eval" / name, scores_of(2))
    with pytest.raises(LesionError, match=r"2 evaluations; name one of .*tiny_test, .*tiny_val"):
        find_evaluation(tmp_path)


def test_a_folder_without_an_evaluation_or_given_twice(pair, tmp_path):
    with pytest.raises(LesionError, match=r"nowhere: holds no evaluation.*tools/eval.py"):
        compare([pair[0], tmp_path / "nowhere"])
    with pytest.raises(LesionError, match="first: given twice"):
        compare([*pair, tmp_path / "second" / ".." / "first"])


def test_the_table_is_read_in_full(pair):
    evaluation = read_evaluation(pair[0], (), SCORES)
    table = evaluation.table
    assert table.keys() == scores_of(0).keys()
    assert table["image_id"].dtype == table["num_instances"].dtype == np.int64
    assert table["isic_id"][0] == "ISIC_0000030"
    assert np.isnan(table["estimated_iou"]).all()
    np.testing.assert_array_equal(table["dice"], scores_of(0)["dice"])
    assert evaluation.max_iou[30] == scores_of(0)["max_iou"][0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_id": [30, 30]}, "per_image.csv: holds image 30 twice"),
        ({"image_id": [30, ""]}, "per_image.csv: no number at image_id"),
        ({"isic_id": ["ISIC_0000030", ""]}, "per_image.csv: no text at isic_id"),
        ({"dice": [0.5, 1.5]}, "per_image.csv: dice of an image is out of range"),
        ({"dice": [0.5, "nan"]}, "per_image.csv: dice of an image is out of range"),
        ({"dice": [0.5, ""]}, "per_image.csv: no number at dice"),
        ({"estimated_iou": ["", -0.1]}, "per_image.csv: estimated_iou of an image is out of"),
    ],
)
def test_a_broken_table(tmp_path, changes, message):
    table = scores_of(0, 2) | {key: np.array(cells, object) for key, cells in changes.items()}
    folder = write_evaluation(tmp_path / "a", table)
    with pytest.raises(LesionError, match=message):
        read_evaluation(folder, (), SCORES)


def test_files_that_do_not_fit_each_other(tmp_path):
    folder = write_evaluation(tmp_path / "a", scores_of(0), num_images=13)
    with pytest.raises(LesionError, match=r"holds 12 images, metrics.json says 13"):
        read_evaluation(folder, ())
    (folder / "metrics.json").write_text("[]")
    with pytest.raises(LesionError, match=r"metrics.json: not a JSON object"):
        read_evaluation(folder, ())
    (folder / "metrics.json").write_text("{}")
    (folder / "per_image.csv").write_bytes(b"image_id,max_iou\n30,\xff\n")
    with pytest.raises(LesionError, match=r"per_image.csv: not a CSV file"):
        read_evaluation(folder, ())


# --- files and figures


@pytest.fixture
def drawn(tmp_path):
    """A data set of three images and two evaluations of it with submitted masks.

    The second evaluation's are at the originals' size, and one of them is empty.
    """
    dataset = make_dataset(tmp_path)
    folders = []
    for name, values in (("a", [0.5, 0.6, 0.7]), ("b", [0.75, 0.6, 0.25])):
        table = scores_of(0, 3) | {"jaccard": np.array(values)}
        folders.append(write_evaluation(tmp_path / name, table))
    for lesion in read_split(dataset, "test"):
        mask = square(14).astype(np.uint8) * 255
        size = (lesion.original_width, lesion.original_height)
        other = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)
        other *= lesion.image_id != 32
        for folder, image in zip(folders, (mask, other), strict=True):
            (folder / "submission").mkdir(exist_ok=True)
            cv2.imwrite(str(folder / "submission" / f"{lesion.isic_id}_segmentation.png"), image)
    return dataset, folders


def test_what_is_written(drawn, tmp_path):
    dataset, folders = drawn
    report = make_report(compare(folders), "jaccard", 10)
    output = tmp_path / "new" / "comparison"
    paths = write_report(report, output, dataset)
    assert [path.name for path in paths] == [
        *("compare.csv", "changed.csv", "compare.json", "changes_2.png", "changed_images_2.png")
    ]
    assert sorted(output.iterdir()) == sorted(paths)
    for path in paths[3:]:
        assert_png(path)
    content = json.loads(paths[2].read_text())
    assert content["images"] == 3
    assert content["not_comparable"] == []
    assert [run["folder"] for run in content["runs"]] == [str(folder) for folder in folders]
    assert [run["images_submitted_below_065"] for run in content["runs"]] == [2, 2]
    for path, key in ((paths[0], "rows"), (paths[1], "changed")):
        with open(path, newline="") as stream:
            lines = list(csv.DictReader(stream))
        as_text = [
            {name: "" if cell is None else str(cell) for name, cell in row.items()}
            for row in content[key]
        ]
        assert lines == as_text
    assert [item["image_id"] for item in content["changed"]] == [30, 32]


def test_without_a_data_set_no_image_is_drawn(drawn, tmp_path):
    report = make_report(compare(drawn[1]), "jaccard", 10)
    names = [path.name for path in write_report(report, tmp_path / "out")]
    assert names[-1] == "changes_2.png"


def test_the_scatter_and_the_histogram_hold_every_image():
    baseline, values = np.array([0.5, 0.6, 0.7, 0.2]), np.array([0.6, 0.5, 0.7, 0.9])
    figure = changes_figure(baseline, values, ("1: a", "2: b"), "dice", (-0.1, 0.4), "a title")
    said = texts(figure)
    for part in (
        *("better: 2 images", "worse: 1 images", "equal: 1 images", "1: a", "2: b", "a title"),
        "mean difference +0.1750, 95 % interval -0.1000 to +0.4000",
    ):
        assert part in said
    scatter, histogram = figure.axes
    points = np.concatenate([collection.get_offsets() for collection in scatter.collections])
    assert sorted(map(tuple, points)) == sorted(zip(baseline, values, strict=True))
    assert sum(patch.get_height() for patch in histogram.patches[:-1]) == 4


def test_changed_images_show_three_outlines(drawn):
    dataset, folders = drawn
    evaluations = tuple(compare(folders).evaluations)
    changes = [(30, 0.5, 0.75), (32, 0.7, 0.25), (10_000_030, 0.5, 0.4)]  # the last one is a flip
    figure = changed_images_figure(changes, evaluations, dataset, ("1: a", "2: b"), "a title")
    first, second = figure.axes[:2]
    assert first.get_title() == "ISIC_0000030: 0.50, then 0.75"
    assert [len(ax.collections) for ax in figure.axes] == [3, 2]
    truth, baseline, other = (c.get_paths()[0].vertices[:, 0].min() for c in first.collections)
    assert (truth, baseline, other) == (9.5, 13.5, 13.5)
    assert "ground truth" in texts(figure)
    # Zoomed in, in the image's proportions, and never out of it.
    for ax in (first, second):
        (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
        assert (right - left) / (bottom - top) == pytest.approx(WIDTH / HEIGHT)
        assert -0.5 <= left < 9.5 < 25.5 < right <= WIDTH - 0.5
        assert -0.5 <= top < 7.5 < 19.5 < bottom <= HEIGHT - 0.5


def test_a_panel_never_shows_more_than_its_image(drawn):
    dataset, folders = drawn
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[-6:, :5] = 255
    cv2.imwrite(str(folders[0] / "submission" / "ISIC_0000031_segmentation.png"), mask)
    evaluations = tuple(compare(folders).evaluations)
    figure = changed_images_figure([(31, 0.6, 0.5)], evaluations, dataset, ("1", "2"), "")
    (ax,) = figure.axes
    assert ax.get_xlim() == (-0.5, WIDTH - 0.5)
    assert ax.get_ylim() == (HEIGHT - 0.5, -0.5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "not a readable mask"),
        (b"", "not a readable mask"),
        ((5, 4), "is 4x5, the image 40x"),
    ],
)
def test_a_broken_submission(drawn, content, message):
    dataset, (folder, _) = drawn
    lesion = read_split(dataset, "test")[0]
    path = folder / "submission" / "ISIC_0000030_segmentation.png"
    path.unlink()
    if isinstance(content, tuple):
        cv2.imwrite(str(path), np.zeros(content, np.uint8))
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(LesionError, match=f"ISIC_0000030_segmentation.png: {message}"):
        read_submitted(folder, lesion)


def test_images_of_another_data_set_are_refused(drawn):
    dataset, folders = drawn
    evaluations = tuple(compare(folders).evaluations)
    with pytest.raises(LesionError, match=r"image 77 of tiny_test is not in .*test.json"):
        changed_images_figure([(77, 0.5, 0.4)], evaluations, dataset, ("1", "2"), "")


# --- the tool


def test_the_tool_knows_every_metric():
    assert runpy.run_path(str(TOOL))["METRICS"] == SCORES


@pytest.fixture
def tool(monkeypatch, capsys):
    """Function (*arguments) -> exit status, standard output, standard error."""

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["compare.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            runpy.run_path(str(TOOL), run_name="__main__")
        return exit_.value.code, *capsys.readouterr()

    return run


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["one"], "give two RUN folders or more"),
        (["one", "two", "--dataset", "x"], "--dataset needs --output"),
        (["one", "two", "--count", "0"], "--count"),
        (["one", "two", "--metric", "beauty"], "--metric"),
    ],
)
def test_wrong_arguments(arguments, message, tool):
    status, _, stderr = tool(*arguments)
    assert status == 2
    assert message in stderr


def test_the_tool_prints_and_writes(drawn, tmp_path, tool):
    dataset, folders = drawn
    output = tmp_path / "out"
    options = ("--metric", "jaccard", "--count", 1, "--output", output, "--dataset", dataset)
    status, stdout, stderr = tool(*folders, *options)
    assert (status, stderr) == (0, "")
    assert f"1: {folders[0]}\n2: {folders[1]}\n3 images" in stdout
    assert stdout.endswith("".join(f"{output / name}\n" for name in (
        "compare.csv", "changed.csv", "compare.json", "changes_2.png", "changed_images_2.png",
    )))  # fmt: skip


def test_a_refusal_is_one_line_and_a_status(tmp_path, tool):
    folders = (
        write_evaluation(tmp_path / "a", scores_of(0)),
        write_evaluation(tmp_path / "b", scores_of(1), resolution="original"),
    )
    status, stdout, stderr = tool(*folders)
    assert (status, stdout) == (1, "")
    assert stderr.startswith("error: not comparable: resolution is data set in ")
    assert stderr.count("\n") == 1
    status, stdout, stderr = tool(*folders, "--force")
    assert (status, stderr) == (0, "")
    assert "Not comparable, and forced: resolution is data set in " in stdout
