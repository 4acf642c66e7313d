"""Which images files, folders and patterns stand for."""

import errno
import os
from pathlib import Path

import pytest

from lesion_d2.errors import LesionError
from lesion_d2.files import walk_files
from lesion_d2.images.inputs import find_images
from lesion_d2.images.source import BadFileError, read_source


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


def test_the_name_is_the_one_that_was_given(tmp_path):
    touch(tmp_path / "store" / "3f2a")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "lesion1.jpg").symlink_to(tmp_path / "store" / "3f2a")
    (image,) = find_images([str(tmp_path / "in")])
    assert (image.path, image.name) == (tmp_path / "in" / "lesion1.jpg", "lesion1")


@pytest.mark.parametrize("pattern", [".", "**/*.jpg"])
def test_an_earlier_result_is_not_searched(pattern, tmp_path, capsys):
    touch(tmp_path / "a.jpg", tmp_path / "other" / "b.jpg")
    touch(tmp_path / "out" / "overlays" / "a.jpg", tmp_path / "out" / "c.jpg")
    (tmp_path / "out" / "settings.json").write_text('{"weights_sha256": ""}')
    (tmp_path / "other" / "settings.json").write_text('{"editor.fontSize": 14}')
    assert names(tmp_path / pattern) == ["a", "other/b"]
    assert capsys.readouterr().err == f"not searched: {tmp_path / 'out'}: it holds predictions\n"
    assert names(tmp_path / pattern, output=tmp_path / "out") == ["a", "other/b"]
    assert capsys.readouterr().err == ""
    assert names(tmp_path / "out" / "overlays") == ["a"]


@pytest.fixture
def closed(monkeypatch):
    """Folders called closed that may not be read, also by root."""
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == "closed":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)


def test_a_folder_that_may_not_be_read(closed, tmp_path):
    touch(tmp_path / "in" / "a.jpg", tmp_path / "in" / "closed" / "b.jpg")
    touch(tmp_path / "in" / ".Trash-0" / "closed" / "c.jpg")
    assert names(tmp_path / "in") == ["a", "closed"]
    with pytest.raises(BadFileError, match="Permission denied"):
        read_source(tmp_path / "in" / "closed")
    with pytest.raises(LesionError, match=r"closed: cannot be read as a folder"):
        names(tmp_path / "in" / "closed")
    with pytest.raises(LesionError, match=r"closed: cannot be read as a folder"):
        list(walk_files(tmp_path / "in"))


def test_an_empty_name_is_not_the_current_folder(photographs, monkeypatch):
    monkeypatch.chdir(photographs)
    with pytest.raises(LesionError, match="--input: an empty name; give image files"):
        find_images([""])


@pytest.mark.parametrize("text", ["nowhere", "nowhere/*.jpg", "empty"])
def test_inputs_without_an_image(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(LesionError, match=f"--input: {text}".replace("*", r"\*")):
        find_images([text])
