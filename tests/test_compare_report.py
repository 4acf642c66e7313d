"""What a comparison writes and draws, and tools/compare.py."""

import csv
import json
import re
import runpy

import cv2
import numpy as np
import pytest
from compare_files import scores_of, write_evaluation
from figure_files import HEIGHT, WIDTH, assert_png, make_dataset, square, texts
from tiny import ROOT

from lesion_d2.commands.compare import compare_runs
from lesion_d2.data.converted import read_split
from lesion_d2.errors import LesionError
from lesion_d2.figures.comparison import changed_images_figure, changes_figure
from lesion_d2.results.evaluation import read_submitted

TOOL = ROOT / "tools" / "compare.py"


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
    output = tmp_path / "new" / "comparison"
    compare_runs(folders, "jaccard", 10, output, dataset)
    names = "compare.csv", "changed.csv", "compare.json", "changes_2.png", "changed_images_2.png"
    paths = [output / name for name in names]
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
    compare_runs(drawn[1], "jaccard", 10, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").glob("*.png")] == ["changes_2.png"]


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
    evaluations = tuple(compare_runs(folders).evaluations)
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
    evaluations = tuple(compare_runs(folders).evaluations)
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
    evaluations = tuple(compare_runs(folders).evaluations)
    path = dataset / "test.json"
    path.write_text(re.sub('"(image_)?id": 30', r'"\1id": 77', path.read_text()))
    with pytest.raises(LesionError, match=r"image 30 of tiny_test is not in .*test.json"):
        changed_images_figure([(30, 0.5, 0.4)], evaluations, dataset, ("1", "2"), "")


# --- the tool


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
