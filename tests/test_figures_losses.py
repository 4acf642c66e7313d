import logging

import pytest
from figure_files import (
    SCHEDULE,
    make_run,
    texts,
    write_metrics,
)

from lesion_d2.commands import plot
from lesion_d2.errors import LesionError
from lesion_d2.figures.losses import epoch_means, losses_figure
from lesion_d2.results.run import read_metrics, read_schedule


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path)


def test_epoch_means_by_hand():
    metrics = {19: {"loss": 4.0}, 39: {"loss": 2.0}, 40: {"loss": 8.0}, 79: {"other": 1.0}}
    epochs, means = epoch_means(metrics, SCHEDULE, "loss")
    assert epochs.tolist() == [1, 2]
    assert means.tolist() == [3.0, 8.0]


def test_evaluation_after_training_belongs_to_the_last_epoch():
    epochs, means = epoch_means({119: {"val": 1.0}, 160: {"val": 2.0}}, SCHEDULE, "val")
    assert epochs.tolist() == [3, 4]
    assert means.tolist() == [1.0, 2.0]


def test_losses_show_both_splits_and_the_switch(run):
    figure = losses_figure(read_metrics(run), SCHEDULE, "my run")
    assert [ax.get_title() for ax in figure.axes] == [
        *("Total", "Class", "Box", "Mask", "RPN class", "RPN box")
    ]
    for factor, ax in enumerate(figure.axes, 1):
        training, validation, switch = ax.lines
        assert training.get_xdata().tolist() == [1, 2, 3, 4]
        assert training.get_ydata().tolist() == [factor * epoch for epoch in (1, 2, 3, 4)]
        assert validation.get_xdata().tolist() == [1, 2, 3, 4]
        assert validation.get_ydata().tolist() == [2 * factor * epoch for epoch in (1, 2, 3, 4)]
        # An epoch's point stands in its middle, so 1.5 epochs from the start is at 2.
        assert switch.get_xdata()[0] == 2
    said = texts(figure)
    assert "my run" in said
    assert "4 epochs of 40 iterations" in said
    assert "unfinished" not in said
    assert "FREEZE_AT 5 to 2" in said


def test_losses_of_a_run_that_has_just_begun(run):
    write_metrics(run / "metrics.json", 59, validation=False)
    figure = losses_figure(read_metrics(run), SCHEDULE, "my run")
    for ax in figure.axes:
        (training,) = ax.lines  # no validation yet, and the switch is still ahead
        assert training.get_xdata().tolist() == [1, 2]
    said = texts(figure)
    assert "unfinished: 60 of 160 iterations" in said
    assert "no validation losses" in said


def test_last_line_of_an_iteration_wins_and_a_torn_line_is_left_out(run, caplog):
    path = run / "metrics.json"
    path.write_text(
        '{"iteration": 39, "total_loss": 1.0}\n'
        '{"iteration": 19, "total_loss": 2.0}\n'
        '{"iteration": 39, "total_loss": 3.0}\n'
        '{"iteration": 59, "total_lo'
    )
    with caplog.at_level(logging.WARNING):
        metrics = read_metrics(run)
    assert list(metrics) == [19, 39]
    assert metrics[39]["total_loss"] == 3.0
    assert "line 4" in caplog.text


def test_schedule_is_read_from_the_run(run):
    assert read_schedule(run) == SCHEDULE


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("metrics.json", None, "metrics.json: not found.*tools/train_net.py"),
        ("metrics.json", "", "metrics.json: holds no line"),
        ("metrics.json", "not json\n[1]\n", "metrics.json: holds no line"),
        ("metrics.json", '{"iteration": 1, "lr": 0.1}\n', "holds no total_loss"),
        ("config.yaml", None, "config.yaml: not found.*tools/train_net.py"),
        ("config.yaml", "MODEL: {}\n", "config.yaml: not the config of a run"),
        ("config.yaml", "SOLVER: {MAX_ITER: many}\n", "config.yaml: not the config of a run"),
        ("config.yaml", "SOLVER: [", "config.yaml: not the config of a run"),
        ("config.yaml", "", "config.yaml: not the config of a run"),
    ],
)
def test_broken_run(run, name, content, message):
    (run / name).unlink()
    if content is not None:
        (run / name).write_text(content)
    with pytest.raises(LesionError, match=message):
        plot.draw_losses(run)
