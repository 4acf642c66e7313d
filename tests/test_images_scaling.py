"""Decoding and resizing: sizes, orientation, and image and mask in step."""

import io
from fractions import Fraction

import cv2
import numpy as np
import pytest
from convert_archive import Archive, all_records, lesion_pair
from detectron2.data.transforms import AugInput, ResizeShortestEdge
from hypothesis import given
from hypothesis import strategies as st
from picture_files import encode, exif
from PIL import Image, ImageOps
from pycocotools import mask as coco_mask

from lesion_d2.commands.convert import convert
from lesion_d2.convert.pair import target_scale
from lesion_d2.images.reading import decode_image, decode_mask, read_header
from lesion_d2.images.scaling import fit_shortest, orient, resize_mask, scaled_size, unorient

HALF = Fraction(1, 2)


@pytest.mark.parametrize(
    ("size", "prescale", "resize", "expected"),
    [
        ((1022, 767), HALF, "original", (511, 384)),
        ((1504, 1129), HALF, "original", (752, 565)),
        ((3024, 2016), HALF, "original", (378, 252)),
        ((6748, 4499), HALF, "original", (844, 563)),
        ((1022, 767), 1, "original", (256, 192)),
        ((700, 700), 1, "original", (700, 700)),
        ((701, 700), 1, "original", (176, 175)),
        ((1022, 767), 1, "none", (1022, 767)),
        ((1022, 767), HALF, "none", (511, 384)),
        ((1022, 767), 1, 512, (512, 385)),
        ((767, 1022), 1, 512, (385, 512)),
        ((400, 300), 1, 512, (400, 300)),
        ((1022, 767), HALF, 512, (511, 384)),
        ((6748, 4499), HALF, 1000, (1000, 667)),
        ((1000, 10), Fraction(3, 10), "none", (300, 3)),
    ],
)
def test_size_rule(size, prescale, resize, expected):
    width, height = size
    scale = target_scale(height, width, Fraction(prescale), resize)
    assert scaled_size(height, width, scale) == expected[::-1]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_that_of_pillow(orientation):
    stored = np.arange(6, dtype=np.uint8).reshape(2, 3)
    image = Image.open(io.BytesIO(encode(stored, "PNG", exif=exif(orientation))))
    shown = np.asarray(ImageOps.exif_transpose(image))
    assert np.array_equal(orient(stored, orientation), shown)
    assert np.array_equal(unorient(shown, orientation), stored)


@pytest.mark.parametrize("mode", ["L", "LA", "1", "I;16"])
@pytest.mark.parametrize("picture", ["noise", "smooth", "lesion"])
def test_masks_are_read_as_opencv_reads_them(mode, picture):
    noise = np.random.default_rng(0).integers(0, 256, (61, 83), np.uint8)
    smooth = cv2.GaussianBlur(noise, (0, 0), 5)
    grey = {"noise": noise, "smooth": smooth, "lesion": lesion_pair(3)[1]}[picture]
    deep = mode == "I;16"
    image = Image.fromarray(grey * np.uint16(257)) if deep else Image.fromarray(grey).convert(mode)
    data = encode(image, "PNG")
    mask, complaint = decode_mask(data, read_header(data))
    expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert complaint == ""
    assert mask.dtype == expected.dtype
    assert np.array_equal(mask, expected)


@pytest.mark.parametrize("k", [2, 4, 8])
@pytest.mark.parametrize("size", [(96, 128), (61, 83), (97, 129)])
def test_unit_fractions_are_decoded_by_libjpeg(k, size):
    picture = cv2.GaussianBlur(
        np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8), (0, 0), 3
    )
    data = encode(picture, "JPEG", quality=90, exif=exif(6))
    header = read_header(data)
    assert header.shown_size == size[::-1]
    pixels, complaint = decode_image(data, header, Fraction(1, k))
    flag = getattr(cv2, f"IMREAD_REDUCED_COLOR_{k}")
    assert complaint == ""
    assert np.array_equal(orient(pixels, 6), cv2.imdecode(np.frombuffer(data, np.uint8), flag))


def area_weights(length, target):
    """Return (target, length): how much of each pixel each larger pixel covers, rows sum to 1."""
    step = length / target
    low, high = np.arange(target)[:, None] * step, (np.arange(target)[:, None] + 1) * step
    pixels = np.arange(length)[None]
    return np.clip(np.minimum(high, pixels + 1) - np.maximum(low, pixels), 0, None) / step


