"""Synthetic dermoscopy: lesion_d2.synthetic and tools/make_synthetic.py."""

import hashlib
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy import ndimage

from lesion_d2.errors import LesionError
from lesion_d2.synthetic import MIN_SIDE, render, write_archive
from lesion_d2.synthetic.artefacts import ARTEFACTS

IMAGES = "ISIC2018_Task1-2_Training_Input"
MASKS = "ISIC2018_Task1_Training_GroundTruth"
TOOL = Path(__file__).parents[1] / "tools" / "make_synthetic.py"
SMALL = [(96, 128), (128, 96)]
# Of render(3, 0..11, 120, 160), image then mask. It changes when the drawing does, and only then:
# another processor, thread count or library version must not move it.
DIGEST = "36079705268f109c14a29d9c4d4645bae5f31261c90e4332adcffcacb5195ae9"


@pytest.fixture(scope="module")
def pictures() -> list[tuple[np.ndarray, np.ndarray]]:
    return [render(3, index, 120, 160) for index in range(100)]


def contents(root: Path) -> dict[str, bytes]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def test_pixels_are_the_same_everywhere(pictures):
    digest = hashlib.sha256()
    for image, mask in pictures[:12]:
        digest.update(image.tobytes())
        digest.update(mask.tobytes())
    assert digest.hexdigest() == DIGEST


def test_a_picture_depends_on_its_arguments_alone(pictures):
    image, mask = render(3, 7, 120, 160)
    assert np.array_equal(image, pictures[7][0])
    assert np.array_equal(mask, pictures[7][1])
    for seed, index in ((4, 7), (3, 8)):
        assert not np.array_equal(render(seed, index, 120, 160)[0], image)


@pytest.mark.parametrize(("height", "width"), [(MIN_SIDE, MIN_SIDE), (65, 301), (301, 90)])
def test_any_size_can_be_drawn(height, width):
    for index in range(10):
        image, mask = render(0, index, height, width)
        assert image.shape == (height, width, 3)
        assert mask.shape == (height, width)


def test_types_and_one_lesion_without_holes(pictures):
    for image, mask in pictures:
        assert image.dtype == np.uint8
        assert mask.dtype == np.uint8
        assert set(np.unique(mask)) == {0, 255}
        inside = mask > 0
        assert ndimage.label(inside)[1] == 1
        assert np.array_equal(ndimage.binary_fill_holes(inside), inside)


def test_lesions_are_small_to_large_and_some_are_cut_by_the_frame(pictures):
    shares = [(mask > 0).mean() for _, mask in pictures]
    assert 0.02 < min(shares) < 0.08
    assert 0.4 < max(shares) < 0.7
    cut = [mask[0].any() or mask[-1].any() or mask[:, [0, -1]].any() for _, mask in pictures]
    assert 0.05 < np.mean(cut) < 0.7


def test_skin_goes_from_light_to_dark(pictures):
    tones = [
        np.median(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)[mask == 0]) for image, mask in pictures
    ]
    assert min(tones) < 90
    assert max(tones) > 190
    # Spread out, and not two heaps.
    assert np.histogram(tones, bins=4, range=(80, 210))[0].min() >= 5


def test_lesions_can_be_seen_but_not_just_thresholded(pictures):
    scores = []
    for image, mask in pictures:
        grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
        _, dark = cv2.threshold(255 - grey, 0, 255, cv2.THRESH_OTSU)
        scores.append(np.mean((dark & mask)[(dark | mask) > 0] > 0))
    assert 0.5 < np.mean(scores) < 0.8


@pytest.mark.parametrize("add", [add for add, _ in ARTEFACTS], ids=lambda add: add.__name__)
def test_each_artefact_shows_and_leaves_most_of_the_picture(add):
    touched = []
    for seed in range(8):
        image = np.full((192, 256, 3), (150, 170, 210), np.uint8)
        before = image.copy()
        add(np.random.default_rng(seed), image)
        touched.append((image != before).any(axis=2).mean())
    assert 0 < np.mean(touched) < 0.5


def test_archive_has_the_official_layout(tmp_path):
    write_archive(tmp_path, 3, seed=3, sizes=SMALL, workers=1)
    texts = {"ATTRIBUTION.txt", "LICENSE.txt"}
    ids = ["ISIC_0000000", "ISIC_0000001", "ISIC_0000002"]
    assert {path.name for path in tmp_path.iterdir()} == {IMAGES, MASKS}
    assert {p.name for p in (tmp_path / IMAGES).iterdir()} == texts | {f"{i}.jpg" for i in ids}
    assert {p.name for p in (tmp_path / MASKS).iterdir()} == texts | {
        f"{i}_segmentation.png" for i in ids
    }
    assert "ynthetic" in (tmp_path / IMAGES / "ATTRIBUTION.txt").read_text()

    for index, isic_id in enumerate(ids):
        image, mask = render(3, index, *SMALL[index % 2])
        written = cv2.imread(str(tmp_path / IMAGES / f"{isic_id}.jpg"))
        assert written.shape == image.shape
        assert cv2.PSNR(written, image) > 28
        path = tmp_path / MASKS / f"{isic_id}_segmentation.png"
        assert np.array_equal(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), mask)


