"""The report of an evaluation, as a page and as a command."""

import base64
import json
import re
import runpy
import subprocess
import sys
from hashlib import sha256

import cv2
import numpy as np
import pytest
from figure_files import HEIGHT, WIDTH, square
from report_files import Page, make_evaluation, read_rows, write_mask, write_table
from tiny import ROOT

from lesion_d2.errors import LesionError
from lesion_d2.files import write_json
from lesion_d2.report import write
from lesion_d2.report.write import write_report
from lesion_d2.results.evaluation import find_dataset, find_evaluations
from lesion_d2.results.run import find_run

TOOL = ROOT / "tools" / "report.py"


@pytest.fixture
def folders(tmp_path):
    return make_evaluation(tmp_path)


def report(folders) -> Page:
    return Page(write_report(*folders).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Folders, HTML and what is in it, for tests that change nothing."""
    folders = make_evaluation(tmp_path_factory.mktemp("report"))
    html = write_report(*folders).read_text(encoding="utf-8")
    return folders, html, Page(html)


def test_every_section_is_there_and_well_formed(written):
    _, _, page = written
    assert page.errors == []
    sections = [section["id"] for section in page.all("section")]
    assert sections == [
        *("what", "metrics", "losses", "distribution", "factors", "calibration"),
        *("sheet-worst", "sheet-median", "sheet-best", "images"),
    ]
    assert len(page.all("h1")) == 1
    charts = [svg for svg in page.all("svg") if svg.get("class") == "chart"]
    assert len(charts) == 1 + 2 + 5 + 2
    assert all(chart["role"] == "img" and chart["aria-label"] for chart in charts)
    assert all(image["alt"] for image in page.all("img"))
    assert {"lang": "en"} in page.all("html")
    assert any(meta.get("name") == "viewport" for meta in page.all("meta"))


def test_values_are_those_of_the_files(written):
    folders, _, page = written
    text = page.text
    metrics = json.loads((folders[0] / "metrics.json").read_text())
    for name in ("max_iou", "jaccard", "threshold_jaccard", "dice", "sensitivity", "accuracy"):
        mean, low, high = (f"{metrics[f'mean_{name}{end}']:.4f}" for end in ("", "_low", "_high"))
        assert f"{mean}{low}–{high}" in text
    for row in read_rows(folders[0]):
        assert f"{row['isic_id']} IoU {float(row['jaccard']):.3f} score" in text
    for value in ("f" * 64, "a" * 64, "b" * 64, "output/run/model_best.pth", "torch 2.9.9"):
        assert value in text
    assert "Viewsidentity, horizontal" in text
    assert "the originals" in text
    assert "SOLVER: ITERS_PER_EPOCH: 40" in text


def test_nothing_is_fetched(written):
    _, html, page = written
    assert not re.search(r"https?://|url\((?!#)|@import|<link|<iframe|xlink", html)
    for _, attributes in page.tags:
        for name in ("src", "href"):
            assert attributes.get(name, "#").startswith(("#", "data:image/"))


def test_every_internal_link_resolves_once(written):
    _, _, page = written
    assert len(set(page.ids)) == len(page.ids)
    links = [
        attributes["href"][1:]
        for _, attributes in page.tags
        if attributes.get("href", "").startswith("#")
    ]
    assert set(links) <= set(page.ids)
    assert {"i30", "i31", "i32", "r30", "r31", "r32"} <= set(links)


def test_pictures_show_both_outlines(written):
    _, _, page = written
    uses = [use["href"] for use in page.all("use") if use.get("class") == "prediction"]
    assert {"#worst30p", "#worst31p"} <= set(uses)
    assert "#worst32p" not in uses  # nothing was found
    assert "#worst32t" in [use["href"] for use in page.all("use")]
    data = page.all("img")[0]["src"].removeprefix("data:image/jpeg;base64,")
    image = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
    assert image.shape == (HEIGHT, WIDTH, 3)
    assert "nothing found" in page.text


def test_sheets_are_sorted_by_the_submitted_mask(written):
    _, html, _ = written
    order = {
        which: re.findall(r'<use class="halo" href="#' + which + r'(\d+)t"', html)
        for which in ("worst", "median", "best")
    }
    assert order == {
        "worst": ["32", "31", "30"],
        "median": ["31", "30", "32"],
        "best": ["30", "31", "32"],
    }


@pytest.mark.parametrize(
    ("estimated", "words"), [(True, "estimated 0.90"), (False, "tools/tune.py")]
)
def test_calibration_with_and_without_a_confidence_model(tmp_path, estimated, words):
    text = report(make_evaluation(tmp_path, estimated)).text
    assert words in text
    assert ("tools/tune.py" in text) != estimated
    assert "AUROC 1.000" in text


def test_equal_input_gives_an_equal_file(written, tmp_path):
    folders, html, _ = written
    again = write_report(*folders, tmp_path / "again.html")
    assert again.read_text(encoding="utf-8") == html


def test_hostile_names_stay_text(folders):
    evaluation, _, run = folders
    evil = "<script>alert('x')<&\" onload=1"  # no slash: it names a file
    rows = read_rows(evaluation)
    rows[0]["isic_id"] = evil
    write_table(evaluation, rows)
    write_mask(evaluation, rows[0]["isic_id"], square(10))
    metrics = json.loads((evaluation / "metrics.json").read_text())
    metrics |= {"weights": evil, "versions": {evil: evil}, "views": [evil]}
    (evaluation / "metrics.json").write_text(json.dumps(metrics))
    with open(run / "config.yaml", "a") as stream:
        stream.write("NAME: </pre></details><script>alert(2)</script>\n")
    page = report(folders)
    assert page.errors == []
    assert len(page.all("script")) == 1
    assert not any("onload" in attributes for _, attributes in page.tags)
    assert page.text.count(evil) >= 5
    assert "<script>alert(2)</script>" in page.text


def test_without_a_run_there_are_no_losses(folders):
    page = Page(write_report(folders[0], folders[1]).read_text(encoding="utf-8"))
    assert "losses" not in page.ids
    assert "Config of the run" not in page.text
    assert "distribution" in page.ids


def test_what_the_evaluation_did_not_record_is_said(folders):
    change(weights="gone", versions="gone", views="gone", instances_per_image=3)(*folders)
    text = report(folders).text
    assert "3 images, weights not recorded" in text
    assert "Viewsnot recorded" in text
    assert "Most instances of an image3" in text
    assert "Longer side in the network, at mostnot recorded" in text


def test_a_single_image_has_a_report(folders):
    evaluation = folders[0]
    rows = read_rows(evaluation)[:1]
    write_table(evaluation, rows)
    page = report(folders)
    assert "review-figure_1" not in page.ids  # nothing failed
    assert page.text.count("n = 1") == 0
    assert len(page.all("img")) == 3


def test_flipped_copies_have_a_row_and_no_picture(folders):
    rows = read_rows(folders[0])
    rows.append({**rows[0], "image_id": 10_000_030})
    write_table(folders[0], rows)
    page = report(folders)
    assert "r10000030" in page.ids
    assert "i10000030" not in page.ids
    assert "ISIC_0000030 no picture" in page.text
    assert "flipped copies: 1 of 4 images" in page.text


def spoil_json(name):
    return lambda evaluation, dataset, run: (evaluation / name).write_text("{")


def without(name):
    return lambda evaluation, dataset, run: (evaluation / name).unlink()


def change(**values):
    def spoil(evaluation, dataset, run):
        path = evaluation / "metrics.json"
        metrics = json.loads(path.read_text()) | values
        path.write_text(json.dumps({k: v for k, v in metrics.items() if v != "gone"}))

    return spoil


def drop_column(evaluation, dataset, run):
    path = evaluation / "per_image.csv"
    path.write_text(path.read_text().replace("jaccard", "other", 1))


def cut_table(evaluation, dataset, run):
    path = evaluation / "per_image.csv"
    path.write_text(path.read_text().rpartition("32,ISIC")[0])


MASK = "submission/ISIC_0000031_segmentation.png"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without("metrics.json"), "metrics.json: cannot be read.*tools/eval.py"),
        (spoil_json("metrics.json"), "metrics.json: not JSON"),
        (change(mean_dice="gone"), "metrics.json: lacks the key 'mean_dice'"),
        (change(mean_dice="high"), "metrics.json: no number at mean_dice"),
        (change(misses=None), "metrics.json: no number at misses"),
        (change(num_images=4), "holds 3 images, metrics.json says 4"),
        (without("per_image.csv"), "per_image.csv: cannot be read"),
        (drop_column, "per_image.csv: .*jaccard"),
        (cut_table, "holds 2 images, metrics.json says 3"),
        (without(MASK), "ISIC_0000031_segmentation.png: not a readable mask.*tools/eval.py"),
        (spoil_json(MASK), "ISIC_0000031_segmentation.png: not a readable mask"),
        (lambda e, d, run: (run / "config.yaml").unlink(), "config.yaml: not found"),
        (lambda e, d, run: (run / "metrics.json").write_text(""), "metrics.json: holds no line"),
        (lambda e, data, r: (data / "test.json").unlink(), "test.json: cannot be read"),
        (
            lambda e, data, r: (data / "images" / "ISIC_0000031.png").write_bytes(b"x"),
            "ISIC_0000031.png: cannot be used",
        ),
    ],
)
def test_broken_files_are_one_error_and_no_page(folders, spoil, message):
    spoil(*folders)
    with pytest.raises(LesionError, match=message):
        write_report(*folders)
    assert not (folders[0] / "report.html").exists()


def noisy_copies(folders, count):
    """Make the evaluation one of ``count`` images of noise, whose pictures are large."""
    evaluation, dataset, _ = folders
    path = dataset / "test.json"
    coco = json.loads(path.read_text())
    image, mark = coco["images"][0], coco["annotations"][0]
    noise = np.random.default_rng(0).integers(0, 256, (192, 256, 3), dtype=np.uint8)
    mask = np.zeros((192, 256), np.uint8)
    mask[40:100, 60:140] = 1
    for number in range(count):
        cv2.imwrite(str(dataset / "images" / f"{number}.png"), noise)
        write_mask(evaluation, str(number), mask)
    image |= {"height": 192, "width": 256}
    mark["segmentation"] = [[60.0, 40.0, 140.0, 40.0, 140.0, 100.0, 60.0, 100.0]]
    coco["images"] = [
        image | {"id": number, "isic_id": str(number), "file_name": f"images/{number}.png"}
        for number in range(count)
    ]
    coco["annotations"] = [mark | {"image_id": number} for number in range(count)]
    path.write_text(json.dumps(coco))
    row = read_rows(evaluation)[0]
    rows = [
        row | {"image_id": number, "isic_id": number, "jaccard": number / count}
        for number in range(count)
    ]
    write_table(evaluation, rows)


@pytest.mark.parametrize(("limit", "pictures"), [(8_000_000, 82), (4_416_000, 64)])
def test_the_page_keeps_to_its_size(folders, monkeypatch, limit, pictures):
    count = 82
    noisy_copies(folders, count)
    monkeypatch.setattr(write, "PAGE_LIMIT", limit)
    path = write_report(*folders)
    page = Page(path.read_text(encoding="utf-8"))
    assert path.stat().st_size < limit
    shown = [name for name in page.ids if re.fullmatch(r"i\d+", name)]
    assert len(shown) == pictures
    assert page.text.count("no picture") == count - pictures
    # All of the contact sheets, and then the worst.
    assert {f"i{n}" for n in (*range(20), *range(62, 82))} <= set(shown)


# --- finding folders, and the tool


def test_folders_are_found(folders, tmp_path, monkeypatch):
    evaluation, dataset, run = folders
    assert find_evaluations(run) == find_evaluations(evaluation) == [evaluation]
    assert find_run(evaluation) == run
    summary = json.loads((evaluation / "metrics.json").read_text())
    for weights, made in ((run / "model_best.pth", True), ("pretrained", False)):
        write_json(evaluation / "metrics.json", summary | {"weights": str(weights)})
        assert (find_run(evaluation) == run) == made
    (run / "model_best.pth").write_bytes(b"weights")
    for content, made in ((b"weights", True), (b"others", False)):  # of a run that was renamed
        known = {"weights": "earlier/model_best.pth", "weights_sha256": sha256(content).hexdigest()}
        write_json(evaluation / "metrics.json", summary | known)
        assert (find_run(evaluation) == run) == made
    (run / "metrics.json").unlink()
    assert find_run(evaluation) is None
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    assert find_dataset(evaluation) == dataset
    monkeypatch.setenv("DETECTRON2_DATASETS", str(run))
    with pytest.raises(LesionError, match="--dataset"):
        find_dataset(evaluation)
    with pytest.raises(LesionError, match="holds no evaluation"):
        find_evaluations(tmp_path)


def run_tool(monkeypatch, *arguments) -> int:
    monkeypatch.setattr(sys, "argv", ["report.py", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(TOOL), run_name="__main__")
    return stop.value.code


def test_tool_writes_the_report_of_a_run(folders, tmp_path, monkeypatch, capsys):
    evaluation, dataset, run = folders
    assert run_tool(monkeypatch, run, "--dataset", dataset) == 0
    assert capsys.readouterr().out.strip() == str(evaluation / "report.html")
    output = tmp_path / "new" / "page.html"
    assert run_tool(monkeypatch, evaluation, "--dataset", dataset, "--output", output) == 0
    assert output.read_bytes() == (evaluation / "report.html").read_bytes()


def test_tool_says_what_is_wrong_in_one_line(folders, tmp_path, monkeypatch, capsys):
    assert run_tool(monkeypatch, tmp_path) == 1
    (error,) = capsys.readouterr().err.splitlines()
    assert "holds no evaluation" in error
    other = folders[2] / "eval" / "other_test"
    other.mkdir()
    (other / "per_image.csv").touch()
    assert run_tool(monkeypatch, folders[2], "--output", tmp_path / "x.html") == 1
    (error,) = capsys.readouterr().err.splitlines()
    assert "holds 2 evaluations" in error


def test_a_report_needs_no_torch():
    code = (
        "import sys, lesion_d2.report.write; "
        "print([m for m in ('torch', 'detectron2', 'matplotlib.pyplot') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
