"""The page of tools/serve.py in a real browser: Debian's chromium, driven by Playwright."""

import csv
import json
import re
import shutil
import signal
import socket
import zipfile
from functools import partial

import cv2
import httpx2
import numpy as np
import pytest
import shapely
from axe_playwright_python.sync_playwright import Axe
from matplotlib.path import Path as Outline
from playwright.sync_api import expect, sync_playwright
from serving import drawn_jpeg, rings_of, running, send
from tiny import ROOT, python

from lesion_d2 import LesionPredictor
from lesion_d2.commands.predict import predict_files
from lesion_d2.images.fill import fill_rings
from lesion_d2.images.inputs import find_images
from lesion_d2.results.predictions import PredictionFolder
from lesion_d2.web.app import outline_app, review_app
from lesion_d2.web.guard import PLACES
from lesion_d2.web.review import Review

expect.set_options(timeout=30_000)
DESK, PHONE = {"width": 1200, "height": 900}, {"width": 390, "height": 844}
# Dropping files as a hand does: the browser's own events, with files made on the page.
DROP = """async (files) => {
  const data = new DataTransfer();
  for (const [name, bytes] of files) data.items.add(new File([new Uint8Array(bytes)], name));
  const target = document.getElementById("drop");
  const init = { dataTransfer: data, bubbles: true, cancelable: true };
  for (const kind of ["dragenter", "dragover", "drop"]) {
    target.dispatchEvent(new DragEvent(kind, init));
  }
}"""

# A folder as a browser gives it; one folder and one file in it cannot be read.
DROP_FOLDER = """(bytes) => {
  const fail = (_, reject) => reject(new DOMException("", "NotReadableError"));
  const file = (path, read) => ({ isFile: true, fullPath: path, file: read ?? ((resolve) => {
    resolve(new File([new Uint8Array(bytes)], path.split("/").at(-1)));
  }) });
  const folder = (path, ...found) => ({ fullPath: path, createReader: () => ({
    readEntries: (resolve) => resolve(found.splice(0)),
  }) });
  const unreadable = { fullPath: "/DCIM/102", createReader: () => ({ readEntries: fail }) };
  const top = folder("/DCIM", unreadable, folder("/DCIM/100", file("/DCIM/100/IMG_1.JPG")),
    folder("/DCIM/101", file("/DCIM/101/IMG_1.JPG"), file("/DCIM/101/2.jpg", fail)));
  const event = new Event("drop", { cancelable: true });
  event.dataTransfer = { items: [{ webkitGetAsEntry: () => top }] };
  document.dispatchEvent(event);
}"""


@pytest.fixture(scope="module")
def model():
    return LesionPredictor.pretrained(["MODEL.DEVICE", "cpu"])


@pytest.fixture(scope="module")
def url(model):
    with running(outline_app(model, 2)) as address:
        yield address


@pytest.fixture(scope="module")
def browser():
    chromium = shutil.which("chromium")
    if not chromium:
        pytest.skip("no chromium on this computer, which these tests drive: apt-get install it")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser):
    """Function (address, settings of the context) -> page; fails on what goes wrong in it."""
    contexts, wrong = [], []

    def open_page(address, **settings):
        context = browser.new_context(**{"viewport": DESK, **settings})
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on(
            "request",
            lambda request: (
                None
                if request.url.startswith((address, "data:", "blob:"))
                else wrong.append(f"asks {request.url}")
            ),
        )
        page.on(
            "console",
            lambda message: wrong.append(message.text) if "Security" in message.text else None,
        )
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []


def choose(page, *indices, name="lesion{}.jpg"):
    files = [
        {"name": name.format(i), "mimeType": "image/jpeg", "buffer": drawn_jpeg(i)} for i in indices
    ]
    page.set_input_files("#files", files)
    expect(page.locator("#status")).to_contain_text(f"{len(indices)} of {len(indices)} pictures")