def test_workers_do_not_change_the_files(tmp_path):
    for workers in (1, 2):
        write_archive(tmp_path / str(workers), 6, sizes=SMALL, workers=workers)
    assert contents(tmp_path / "1") == contents(tmp_path / "2")


def test_a_repeated_call_goes_on_and_keeps_what_is_there(tmp_path):
    write_archive(tmp_path / "whole", 4, sizes=SMALL, workers=1)
    root = tmp_path / "cut"
    write_archive(root, 3, sizes=SMALL, workers=1)
    (root / MASKS / "ISIC_0000001_segmentation.png").unlink()
    kept = root / IMAGES / "ISIC_0000000.jpg"
    before = kept.stat()
    write_archive(root, 4, sizes=SMALL, workers=1)
    assert contents(root) == contents(tmp_path / "whole")
    assert (kept.stat().st_ino, kept.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("change", [{"seed": 1}, {"sizes": [(64, 64)]}])
def test_another_set_is_not_mixed_in(tmp_path, change):
    write_archive(tmp_path, 1, sizes=SMALL, workers=1)
    before = contents(tmp_path)
    with pytest.raises(LesionError, match="holds other files"):
        write_archive(tmp_path, 2, **{"sizes": SMALL, "workers": 1, **change})
    assert contents(tmp_path) == before


@pytest.mark.parametrize("folder", [IMAGES, MASKS])
def test_real_pictures_are_left_alone(tmp_path, folder):
    real = tmp_path / folder / "ISIC_0000000.jpg"
    real.parent.mkdir()
    real.write_bytes(b"real")
    with pytest.raises(LesionError, match="holds other files"):
        write_archive(tmp_path, 1, sizes=SMALL, workers=1)
    assert contents(tmp_path)[f"{folder}/ISIC_0000000.jpg"] == b"real"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 0}, "count 0"),
        ({"count": 10_000_001}, "count 10000001"),
        ({"seed": -1}, "seed -1"),
        ({"sizes": [(96, 128), (MIN_SIDE - 1, 128)]}, f"{MIN_SIDE - 1}x128"),
        ({"sizes": []}, "sizes"),
        ({"workers": 0}, "workers 0"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_written(tmp_path, arguments, message):
    with pytest.raises(LesionError, match=message):
        write_archive(tmp_path / "out", **{"count": 1, "sizes": SMALL, "workers": 1, **arguments})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("arguments", [(-1, 0, 96, 96), (0, -1, 96, 96), (0, 0, 96, MIN_SIDE - 1)])
def test_render_refuses_what_it_cannot_draw(arguments):
    with pytest.raises(LesionError):
        render(*arguments)


@pytest.mark.parametrize("blocked", [".", IMAGES, f"{MASKS}/ISIC_0000000_segmentation.png"])
def test_something_in_the_way_is_named(tmp_path, blocked):
    root = tmp_path / "out"
    if blocked.endswith(".png"):
        write_archive(root, 1, sizes=SMALL, workers=1)
        (root / blocked).unlink()
        (root / blocked / "folder").mkdir(parents=True)
    else:
        (root / blocked).parent.mkdir(parents=True, exist_ok=True)
        (root / blocked).write_text("a file")
    with pytest.raises(LesionError, match=r"out.*(cannot be written|is a folder)"):
        write_archive(root, 1, sizes=SMALL, workers=1)


def run_tool(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(TOOL), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_tool_writes_what_the_function_writes(tmp_path):
    write_archive(tmp_path / "function", 2, seed=5, sizes=SMALL, workers=1)
    output = str(tmp_path / "tool")
    result = run_tool(
        *("--output", output, "--count", "2", "--seed", "5"),
        *("--size", "96x128", "128x96", "--workers", "1"),
    )
    assert result.returncode == 0, result.stderr
    assert contents(tmp_path / "tool") == contents(tmp_path / "function")


def test_tool_answers_a_bad_value_in_one_line(tmp_path):
    result = run_tool("--output", str(tmp_path), "--count", "0")
    assert result.returncode == 1
    assert result.stderr.startswith("error: count 0")
    assert result.stderr.count("\n") == 1
    assert run_tool("--output", "x", "--count", "1", "--size", "big").returncode == 2


def test_the_generator_does_not_load_torch():
    code = "import lesion_d2.synthetic, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
