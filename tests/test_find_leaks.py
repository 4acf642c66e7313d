"""tools/find_leaks.py."""

import json
import re
import runpy
import sys
from pathlib import Path

import pytest
from figure_files import assert_png
from leak_files import EMPTY, OWN, make_dataset, number
from tiny import ROOT

TOOL = ROOT / "tools" / "find_leaks.py"


def run(monkeypatch, *arguments) -> int:
    monkeypatch.setattr(sys, "argv", ["find_leaks.py", *map(str, arguments), "--workers", "1"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(TOOL), run_name="__main__")
    return stop.value.code


def test_tool_writes_and_prints_what_it_finds(planted_dataset, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = Path("output", "leaks", "planted")
    folder.mkdir(parents=True)
    (folder / "leaks_07.png").write_bytes(b"of an earlier search")
    assert run(monkeypatch, "--dataset", planted_dataset) == 2
    printed = capsys.readouterr().out.splitlines()
    names = ("leaks.json", "leaks.csv", "leaks_01.png")
    assert printed[-4:] == ["4 leaks", *(str(folder / name) for name in names)]
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)
    assert_png(folder / "leaks_01.png")


def test_tool_is_content_with_a_clean_data_set(clean_dataset, tmp_path, monkeypatch, capsys):
    assert run(monkeypatch, "--dataset", clean_dataset, "--output", tmp_path) == 0
    assert "0 leaks" in capsys.readouterr().out


def break_image(folder: Path) -> None:
    (folder / "test" / f"{number(3)}.png").write_bytes(b"not a picture")


def drop_images(folder: Path) -> None:
    for path in (*folder.glob("train/*.png"), *folder.glob("test/*.png")):
        path.unlink()


def replace_image(folder: Path) -> None:
    path = folder / "test" / f"{number(3)}.png"
    path.unlink()
    path.mkdir()


def drop_split(folder: Path) -> None:
    (folder / "val.json").unlink()


def cut_split(folder: Path) -> None:
    (folder / "val.json").write_text('{"images": [')


def list_split(folder: Path) -> None:
    (folder / "val.json").write_text("[]")


def drop_key(folder: Path) -> None:
    (folder / "val.json").write_text(json.dumps(EMPTY | {"images": [{"id": 1}]}))


def empty(folder: Path) -> None:
    for path in folder.glob("*.json"):
        path.write_text(json.dumps(EMPTY))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (break_image, f"test/{number(3)}.png: cannot be used.*; convert the data set again$"),
        (drop_images, f"train/{number(0)}.png: cannot be used.*; 2 other images are broken too$"),
        (replace_image, f"test/{number(3)}.png: cannot be used"),
        (drop_split, "val.json: cannot be read.*tools/convert_isic.py"),
        (cut_split, "val.json: not JSON.*tools/convert_isic.py"),
        (list_split, "val.json: is not a COCO file"),
        (drop_key, "val.json: file_name None is not a name"),
        (empty, "broken: holds no image"),
    ],
)
def test_a_broken_data_set_is_one_line(tmp_path, monkeypatch, capsys, spoil, message):
    folder = make_dataset(
        tmp_path / "broken", train={0: OWN[0], 1: OWN[1]}, val={2: OWN[2]}, test={3: OWN[3]}
    )
    spoil(folder)
    assert run(monkeypatch, "--dataset", folder, "--output", tmp_path / "out") == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: ")
    assert re.search(message, last)
    assert not list((tmp_path / "out").glob("*"))