def shown_rings(page):
    path = page.locator("#picture .line").get_attribute("d")
    return [
        [[float(number) for number in point.split(" ")] for point in ring.split("L")]
        for ring in re.findall(r"M(.*?)Z", path)
    ]


def drawn_points(page):
    circles = page.locator("#picture circle")
    return np.array(
        [[float(circle.get_attribute(name)) for name in ("cx", "cy")] for circle in circles.all()]
    )


def assert_filled(mask, points):
    """Compare with matplotlib: lesion is a pixel whose centre is inside; on the line, either."""
    height, width = mask.shape
    y, x = np.mgrid[:height, :width] + 0.5
    centres = np.column_stack([x.ravel(), y.ravel()])
    inside = Outline([*points, points[0]], closed=True).contains_points(centres)
    on_line = shapely.dwithin(shapely.points(centres), shapely.LinearRing(points), 1e-6)
    assert on_line.sum() < 100
    assert inside.any()
    assert set(np.unique(mask)) == {0, 255}
    np.testing.assert_array_equal(mask.ravel()[~on_line] == 255, inside[~on_line])


def downloaded(page, press):
    with page.expect_download() as download:
        press()
    data = np.fromfile(download.value.path(), np.uint8)
    return download.value.suggested_filename, cv2.imdecode(data, cv2.IMREAD_UNCHANGED)


def drag(page, point, dx, dy):
    box = page.locator("#picture circle").nth(point).bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + dx, y + dy, steps=4)
    page.mouse.up()


def assert_accessible(page):
    results = Axe().run(page).response["violations"]
    serious = [v for v in results if v["impact"] in ("serious", "critical")]
    found = [(v["id"], [node["html"] for node in v["nodes"]]) for v in serious]
    assert found == []


def test_three_dropped_pictures_show_the_outlines_of_the_api(visit, url):
    page = visit(url)
    pictures = [(f"{index}.jpg", list(drawn_jpeg(index))) for index in range(3)]
    page.evaluate(DROP, pictures)
    expect(page.locator("#status")).to_contain_text("3 of 3 pictures")
    for index in range(3):
        page.get_by_role("button", name=f"{index}.jpg").click()
        answer = send(url, drawn_jpeg(index)).json()
        assert shown_rings(page) == rings_of(answer["polygons"])
        facts = page.locator("#facts")
        expect(facts).to_contain_text(f"{answer['word']} ({answer['estimated_iou']:.2f})")
        expect(facts).to_contain_text(f"{answer['area_pixels']:,} pixels")
        page.fill("#scale", "10")
        expect(facts).to_contain_text(f"{answer['longest_diameter_pixels'] / 10:.2f} mm")
        expect(facts).to_contain_text(f"{answer['area_pixels'] / 100:,.2f} mm²")
        name, mask = downloaded(page, page.locator("#mask").click)
        assert name == f"{index}_segmentation.png"
        expected = fill_rings(rings_of(answer["polygons"]), (384, 512))
        np.testing.assert_array_equal(mask == 255, expected)


def test_the_mask_is_what_was_drawn(visit, url):
    page = visit(url)
    choose(page, 0)
    model = shown_rings(page)
    page.click("#correct")
    before = drawn_points(page)
    drag(page, 3, 70, -50)
    after = drawn_points(page)
    assert np.flatnonzero((before != after).any(axis=1)).tolist() == [3]
    assert (after[3] - before[3] != 0).all()
    expect(page.locator("#facts")).to_contain_text("corrected by hand")
    _, mask = downloaded(page, page.locator("#mask").click)
    assert_filled(mask, after)
    expect(page.locator("#facts")).to_contain_text(f"{np.count_nonzero(mask):,} pixels")
    page.get_by_role("button", name="Undo").click()
    np.testing.assert_array_equal(drawn_points(page), before)
    page.get_by_role("button", name="Redo").click()
    np.testing.assert_array_equal(drawn_points(page), after)
    page.get_by_role("button", name="Reset").click()
    page.click("#correct")
    assert shown_rings(page) == model
    answer = send(url, drawn_jpeg(0)).json()
    expect(page.locator("#facts")).to_contain_text(f"{answer['area_pixels']:,} pixels")


