"""Which pixels of a mask file are lesion, whatever tool wrote it."""

import io

import numpy as np
import pytest
from convert_archive import lesion_pair
from picture_files import encode, exif
from PIL import Image

from lesion_d2.images.masks import read_lesion, read_mask, write_mask
from lesion_d2.images.reading import read_header
from lesion_d2.images.scaling import unorient
from lesion_d2.images.source import BadFileError

MASK = lesion_pair(9)[1]
LESION = MASK > 0
GREY = Image.fromarray(MASK)


def read(data, foreground=255):
    """Return the lesion and the reasons of the notes."""
    notes = []
    lesion = read_lesion(
        data, read_header(data), foreground, lambda reason, _: notes.append(reason)
    )
    return lesion, notes


def coloured(lesion, skin):
    return np.where(LESION[..., None], np.uint8(lesion), np.uint8(skin))


def palette(*colours):
    image = Image.fromarray(LESION.astype(np.uint8), "P")
    image.putpalette([value for colour in colours for value in colour])
    return image


FILES = {
    "PNG": (encode(GREY, "PNG"), []),
    "1 bit": (encode(GREY.convert("1"), "PNG"), []),
    "BMP": (encode(GREY, "BMP"), []),
    "BMP of 1 bit": (encode(GREY.convert("1"), "BMP"), []),
    "GIF": (encode(GREY, "GIF"), ["palette"]),
    "TIFF": (encode(GREY, "TIFF", compression="tiff_lzw"), []),
    "fax": (encode(GREY.convert("1"), "TIFF", compression="group4"), []),
    "lossless WebP": (encode(GREY, "WEBP", lossless=True), ["colour"]),
    "JPEG 2000": (encode(GREY, "JPEG2000"), []),
    "RGB": (encode(GREY.convert("RGB"), "PNG"), ["colour"]),
    "CMYK": (encode(GREY.convert("CMYK"), "TIFF"), ["colour"]),
    "0 and 1": (encode(LESION.astype(np.uint8), "PNG"), ["two_values"]),
    "0 and 1 as palette of greys": (
        encode(palette((0, 0, 0), (1, 1, 1)), "PNG"), ["palette", "two_values"]
    ),
    "0 and 128": (encode(LESION * np.uint8(128), "PNG"), ["two_values"]),
    "254 and 255": (encode(LESION + np.uint8(254), "PNG"), ["two_values"]),
    "palette of VOC": (encode(palette((0, 0, 0), (128, 0, 0)), "PNG"), ["two_values"]),
    "red on black": (encode(coloured((255, 0, 0), (0, 0, 0)), "PNG"), ["two_values"]),
    "green on red": (encode(coloured((0, 255, 0), (255, 0, 0)), "PNG"), ["two_values"]),
    "16 bits, 0 and 65535": (encode(MASK * np.uint16(257), "PNG"), ["16_bit"]),
    "16 bits, 0 and 1": (encode(LESION.astype(np.uint16), "PNG"), ["16_bit"]),
    "16 bits as TIFF": (encode(LESION.astype(np.uint16), "TIFF"), ["16_bit"]),
    "32 bits, 0 and 1": (encode(LESION.astype(np.int32), "TIFF"), ["16_bit"]),
    "fractions, 0 and 255": (encode(MASK.astype(np.float32), "TIFF"), ["colour"]),
    "alpha of one value": (
        encode(np.dstack([MASK, MASK, MASK, MASK | 255]), "PNG"), ["alpha", "colour"]
    ),
    "black shape in alpha": (encode(np.dstack([MASK * 0] * 3 + [MASK]), "PNG"), ["alpha"]),
    "white shape in alpha": (encode(np.dstack([MASK | 255] * 3 + [MASK]), "PNG"), ["alpha"]),
    "red, white where transparent": (
        encode(np.dstack([coloured((255, 0, 0), (255, 255, 255)), MASK]), "PNG"),
        ["alpha", "two_values"],
    ),
    "palette with a transparent colour": (
        encode(palette((255, 255, 255), (128, 0, 0)), "PNG", transparency=0),
        ["alpha", "two_values"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("foreground", [255, 128])
def test_two_values_of_any_kind_give_the_lesion(name, foreground):
    data, notes = FILES[name]
    lesion, found = read(data, foreground)
    np.testing.assert_array_equal(lesion, LESION)
    assert found == notes


def test_a_mask_saved_as_jpeg_is_decided_by_the_foreground_rule():
    data = encode(GREY, "JPEG", quality=75)
    lesion, notes = read(data, 128)
    assert notes == ["values_between"]
    assert (lesion & LESION).sum() / (lesion | LESION).sum() > 0.98
    lossy, _ = read(data, 255)
    assert lossy.sum() < lesion.sum()


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_a_mask_is_turned_as_it_says(turn, kind):
    stored = np.ascontiguousarray(unorient(MASK, turn))
    lesion, _ = read(encode(stored, kind, exif=exif(turn)))
    np.testing.assert_array_equal(lesion, LESION)


@pytest.mark.parametrize(
    ("mask", "note"),
    [
        (MASK, []),
        (255 - MASK, ["maybe_inverted"]),
        (MASK | 255, ["all_lesion"]),
        (np.pad(np.full((40, 60), 255, np.uint8), ((0, 20), (0, 20))), []),  # two whole sides
    ],
)
def test_a_mask_on_most_of_its_border_is_questioned(mask, note):
    assert read(encode(mask, "PNG"))[1] == note


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (encode(MASK * 0, "PNG"), "empty"),
        (encode(MASK.astype(np.uint16) * 0, "PNG"), "empty"),
        (encode(MASK * 0 + 9, "PNG"), "empty"),
        (encode(coloured((9, 0, 0), (9, 0, 0)), "PNG"), "empty"),
        (encode(np.minimum(MASK, 99) // np.uint8(1) + (MASK[::-1] > 0), "PNG"), "empty"),
        (encode(lesion_pair(9)[0] + MASK[::-1, :, None] // 9, "PNG"), "channels_differ"),
        (encode(MASK * np.uint16(3) + MASK[::-1], "PNG"), "16_bit_values"),
        (encode(np.dstack([MASK, MASK, MASK, MASK]), "PNG")[:-30], "unreadable"),
    ],
)
def test_masks_without_a_lesion_to_be_sure_of(data, reason):
    with pytest.raises(BadFileError) as caught:
        read(data)
    assert caught.value.reason == reason


def test_a_mask_may_be_empty_where_that_is_asked_for():
    data = encode(MASK * 0, "PNG")
    assert not read_mask(data, read_header(data), 255, lambda *_: None).any()


def test_what_is_written_is_read_back(tmp_path):
    write_mask(tmp_path / "a.png", LESION)
    data = (tmp_path / "a.png").read_bytes()
    assert Image.open(io.BytesIO(data)).mode == "L"
    np.testing.assert_array_equal(read(data)[0], LESION)
