"""The one reader of images on damaged files, and on those that are no images."""

import os
import struct
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from picture_files import (
    SIGNATURE,
    chunk,
    drawn,
    encode,
    every_format,
    half_of_the_rows,
    png_header,
    png_of,
    refused,
    scan_of,
    shown_by_pillow,
    zeroed,
)
from PIL import Image

from lesion_d2.images import source
from lesion_d2.images.jpeg import MAX_SCANS
from lesion_d2.images.masks import read_mask
from lesion_d2.images.reading import decode_image, read_header
from lesion_d2.images.source import BadFileError, read_source

PICTURE = drawn()
FILES = every_format(PICTURE)
JPEG = encode(PICTURE, "JPEG", quality=95)
PNG = encode(PICTURE, "PNG")


def with_junk(junk, at):
    return JPEG[:at] + junk + JPEG[at:]


@pytest.mark.parametrize("junk", [b"\0\0", b"\0", bytes(40), b"abc", b"\xff\0\xff\0", b"\xff\xff"])
@pytest.mark.parametrize("marker", [b"\xff\xdb", b"\xff\xc0", b"\xff\xc4", b"\xff\xda"])
def test_junk_between_markers_costs_no_pixel(junk, marker):
    data = with_junk(junk, JPEG.index(marker))
    pixels, oddity = decode_image(data, read_header(data), Fraction(1))
    np.testing.assert_array_equal(pixels, shown_by_pillow(JPEG))
    assert ("extraneous bytes" in oddity) == (junk != b"\xff\xff")  # fill bytes are no junk