def test_points_are_added_and_deleted_and_the_view_moves(visit, url):
    page = visit(url)
    choose(page, 1)
    page.click("#correct")
    before = drawn_points(page)
    longest = int(np.hypot(*(np.roll(before, -1, axis=0) - before).T).argmax())
    middle = (before[longest] + before[longest + 1]) / 2
    page.locator("#picture").scroll_into_view_if_needed()
    box = page.locator("#picture").bounding_box()
    world = page.locator("#picture > g")
    start = world.get_attribute("transform")
    left, top, scale = (float(value) for value in re.findall(r"[\d.]+", start))
    page.mouse.click(box["x"] + left + middle[0] * scale, box["y"] + top + middle[1] * scale)
    added = drawn_points(page)
    assert len(added) == len(before) + 1
    np.testing.assert_allclose(added[longest + 1], middle, atol=1)
    page.keyboard.press("Delete")  # the picture has the focus
    np.testing.assert_array_equal(drawn_points(page), before)
    page.mouse.move(box["x"] + 100, box["y"] + 100)
    page.mouse.wheel(0, -400)
    assert float(re.search(r"scale\((.*)\)", world.get_attribute("transform"))[1]) > 2 * scale
    page.mouse.move(box["x"] + 5, box["y"] + 5)
    page.mouse.down()
    page.mouse.move(box["x"] + 45, box["y"] + 25)
    page.mouse.up()
    assert world.get_attribute("transform") != start
    page.keyboard.press("0")
    assert world.get_attribute("transform") == start
    np.testing.assert_array_equal(drawn_points(page), before)


def test_by_keyboard_alone(visit, url):
    page = visit(url)
    choose(page, 2)

    def tab_to(name):
        for _ in range(30):
            page.keyboard.press("Tab")
            if page.evaluate("() => document.activeElement.id") == name:
                return
        raise AssertionError(f"no way to #{name}")

    tab_to("correct")
    page.keyboard.press("Enter")
    tab_to("picture")
    before = drawn_points(page)
    for key in ("n", "n", "ArrowRight", "ArrowRight", "Shift+ArrowDown"):
        page.keyboard.press(key)
    expected = before.copy()
    expected[1] += (2, 10)
    np.testing.assert_array_equal(drawn_points(page), expected)
    expect(page.locator("#status")).to_contain_text(f"point 2 of {len(before)}")
    page.keyboard.press("i")
    assert len(drawn_points(page)) == len(before) + 1
    page.keyboard.press("Control+z")
    page.keyboard.press("p")
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+y")
    np.testing.assert_array_equal(drawn_points(page), expected)
    tab_to("mask")
    _, mask = downloaded(page, lambda: page.keyboard.press("Enter"))
    assert_filled(mask, expected)


def test_what_cannot_be_outlined_says_why_and_names_are_text(visit, url):
    page = visit(url)
    name = '<img src=x onerror="document.title=1">.jpg'
    files = [
        {"name": name, "mimeType": "image/jpeg", "buffer": drawn_jpeg(0)},
        {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"hello"},
    ]
    page.set_input_files("#files", files)
    expect(page.locator("#status")).to_contain_text("1 of 2 pictures are outlined, 1 could not be")
    expect(page.get_by_role("button", name="notes.txt")).to_contain_text("no JPEG, PNG")
    expect(page.locator("#name")).to_have_text(name)
    assert page.title() == "Outlines of skin lesions"


