"""tools/download_isic.py against a server that behaves badly in every way."""

import hashlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import namedtuple

import httpx2
import pytest
from bad_server import (
    CONTENT,
    HALF,
    Server,
    cut,
    for_ever,
    good,
    half_a_range,
    lie,
    no_length,
    no_range,
    packed,
    page,
    redirect,
    replace_by,
    stall,
    status,
    weak,
    whole,
    wrong_range,
)
from tiny import ROOT, load_tool

from lesion_d2.commands import download as commands_download
from lesion_d2.commands.download import ARCHIVES, OfficialArchive, download, select_archives
from lesion_d2.errors import LesionError
from lesion_d2.files import alone
from lesion_d2.transfer import Patience, RemoteFile, fetch

OTHER = random.Random(1).randbytes(250_000)
IMPATIENT = Patience(stall=0.3, tries=3, pause=0)
TOOL = ROOT / "tools" / "download_isic.py"
NAMES = ("a.zip", "a.zip.part", "a.zip.part.json", "a.zip.wrong")


def sha256(content):
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")


@pytest.fixture
def server():
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.ended.set()
        server.shutdown()
        thread.join()


def remote(server, content=CONTENT, length=300_000):
    return RemoteFile(f"{server.url}/a.zip", length, sha256(content), "ask someone")


