"""The converter on the command line."""

import os
import subprocess
import sys
from pathlib import Path

from convert_archive import (
    Archive,
    make_archive,
    split_ids,
)

REPOSITORY = Path(__file__).parents[1]


def run_tool(*arguments):
    return subprocess.run(
        [sys.executable, REPOSITORY / "tools" / "convert_isic.py", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        check=False,
    )


def test_command_line(tmp_path):
    archive = make_archive(tmp_path, 6)
    inputs = ["--images", archive.images, "--masks", archive.masks, "--output", archive.output]
    first = run_tool(*inputs, "--no-group", "--resize", "100", "--segmentation", "polygon")
    assert first.returncode == 0, first.stderr
    summary = "6 pairs (train 3, val 1, test 2), 0 excluded, 0 notes, 0 ignored, 0 groups"
    assert first.stdout.splitlines()[-1].startswith(summary)

    again = run_tool(*inputs)
    assert again.returncode == 1
    assert again.stderr.count("\n") == 1
    assert again.stderr.startswith("error: ")

    (archive.images / "ISIC_0000000.jpg").unlink()
    fewer = run_tool(*inputs, "--no-group", "--overwrite")
    assert fewer.returncode == 2
    assert "1 excluded" in fewer.stdout


def test_command_line_with_given_splits(tmp_path):
    train, test = make_archive(tmp_path / "a", 2), Archive(tmp_path / "b").add(40)
    out = tmp_path / "out"
    done = run_tool(
        "--images", train.images, "--masks", train.masks, "--test-images", test.images,
        "--test-masks", test.masks, "--output", out, "--no-group",
    )  # fmt: skip
    assert done.returncode == 0
    assert split_ids(out)["test"] == ["ISIC_0000040"]
    old = run_tool("--resize", "seed", "--output", tmp_path / "no")
    assert old.stderr == (
        "error: --resize seed: the rule has another name now, --resize original\n"
    )
    assert old.returncode == 1
    half = run_tool("--test-images", test.images, "--output", tmp_path / "no")
    assert half.returncode == 1
    assert "--test-masks" in half.stderr


def test_help_and_converter_do_not_import_torch():
    code = (
        "import sys, lesion_d2.commands.convert; "
        "sys.exit(any(name in sys.modules for name in ('torch', 'detectron2')))"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    assert (
        subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0
    )
