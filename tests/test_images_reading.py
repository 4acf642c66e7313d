"""The one reader of images: formats, orientation, damage, and files that are none."""

import io
import os
import struct
import sys
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
    exif,
    half_of_the_rows,
    png_header,
    png_of,
    scan_of,
    zeroed,
)
from PIL import Image, ImageOps

from lesion_d2.images import source
from lesion_d2.images.masks import read_mask
from lesion_d2.images.reading import decode_image, decode_mask, read_header, read_image
from lesion_d2.images.source import BadFileError, read_source

CASES = Path(__file__).parents[2] / "shared" / "cases"
PICTURE = drawn()
FILES = every_format(PICTURE)
JPEG = encode(PICTURE, "JPEG", quality=95)
PNG = encode(PICTURE, "PNG")
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="%d"/></x:xmpmeta>'


def shown_by_pillow(data):
    """Return the BGR pixels of a file as Pillow turns them."""
    with Image.open(io.BytesIO(data)) as image:
        if image.mode.startswith("I"):
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))[..., ::-1]


def shown(data, tmp_path):
    path = tmp_path / "picture"
    path.write_bytes(data)
    return read_image(path)


def refused(data):
    """Return why a file is refused, by header, as an image and as a mask alike."""
    reasons = set()
    for read in (
        lambda: decode_image(data, read_header(data), Fraction(1)),
        lambda: decode_mask(data, read_header(data)),
    ):
        with pytest.raises(BadFileError) as caught:
            read()
        reasons.add((caught.value.reason, str(caught.value)))
    assert len(reasons) == 1
    return reasons.pop()


@pytest.mark.parametrize("name", FILES)
def test_pixels_are_those_of_pillow(name, tmp_path):
    pixels, size = shown(FILES[name], tmp_path)
    assert size == PICTURE.shape[:2]
    np.testing.assert_array_equal(pixels, shown_by_pillow(FILES[name]))


@pytest.mark.parametrize("step", [2, 4, 8])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("size", [(40, 56), (61, 83), (9, 200), (3, 5)])
def test_a_small_decode_has_the_size_and_look_of_the_whole(step, mode, size):
    data = encode(Image.fromarray(drawn(*size)).convert(mode), "JPEG")
    header = read_header(data)
    whole, _ = decode_image(data, header, Fraction(1))
    small, _ = decode_image(data, header, Fraction(1, step))
    assert small.shape == (-(-size[0] // step), -(-size[1] // step), 3)
    assert abs(small.mean() - whole.mean()) < 12


def orientations():
    """Yield (name, function orientation -> file) for each place that holds an orientation."""
    stored = drawn(24, 40)
    plain = encode(stored, "PNG")
    first, last = 33, plain.rindex(b"IEND") - 4

    def png(piece, at):
        return lambda turn: plain[:at] + piece(turn) + plain[at:]

    def profile(turn):
        block = exif(turn).tobytes()
        text = b"\nexif\n%8d\n" % len(block) + block.hex().encode()
        return chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text))

    pieces = {
        "eXIf": lambda turn: chunk(b"eXIf", exif(turn).tobytes()[6:]),
        "XMP": lambda turn: chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP % turn),
        "raw profile": profile,
    }
    for name, piece in pieces.items():
        yield f"PNG {name}", png(piece, first)
        yield f"PNG late {name}", png(piece, last)
    for kind in ("JPEG", "TIFF", "WEBP", "AVIF"):
        yield kind, lambda turn, kind=kind: encode(stored, kind, exif=exif(turn))
    yield "JPEG XMP", lambda turn: encode(stored, "JPEG", xmp=XMP % turn)


ORIENTATIONS = dict(orientations())


@pytest.mark.parametrize("place", ORIENTATIONS)
@pytest.mark.parametrize("turn", range(1, 9))
def test_every_orientation_in_every_place(place, turn, tmp_path):
    data = ORIENTATIONS[place](turn)
    pixels, size = shown(data, tmp_path)
    expected = shown_by_pillow(data)
    assert pixels.shape[:2] == size == ((40, 24) if turn >= 5 else (24, 40))
    np.testing.assert_array_equal(pixels, expected)
    assert read_header(data).shown_size == size


def block(*entries):
    """Return EXIF of (tag, type, count, four bytes of value), as it stands in a JPEG file."""
    packed = b"".join(struct.pack(">HHI", *entry[:3]) + entry[3] for entry in entries)
    return b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", len(entries)) + packed + bytes(4)


TURNED = (0x112, 3, 1, b"\0\6\0\0")