def test_damage_behind_junk_is_found():
    pixels = scan_of(JPEG)
    for damaged in (JPEG[: len(JPEG) * 2 // 3], JPEG[:pixels] + zeroed(JPEG[pixels:])):
        assert refused(damaged[:2] + b"\0\0" + damaged[2:])[0] == "unreadable"


@pytest.mark.parametrize("junk", [b"\0\0", b"\xff\xff", b"behind the picture" * 100])
def test_bytes_behind_the_file_are_passed_over(junk):
    for data in (JPEG, PNG):
        pixels, _ = decode_image(data + junk, read_header(data + junk), Fraction(1))
        np.testing.assert_array_equal(pixels, shown_by_pillow(data))


def segment(marker, content):
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def with_scans(count, before=b"", between=b""):
    """Return a progressive JPEG of 16 x 16 grey pixels, with pieces before and between scans."""
    head = b"\xff\xd8" + before + segment(0xDB, b"\0" + b"\1" * 64)
    head += segment(0xC2, struct.pack(">BHHB", 8, 16, 16, 1) + b"\1\x11\0")
    head += segment(0xC4, b"\0\1" + bytes(15) + b"\0") + segment(
        0xC4, b"\x10\1" + bytes(15) + b"\0"
    )
    first = segment(0xDA, b"\1\1\0\0\0\0") + b"\x0f"  # no difference, in four blocks
    further = between + segment(0xDA, b"\1\1\0\1\x3f\0") + b"\x0f"  # four blocks that end at once
    return head + first + further * (count - 1) + b"\xff\xd9"


@pytest.mark.parametrize(
    "between", [b"", b"\xff\xff", segment(0xFE, b"\xff\xd9"), segment(0xFE, b"")]
)
def test_a_jpeg_of_many_scans_is_refused(between):
    reason, detail = refused(with_scans(MAX_SCANS + 1, between=between))
    assert (reason, "more than 100 scans" in detail) == ("unreadable", True)


@pytest.mark.parametrize(
    "data",
    [
        with_scans(MAX_SCANS),
        with_scans(MAX_SCANS, before=segment(0xFE, b"\xff\xda" * 9)),
        with_scans(MAX_SCANS, between=segment(0xFE, b"\xff\xda")),
        with_scans(MAX_SCANS) + b"\xff\xda" * 9,
    ],
    ids=["as many", "in a comment", "in comments between", "behind the picture"],
)
def test_what_is_no_scan_of_the_picture_does_not_count(data):
    pixels, _ = decode_image(data, read_header(data), Fraction(1))
    np.testing.assert_array_equal(pixels, shown_by_pillow(data))


def tiff_of_more_rows():
    """Return a TIFF that says it has 90 rows, and holds 40."""
    data = encode(PICTURE, "TIFF")
    at = data.index(struct.pack("<HHI", 257, 4, 1)) + 8
    return data[:at] + struct.pack("<I", 90) + data[at + 4 :]


DAMAGED = {
    "TIFF of fewer rows than it says": tiff_of_more_rows(),
    "JPEG with a block of zeros": zeroed(encode(drawn(200, 300), "JPEG")),
    "JPEG cut": JPEG[: len(JPEG) * 6 // 10],
    "JPEG cut, with an end marker": JPEG[: len(JPEG) * 6 // 10] + b"\xff\xd9",
    "JPEG without its last byte": JPEG[:-1],
    "progressive JPEG cut": FILES["progressive JPEG"][:-60],
    "progressive JPEG cut, with an end marker": FILES["progressive JPEG"][:-60] + b"\xff\xd9",
    "CMYK JPEG cut": FILES["JPEG CMYK"][:-60] + b"\xff\xd9",
    "PNG of half of its rows": half_of_the_rows(PICTURE),
    "grey PNG of half of its rows": png_of(
        png_header(40, 56, colour=0), zlib.compress(bytes(57 * 20))
    ),
    "interlaced PNG without its last row": png_of(
        png_header(9, 9, colour=0, interlaced=1), zlib.compress(bytes(90))
    ),
    "PNG with a wrong checksum": PNG[:60] + bytes([PNG[60] ^ 1]) + PNG[61:],
    "PNG with a wrong checksum in a text": PNG[:33]
    + chunk(b"tEXt", b"a\0b")[:-1]
    + b"\0"
    + PNG[33:],
    "PNG without pixels": SIGNATURE + chunk(b"IHDR", png_header(40, 56)) + chunk(b"IEND", b""),
    "PNG without its end": PNG[:-12],
    "PNG with a chunk of 4 GB": PNG[:33] + b"\xff\xff\xff\xf0tEXt" + PNG[33:],
    "PNG of a colour type that is none": png_of(png_header(4, 4, colour=5), zlib.compress(b"")),
    "text": b"not an image at all",
    "nothing but zeros": bytes(1000),
    "signature alone": SIGNATURE,
    "JPEG's first bytes": JPEG[:40],
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_refused(name):
    reason, detail = refused(DAMAGED[name])
    assert reason == "unreadable"
    assert detail
    assert "\n" not in detail


@pytest.mark.parametrize(
    "data",
    [
        png_of(png_header(30_000, 30_000), zlib.compress(b"")),
        encode(Image.new("1", (14_000, 14_000)), "PNG"),
        encode(Image.new("1", (14_000, 14_000)), "TIFF", compression="group4"),
        FILES["GIF L"][:6] + b"\xff\xff\xff\xff" + FILES["GIF L"][10:],
    ],
)
def test_too_many_pixels_are_refused_before_they_are_decoded(data):
    with pytest.raises(BadFileError) as caught:
        read_header(data)
    assert caught.value.reason == "too_large"


def fifo(path):
    os.mkfifo(path)


def device(path):
    path.symlink_to("/dev/zero")


def sparse(path):
    path.touch()
    os.truncate(path, 2**40)


def sparse_behind_a_header(path):
    path.write_bytes(JPEG)
    os.truncate(path, 2**40)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (fifo, "unreadable"),
        (device, "unreadable"),
        (Path.mkdir, "unreadable"),
        (lambda path: None, "unreadable"),
        (lambda path: path.symlink_to("nowhere"), "unreadable"),
        (Path.touch, "empty_file"),
        (sparse, "too_large"),
        (sparse_behind_a_header, "too_large"),
    ],
)
def test_only_regular_files_of_some_size_are_read(make, reason, tmp_path):
    path = tmp_path / "x.jpg"
    make(path)
    with pytest.raises(BadFileError) as caught:
        read_source(path)
    assert caught.value.reason == reason


def test_no_more_than_its_start_is_read_of_a_file_that_is_no_image(tmp_path):
    path = tmp_path / "x.png"
    path.touch()
    os.truncate(path, source.MAX_BYTES)
    tracemalloc.start()
    with pytest.raises(BadFileError):
        read_source(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20


def test_threads_do_not_disturb_each_other(tmp_path, capfd):
    names = [
        "JPEG with a block of zeros",
        "JPEG cut, with an end marker",
        "PNG of half of its rows",
    ]
    work = [*FILES.values(), *(DAMAGED[name] for name in names)] * 4

    def outcome(data):
        try:
            return decode_image(data, read_header(data), Fraction(1))[0].tobytes()
        except BadFileError as error:
            return str(error)

    expected = [outcome(data) for data in work]
    with ThreadPoolExecutor(8) as executor:
        assert list(executor.map(outcome, work)) == expected
    assert capfd.readouterr().err == ""


REFERENCES = {name: shown_by_pillow(data) for name, data in FILES.items()}
# A wrong byte in these is found by a checksum, or changes nothing.
PLAIN = {kind: shown_by_pillow(encode(PICTURE, kind)) for kind in ("JPEG", "PNG", "WEBP")}
CHECKED = [name for name in FILES if "PNG" in name]


def read_or_refused(data):
    """Return the pixels of a file, or None for one that is refused; nothing else is raised."""
    try:
        header = read_header(data)
    except BadFileError:
        return None
    try:
        mask = read_mask(data, header, 128, lambda *_: None)
        assert mask.shape == header.shown_size
    except BadFileError:
        pass
    try:
        pixels, _ = decode_image(data, header, Fraction(1))
    except BadFileError:
        return None
    assert pixels.shape == (header.height, header.width, 3)
    return pixels


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(sorted(FILES)), st.floats(0, 1, exclude_max=True))
def test_a_cut_file_is_refused_or_gives_all_pixels(name, share):
    data = FILES[name]
    pixels = read_or_refused(data[: int(len(data) * share)])
    if pixels is not None:
        np.testing.assert_array_equal(pixels, REFERENCES[name])


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(CHECKED), st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=9)
)
def test_random_bytes_in_a_file_with_checksums(name, share, junk):
    data = bytearray(FILES[name])
    at = int(len(data) * share)
    data[at : at + len(junk)] = junk
    pixels = read_or_refused(bytes(data))
    if pixels is not None:
        np.testing.assert_array_equal(pixels, REFERENCES[name])


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(sorted(FILES)),
    st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.binary(max_size=9)), min_size=1, max_size=4
    ),
)
def test_nothing_else_is_raised_for_random_bytes(name, changes):
    data = bytearray(FILES[name])
    for share, junk in changes:
        at = int(len(data) * share**3)  # most of them in the header
        data[at : at + len(junk)] = junk
    read_or_refused(bytes(data))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(["JPEG", "PNG", "WEBP"]))
def test_random_exif_never_loses_the_picture(junk, kind):
    data = encode(PICTURE, kind, exif=b"Exif\0\0MM\0*\0\0\0\x08" + junk)
    np.testing.assert_array_equal(read_or_refused(data), PLAIN[kind])


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_no_picture_comes_from_random_bytes(junk):
    for start in (b"", SIGNATURE, b"\xff\xd8\xff", b"BM", b"II*\0", b"GIF89a"):
        pixels = read_or_refused(start + junk)
        assert pixels is None or start == b"BM"
