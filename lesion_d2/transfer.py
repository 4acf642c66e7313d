"""Fetching a file over HTTP: resumed after any cut, checked, whole under its name or not there.

What has arrived so far is ``NAME.part``, and ``NAME.part.json`` says of which version of the remote
file. A file that arrives whole and has the wrong checksum is kept as ``NAME.wrong``.
"""

import hashlib
import json
import re
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from lesion_d2.errors import LesionError
from lesion_d2.files import alone, naming, write_json
from lesion_d2.parallel import progress_bar

_BUSY = {408, 425, 429, 500, 502, 503, 504}
_LONGEST_PAUSE = 60.0
_NOTED = ("etag", "modified", "length")
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


@dataclass(frozen=True)
class RemoteFile:
    """A file to fetch.

    Attributes:
        url: its address, http or https.
        length: its bytes, or None where they are not known before the server says them.
        checksum: name of a hash of :mod:`hashlib` and its hexadecimal digits, ``"md5:0f..."``.
        remedy: end of an error message: what to do when the file cannot be had.
    """

    url: str
    length: int | None
    checksum: str
    remedy: str


@dataclass(frozen=True)
class Patience:
    """How long to wait.

    Attributes:
        stall: seconds without a byte, until the connection counts as cut.
        tries: attempts in a row that bring nothing new, until the file is given up.
        pause: seconds before the second of them; it doubles with each.
    """

    stall: float = 30
    tries: int = 6
    pause: float = 2


class _CutError(Exception):
    """An attempt ended early; another may bring more, after ``pause`` seconds at least."""

    def __init__(self, problem: str, pause: float = 0) -> None:
        super().__init__(problem)
        self.pause = pause


def fetch(remote: RemoteFile, path: Path, patience: Patience) -> None:
    """Fetch a file to ``path``, or check the file that is there: it is never overwritten.

    Raises:
        LesionError: the file cannot be had, is not the right one, has no room on the disk, or
            another process fetches it.
    """
    with alone(path):
        if path.exists():
            wrong = _wrong_checksum(remote, path) if path.is_file() else "no regular file"
            if wrong:
                raise LesionError(f"{path}: {wrong}; move it away to fetch the right one")
        else:
            part = _part(path)
            _receive_all(remote, path, patience)
            if wrong := _wrong_checksum(remote, part):
                kept = part.replace(path.with_name(f"{path.name}.wrong"))
                _note(path).unlink(missing_ok=True)
                raise LesionError(f"{remote.url}: {wrong}; it is kept as {kept}; {remote.remedy}")
            part.replace(path)
        _note(path).unlink(missing_ok=True)


def bytes_to_come(path: Path, length: int) -> int:
    """Return how many bytes :func:`fetch` still has to write of a file of ``length`` bytes."""
    return 0 if path.exists() else max(length - _size(_part(path)), 0)


