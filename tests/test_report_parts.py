"""What the report computes: facts of the truth, bins, pictures, charts."""

import re

import cv2
import numpy as np
import pytest
from figure_files import square, texts

from lesion_d2.data.converted import LesionImage
from lesion_d2.figures.style import FIRST_COLOUR, new_figure
from lesion_d2.report.bins import category_bins, quantile_bins
from lesion_d2.report.cards import UNITS, make_picture
from lesion_d2.report.charts import calibration_charts, inline_svg
from lesion_d2.report.factors import MOST_DOTS, bins_figure, factor_charts, skin_tone_group
from lesion_d2.report.facts import Facts, colours, look_at

RED, BLUE, GREEN = (255, 0, 0), (0, 0, 255), (0, 255, 0)


def disc(radius: float, side: int = 101) -> np.ndarray:
    y, x = np.mgrid[:side, :side] - side // 2
    return x**2 + y**2 <= radius**2


def test_contrast_is_the_colour_difference_to_the_skin_nearby():
    lesion, near = disc(20), disc(26)
    image = np.full((101, 101, 3), GREEN, np.uint8)  # too far away to count
    image[near] = BLUE
    image[lesion] = RED
    # CIE L*a*b* of the two: (53.24, 80.09, 67.20) and (32.30, 79.19, -107.86).
    assert colours(image, lesion)[0] == pytest.approx(176.3, abs=0.5)
    image[:] = RED
    assert colours(image, lesion)[0] == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("value", [False, True])
def test_colours_need_a_lesion_and_skin(value):
    image = np.zeros((9, 9, 3), np.uint8)
    assert colours(image, np.full((9, 9), value)) == (None, None)


def lab_of_srgb(rgb):
    """CIE L*a*b* by hand: IEC 61966-2-1 and CIE 15, white point D65."""
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in np.array(rgb) / 255
    ]
    matrix = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    x, y, z = np.cbrt(np.array(matrix) @ linear / (0.9505, 1, 1.089))
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


@pytest.mark.parametrize(
    ("skin", "group"),
    [
        ((245, 225, 210), "very light"),
        ((225, 185, 155), "light"),
        ((205, 160, 125), "intermediate"),
        ((185, 135, 95), "tan"),
        ((140, 95, 65), "brown"),
        ((85, 50, 25), "dark"),
    ],
)
def test_skin_tone_is_the_angle_of_the_ring_around_the_lesion(skin, group):
    lesion, near = disc(20), disc(25)
    image = np.full((101, 101, 3), BLUE, np.uint8)  # too far away to count
    image[near] = skin
    image[lesion] = RED
    image[48:52] = 0  # a hair, across lesion and skin
    _, angle = colours(image, lesion)
    lightness, _, yellow = lab_of_srgb(skin)
    # The field's formula with an arc tangent of a ratio, which is the same where b* is positive.
    assert yellow > 0
    expected = np.degrees(np.arctan((lightness - 50) / yellow))
    assert angle == pytest.approx(expected, abs=0.3)  # OpenCV interpolates
    low, high = {
        **{"very light": (55, 90), "light": (41, 55), "intermediate": (28, 41)},
        **{"tan": (10, 28), "brown": (-30, 10), "dark": (-90, -30)},
    }[group]
    assert low < expected <= high
    assert skin_tone_group(angle) == group


def test_a_limit_belongs_to_the_darker_group():
    limits = [skin_tone_group(angle) for angle in (55, 41, 28, 10, -30)]
    assert limits == ["light", "intermediate", "tan", "brown", "dark"]


@pytest.mark.parametrize(("left", "at_border"), [(0, True), (1, False), (28, True)])
def test_facts_of_an_image(tmp_path, left, at_border):
    mask = square(left)
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((*mask.shape, 3), np.uint8))
    polygon = [[float(v) for v in (left, 8, left + 12, 8, left + 12, 20, left, 20)]]
    lesion = LesionImage(1, "ISIC_0000001", tmp_path / "a.png", 30, 40, 300, 400, polygon)
    rgb, _, facts = look_at(lesion)
    assert rgb.shape == (30, 40, 3)
    assert facts == Facts(144 / 1200, at_border, (400, 300), 0.0, -90.0)  # all is black