def test_a_folder_and_a_busy_server(visit, url, tmp_path):
    for name in ("inner", ".hidden"):
        (tmp_path / name).mkdir()
    left_out = (
        ".c.jpg",
        ".hidden/d.jpg",
        "a_segmentation.png",
        "inner/b_segmentation.jpg",
        "e.txt",
    )
    for name in ("a.jpg", "inner/b.JPG", *left_out):
        (tmp_path / name).write_bytes(drawn_jpeg(0))
    host, port = url.removeprefix("http://").split(":")
    page = visit(url)
    head = f"POST /api/masks HTTP/1.1\r\nHost: {host}\r\nContent-Length: 9\r\n\r\n".encode()
    others = [socket.create_connection((host, int(port))) for _ in range(PLACES)]
    for other in others:
        other.sendall(head)
    page.set_input_files("#folder", tmp_path)
    page.wait_for_timeout(500)
    assert page.locator(".card").count() == 2
    assert page.locator("#view").is_hidden()
    for other in others:
        other.close()
    expect(page.locator("#status")).to_contain_text("2 of 2 pictures")
    expect(page.locator(".card .name")).to_have_text(
        [f"{tmp_path.name}/a.jpg", f"{tmp_path.name}/inner/b.JPG"]
    )


def test_equal_names_of_two_folders_stay_apart_and_what_cannot_be_read_is_said(visit, url):
    page = visit(url)

    def short_parts(route):
        answer = route.fetch()
        route.fulfill(response=answer, body=answer.text().replace("=== 1000", "=== 1"))

    page.route("**/outline.js", short_parts)
    page.reload()
    page.evaluate(DROP_FOLDER, list(drawn_jpeg(0)))
    status, cards = page.locator("#status"), page.locator(".card")
    expect(status).to_have_text("2 of 4 pictures are outlined, 2 could not be")
    names = ["DCIM/102", "DCIM/100/IMG_1.JPG", "DCIM/101/2.jpg", "DCIM/101/IMG_1.JPG"]
    assert sorted(cards.locator(".name").all_text_contents()) == sorted(names)
    for name in ("DCIM/102", "DCIM/101/2.jpg"):
        expect(cards.filter(has_text=name)).to_contain_text("not outlined: cannot be read")
    found = []
    page.on("download", lambda download: found.append(download))
    for button, last in (("Masks (zip)", "masks-2-of-2.zip"), ("COCO", "coco-2-of-2.json")):
        page.get_by_role("button", name=button).click()
        expect(status).to_contain_text(last)
    page.wait_for_timeout(500)
    masks, coco = [[d.path() for d in found[start : start + 2]] for start in (0, 2)]
    names = [zipfile.ZipFile(path).namelist() for path in masks]
    assert names == [[f"{folder}/IMG_1_segmentation.png"] for folder in (100, 101)]
    images = [json.loads(path.read_text())["images"] for path in coco]
    assert [(image["id"], image["file_name"]) for [image] in images] == [
        (1, "100/IMG_1.JPG"),
        (2, "101/IMG_1.JPG"),
    ]
    assert downloaded(page, page.locator("#mask").click)[0] == "IMG_1_segmentation.png"


def test_all_masks_in_one_file(visit, url):
    page = visit(url)
    choose(page, 0, 1, name="a{}.jpg")
    with page.expect_download() as download:
        page.get_by_role("button", name="Masks (zip)").click()
    with zipfile.ZipFile(download.value.path()) as archive:
        names = ["a0_segmentation.png", "a1_segmentation.png"]
        assert archive.namelist() == names
        for index, name in enumerate(names):
            mask = cv2.imdecode(np.frombuffer(archive.read(name), np.uint8), -1)
            answer = send(url, drawn_jpeg(index)).json()
            expected = fill_rings(rings_of(answer["polygons"]), (384, 512))
            np.testing.assert_array_equal(mask == 255, expected)
    with page.expect_download() as download:
        page.get_by_role("button", name="COCO").click()
    assert download.value.suggested_filename == "coco.json"