def block_mean(values, k):
    """Average k x k blocks one by one, the last of them over repeated edges."""
    height, width = -(-values.shape[0] // k), -(-values.shape[1] // k)
    padded = np.pad(
        values, ((0, height * k - len(values)), (0, width * k - values.shape[1])), "edge"
    )
    means = np.empty((height, width))
    for y in range(height):
        for x in range(width):
            means[y, x] = padded[y * k : y * k + k, x * k : x * k + k].mean()
    return means


@pytest.mark.parametrize("size", [(97, 130), (100, 128), (61, 83)])
@pytest.mark.parametrize(
    ("scale", "k"),
    [(HALF, 2), (HALF / 2, 4), (HALF / 4, 8), (Fraction(2, 3), 1), (Fraction(3, 10), 2)],
)
def test_mask_against_plain_averages(size, scale, k):
    mask = np.zeros(size, np.uint8)
    cv2.ellipse(mask, (size[1] // 2, size[0] // 2), (size[1] // 3, size[0] // 4), 20, 0, 360, 1, -1)
    means = block_mean(mask.astype(float), k)
    height, width = scaled_size(*size, scale)
    means = area_weights(means.shape[0], height) @ means @ area_weights(means.shape[1], width).T
    got = resize_mask(mask > 0, scale)
    assert got.shape == (height, width)
    clear = abs(means - 0.5) > 0.01  # nearer to a half, rounding to 8 bits may decide
    assert np.array_equal(got[clear], means[clear] > 0.5)
    assert clear.mean() > 0.95


def centroid(mask):
    return np.argwhere(mask).mean(axis=0)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 7])
@pytest.mark.parametrize("size", [(767, 1022), (301, 403)])
@pytest.mark.parametrize(
    ("prescale", "resize"), [(0.5, "original"), (1, "original"), (0.5, "none"), (1, 150)]
)
def test_image_and_mask_stay_aligned(kind, orientation, size, prescale, resize, tmp_path):
    height, width = size
    mask = np.zeros(size, np.uint8)
    box = ((width * 0.52, height * 0.47), (width * 0.5, height * 0.3), 25)
    cv2.ellipse(mask, box, 255, -1)
    mask[-9:, -13:] = 255  # the corner where a wrong block grid would show
    image = np.repeat(np.where(mask > 0, 60, 200).astype(np.uint8)[..., None], 3, axis=2)
    stored = np.ascontiguousarray(unorient(image, orientation))
    options = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {}
    content = encode(stored, kind, exif=exif(orientation), **options)
    archive = Archive(tmp_path).add(1, content, mask)
    convert(archive.options(prescale=prescale, resize=resize))

    record, annotation = all_records(archive.output)["ISIC_0000001"]
    lesion = coco_mask.decode(annotation["segmentation"]) > 0
    shown = np.asarray(ImageOps.exif_transpose(Image.open(archive.output / record["file_name"])))
    assert shown.shape[:2] == lesion.shape == (record["height"], record["width"])
    assert (record["original_height"], record["original_width"]) == size
    dark = shown.mean(axis=2) < 138  # half covered is 130, and is lesion
    assert abs(centroid(dark) - centroid(lesion)).max() < 0.1
    assert (dark & lesion).sum() / (dark | lesion).sum() > 0.98


@pytest.mark.parametrize("size", [(1, 400), (400, 1), (3, 1400), (1, 20_000)])
@pytest.mark.parametrize(("prescale", "resize"), [(1, "original"), (0.25, "none"), (1, 50)])
def test_no_side_of_a_long_image_becomes_0(size, prescale, resize, tmp_path):
    mask = np.zeros(size, np.uint8)
    mask[size[0] // 2 :, size[1] // 2 :] = 255
    archive = Archive(tmp_path).add(1, encode(np.dstack([mask] * 3), "JPEG"), mask)
    convert(archive.options(prescale=prescale, resize=resize, group=True))
    record, annotation = all_records(archive.output)["ISIC_0000001"]
    shown = np.asarray(Image.open(archive.output / record["file_name"]))
    assert shown.shape[:2] == (record["height"], record["width"])
    assert coco_mask.decode(annotation["segmentation"]).shape == shown.shape[:2]


@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    side=st.integers(1, 80),
    longest=st.integers(40, 120),
)
def test_pixels_for_the_network_are_those_of_detectron2(height, width, side, longest):
    pixels = np.random.default_rng(0).integers(256, size=(height, width, 3), dtype=np.uint8)
    size = ResizeShortestEdge.get_output_shape(height, width, side, longest)
    fitted = fit_shortest(pixels, side, longest)
    if min(size) == 0:  # which Detectron2 cannot resize to
        assert fitted.shape[:2] == tuple(max(1, length) for length in size)
        return
    expected = AugInput(pixels)
    ResizeShortestEdge(side, longest)(expected)
    np.testing.assert_array_equal(fitted, expected.image)


def test_a_side_of_0_leaves_the_pixels():
    pixels = np.zeros((3, 4, 3), np.uint8)
    assert fit_shortest(pixels, 0, 2) is pixels