def test_large_images_are_shown_small(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((300, 600, 3), np.uint8))
    lesion = LesionImage(1, "ISIC_0000001", tmp_path / "a.png", 300, 600, 300, 600, None)
    rgb, truth, facts = look_at(lesion)
    assert rgb.shape == (128, 256, 3)
    assert truth.shape == (128, 256)
    assert facts.contrast is None


def test_quantile_bins_by_hand():
    by = np.array([4.0, 1, 3, 2] * 5)
    bins = quantile_bins(by, by / 4, "g", most=2)
    assert [b.label for b in bins] == ["1–2", "3–4"]
    assert [len(b.values) for b in bins] == [10, 10]
    assert [b.place for b in bins] == [1.5, 3.5]
    assert bins[1].mean == pytest.approx(0.875)
    assert bins[1].low < 0.875 < bins[1].high
    assert (np.diff(bins[1].values) >= 0).all()  # in the order of `by`


@pytest.mark.parametrize(
    ("by", "sizes"),
    [
        ([], []),
        ([1.0], [1]),
        ([5.0] * 40, [40]),
        ([0.0] * 30 + list(range(1, 11)), [30, 3, 7]),  # equal values share a bin
        (range(12), [6, 6]),  # two of 5 or more each
        (range(60), [10] * 6),
    ],
)
def test_bins_hold_every_image_once(by, sizes):
    bins = quantile_bins(by, np.ones(len(by)), "g")
    assert [len(b.values) for b in bins] == sizes


def test_category_bins_keep_their_order_and_drop_the_empty():
    bins = category_bins(["b", "a", "b"], [0.2, 0.5, 0.4], ("c", "b", "a"))
    assert [(b.label, b.mean, len(b.values)) for b in bins] == [
        ("b", pytest.approx(0.3), 2),
        ("a", 0.5, 1),
    ]


def corners(path: str) -> list[set[tuple[float, float]]]:
    """The corners of each closed line of an SVG path, in pixels."""
    lines = []
    for start, steps in re.findall(r"M([-\d ]+)l([-\d ]+)z", path):
        numbers = [
            np.array(re.findall(r"-?\d+", text), int).reshape(-1, 2) for text in (start, steps)
        ]
        points = np.cumsum(np.concatenate(numbers), axis=0) / UNITS
        lines.append({(float(x), float(y)) for x, y in points})
    return lines


def test_outlines_run_along_the_edge_of_the_pixels():
    truth = square(10).astype(np.float32)
    border = np.zeros((30, 40), np.float32)
    border[:, :4] = 1
    picture = make_picture(np.zeros((30, 40, 3), np.uint8), truth, border, side=256)
    assert picture.view_box == "0 0 160 120"
    for path, box in ((picture.truth, (10, 8, 22, 20)), (picture.prediction, (0, 0, 4, 30))):
        (points,) = corners(path)
        xs, ys = zip(*points, strict=True)
        assert (min(xs), min(ys), max(xs), max(ys)) == pytest.approx(box, abs=1 / UNITS)


def test_an_outline_of_one_pixel_is_still_drawn():
    dot = np.zeros((30, 40), np.float32)
    dot[5, 7] = 1
    picture = make_picture(np.zeros((30, 40, 3), np.uint8), 0 * dot, dot, side=256)
    assert picture.truth == ""
    (points,) = corners(picture.prediction)
    assert all(abs(x - 7.5) <= 0.5 and abs(y - 5.5) <= 0.5 for x, y in points)


