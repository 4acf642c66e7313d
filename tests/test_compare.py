"""Comparing evaluations, and reading their folders."""

from types import SimpleNamespace

import numpy as np
import pytest
from compare_files import IMAGES, scores_of, write_evaluation

from lesion_d2.commands.compare import compare_runs
from lesion_d2.errors import LesionError
from lesion_d2.evaluation.metrics import METRICS
from lesion_d2.evaluation.statistics import mean_interval, paired_interval
from lesion_d2.results.evaluation import find_evaluation, read_evaluation


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
    (row,) = (row for row in rows if (row["run"], row["metric"]) == (run, metric))
    return SimpleNamespace(**row)


@pytest.fixture
def text_of(capsys):
    """Function (arguments of compare_runs) -> what it prints."""

    def run(*arguments, **options):
        capsys.readouterr()
        compare_runs(*arguments, **options)
        return capsys.readouterr().out

    return run


# --- figures of a comparison


def test_rows_are_matched_by_image(tmp_path):
    first, second = scores_of(1, 40), scores_of(2, 40)
    order = np.random.default_rng(3).permutation(40)
    shuffled = {name: column[order] for name, column in second.items()}
    folders = write_evaluation(tmp_path / "a", first), write_evaluation(tmp_path / "b", shuffled)
    rows = compare_runs(folders).rows
    assert len(rows) == 2 * (len(METRICS) + 3)
    for name in METRICS:
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
    rows = compare_runs(folders).rows
    failed = row_of(rows, 2, "submitted_below_065")
    assert row_of(rows, 1, "submitted_below_065").mean == 3 / IMAGES
    assert (failed.mean, failed.difference) == (1 / IMAGES, pytest.approx(-2 / IMAGES))
    assert (failed.better, failed.worse, failed.equal) == (3, 1, IMAGES - 4)
    missed = row_of(rows, 2, "misses")
    assert (missed.mean, missed.better, missed.worse) == (0, 1, 0)


def test_images_that_changed_most(pair):
    changes = compare_runs(pair, "jaccard", 2).changes
    assert [(change["change"], change["isic_id"]) for change in changes] == [
        ("gain", "ISIC_0000031"),
        ("gain", "ISIC_0000039"),
        ("loss", "ISIC_0000034"),
    ]
    assert (changes[0]["baseline"], changes[0]["value"]) == (0.7, 0.8)
    assert changes[2]["difference"] == pytest.approx(-0.1)
    assert compare_runs(pair, "dice", 2).changes == []


def test_every_run_is_compared_with_the_first(tmp_path):
    folders = [write_evaluation(tmp_path / f"{seed}", scores_of(seed)) for seed in range(3)]
    comparison = compare_runs(folders, "dice", 1)
    rows = comparison.rows
    for run in (2, 3):
        difference = scores_of(run - 1)["dice"] - scores_of(0)["dice"]
        assert row_of(rows, run, "dice").difference == pytest.approx(difference.mean())
        (gain, _) = (item for item in comparison.changes if item["run"] == run)
        assert gain["difference"] == pytest.approx(difference.max())


def test_what_differs_is_shown_and_what_does_not_is_not(pair, text_of):
    text = text_of(pair, "jaccard", 10)
    assert "12 images, the same in all runs, at the size of the data set's images" in text
    lines = [line.split() for line in text.splitlines()]
    assert ["views", "identity", "identity,", "horizontal"] in lines
    assert not any(line[:1] == ["weights"] for line in lines)
    assert ["loss", "34", "ISIC_0000034", "0.7000", "0.6000", "-0.1000"] in lines
    jaccard = next(line for line in lines if line[:2] == ["Jaccard", "+0.0125"])
    assert jaccard[-3:] == ["3", "1", "8"]
    assert "no image's Dice changed" in text_of(pair, "dice", 10)


def test_settings_that_one_does_not_state_are_shown(tmp_path, text_of):
    folders = (
        write_evaluation(tmp_path / "a", scores_of(0)),
        write_evaluation(tmp_path / "b", scores_of(1), max_size_test=128, proposals_before_nms=300),
    )
    lines = [line.split() for line in text_of(folders, "jaccard", 3).splitlines()]
    assert ["max_size_test", "not", "stated", "128"] in lines
    assert ["proposals_before_nms", "not", "stated", "300"] in lines


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
def test_other_conditions_are_refused_unless_forced(key, value, shown, tmp_path, text_of):
    folders = (
        write_evaluation(tmp_path / "a", scores_of(0)),
        write_evaluation(tmp_path / "b", scores_of(1), **{key: value}),
    )
    with pytest.raises(LesionError) as error:
        compare_runs(folders)
    problem = f"{key} {shown.format(*folders)}"
    assert problem in str(error.value)
    assert "--force" in str(error.value)
    text = text_of(folders, "jaccard", 3, force=True)
    assert f"Not comparable, and forced: {problem}. All figures are of the 12 images" in text


def test_what_neither_states_is_not_taken_to_be_the_same(tmp_path):
    folders = [
        write_evaluation(tmp_path / name, scores_of(0), split_fingerprint=None) for name in "ab"
    ]
    with pytest.raises(LesionError, match=r"split_fingerprint is not stated in .* and not stated"):
        compare_runs(folders)