def files(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("length", [len(CONTENT), None], ids=["known", "unknown"])
@pytest.mark.parametrize(
    ("answers", "ranges"),
    [
        ([good], [None]),
        ([redirect], [None, None]),
        ([cut(HALF), good], [None, f"bytes={HALF}-"]),
        (
            [cut(100), cut(100), cut(100), cut(100), good],
            [None, *(f"bytes={n}00-" for n in "1234")],
        ),
        ([stall(HALF), good], [None, f"bytes={HALF}-"]),
        ([cut(HALF), redirect], [None, *2 * [f"bytes={HALF}-"]]),
        ([cut(HALF), whole], [None, f"bytes={HALF}-"]),
        ([cut(HALF), wrong_range, good], [None, *2 * [f"bytes={HALF}-"]]),
        ([cut(HALF), half_a_range, good], [None, *2 * [f"bytes={HALF}-"]]),
        ([cut(HALF), no_range, good], [None, *2 * [f"bytes={HALF}-"]]),
        ([status(503), good], [None, None]),
        ([status(503), status(429), good], [None, None, None]),
        ([cut(HALF), status(500), good], [None, *2 * [f"bytes={HALF}-"]]),
        ([no_length()], [None]),
        ([weak(HALF), weak(None)], [None, f"bytes={HALF}-"]),
    ],
)
def test_it_comes_whole(answers, ranges, length, server, tmp_path):
    server.answers = [*answers]
    fetch(remote(server, length=length), tmp_path / "a.zip", IMPATIENT)
    assert (tmp_path / "a.zip").read_bytes() == CONTENT
    assert files(tmp_path) == ["a.zip"]
    assert server.ranges == ranges
    assert {headers["Accept-Encoding"] for headers in server.seen} == {"identity"}


@pytest.mark.parametrize(("answer", "strong"), [(cut(HALF), True), (weak(HALF), False)])
def test_only_a_strong_etag_is_a_condition(answer, strong, server, tmp_path):
    server.answers = [answer, good]
    fetch(remote(server), tmp_path / "a.zip", IMPATIENT)
    assert server.seen[1].get("If-Range") == (server.etag if strong else None)


def test_an_end_without_a_length_is_a_cut_where_the_length_is_known(server, tmp_path):
    server.answers = [no_length(HALF), good]
    fetch(remote(server), tmp_path / "a.zip", IMPATIENT)
    assert (tmp_path / "a.zip").read_bytes() == CONTENT
    assert server.ranges == [None, f"bytes={HALF}-"]


@pytest.mark.parametrize(
    "then", [good, whole, weak(None)], ids=["if-range", "whole", "no if-range"]
)
@pytest.mark.parametrize("content", [OTHER, OTHER[:1000]], ids=["longer", "shorter"])
@pytest.mark.parametrize("first", [cut(HALF), weak(HALF)], ids=["strong", "weak"])
def test_two_versions_are_never_mixed(first, content, then, server, tmp_path):
    """The file on the server changes between a cut and the next request."""
    server.answers = [first, replace_by(content, then)]
    fetch(remote(server, content, None), tmp_path / "a.zip", IMPATIENT)
    assert (tmp_path / "a.zip").read_bytes() == content
    assert files(tmp_path) == ["a.zip"]


@pytest.mark.parametrize(
    ("answers", "message", "kept"),
    [
        ([status(403)], "the server answers 403 Forbidden; ask someone", []),
        ([status(404)], "404 Not Found; ask someone", []),
        ([status(204)], "204 No Content; ask someone", []),
        ([status(503)], "503 Service Unavailable after 0 bytes, 3 times in a row; run this", []),
        ([stall(0)], "nothing came for 0.3 seconds after 0 bytes, 3 times in a row", NAMES[1:3]),
        ([cut(HALF), stall(0)], "after 150,000 bytes, 3 times", NAMES[1:3]),
        ([cut(HALF), status(403)], "403 Forbidden", NAMES[1:3]),
        ([cut(HALF), wrong_range], "from 150,000 on were asked for, and the server sends bytes 0-",
         NAMES[1:3]),
        ([cut(HALF), page], "a web page came in place of the file", NAMES[1:3]),
        ([page], "a web page came in place of the file", []),
        ([packed], "encoded as gzip, which nobody asked for", []),
        ([for_ever], "nothing can be fetched from there", []),
        ([lie(+9)], "the server has 300,009 bytes, and 300,000 are right; ask someone", []),
        ([lie(-9)], "the server has 299,991 bytes, and 300,000 are right; ask someone", []),
        ([replace_by(CONTENT[:-1] + b"x", good)], "its sha256 is", NAMES[3:]),
    ],
)  # fmt: skip
def test_it_cannot_be_had(answers, message, kept, server, tmp_path):
    server.answers = [*answers]
    with pytest.raises(LesionError) as caught:
        fetch(remote(server), tmp_path / "a.zip", IMPATIENT)
    assert str(caught.value).startswith(f"{server.url}/a.zip: ")
    assert message in str(caught.value)
    assert files(tmp_path) == list(kept)


@pytest.mark.parametrize(
    ("answer", "message", "kept"),
    [
        (lie(+9), "after 300,000 bytes, 3 times in a row", NAMES[1:3]),
        (lie(-9), f"and {sha256(CONTENT)[7:]} is published; it is kept as", NAMES[3:]),
        (no_length(HALF), "it is kept as", NAMES[3:]),
    ],
)
def test_a_wrong_length_is_found_where_nobody_published_it(answer, message, kept, server, tmp_path):
    server.answers = [answer]
    with pytest.raises(LesionError, match=re.escape(message)):
        fetch(remote(server, length=None), tmp_path / "a.zip", IMPATIENT)
    assert files(tmp_path) == list(kept)


def test_after_a_failure_the_next_run_goes_on(server, tmp_path):
    server.answers = [cut(HALF), status(503)]
    with pytest.raises(LesionError):
        fetch(remote(server), tmp_path / "a.zip", IMPATIENT)
    server.answers, server.seen = [good], []
    fetch(remote(server), tmp_path / "a.zip", IMPATIENT)
    assert (tmp_path / "a.zip").read_bytes() == CONTENT
    assert server.ranges == [f"bytes={HALF}-"]


def test_a_part_that_is_whole_needs_no_request(server, tmp_path):
    """As a kill leaves it that comes before the check."""
    server.answers = [cut(HALF)]
    with pytest.raises(LesionError):
        fetch(remote(server), tmp_path / "a.zip", Patience(stall=5, tries=1, pause=0))
    (tmp_path / "a.zip.part").write_bytes(CONTENT)
    fetch(remote(server), tmp_path / "a.zip", IMPATIENT)
    assert files(tmp_path) == ["a.zip"]
    assert len(server.seen) == 1


@pytest.mark.parametrize("note", [None, "", "{", "[]", '{"etag": "x"}'])
def test_a_part_that_nothing_is_known_of_is_not_built_upon(note, server, tmp_path):
    (tmp_path / "a.zip.part").write_bytes(OTHER[:1000])
    if note is not None:
        (tmp_path / "a.zip.part.json").write_text(note)
    fetch(remote(server), tmp_path / "a.zip", IMPATIENT)
    assert (tmp_path / "a.zip").read_bytes() == CONTENT
    assert server.ranges == [None]


def test_a_server_that_cannot_be_reached(tmp_path):
    with Server() as closed:
        url = closed.url
    file = RemoteFile(f"{url}/a.zip", None, sha256(CONTENT), "ask someone")
    with pytest.raises(LesionError, match=r"the server cannot be reached \(.*, or ask someone"):
        fetch(file, tmp_path / "a.zip", IMPATIENT)


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/a.zip", "a.zip", "http://", "http://a:x/a.zip"])
def test_an_address_of_another_kind(url, tmp_path):
    file = RemoteFile(url, None, sha256(CONTENT), "ask someone")
    with pytest.raises(LesionError, match=r"nothing can be fetched from there \("):
        fetch(file, tmp_path / "a.zip", IMPATIENT)


@pytest.mark.parametrize("back", [True, False])
def test_an_encrypted_way_is_not_left(back, tmp_path, monkeypatch):
    """Neither for good nor for one step of it."""

    def answer(request):
        ways = {
            "https://a/a.zip": "http://b/a.zip",
            "http://b/a.zip": "https://c/a.zip" if back else None,
        }
        way = ways.get(str(request.url))
        return httpx2.Response(302, headers={"Location": way}) if way else httpx2.Response(200)

    client = httpx2.Client
    monkeypatch.setattr(
        httpx2, "Client", lambda **kwargs: client(transport=httpx2.MockTransport(answer), **kwargs)
    )
    file = RemoteFile("https://a/a.zip", None, sha256(CONTENT), "ask someone")
    with pytest.raises(LesionError, match="by a way that is not encrypted; ask someone"):
        fetch(file, tmp_path / "a.zip", IMPATIENT)


def test_pauses_double_and_heed_the_server(server, tmp_path, monkeypatch):
    pauses = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    busy = [status(503), status(503, Retry_After=7), status(503, Retry_After=9999), status(503)]
    server.answers = [*busy, cut(HALF), status(503, Retry_After="Wed, 21 Oct"), good]
    fetch(remote(server), tmp_path / "a.zip", Patience(stall=5, tries=9, pause=2))
    assert pauses == [2, 7, 60, 16, 2, 4]


def test_a_file_that_is_there_is_checked_and_left(server, tmp_path):
    path = tmp_path / "a.zip"
    path.write_bytes(CONTENT)
    fetch(remote(server), path, IMPATIENT)
    path.write_bytes(OTHER)
    with pytest.raises(LesionError, match=r"a.zip: its sha256 is .*; move it away to fetch"):
        fetch(remote(server), path, IMPATIENT)
    assert path.read_bytes() == OTHER
    path.unlink()
    path.mkdir()
    with pytest.raises(LesionError, match=r"a.zip: no regular file; move it away"):
        fetch(remote(server), path, IMPATIENT)
    assert server.seen == []


def test_two_processes_do_not_fetch_one_file(server, tmp_path):
    with alone(tmp_path / "a.zip"), pytest.raises(LesionError, match="another process"):
        fetch(remote(server), tmp_path / "a.zip", IMPATIENT)
    assert server.seen == []


def free_space(monkeypatch, count):
    usage = namedtuple("Usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(count, 0, count))


@pytest.mark.parametrize(("free", "fits"), [(300_000, True), (299_999, False)])
def test_room_is_checked_before_a_byte_is_written(free, fits, server, tmp_path, monkeypatch):
    free_space(monkeypatch, free)
    if fits:
        return fetch(remote(server), tmp_path / "a.zip", IMPATIENT)
    with pytest.raises(LesionError, match=r"300,000 bytes of a.zip are to come, and 299,999 are"):
        fetch(remote(server), tmp_path / "a.zip", IMPATIENT)
    assert files(tmp_path) == []


@pytest.mark.parametrize("then", [good, whole], ids=["resumed", "from the start"])
def test_only_what_is_to_come_needs_room(then, server, tmp_path, monkeypatch):
    server.answers = [cut(HALF), then]
    with pytest.raises(LesionError):
        fetch(remote(server), tmp_path / "a.zip", Patience(stall=5, tries=1, pause=0))
    free_space(monkeypatch, HALF)
    fetch(remote(server), tmp_path / "a.zip", IMPATIENT)
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


def wait_for_size(path, size):
    deadline = time.monotonic() + 120
    while not path.exists() or path.stat().st_size < size:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_killed_download_goes_on(server, tmp_path):
    server.answers = [stall(HALF)]
    code = (
        "from pathlib import Path; from lesion_d2.transfer import *;"
        f"fetch(RemoteFile('{server.url}/a.zip', None, '{sha256(CONTENT)}', ''),"
        f"Path({str(tmp_path)!r}, 'a.zip'), Patience())"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    # What is in the buffer of the file, less than a block of it, is lost with the process.
    wait_for_size(tmp_path / "a.zip.part", HALF - 2**16)
    process.kill()
    process.wait()
    kept = (tmp_path / "a.zip.part").stat().st_size
    assert not (tmp_path / "a.zip").exists()
    server.answers = [good]
    fetch(remote(server), tmp_path / "a.zip", IMPATIENT)
    assert (tmp_path / "a.zip").read_bytes() == CONTENT
    assert server.ranges == [None, f"bytes={kept}-"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_download_keeps_what_came(number, code, server, tmp_path):
    server.answers = [stall(HALF)]
    name = "ISBI2016_ISIC_Part1_Test_GroundTruth.zip"
    command = [TOOL, name, "--base-url", server.url, "--output", tmp_path]
    process = subprocess.Popen(
        [sys.executable, *map(str, command)],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_for_size(tmp_path / f"{name}.part", HALF - 2**16)
    process.send_signal(number)
    _, stderr = process.communicate()
    assert process.returncode == code
    assert "Traceback" not in stderr
    assert CONTENT.startswith((tmp_path / f"{name}.part").read_bytes())
    assert files(tmp_path) == [f"{name}.part", f"{name}.part.json"]


# The tool


@pytest.fixture
def two_archives(monkeypatch):
    """The catalogue, made of two small archives of one content."""
    facts = (3, len(CONTENT), sha256(CONTENT))
    archives = (
        OfficialArchive(2018, "train", "images", "one", *facts, exact=True),
        OfficialArchive(2018, "train", "masks", "two", *facts),
    )
    monkeypatch.setattr(commands_download, "ARCHIVES", archives)
    return archives


def run(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["download_isic.py", *map(str, arguments)])
    return load_tool("download_isic").main()


def test_the_tool_fetches_and_then_only_checks(two_archives, server, tmp_path, monkeypatch, capsys):
    arguments = ("2018", "--output", tmp_path / "new", "--base-url", f"{server.url}/")
    paths = []
    server.answers = [lambda handler: (paths.append(handler.path), good(handler))]
    assert run(monkeypatch, *arguments) == 0
    assert paths == ["/2018/one.zip", "/2018/two.zip"]
    assert files(tmp_path / "new") == ["one.zip", "two.zip"]
    assert run(monkeypatch, *arguments) == 0
    assert len(paths) == 2
    out, err = capsys.readouterr()
    assert out == 2 * f"2 of 2 archives: {tmp_path / 'new'}\n"
    assert "fetch one.zip: 100%" in err
    assert "check two.zip: 100%" in err


def test_one_archive_that_cannot_be_had_does_not_stop_the_others(
    two_archives, server, tmp_path, monkeypatch, capsys
):
    arguments = ("2018", "--output", tmp_path, "--base-url", server.url, "--tries", 1)
    server.answers = [status(403), good]
    assert run(monkeypatch, *arguments) == 2
    assert files(tmp_path) == ["two.zip"]
    server.answers = [status(503)]
    assert run(monkeypatch, "one", *arguments[1:]) == 1
    out, err = capsys.readouterr()
    assert out.startswith(f"1 of 2 archives: {tmp_path}\n0 of 1")
    by_hand = f"fetch it by hand from https://challenge.isic-archive.com/data/#2018 into {tmp_path}"
    assert f"not there: one.zip: {server.url}/2018/one.zip: the server answers 403" in err
    assert err.count(by_hand) == 2


def test_room_for_all_archives_is_checked_first(two_archives, server, tmp_path, monkeypatch):
    free_space(monkeypatch, 599_999)
    with pytest.raises(LesionError, match=r"0\.6 MB are to come, and 0\.6 MB are free; make room"):
        download(two_archives, tmp_path, server.url, IMPATIENT)
    assert server.seen == []
    (tmp_path / "one.zip").write_bytes(CONTENT)
    assert download(two_archives, tmp_path, server.url, IMPATIENT) == []


def test_the_list_needs_no_network(monkeypatch, capsys):
    monkeypatch.setattr(httpx2, "Client", None)
    assert run(monkeypatch, "--list") == 0
    out = capsys.readouterr().out
    assert all(archive.name in out for archive in ARCHIVES)
    assert "2,594 images  11.2 GB" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [((), "WHAT: nothing to fetch is named"), (("2019",), "2019: no archive is called so"),
     (("2018", "2016/val"), "2016/val: no archive")],
)  # fmt: skip
def test_what_is_no_archive_is_named(words, message, monkeypatch, tmp_path):
    with pytest.raises(LesionError, match=message):
        run(monkeypatch, *words, "--output", tmp_path / "new")
    assert files(tmp_path) == []


@pytest.mark.parametrize("option", ["--timeout=0", "--timeout=nan", "--timeout=x", "--tries=0"])
def test_options_that_cannot_be(option, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run(monkeypatch, "2018", option)
    assert option.split("=")[0] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "count"),
    [(["2016"], 4), (["2017"], 6), (["2018"], 6), (["2018/val", "2018"], 6), (["2018/train"], 2),
     (["ISIC-2017_Test_v2_Data.zip", "ISIC-2017_Test_v2_Data"], 1)],
)  # fmt: skip
def test_words_choose_archives(words, count):
    assert len(select_archives(words)) == count


def test_the_catalogue():
    """Each split has images and masks of one number; each checksum has the digits of its kind."""
    assert len({archive.name for archive in ARCHIVES}) == len(ARCHIVES) == 16
    splits = {}
    for archive in ARCHIVES:
        splits.setdefault((archive.year, archive.split), []).append((archive.holds, archive.count))
        name, digits = archive.checksum.split(":")
        assert re.fullmatch(f"[0-9a-f]{{{2 * hashlib.new(name).digest_size}}}", digits)
    counts = {2016: (900, 379), 2017: (2000, 150, 600), 2018: (2594, 100, 1000)}
    expected = [count for year in counts.values() for count in year]
    assert list(splits.values()) == [[("images", n), ("masks", n)] for n in expected]