def _part(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def _note(path: Path) -> Path:
    return path.with_name(f"{path.name}.part.json")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _bar(verb: str, path: Path, total: int | None, done: int = 0) -> Any:
    """Return a progress bar of bytes, with the time left."""
    text = f"{verb} {path.name}"
    return progress_bar(desc=text, total=total, initial=done, unit="B", unit_scale=True)


def _wrong_checksum(remote: RemoteFile, path: Path) -> str | None:
    """Return in words how the checksum of a file differs from the published one."""
    name, expected = remote.checksum.split(":")
    digest = hashlib.new(name, usedforsecurity=False)
    with open(path, "rb") as stream, _bar("check", path, _size(path)) as bar:
        while block := stream.read(2**20):
            digest.update(block)
            bar.update(len(block))
    if digest.hexdigest() == expected:
        return None
    return f"its {name} is {digest.hexdigest()}, and {expected} is published"


def _receive_all(remote: RemoteFile, path: Path, patience: Patience) -> None:
    """Append to the part until it is whole."""
    farthest, tries = _size(_part(path)), 0
    with httpx2.Client(follow_redirects=True, timeout=patience.stall) as client:
        while cut := _attempt(client, remote, path, patience):
            size = _size(_part(path))
            tries = 1 if size > farthest else tries + 1
            farthest = max(size, farthest)
            problem = f"{cut} after {size:,} bytes"
            if tries >= patience.tries:
                remedy = f"run this again to go on from there, or {remote.remedy}"
                raise LesionError(f"{remote.url}: {problem}, {tries} times in a row; {remedy}")
            pause = min(max(patience.pause * 2 ** (tries - 1), cut.pause), _LONGEST_PAUSE)
            print(f"{path.name}: {problem}; next try in {pause:.0f} s", file=sys.stderr)
            time.sleep(pause)


def _attempt(
    client: httpx2.Client, remote: RemoteFile, path: Path, patience: Patience
) -> _CutError | None:
    """Return what ended an attempt before the part was whole."""
    try:
        _receive(client, remote, path)
    except _CutError as error:
        return error
    except (httpx2.InvalidURL, httpx2.UnsupportedProtocol, httpx2.TooManyRedirects) as error:
        problem = f"nothing can be fetched from there ({error})"
        raise LesionError(f"{remote.url}: {problem}; {remote.remedy}") from error
    except httpx2.TimeoutException:
        return _CutError(f"nothing came for {patience.stall:g} seconds")
    except httpx2.ConnectError as error:
        return _CutError(f"the server cannot be reached ({error})")
    except httpx2.TransportError as error:
        return _CutError(f"the connection was cut ({error})")
    return None


def _receive(client: httpx2.Client, remote: RemoteFile, path: Path) -> None:
    """Make one request for what is missing, and append what comes."""
    part, note = _part(path), _read_note(path)
    start = _size(part) if note else 0
    headers = {"Accept-Encoding": "identity"}
    if note and start:
        if start == note["length"]:
            return
        headers["Range"] = f"bytes={start}-"
        if note["etag"].startswith('"'):  # a weak one does not vouch for each byte
            headers["If-Range"] = note["etag"]
    with client.stream("GET", remote.url, headers=headers) as response:
        if response.status_code == 416 and start:
            part.unlink()
            raise _CutError("the file on the server is shorter than what had come")
        _check_answer(remote, response)
        if response.status_code == 200:
            start = 0
        new: dict[str, Any] = {
            "etag": response.headers.get("ETag", ""),
            "modified": response.headers.get("Last-Modified", ""),
            "length": _total(response, start) or remote.length,
        }
        if remote.length not in (None, new["length"]):
            problem = f"the server has {new['length']:,} bytes, and {remote.length:,} are right"
            raise LesionError(f"{remote.url}: {problem}; {remote.remedy}")
        if start and new != note:
            part.unlink()
            raise _CutError("the file on the server has changed")
        _append(response, path, start, new)
    if new["length"] and _size(part) < new["length"]:
        raise _CutError("the server ended early")


def _check_answer(remote: RemoteFile, response: httpx2.Response) -> None:
    """Refuse an answer that does not bring the file, or what is missing of it."""
    status, headers = response.status_code, response.headers
    reason = f"the server answers {status} {response.reason_phrase}".rstrip()
    if status in _BUSY:
        after = headers.get("Retry-After", "")
        raise _CutError(reason, float(after) if after.isdecimal() else 0)
    problem = None
    if status not in (200, 206):
        problem = reason
    elif remote.url.startswith("https:") and any(
        hop.url.scheme != "https" for hop in (*response.history, response)
    ):
        problem = f"the server leads to {response.url} by a way that is not encrypted"
    elif "html" in headers.get("Content-Type", ""):
        problem = "a web page came in place of the file, such as the login page of a network"
    elif headers.get("Content-Encoding", "identity") != "identity":
        problem = f"the file came encoded as {headers['Content-Encoding']}, which nobody asked for"
    if problem:
        raise LesionError(f"{remote.url}: {problem}; {remote.remedy}")


def _total(response: httpx2.Response, start: int) -> int | None:
    """Return the bytes of the whole file, as the server says them, if it does."""
    if response.status_code == 200:
        length = response.headers.get("Content-Length", "")
        return int(length) if length.isdecimal() else None
    answer = response.headers.get("Content-Range", "")
    match = _RANGE.fullmatch(answer)
    if not match or int(match[1]) != start or int(match[2]) != int(match[3]) - 1:
        wanted = f"bytes from {start:,} on were asked for"
        raise _CutError(f"{wanted}, and the server sends {answer or 'others'}")
    return int(match[3])


def _append(response: httpx2.Response, path: Path, start: int, note: dict[str, Any]) -> None:
    """Write what comes behind the first ``start`` bytes of the part."""
    part = _part(path)
    if note["length"] is not None:
        need = note["length"] - start
        free = shutil.disk_usage(path.parent).free + _size(part) - start
        if need > free:
            problem = f"{need:,} bytes of {path.name} are to come, and {free:,} are free"
            raise LesionError(f"{path.parent}: {problem}; make room or choose another folder")
    with naming(part), open(part, "ab" if start else "wb") as stream:
        write_json(_note(path), note)  # after the part of another version was emptied
        with _bar("fetch", path, note["length"], start) as bar:
            for block in response.iter_raw():
                stream.write(block)
                bar.update(len(block))


def _read_note(path: Path) -> dict[str, Any] | None:
    """Return what was noted of the file that the part is of; None if that cannot be told."""
    try:
        note = json.loads(_note(path).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return note if isinstance(note, dict) and tuple(note) == _NOTED else None