def renamed(table, step):
    """The names of other photographs, as far on in the archive as ``step``."""
    return np.array([f"ISIC_{number + step:07d}" for number in table["image_id"]])


def test_other_images_are_refused_unless_forced(tmp_path, text_of):
    first, second = scores_of(0), scores_of(1)
    second["isic_id"] = renamed(second, 4)  # the ids of both count from 30
    folders = write_evaluation(tmp_path / "a", first), write_evaluation(tmp_path / "b", second)
    message = f"images are 12 in {folders[0]} and 12 in {folders[1]}, 8 of them in both"
    with pytest.raises(LesionError, match=r"--force") as error:
        compare_runs(folders)
    assert message in str(error.value)
    comparison = compare_runs(folders, "accuracy", force=True)
    assert comparison.image_ids.tolist() == list(range(34, 42))
    row = row_of(comparison.rows, 2, "dice")
    assert row.mean == pytest.approx(second["dice"][:8].mean())
    assert row.difference == pytest.approx((second["dice"][:8] - first["dice"][4:]).mean())
    assert "of the 8 images that are in all runs" in text_of(folders, "dice", 3, force=True)


def test_no_shared_image_is_refused_even_if_forced(tmp_path):
    second = scores_of(1)
    second["isic_id"] = renamed(second, 100)
    folders = (
        write_evaluation(tmp_path / "a", scores_of(0)),
        write_evaluation(tmp_path / "b", second),
    )
    with pytest.raises(LesionError, match="no image is in all of them"):
        compare_runs(folders, "accuracy", force=True)


def test_a_missing_metric_is_refused_unless_forced(tmp_path, text_of):
    second = scores_of(1)
    del second["dice"], second["jaccard"]
    folders = (
        write_evaluation(tmp_path / "a", scores_of(0)),
        write_evaluation(tmp_path / "b", second),
    )
    message = f"jaccard, dice: in {folders[0]} and not in {folders[1]}"
    with pytest.raises(LesionError) as error:
        compare_runs(folders)
    assert message in str(error.value)
    with pytest.raises(LesionError, match="and not in") as error:
        compare_runs(folders[::-1])
    assert message in str(error.value)
    comparison = compare_runs(folders, "accuracy", force=True)
    assert "submitted_below_065" not in comparison.scores[0]
    with pytest.raises(LesionError, match=r"--metric jaccard: not in every.* max_iou, top1_iou"):
        compare_runs(folders, "jaccard", force=True)
    text = text_of(folders, "accuracy", 3, force=True)
    assert message in text
    assert "\nDice" not in text


def test_every_difference_is_named_at_once(tmp_path):
    folders = (
        write_evaluation(tmp_path / "a", scores_of(0)),
        write_evaluation(tmp_path / "b", scores_of(1), score_threshold=0.7),
        write_evaluation(tmp_path / "c", scores_of(1, 10), resolution="original"),
    )
    with pytest.raises(LesionError) as error:
        compare_runs(folders)
    for part in ("score_threshold is 0.5", "resolution is data set", "images are 12"):
        assert part in str(error.value)


# --- folders


def test_a_run_stands_for_its_only_evaluation(pair, tmp_path):
    run = tmp_path / "run"
    write_evaluation(run / "eval" / "tiny_test", scores_of(2))
    (run / "metrics.json").write_text('{"iteration": 19}\n')
    assert find_evaluation(run) == run / "eval" / "tiny_test"
    assert find_evaluation(pair[0]) == pair[0]
    assert compare_runs([run, pair[0]]).evaluations[0].folder == run / "eval" / "tiny_test"


def test_a_run_of_several_evaluations_is_refused_by_name(tmp_path):
    for name in ("tiny_test", "tiny_val"):
        write_evaluation(tmp_path / "eval" / name, scores_of(2))
    with pytest.raises(LesionError, match=r"2 evaluations; name one of .*tiny_test, .*tiny_val"):
        find_evaluation(tmp_path)


def test_a_folder_without_an_evaluation_or_given_twice(pair, tmp_path):
    with pytest.raises(LesionError, match=r"nowhere: holds no evaluation.*tools/eval.py"):
        compare_runs([pair[0], tmp_path / "nowhere"])
    with pytest.raises(LesionError, match="first: given twice"):
        compare_runs([*pair, tmp_path / "second" / ".." / "first"])


def test_the_table_is_read_in_full(pair):
    evaluation = read_evaluation(pair[0], (), METRICS)
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
        read_evaluation(folder, (), METRICS)


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


def test_what_a_spreadsheet_saves(pair):
    evaluation = read_evaluation(pair[0], (), METRICS)
    path = pair[0] / "per_image.csv"
    text = path.read_text()
    path.write_text("\ufeff" + text, encoding="utf-8")
    again = read_evaluation(pair[0], (), METRICS)
    np.testing.assert_array_equal(again.table["image_id"], evaluation.table["image_id"])
    path.write_text(text.replace(",", ";"))
    with pytest.raises(LesionError, match=r"has semicolons between columns; save it with commas"):
        read_evaluation(pair[0], (), METRICS)


def test_the_earlier_name_of_a_key_is_read(tmp_path):
    write_evaluation(tmp_path / "a", scores_of(0), input_fingerprint=None, fingerprint="abc")
    assert read_evaluation(tmp_path / "a", ()).summary["input_fingerprint"] == "abc"