@pytest.mark.parametrize(
    ("content", "turn"),
    [
        (block(TURNED, (0x11A, 10, 1, b"\xff\xff\xff\0")), 6),  # signed, and beyond the block
        (block((0x10F, 3, 1, b"\0\7\0\0"), TURNED), 6),  # a number where a text belongs
        (block((0x112, 2, 2, b"6\0\0\0")), 1),
        (block((0x112, 5, 1, b"\0\0\xff\0")), 1),
        (block((0x112, 3, 1, b"\0\x09\0\0")), 1),
        (block((0x112, 99, 1, b"\0\6\0\0")), 1),
        (b"Exif\0\0MM\0*\xff\xff\xff\xff", 1),
        (b"Exif\0\0", 1),
        (b"Exif\0\0II*\0\x08", 1),
    ],
)
def test_odd_exif_is_read_or_turns_nothing(content, turn, tmp_path):
    data = encode(PICTURE, "JPEG", exif=content)
    pixels, size = shown(data, tmp_path)
    assert size == (PICTURE.shape[:2] if turn == 1 else PICTURE.shape[1::-1])
    stored = np.asarray(Image.open(io.BytesIO(data)))[..., ::-1]
    np.testing.assert_array_equal(pixels, stored if turn == 1 else np.rot90(stored, -1))


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


def test_a_kind_that_is_not_read_says_which_are():
    assert "JPEG 2000" in refused(b"%PDF-1.7" + bytes(200))[1]
    assert refused(b"")[0] == "empty_file"
    assert "AVIF" in refused(b"\0\0\0\x18ftypmp42" + bytes(200))[1]


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


@pytest.mark.parametrize(
    ("package", "data"),
    [
        ("pillow_heif", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200)),
        ("pydicom", bytes(128) + b"DICM" + bytes(200)),
    ],
)
def test_a_package_that_is_not_installed_is_named(package, data, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    assert f"pip install {package.replace('_', '-')}" in refused(data)[1]


def test_heic(tmp_path):
    heif = pytest.importorskip("pillow_heif")
    stream = io.BytesIO()
    heif.from_pillow(Image.fromarray(PICTURE)).save(stream, quality=-1, chroma=444)
    pixels, size = shown(stream.getvalue(), tmp_path)
    assert size == PICTURE.shape[:2]
    assert np.abs(pixels[..., ::-1].astype(int) - PICTURE).mean() < 2
    assert refused(stream.getvalue()[:-200])[0] == "unreadable"


def dicom(pixels, photometric, *, bits=8, frame=None):
    """Return a DICOM file of an array, or of one JPEG frame."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit, SecondaryCaptureImageStorage

    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = JPEGBaseline8Bit if frame else ExplicitVRLittleEndian
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    data.Rows, data.Columns = pixels.shape[:2]
    data.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
    data.PhotometricInterpretation = photometric
    data.BitsAllocated = 8 if bits == 8 else 16
    data.BitsStored, data.HighBit, data.PixelRepresentation = bits, bits - 1, 0
    data.PlanarConfiguration = 0
    data.PixelData = encapsulate([frame]) if frame else pixels.tobytes()
    data["PixelData"].VR = "OB" if frame or bits == 8 else "OW"
    stream = io.BytesIO()
    data.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def test_dicom(tmp_path):
    pytest.importorskip("pydicom")
    grey = PICTURE[..., 0]
    cases = [
        (dicom(PICTURE, "RGB"), PICTURE),
        (dicom(PICTURE, "YBR_FULL_422", frame=JPEG), shown_by_pillow(JPEG)[..., ::-1]),
        (dicom(grey, "MONOCHROME2"), np.dstack([grey] * 3)),
        (dicom(grey, "MONOCHROME1"), 255 - np.dstack([grey] * 3)),
        (dicom(grey * np.uint16(16), "MONOCHROME2", bits=12), np.dstack([grey] * 3)),
    ]
    for data, expected in cases:
        pixels, _ = shown(data, tmp_path)
        np.testing.assert_array_equal(pixels[..., ::-1], expected)
    assert refused(dicom(PICTURE, "RGB")[:-500])[0] == "unreadable"
    damaged = JPEG[:-300] + b"\xff\xd9"
    assert "premature end" in refused(dicom(PICTURE, "YBR_FULL_422", frame=damaged))[1]


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


@pytest.mark.skipif(not CASES.is_dir(), reason="needs ../shared/cases")
def test_the_collected_files():
    damaged = [*CASES.glob("08_[chz]*"), *CASES.glob("22_*")]
    assert len(damaged) == 4
    for path in damaged:
        assert refused(path.read_bytes())[0] == "unreadable"
    intact, _ = read_image(CASES / "08_intact_reference.jpg")
    with_junk, _ = read_image(CASES / "09_intact_with_junk_before_tables.jpg")
    np.testing.assert_array_equal(with_junk, intact)
    upright, _ = read_image(CASES / "02_upright_reference.png")
    turned, _ = read_image(CASES / "02_orientation6_in_xmp.png")
    np.testing.assert_array_equal(turned, upright)
    for path in CASES.glob("01_*.jpg"):
        stored = np.asarray(Image.open(path))[..., ::-1]
        np.testing.assert_array_equal(read_image(path)[0], np.rot90(stored, -1))
