"""Which images files, folders and patterns stand for."""

import os

import pytest

from lesion_d2.errors import LesionError
from lesion_d2.images.inputs import find_images


def names(*inputs, **options):
    return [image.name for image in find_images([str(path) for path in inputs], **options)]


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_what_is_found(photographs):
    found = names(photographs)
    assert len(found) == 4
    assert found == sorted(found)
    assert found[3].startswith("more/")
    touch(photographs / "x_segmentation.png", photographs / "notes.txt")
    touch(photographs / "._a.jpg", photographs / ".thumbnails" / "a.jpg")
    (photographs / "folder.jpg").mkdir()
    assert names(photographs) == found
    assert len(names(photographs / "*.jpg")) == 3
    assert names(photographs / "**" / "*.jpg") == found
    one = photographs / f"{found[0]}.jpg"
    assert names(one, one) == [found[0]]


def test_any_spelling_of_a_path_is_one_file(photographs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(photographs)
    (photographs / "more" / "loop").symlink_to(photographs)
    spellings = ["photographs", "./photographs/", f"{photographs}/more/..", "link"]
    expected = find_images([spellings[0]])
    for text in spellings[1:]:
        assert find_images([text]) == expected
    assert {image.path for image in find_images(spellings)} == {image.path for image in expected}


def test_images_of_one_name_are_kept_apart(tmp_path):
    touch(*(tmp_path / "in" / patient / "lesion.jpg" for patient in ("1", "2")))
    touch(tmp_path / "in" / "1" / "a.jpg", tmp_path / "in" / "1" / "A.PNG")
    together = ["1/A.PNG", "1/a.jpg", "1/lesion", "2/lesion"]
    assert names(tmp_path / "in") == together
    assert names(tmp_path / "in" / "1", tmp_path / "in" / "2") == together
    assert names(tmp_path / "in" / "*" / "lesion.jpg") == ["1/lesion", "2/lesion"]
    assert names(tmp_path / "in" / "1" / "lesion.jpg") == ["lesion"]


def test_what_exists_of_a_pattern_is_no_pattern(tmp_path):
    touch(tmp_path / "scans [2023]" / "a.jpg", tmp_path / "scans [2023]" / "a.json")
    assert names(tmp_path / "scans [2023]" / "*") == ["a"]
    assert names(tmp_path / "scans [2023]" / "[a-b].jpg") == ["a"]
    with pytest.raises(LesionError, match="--input"):
        names(tmp_path / "**a.jpg" / "**b")


def test_the_output_inside_the_input_is_left_out(photographs):
    before = names(photographs)
    touch(photographs / "out" / "overlays" / "a.jpg")
    assert names(photographs, output=photographs / "out") == before
    with pytest.raises(LesionError, match="no image there"):
        names(photographs / "out", output=photographs / "out")


def test_what_is_no_file_but_called_like_an_image_is_not_passed_over(tmp_path):
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.jpg")
    assert names(tmp_path) == ["gone", "pipe"]


@pytest.mark.parametrize("text", ["nowhere", "nowhere/*.jpg", "empty"])
def test_inputs_without_an_image(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(LesionError, match=f"--input: {text}".replace("*", r"\*")):
        find_images([text])