def test_a_correction_that_is_not_measured_is_not_downloaded(visit, url):
    page = visit(url)
    choose(page, 0, 1, name="a{}.jpg")
    page.get_by_role("button", name="a0.jpg").click()
    masks = page.get_by_role("button", name="Masks (zip)")
    card, facts, status = (
        page.locator(".card").first,
        page.locator("#facts"),
        page.locator("#status"),
    )
    downloads = []
    page.on("download", lambda download: downloads.append(download))
    problem = "not measured: too much at a time"
    page.route(
        "**/api/masks",
        lambda route: route.fulfill(status=413, json={"detail": "too much at a time"}),
    )
    page.click("#correct")
    drag(page, 3, 70, -50)
    drawn = drawn_points(page)
    for place in (card, facts, status):
        expect(place).to_contain_text(problem)
    page.click("#mask")
    expect(status).to_have_text(f"a0.jpg is not downloaded; {problem}")
    with page.expect_download() as download:
        masks.click()
    with zipfile.ZipFile(download.value.path()) as archive:
        assert archive.namelist() == ["a1_segmentation.png"]
    expect(status).to_have_text(f"masks.zip is downloaded; left out: a0.jpg, {problem}")
    expect(card).to_contain_text(problem)
    assert len(downloads) == 1

    page.unroute("**/api/masks")
    _, mask = downloaded(page, page.locator("#mask").click)
    assert_filled(mask, drawn)
    expect(card.locator(".state")).to_have_text("corrected by hand")
    expect(facts).to_contain_text(f"{np.count_nonzero(mask):,} pixels")
    with page.expect_download() as download:
        masks.click()
    with zipfile.ZipFile(download.value.path()) as archive:
        data = np.frombuffer(archive.read("a0_segmentation.png"), np.uint8)
    np.testing.assert_array_equal(cv2.imdecode(data, -1), mask)


def test_a_page_without_a_measured_picture_downloads_nothing(visit, url):
    page = visit(url)
    choose(page, 0)
    page.route("**/api/masks", lambda route: route.abort())
    page.click("#correct")
    drag(page, 3, 70, -50)
    page.get_by_role("button", name="COCO").click()
    expect(page.locator("#status")).to_contain_text("nothing is downloaded; left out: lesion0.jpg")


def test_on_a_phone(visit, url):
    page = visit(url, viewport=PHONE, has_touch=True, is_mobile=True)
    assert page.get_by_text("Take a photograph").is_visible()
    choose(page, 0, 1)
    page.click("#correct")
    assert page.evaluate("() => document.documentElement.scrollWidth") <= PHONE["width"]
    page.locator("#picture").scroll_into_view_if_needed()
    before = drawn_points(page)
    box = page.locator("#picture circle").nth(5).bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    touch = page.context.new_cdp_session(page)

    def event(kind, *points):
        places = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(points)]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": places})

    event("touchStart", (x, y))
    event("touchMove", (x + 20, y + 10))
    event("touchMove", (x + 40, y + 20))
    event("touchEnd")
    after = drawn_points(page)
    assert np.flatnonzero((before != after).any(axis=1)).tolist() == [5]
    picture = page.locator("#picture").bounding_box()
    left, top = picture["x"] + 30, picture["y"] + 30
    world = page.locator("#picture > g")
    scale = float(re.search(r"scale\((.*)\)", world.get_attribute("transform"))[1])
    event("touchStart", (left, top), (left + 40, top))
    event("touchMove", (left, top), (left + 80, top))
    event("touchEnd")
    wider = float(re.search(r"scale\((.*)\)", world.get_attribute("transform"))[1])
    assert wider == pytest.approx(2 * scale, rel=0.05)
    np.testing.assert_array_equal(drawn_points(page), after)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(visit, url, scheme):
    page = visit(url, color_scheme=scheme)
    dark = (
        page.evaluate("() => getComputedStyle(document.body).backgroundColor") == "rgb(17, 19, 22)"
    )
    assert dark == (scheme == "dark")
    assert_accessible(page)
    choose(page, 0, 1)
    page.click("#correct")
    for summary in page.locator("summary").all():
        summary.click()
    assert_accessible(page)


