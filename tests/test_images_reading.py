"""The one reader of images: formats, orientation, and what is none of them."""

import io
import struct
import sys
import tracemalloc
import zlib
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from picture_files import (
    chunk,
    drawn,
    encode,
    every_format,
    exif,
    refused,
    shown,
    shown_by_pillow,
)
from PIL import Image

from lesion_d2.images.reading import decode_image, read_header, read_image
from lesion_d2.images.source import BadFileError

CASES = Path(__file__).parents[2] / "shared" / "cases"
PICTURE = drawn()
FILES = every_format(PICTURE)
JPEG = encode(PICTURE, "JPEG", quality=95)
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="%d"/></x:xmpmeta>'


@pytest.mark.parametrize("name", FILES)
def test_pixels_are_those_of_pillow(name, tmp_path):
    pixels, size = shown(FILES[name], tmp_path)
    assert size == PICTURE.shape[:2]
    np.testing.assert_array_equal(pixels, shown_by_pillow(FILES[name]))


def tiff_of_12_bits(grey):
    """Return a TIFF of 12 bits of a grey picture with an even number of columns."""
    first, second = (grey[:, start::2].astype(np.uint16) * 16 for start in (0, 1))
    packed = np.dstack([first >> 4, (first & 15) << 4 | second >> 8, second & 255])
    return tiff_of(packed.astype(np.uint8).tobytes(), *grey.shape, bits=12, photometric=1)


def tiff_of(pixels, height, width, *, bits, photometric):
    """Return a grey TIFF of packed pixels; photometric 0: white is zero, 1: black is zero."""
    tags = [(256, width), (257, height), (258, bits), (259, 1), (262, photometric)]
    tags += [(273, 8), (277, 1)]
    tags += [(278, height), (279, len(pixels))]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    start = struct.pack("<I", 8 + len(pixels))
    return b"II*\0" + start + pixels + struct.pack("<H", len(tags)) + entries + bytes(4)


def test_grey_of_12_bits_is_as_bright_as_of_8(tmp_path):
    grey = PICTURE[..., 0]
    pixels, _ = shown(tiff_of_12_bits(grey), tmp_path)
    np.testing.assert_array_equal(pixels, np.dstack([grey] * 3))


@pytest.mark.parametrize(("bits", "kind"), [(8, np.uint8), (16, np.uint16)])
@pytest.mark.parametrize("photometric", [0, 1])
def test_white_may_be_zero(bits, kind, photometric, tmp_path):
    grey = PICTURE[..., 0]
    stored = grey if photometric else 255 - grey
    pixels = (stored.astype(kind) * ((1 << bits) // 256)).tobytes()
    read, _ = shown(tiff_of(pixels, *grey.shape, bits=bits, photometric=photometric), tmp_path)
    np.testing.assert_allclose(read, np.dstack([grey] * 3), atol=1)


@pytest.mark.parametrize(
    "grey",
    [
        PICTURE[..., 0] / np.float32(255),
        PICTURE[..., 0] * np.float32(257),
        PICTURE[..., 0].astype(np.int32),
        PICTURE[..., 0] * np.int32(257),
    ],
)
def test_grey_of_32_bits_is_refused(grey, tmp_path):
    with pytest.raises(BadFileError, match=r"grey of 32 bits .* save it with 8 bits"):
        shown(encode(grey, "TIFF"), tmp_path)


def cr2():
    """Return a TIFF with the mark of a CR2 file, which stands where its list of tags was."""
    data = encode(PICTURE, "TIFF")
    start = struct.unpack_from("<I", data, 4)[0]
    tags = data[start : start + 2 + 12 * struct.unpack_from("<H", data, start)[0] + 4]
    return data[:4] + struct.pack("<I", len(data)) + b"CR\2\0" + data[12:] + tags


@pytest.mark.parametrize(
    "data",
    [
        encode(PICTURE, "TIFF", tiffinfo={254: 1}),
        encode(PICTURE, "TIFF", tiffinfo={50706: b"\1\7\0\0"}),
        cr2(),
    ],
)
def test_the_preview_of_a_raw_file_is_not_taken_for_the_photograph(data, tmp_path):
    assert Image.open(io.BytesIO(data)).size == PICTURE.shape[1::-1]
    with pytest.raises(BadFileError, match="its first picture is a preview"):
        shown(data, tmp_path)


@pytest.mark.parametrize("page", [0, 2])  # a page of a document is a whole picture
def test_a_tiff_that_says_what_it_is_of(page, tmp_path):
    pixels, _ = shown(encode(PICTURE, "TIFF", tiffinfo={254: page}), tmp_path)
    np.testing.assert_array_equal(pixels, PICTURE[..., ::-1])


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


def test_a_kind_that_is_not_read_says_which_are():
    assert "JPEG 2000" in refused(b"%PDF-1.7" + bytes(200))[1]
    assert refused(b"")[0] == "empty_file"
    assert "AVIF" in refused(b"\0\0\0\x18ftypmp42" + bytes(200))[1]


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


def test_a_deflated_dicom_file_is_refused_before_it_is_inflated(tmp_path):
    uid = pytest.importorskip("pydicom.uid")
    from pydicom import dcmread

    whole = dcmread(io.BytesIO(dicom(np.zeros((4000, 4000), np.uint8), "MONOCHROME2")))
    whole.file_meta.TransferSyntaxUID = uid.DeflatedExplicitVRLittleEndian
    whole.save_as(tmp_path / "deflated.dcm")
    data = (tmp_path / "deflated.dcm").read_bytes()
    assert len(data) < 100_000
    tracemalloc.start()
    reason, detail = refused(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (reason, "save it uncompressed" in detail, peak < 2**20) == ("unreadable", True, True)


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
