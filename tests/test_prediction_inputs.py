"""Which images files, folders and patterns stand for."""

import shutil

import pytest

from lesion_d2.errors import LesionError
from lesion_d2.images.inputs import find_images


def test_what_is_found(photographs):
    stems = [path.stem for path in find_images([str(photographs)])]
    assert len(stems) == 4
    assert stems == sorted(stems)
    (photographs / "x_segmentation.png").write_bytes(b"")
    (photographs / "notes.txt").write_bytes(b"")
    assert [path.stem for path in find_images([str(photographs)])] == stems
    assert len(find_images([str(photographs / "*.jpg")])) == 3
    assert len(find_images([str(photographs / "**" / "*.jpg")])) == 4
    one = str(photographs / f"{stems[0]}.jpg")
    assert find_images([one, one]) == [photographs / f"{stems[0]}.jpg"]


@pytest.mark.parametrize("text", ["nowhere", "nowhere/*.jpg", "empty"])
def test_inputs_without_an_image(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(LesionError, match=f"--input: {text}".replace("*", r"\*")):
        find_images([text])


def test_two_files_of_one_name(photographs):
    name = sorted(photographs.glob("*.jpg"))[0].name
    shutil.copy(photographs / name, photographs / "more" / name)
    with pytest.raises(LesionError, match="one name"):
        find_images([str(photographs)])
