"""A few of the kills of `make kills`."""

from kills import convert_case, predict_case


def test_a_killed_conversion(tmp_path):
    convert_case(tmp_path, 8).kill_often(2)


def test_a_killed_prediction(bundle, tiny_archive, tmp_path):
    predict_case(tmp_path, bundle, tiny_archive[0]).kill_often(2)