def test_the_page_of_the_api_needs_no_network(visit, url):
    page = visit(f"{url}/docs".removesuffix("/docs"))
    page.goto(f"{url}/docs")
    expect(page.get_by_text("/api/outlines")).to_be_visible()


# --- review ---


@pytest.fixture(scope="module")
def predictions(model, tmp_path_factory):
    """Folders of five drawn photographs and of their predictions."""
    root = tmp_path_factory.mktemp("review")
    photographs = root / "photographs"
    photographs.mkdir()
    for index in range(5):
        (photographs / f"case {index}.jpg").write_bytes(drawn_jpeg(index))
    files = find_images([str(photographs)])
    predict_files(model, files, PredictionFolder(root / "predictions"), overlays=False)
    return photographs, root / "predictions"


@pytest.fixture
def serve_review(predictions):
    """Function () -> process and address of tools/serve.py on those folders."""
    processes = []

    def start():
        photographs, folder = predictions
        options = ("--review", folder, "--images", photographs, "--port", 0)
        process = python(ROOT / "tools" / "serve.py", *options)
        processes.append(process)
        first = process.stdout.readline()
        return process, first, process.stdout.readline().split()[1].rstrip("/")

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_a_review_that_is_killed_goes_on(visit, serve_review, predictions):
    folder = predictions[1] / "reviewed"

    def decisions():
        with open(folder / "review.csv", newline="") as stream:
            return [(row["name"], row["decision"]) for row in csv.DictReader(stream)]

    process, first, address = serve_review()
    assert first.startswith("5 predictions, 0 decided")
    page = visit(address)
    count, name = page.locator("#count"), page.locator("#name")
    expect(count).to_have_text("0 of 5 decided")
    loaded = "() => performance.getEntriesByType('resource').map((entry) => entry.name)"
    expect(page.locator("#facts")).to_contain_text("none yet")
    page.wait_for_load_state("networkidle")
    pictures = [name for name in page.evaluate(loaded) if name.endswith("/picture")]
    assert [name.split("/")[-2] for name in pictures] == ["0", "1"]  # the next one, too
    assert_accessible(page)
    names = []
    for number, keys in enumerate(("a", "c", "r"), 1):
        expect(page.locator("#facts")).to_contain_text("none yet")
        names.append(name.text_content())
        if keys == "c":
            page.keyboard.press("c")
            drag(page, 2, 30, 20)
            drawn = drawn_points(page)
            page.keyboard.press("s")
        else:
            page.keyboard.press(keys)
        expect(count).to_have_text(f"{number} of 5 decided")
        assert len(decisions()) == number
    kinds = ["accept", "correct", "reject"]
    assert decisions() == list(zip(names, kinds, strict=True))
    expect(page.locator("#facts")).to_contain_text("none yet")
    process.send_signal(signal.SIGKILL)
    process.wait()
    page.keyboard.press("a")
    expect(page.locator("#status")).to_contain_text("the server does not answer")
    assert len(decisions()) == 3

    process, first, address = serve_review()
    assert first.startswith("5 predictions, 3 decided")
    page = visit(address)
    expect(page.locator("#count")).to_have_text("3 of 5 decided")
    masks = sorted(path.name for path in (folder / "masks").iterdir())
    assert masks == sorted(f"{name}_segmentation.png" for name in names[:2])
    corrected = cv2.imread(str(folder / "masks" / f"{names[1]}_segmentation.png"), -1)
    assert_filled(corrected, drawn)
    for number in (4, 5):
        expect(page.locator("#facts")).to_contain_text("none yet")
        page.keyboard.press("a")
        expect(page.locator("#count")).to_have_text(f"{number} of 5 decided")
    expect(page.get_by_text("All predictions are decided", exact=True)).to_be_visible()
    assert len({name for name, _ in decisions()}) == 5
    page.keyboard.press("b")
    expect(page.locator("#facts")).to_contain_text("accepted")
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 143


