"""Atomic files, locks, names in tables, one-line errors, and how tools end."""

import csv
import errno
import fcntl
import io
import os
import re
import signal
import subprocess
import sys
import time
import warnings
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lesion_d2.errors import LesionError, quiet_libraries, run_tool
from lesion_d2.files import alone, atomic_write, escape_name, unescape_name, walk_files

ROOT = Path(__file__).parents[1]
NAMES = st.binary(min_size=1, max_size=60).filter(lambda name: not {0, 47} & {*name})


def start(program):
    """Start a Python process and wait until it has printed a line."""
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    process.stdout.readline()
    return process


def wait_for(condition):
    """Wait for something that happens soon, in a process that may have to wait for its turn."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


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


def write_and_wait(path):
    return start(
        "import time; from lesion_d2.files import atomic_write\n"
        f"with atomic_write({str(path)!r}) as stream:\n"
        "    stream.write('half'); stream.flush(); print(flush=True); time.sleep(600)"
    )


def test_temporaries_of_killed_processes_are_cleared_and_those_of_living_ones_stay(tmp_path):
    (tmp_path / "mine.tmp").write_text("mine")
    living, dead = write_and_wait(tmp_path / "a"), write_and_wait(tmp_path / "b")
    assert len(list(tmp_path.glob(".lesion_d2-*.tmp"))) == 2
    dead.kill()
    dead.communicate()
    write_once = "from lesion_d2.files import atomic_write\nwith atomic_write('c'): pass"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", write_once], cwd=tmp_path, env=environment, check=True)
    assert len(list(tmp_path.glob(".lesion_d2-*.tmp"))) == 1
    living.kill()
    living.communicate()
    subprocess.run([sys.executable, "-c", write_once], cwd=tmp_path, env=environment, check=True)
    assert {path.name for path in tmp_path.iterdir()} == {"c", "mine.tmp"}


@pytest.mark.parametrize("name", ["n" * 255, "\u0436" * 127, "\u76ae" * 85])
def test_any_name_that_the_disk_takes_can_be_written(name, tmp_path):
    with atomic_write(tmp_path / name) as stream:
        stream.write("whole")
    assert (tmp_path / name).read_text() == "whole"


def test_a_folder_is_no_file_to_write(tmp_path):
    path = tmp_path / "figures"
    path.mkdir()
    message = f"{path}: is a folder; give the name of a file"
    with pytest.raises(LesionError, match=message), atomic_write(path):
        raise AssertionError("nothing is to be written")
    assert list(tmp_path.rglob("*")) == [path]


def test_the_file_has_the_permissions_of_any_other(tmp_path):
    with atomic_write(tmp_path / "a"):
        pass
    (tmp_path / "b").touch()
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
def test_a_full_disk_names_the_file(tmp_path, capsys):
    def write():
        with atomic_write(tmp_path / "table.csv", buffering=1) as stream:
            os.dup2(os.open("/dev/full", os.O_WRONLY), stream.fileno())
            stream.write("a\n" * 10_000)

    with pytest.raises(SystemExit):
        run_tool(write)
    error = capsys.readouterr().err
    assert error.startswith(f"error: {tmp_path / 'table.csv'}: No space left")
    assert list(tmp_path.iterdir()) == []


def test_a_lock_refuses_others_and_ends_with_its_process(tmp_path):
    path = tmp_path / "out"
    holder = start(
        "import time; from pathlib import Path; from lesion_d2.files import alone\n"
        f"with alone(Path({str(path)!r})): print(flush=True); time.sleep(600)"
    )
    with pytest.raises(LesionError, match="out: another process"), alone(path):
        pass
    holder.kill()
    holder.communicate()
    with alone(path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_locks(tmp_path, monkeypatch):
    def flock(*_args):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(LesionError, match="out: its disk has no locks"), alone(tmp_path / "out"):
        pass
    assert list(tmp_path.iterdir()) == []


@given(NAMES)
@example(b"caf\xe9\\xe9\n.jpg")
def test_names_of_any_bytes_are_one_line_of_utf8_and_come_back(data):
    name = os.fsdecode(data)
    text = escape_name(name)
    assert unescape_name(text) == name
    stream = io.StringIO()
    csv.writer(stream).writerow([text])
    (row,) = csv.reader(io.StringIO(stream.getvalue().encode().decode()))
    assert row == [text]
    assert "\n" not in text


@pytest.mark.parametrize("name", ["ISIC_0000000.jpg", "L\u00e4sion 12, \u76ae.JPG", "a/b'c\"d.png"])
def test_text_stays_as_it_is(name):
    assert escape_name(name) == name


def test_links_to_folders_are_followed_once(tmp_path):
    (tmp_path / "a" / "deep").mkdir(parents=True)
    (tmp_path / "a" / "deep" / "x").touch()
    (tmp_path / "a" / "deep" / "loop").symlink_to(tmp_path / "a")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "y").touch()
    (tmp_path / "a" / "link").symlink_to(outside)
    found = [str(path.relative_to(tmp_path / "a")) for path in walk_files(tmp_path / "a")]
    assert found == ["deep/x", "link/y"]


def test_sigterm_undoes_as_an_interrupt_does(tmp_path):
    process = start(
        "import time; from lesion_d2.errors import run_tool\n"
        "from lesion_d2.files import atomic_write\n"
        "def main():\n"
        f"    with atomic_write({str(tmp_path / 'a')!r}): print(flush=True); time.sleep(600)\n"
        "run_tool(main)"
    )
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (143, "terminated\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_with_their_parent(kind, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import os, sys, time\n"
        "from lesion_d2.errors import run_tool\n"
        "from lesion_d2.parallel import map_in_processes\n"
        "def work(seconds):\n"
        "    open(f'{sys.argv[1]}/{os.getpid()}', 'x').close()\n"
        "    time.sleep(seconds)\n"
        "def main():\n"
        "    for _ in map_in_processes(work, [0.5] * 8, 2, 'working', 'item'): pass\n"
        "if __name__ == '__main__': run_tool(main)\n"
    )
    folder = tmp_path / "workers"
    folder.mkdir()
    process = subprocess.Popen(
        [sys.executable, program, folder],
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    wait_for(lambda: any(folder.iterdir()))
    process.send_signal(kind)
    assert process.wait(60) == (143 if kind == signal.SIGTERM else -kind)

    def gone():
        for path in folder.iterdir():
            with suppress(ProcessLookupError):
                os.kill(int(path.name), 0)
                state = Path(f"/proc/{path.name}/stat")
                return state.exists() and ") Z " in state.read_text()
        return True

    wait_for(gone)


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


@pytest.mark.parametrize(
    ("module", "shown"),
    [("torch.cuda", 1), ("torch.cuda.amp.common", 0), ("torch.nn", 0), ("detectron2.engine", 0)],
)
def test_of_the_libraries_only_what_concerns_driver_and_gpu_is_shown(module, shown):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        quiet_libraries()
        warnings.warn_explicit("too old", UserWarning, "x.py", 1, module=module)
    assert len(seen) == shown


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


SIGBUS = (
    "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's "
)


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ("CUDA out of memory. Tried to allocate 1.2 GiB", "the GPU has .* SOLVER.IMS_PER_BATCH"),
        ("CUDA error: out of memory\nCUDA kernel errors", "the GPU has .* --resume"),
        (SIGBUS + "workers are out of shared memory.", "the shared memory is full; .*--shm-size"),
        ("unable to allocate shared memory(shm) for file </torch_1>", "the shared memory is full"),
        ("DataLoader worker (pid 7) is killed by signal: Killed.", "a process that reads images"),
    ],
)
@pytest.mark.parametrize("before", ["", "Traceback (most recent call last):\n  x\nE: "])
def test_a_lack_of_memory_is_one_line_from_any_process(said, line, before, capsys):
    with pytest.raises(SystemExit) as exit_:
        run_tool(lambda: fail(RuntimeError(before + said)))
    assert exit_.value.code == 1
    assert re.fullmatch(f"error: {line}.*\n", capsys.readouterr().err)


def test_a_defect_keeps_its_traceback():
    with pytest.raises(FileNotFoundError):
        run_tool(lambda: fail(FileNotFoundError(errno.ENOENT, "No such file", "x")))
    with pytest.raises(ZeroDivisionError):
        run_tool(lambda: 1 // 0)
