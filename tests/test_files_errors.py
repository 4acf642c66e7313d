"""Atomic files and one-line errors."""

import errno
import subprocess
import sys

import pytest

from lesion_d2.errors import LesionError, run_tool
from lesion_d2.files import atomic_write


def test_a_text_file_is_utf8_with_plain_line_ends(tmp_path):
    path = tmp_path / "new" / "folder" / "file.txt"
    with atomic_write(path) as stream:
        stream.write("Läsion\n")
        assert not path.exists()
    assert path.read_bytes() == "Läsion\n".encode()


def test_a_binary_file_is_written_as_it_is(tmp_path):
    with atomic_write(tmp_path / "file.bin", "wb") as stream:
        stream.write(b"\r\n\xff")
    assert (tmp_path / "file.bin").read_bytes() == b"\r\n\xff"


@pytest.mark.parametrize("before", [None, "old"])
@pytest.mark.parametrize("interruption", [ValueError, KeyboardInterrupt])
def test_a_failed_write_leaves_what_was_there(tmp_path, before, interruption):
    path = tmp_path / "file.txt"
    if before is not None:
        path.write_text(before)

    def write():
        with atomic_write(path) as stream:
            stream.write("half of the new con")
            stream.flush()
            raise interruption

    with pytest.raises(interruption):
        write()
    assert [p.read_text() for p in tmp_path.iterdir()] == ([before] if before else [])


def fail(error):
    raise error


@pytest.mark.parametrize(
    ("main", "status", "stderr"),
    [
        (lambda: None, 0, ""),
        (lambda: 2, 2, ""),
        (lambda: fail(LesionError("a: empty;\n  remove it")), 1, "error: a: empty; remove it\n"),
        (lambda: fail(KeyboardInterrupt()), 130, "interrupted\n"),
        (
            lambda: fail(OSError(errno.ENOSPC, "No space left on device", "out.csv")), 1,
            "error: out.csv: No space left on device; make room or choose another folder\n",
        ),
    ],
)  # fmt: skip
def test_the_exit_status_and_the_line_of_a_tool(main, status, stderr, capsys):
    with pytest.raises(SystemExit) as exit_:
        run_tool(main)
    assert exit_.value.code == status
    assert capsys.readouterr().err == stderr


def test_a_reader_that_left_is_no_defect():
    program = (
        "from lesion_d2.errors import run_tool\n"
        "run_tool(lambda: [print('x' * 100) for _ in range(10_000)] and None)"
    )
    tool = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    tool.stdout.readline()
    tool.stdout.close()
    assert tool.stderr.read() == b""
    assert tool.wait(60) == 141
    tool.stderr.close()


def test_a_defect_keeps_its_traceback():
    with pytest.raises(FileNotFoundError):
        run_tool(lambda: fail(FileNotFoundError(errno.ENOENT, "No such file", "x")))
    with pytest.raises(ZeroDivisionError):
        run_tool(lambda: 1 // 0)