@pytest.fixture
def review(predictions, tmp_path):
    """A review of a copy of those folders."""
    photographs, folder = predictions
    ignore = shutil.ignore_patterns("reviewed")
    return Review(shutil.copytree(folder, tmp_path / "predictions", ignore=ignore), photographs)


def test_a_drawn_correction_is_saved_or_ended_before_the_picture_is_left(visit, review):
    with review.alone(), running(review_app(review)) as address:
        page = visit(address)
        facts, status = page.locator("#facts"), page.locator("#status")
        expect(facts).to_contain_text("none yet")
        first = page.locator("#name").text_content()
        page.keyboard.press("l")  # so that there is a picture to go back to
        expect(page.locator("#name")).not_to_have_text(first)
        expect(facts).to_contain_text("none yet")
        name = page.locator("#name").text_content()
        leave = """() => {
          const event = new Event("beforeunload", { cancelable: true });
          return window.dispatchEvent(event);
        }"""
        page.keyboard.press("c")
        assert page.evaluate(leave)  # nothing is drawn
        drag(page, 2, 30, 20)
        drawn = shown_rings(page)
        presses = [*(partial(page.keyboard.press, key) for key in "arbl")]
        presses += [
            page.locator(f"#{name}").click for name in ("accept", "reject", "back", "later")
        ]
        for press in presses:
            page.evaluate("() => { document.getElementById('status').textContent = ''; }")
            press()
            expect(status).to_have_text("save the correction with s, or end it with c")
            assert shown_rings(page) == drawn
        assert not page.evaluate(leave)
        expect(page.locator("#name")).to_have_text(name)
        assert not review.decisions
        page.keyboard.press("c")
        assert page.evaluate(leave)
        page.keyboard.press("b")
        expect(page.locator("#name")).to_have_text(first)


def test_only_a_picture_that_is_shown_is_decided(visit, review):
    with review.alone(), running(review_app(review)) as address:
        page = visit(address)
        posted, held = [], []
        page.on("request", lambda r: posted.append(r.url[-1]) if r.method == "POST" else None)
        page.route("**/api/review/2/picture", lambda route: held.append(route))  # the answer waits
        page.route("**/api/review/3/picture", lambda route: route.fulfill(body="damaged"))
        count, facts, status = (page.locator(f"#{name}") for name in ("count", "facts", "status"))
        buttons = [page.locator(f"#{name}") for name in ("accept", "correct", "reject")]
        expect(facts).to_contain_text("none yet")
        page.keyboard.press("a")
        expect(count).to_have_text("1 of 5 decided")
        expect(facts).to_contain_text("none yet")
        page.keyboard.press("c")
        drag(page, 2, 30, 20)
        for _ in range(2):
            page.keyboard.press("s")
        expect(count).to_have_text("2 of 5 decided")
        for key in "sacsr":
            page.keyboard.press(key)
        for button in buttons:
            expect(button).to_be_disabled()
        expect(page.locator("#save")).to_be_hidden()
        assert len(drawn_points(page)) == 0
        held[0].continue_()
        expect(facts).to_contain_text("none yet")
        assert posted == ["0", "1"]
        assert shown_rings(page) == rings_of(
            httpx2.get(f"{address}/api/review/2").json()["polygons"]
        )
        page.keyboard.press("a")
        expect(count).to_have_text("3 of 5 decided")
        expect(status).to_contain_text("cannot be decoded")
        page.keyboard.press("a")
        for button, disabled in zip(buttons, (True, True, False), strict=True):
            expect(button).to_be_disabled() if disabled else expect(button).to_be_enabled()
        page.keyboard.press("l")
        expect(facts).to_contain_text("none yet")
        page.keyboard.press("r")
        expect(count).to_have_text("4 of 5 decided")
        expect(status).to_contain_text("cannot be decoded")
        page.keyboard.press("r")
        expect(page.locator("#end")).to_be_visible()
        assert posted == ["0", "1", "2", "4", "3"]
    decisions = [review.decisions.get(item.name) for item in review.items]
    assert decisions == ["accept", "correct", "accept", "reject", "reject"]