@pytest.mark.parametrize(("side", "size"), [(256, (256, 192)), (128, (128, 96))])
def test_pictures_have_the_side_that_is_asked_for(side, size):
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (192, 256, 3), dtype=np.uint8)
    picture = make_picture(rgb, disc(60, 256)[:192].astype(np.float32), rgb[..., 0], side)
    assert (picture.width, picture.height) == size


def test_svgs_take_the_colours_of_the_page_and_have_names_of_their_own():
    figure = new_figure(3, 3)
    figure.subplots().plot([1, 2], color=FIRST_COLOUR)
    svg = inline_svg(figure, "name", 'a < b "c"')
    assert 'aria-label="a &lt; b &#34;c&#34;"' in svg
    assert "var(--first)" in svg
    assert "currentColor" in svg
    assert not re.search("#000000|http|xlink", svg)
    ids = re.findall(r'id="([^"]*)"', svg)
    assert ids
    assert all(name.startswith("name-") for name in ids)
    assert set(re.findall(r'(?:href="#|url\(#)([^")]*)', svg)) <= set(ids)


def test_many_dots_become_one_picture():
    few, many = (
        inline_svg(bins_figure("", "x", quantile_bins(range(n), np.ones(n), "g")), "x", "x")
        for n in (MOST_DOTS, 4 * MOST_DOTS)
    )
    assert "data:image/png" in many
    assert "data:image/png" not in few
    assert len(many) < len(few)


def test_charts_of_factors_count_and_average_the_images():
    jaccard = np.array([0.2, 0.4, 0.6, 0.8])
    seen = [(5.0, 50.0), (5.0, -40.0), (5.0, 45.0), (None, None)]
    facts = [Facts(0.1, n == 0, (400, 300), *colour) for n, colour in enumerate(seen)]
    area, border, size, contrast, skin = factor_charts(jaccard, facts)
    assert [row[:3] for row in area.rows] == [("10.0", "4", "0.500")]
    assert [row[:3] for row in border.rows] == [
        ("inside", "3", "0.600"),
        ("at the border", "1", "0.200"),
    ]
    assert [row[:3] for row in size.rows] == [("0.12", "4", "0.500")]
    assert [row[:3] for row in contrast.rows] == [("5", "3", "0.400")]
    assert [row[:3] for row in skin.rows] == [("light", "2", "0.400"), ("dark", "1", "0.400")]
    assert "light (2), intermediate (0), tan (0), brown (0), dark (1)" in skin.note


def test_sizes_are_binned_by_megapixels():
    facts = [Facts(0.1, False, (1000, 100 * n), 5.0, 45.0) for n in range(1, 21)]
    size = factor_charts(np.linspace(0, 1, 20), facts)[2]
    assert [row[0] for row in size.rows] == ["0.1–0.5", "0.6–1", "1.1–1.5", "1.6–2"]
    assert "megapixels" in size.head[0]


def test_failures_found_by_hand():
    jaccard = np.array([0.1, 0.9, 0.2, 0.8, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9])
    confidence = np.array([0.1, 0.5, 0.6, 0.7, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8])
    _, review = calibration_charts(confidence, jaccard, "estimated IoU")
    assert review.rows[1] == ("10%", "50.0%")
    assert review.rows[3] == ("30%", "100.0%")
    assert "AUROC 0.938" in review.note  # 15 of 16 pairs of a failure and a success
    assert "holds 50% of the 2 below 0.65" in review.note


@pytest.mark.parametrize("value", [0.1, 0.9])
def test_without_failures_or_successes_there_is_no_review(value):
    charts = calibration_charts(np.linspace(0, 1, 10), np.full(10, value), "score")
    assert [chart.title for chart in charts] == ["Achieved Jaccard index and score"]


def test_bins_say_how_many_images_they_hold():
    figure = bins_figure(
        "", "border", category_bins(["no", "yes", "yes"], [0.5, 1, 1], ("no", "yes"))
    )
    said = texts(figure)
    assert "no\nn = 1" in said
    assert "yes\nn = 2" in said
