"""Style, figures of a data set, and tools/plot.py."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from figure_files import (
    HEIGHT,
    WIDTH,
    assert_png,
    make_dataset,
    make_run,
    rle,
    square,
    texts,
)
from leak_files import EMPTY
from tiny import ROOT

from lesion_d2.commands import plot
from lesion_d2.data.converted import LesionImage, decode_segmentation, read_split
from lesion_d2.errors import LesionError
from lesion_d2.figures import style
from lesion_d2.figures.predictions import samples_figure
from lesion_d2.figures.resolutions import resolutions_figure

TOOL = ROOT / "tools" / "plot.py"


@pytest.fixture
def dataset(tmp_path):
    return make_dataset(tmp_path)


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path)


# --- style


def outline_points(mask: np.ndarray) -> np.ndarray:
    figure = style.new_figure(3, 3)
    ax = figure.subplots()
    style.show_image(ax, np.zeros((*mask.shape, 3), np.uint8))
    style.draw_outline(ax, mask, "red")
    (outline,) = (c for c in ax.collections)
    return np.concatenate([path.vertices for path in outline.get_paths()])


@pytest.mark.parametrize(
    ("rows", "columns"),
    [
        ((3, 7), (4, 9)),
        ((3, 3), (4, 4)),  # one pixel
        ((0, 9), (0, 11)),  # the whole image
    ],
)
def test_outline_runs_between_lesion_and_skin(rows, columns):
    mask = np.zeros((10, 12), bool)
    mask[rows[0] : rows[1] + 1, columns[0] : columns[1] + 1] = True
    points = outline_points(mask)
    assert points[:, 0].min() == columns[0] - 0.5
    assert points[:, 0].max() == columns[1] + 0.5
    assert points[:, 1].min() == rows[0] - 0.5
    assert points[:, 1].max() == rows[1] + 0.5


def test_outline_of_no_lesion_draws_nothing():
    ax = style.new_figure(3, 3).subplots()
    style.draw_outline(ax, np.zeros((10, 12), bool), "red")
    assert not ax.collections


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = style.save_figure(style.new_figure(1, 1), tmp_path / "new" / "figure.png")
    before = path.read_bytes()
    figure = style.new_figure(2, 2)

    def fail(stream, **kwargs):
        stream.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(figure, "savefig", fail)
    with pytest.raises(OSError, match="disk full"):
        style.save_figure(figure, path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_drawing_needs_neither_torch_nor_pyplot():
    code = (
        "import sys, lesion_d2.commands.plot; "
        "print([m for m in ('torch', 'detectron2', 'matplotlib.pyplot') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


# --- data set


def test_polygons_and_run_lengths_give_the_same_mask(dataset):
    of_run_lengths, _, of_polygons = (lesion.read_mask() for lesion in read_split(dataset, "test"))
    np.testing.assert_array_equal(of_run_lengths, square(10))
    np.testing.assert_array_equal(of_polygons, square(10))


def test_mask_of_another_size_is_refused():
    with pytest.raises(LesionError, match="same conversion"):
        decode_segmentation(rle(square(10)), HEIGHT + 1, WIDTH)


def test_resolutions_count_each_side_of_the_rule():
    sizes = [(1022, 767)] * 5 + [(700, 700)] * 2 + [(701, 700)] + [(600, 450)] * 1000
    figure = resolutions_figure(sizes, "isic2018")
    said = texts(figure)
    assert "isic2018" in said
    assert "1,008 original images" in said
    assert "more than 700 x 700 pixels: 6 images" in said
    assert "at most 700 x 700 pixels: 1,002 images" in said
    assert "600 x 450: 1,000" in said
    (ax,) = figure.axes
    (rule,) = (line for line in ax.lines if line.get_label() == "width x height = 490,000")
    np.testing.assert_allclose(rule.get_xdata() * rule.get_ydata(), 490_000)
    above, below = ax.collections
    assert {tuple(point) for point in above.get_offsets()} == {(1022, 767), (701, 700)}
    assert {tuple(point) for point in below.get_offsets()} == {(700, 700), (600, 450)}


def test_samples_show_each_image_plain_and_masked(dataset):
    images = read_split(dataset, "test")
    figure = samples_figure(images, "tiny_test: 3 images")
    plain, masked = figure.axes[:2]
    np.testing.assert_array_equal(plain.images[0].get_array(), images[0].read_rgb())
    tint = masked.images[1].get_array()[..., 3]
    np.testing.assert_array_equal(tint > 0, square(10))
    said = texts(figure)
    assert "ISIC_0000032, 40 x 30" in said
    assert "lesion 12% of the image" in said  # 144 of 1200 pixels


def test_image_colours_are_rgb(tmp_path):
    cv2.imwrite(str(tmp_path / "red.png"), np.full((2, 3, 3), (0, 0, 255), np.uint8))
    lesion = LesionImage(1, "ISIC_0000001", tmp_path / "red.png", 2, 3, 2, 3, None)
    assert (lesion.read_rgb() == (255, 0, 0)).all()
    assert not lesion.read_mask().any()


def break_image(folder: Path) -> None:
    (folder / "images" / "ISIC_0000010.png").write_bytes(b"not a picture")


def drop_image(folder: Path) -> None:
    (folder / "images" / "ISIC_0000010.png").unlink()


def enlarge_image(folder: Path) -> None:
    cv2.imwrite(str(folder / "images" / "ISIC_0000010.png"), np.zeros((60, 80, 3), np.uint8))


def drop_split(folder: Path) -> None:
    (folder / "train.json").unlink()


def cut_split(folder: Path) -> None:
    (folder / "train.json").write_text('{"images": [')


def drop_key(folder: Path) -> None:
    path = folder / "train.json"
    path.write_text(path.read_text().replace('"file_name"', '"name"'))


def empty_split(folder: Path) -> None:
    (folder / "train.json").write_text(json.dumps(EMPTY))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (break_image, "ISIC_0000010.png: cannot be used"),
        (drop_image, "ISIC_0000010.png: cannot be used"),
        (enlarge_image, "ISIC_0000010.png: is 80x60, the data set says 40x30"),
        (drop_split, "train.json: cannot be read.*tools/convert_isic.py"),
        (cut_split, "train.json: not JSON.*tools/convert_isic.py"),
        (drop_key, "train.json: file_name None is not a name"),
        (empty_split, "train.json: holds no image"),
    ],
)
def test_broken_dataset(dataset, spoil, message):
    spoil(dataset)
    with pytest.raises(LesionError, match=message):
        plot.draw_samples(dataset)


# --- augmentations


def test_augmentations_change_colours_and_never_the_mask(dataset):
    from lesion_d2.config.defaults import get_lesion_cfg
    from lesion_d2.figures import augmentations

    images = read_split(dataset, "train")[:2]
    examples = augmentations.augment(images, get_lesion_cfg(), seed=0)
    again = augmentations.augment(images, get_lesion_cfg(), seed=0)
    for (panels, _), (repeated, _), lesion in zip(examples, again, images, strict=True):
        titles = [title for title, _ in panels]
        names = ["gaussian blur", "coarse dropout", "brightness channel", "sharpen"]
        assert titles[:5] == [lesion.isic_id, *names]
        original = lesion.read_rgb()
        np.testing.assert_array_equal(panels[0][1], original)
        for (title, panel), (_, same) in zip(panels, repeated, strict=True):
            assert panel.shape == original.shape
            np.testing.assert_array_equal(panel, same)
            if title in names or title.startswith("random subset: 4"):
                assert (panel != original).any()
            if title == "random subset: 0 of 4":
                np.testing.assert_array_equal(panel, original)

    figure = augmentations.augmentations_figure(examples, "tiny_train")
    shown = [ax for ax in figure.axes if ax.images]
    assert len(shown) == 2 * (1 + 4 + augmentations.SUBSETS_SHOWN)
    outlines = [ax.collections[0].get_paths()[0].vertices for ax in shown]
    assert all(np.array_equal(outline, outlines[0]) for outline in outlines)


# --- the tool


def run_plot(monkeypatch, *arguments: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["plot.py", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(TOOL), run_name="__main__")
    return stop.value.code


def test_tool_draws_each_figure(dataset, run, tmp_path, monkeypatch, capsys):
    evaluation = run / "eval" / "tiny_test"
    commands = [
        ("resolutions", "--dataset", dataset),
        ("samples", "--dataset", dataset, "--split", "val", "--count", "1"),
        ("augmentations", "--dataset", dataset, "--count", "1"),
        ("losses", "--run", run),
        ("boxplot", "--eval", evaluation),
        ("predictions", "--eval", evaluation, "--dataset", dataset, "--which", "median"),
    ]
    for command in commands:
        output = tmp_path / "drawn" / f"{command[0]}.png"
        assert run_plot(monkeypatch, *command, "--output", output) == 0
        assert capsys.readouterr().out.strip() == str(output)
        assert_png(output)


def test_tool_draws_all_of_a_run(dataset, run, monkeypatch, capsys):
    assert run_plot(monkeypatch, "all", "--run", run, "--dataset", dataset) == 0
    printed = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert {str(path.relative_to(run)) for path in printed} == {
        *(f"figures/{n}.png" for n in ("resolutions", "samples", "augmentations", "losses")),
        "eval/tiny_test/boxplot.png",
        *(f"eval/tiny_test/predictions_{which}.png" for which in ("random", "best", "worst")),
    }
    for path in printed:
        assert_png(path)


def test_tool_says_what_is_wrong_in_one_line(tmp_path, monkeypatch, capsys):
    assert run_plot(monkeypatch, "losses", "--run", tmp_path) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "metrics.json" in lines[0]


@pytest.mark.parametrize(
    "arguments", [(), ("samples",), ("samples", "--dataset", ".", "--count", "0")]
)
def test_tool_refuses_wrong_arguments(arguments, monkeypatch, capsys):
    assert run_plot(monkeypatch, *arguments) == 2
    assert "usage" in capsys.readouterr().err
