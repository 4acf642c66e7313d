"""The API of tools/serve.py: what it answers, and what it refuses."""

import asyncio
import base64
import io
import json
import re
import socket
import struct
import time
import zipfile
import zlib

import cv2
import httpx2
import numpy as np
import pytest
from fastapi.exceptions import RequestValidationError
from pycocotools import mask as coco_mask
from serving import drawn_jpeg, rings_of, running, send, send_raw
from tiny import ROOT

from lesion_d2 import LesionPredictor
from lesion_d2.images.fill import fill_rings
from lesion_d2.images.source import SUFFIXES
from lesion_d2.prediction.confidence import WORDS
from lesion_d2.web.app import STATIC, outline_app
from lesion_d2.web.guard import MAX_BYTES, PLACES
from lesion_d2.web.outlines import plain_name

TOKEN = "a-token-of-a-test"
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def model():
    return LesionPredictor.pretrained(["MODEL.DEVICE", "cpu"])


@pytest.fixture(scope="module")
def url(model):
    with running(outline_app(model, 2), stall=1.0) as address:
        yield address


@pytest.fixture(scope="module")
def guarded(model):
    with running(outline_app(model, 1), token=TOKEN, names=["desk.local"]) as address:
        yield address


def decoded(png):
    return cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)


def form(name, content, boundary=b"frontier"):
    head = b'Content-Disposition: form-data; name="%s"; filename="x.jpg"' % name
    return b"--%s\r\n%s\r\n\r\n%s\r\n--%s--\r\n" % (boundary, head, content, boundary)


def request(body, length=None, host=b"localhost", extra=b""):
    size = len(body) if length is None else length
    return (
        b"POST /api/outlines HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n%sContent-Type: "
        b"multipart/form-data; boundary=frontier\r\n\r\n%s" % (host, size, extra, body)
    )


# --- answers ---


def test_an_outline_is_the_predictors(url, model):
    data = drawn_jpeg(1)
    answer = send(url, data).json()
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    (lesion,) = model([image], channels="BGR")
    rings = rings_of(answer["polygons"])
    np.testing.assert_array_equal(fill_rings(rings, lesion.mask.shape), lesion.mask)
    assert answer["box"] == list(lesion.box)
    assert answer["area_pixels"] == lesion.mask.sum()
    assert answer["longest_diameter_pixels"] == pytest.approx(lesion.longest_diameter, abs=0.01)
    assert (answer["score"], answer["estimated_iou"]) == (lesion.score, lesion.estimated_iou)
    assert answer["estimated_iou"] >= WORDS["sure"]
    assert answer["word"] == "sure"
    assert answer["model_sha256"] == model.settings["weights_sha256"]
    assert answer["picture"] is None
    few = fill_rings(answer["rings"], lesion.mask.shape)
    assert (few & lesion.mask).sum() / (few | lesion.mask).sum() > 0.98
    assert 4 * len(answer["rings"][0]) < len(rings[0])
    np.testing.assert_array_equal(
        decoded(send(url, data, answer="png").content) == 255, lesion.mask
    )


def test_the_client_of_the_document_works(url, tmp_path, monkeypatch, capsys):
    text = (ROOT / "docs" / "serve.md").read_text(encoding="utf-8")
    snippet = text.partition("```python\n")[2].partition("```")[0]
    assert len(snippet.splitlines()) <= 12
    photograph = tmp_path / "lesion.jpg"
    photograph.write_bytes(drawn_jpeg(1))
    monkeypatch.setattr("sys.argv", ["client.py", str(photograph)])
    exec(snippet.replace("http://127.0.0.1:8000", url), {})
    assert capsys.readouterr().out.startswith("sure 0.")


def test_the_picture_is_shown_as_it_is_to_be_seen(url):
    data = drawn_jpeg(2)
    # Orientation 6: turned by a quarter.
    tiff = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    exif = b"Exif\0\0" + tiff
    turned = data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]
    answer = send(url, turned, picture="true").json()
    assert (answer["width"], answer["height"]) == (384, 512)
    head, _, text = answer["picture"].partition(",")
    assert head == "data:image/jpeg;base64"
    shown = decoded(base64.b64decode(text))
    assert shown.shape == (512, 384, 3)
    expected = np.rot90(decoded(data), -1)
    assert np.abs(shown.astype(int) - expected).mean() < 3


def test_a_drawn_outline_is_filled_and_measured(url):
    drawn = {"width": 40, "height": 30, "rings": [[[2, 2], [12.4, 2], [12.4, 8.6], [2, 8.6]]]}
    answer = httpx2.post(f"{url}/api/masks", json=drawn).json()
    assert answer["area_pixels"] == 10 * 7
    assert answer["box"] == [2, 2, 12, 9]
    assert answer["longest_diameter_pixels"] == pytest.approx(np.hypot(9, 6), abs=0.01)
    assert len(answer["polygons"]) == 1
    mask = decoded(httpx2.post(f"{url}/api/masks?answer=png", json=drawn).content)
    expected = np.zeros((30, 40), np.uint8)
    expected[2:9, 2:12] = 255
    np.testing.assert_array_equal(mask, expected)


def test_many_masks_are_one_zip_and_no_name_is_a_path(url):
    answer = send(url, drawn_jpeg(0)).json()
    names = ["a.jpg", "../../etc/cron.d/a", "C:\\x\\A.png", "/", "..", "<b>.jpg", "\u0130\0\n.jpg"]
    picture = {key: answer[key] for key in ("width", "height", "polygons")}
    content = {"pictures": [{"name": name, **picture} for name in names]}
    reply = httpx2.post(f"{url}/api/files", json=content, timeout=30)
    archive = zipfile.ZipFile(io.BytesIO(reply.content))
    found = [name.removesuffix("_segmentation.png") for name in archive.namelist()]
    assert len({name.casefold() for name in found}) == len(names)
    assert found[:3] == ["a", "etc/cron.d/a", "C_/x/A"]
    assert not [name for name in found if set("\\<>:\0\n") & set(name) or name.startswith("/")]
    assert not [part for name in found for part in name.split("/") if part[:1] in ("", ".")]
    masks = [decoded(archive.read(name)) for name in archive.namelist()]
    expected = fill_rings(rings_of(answer["polygons"]), (answer["height"], answer["width"]))
    assert all(np.array_equal(mask == 255, expected) for mask in masks)


@pytest.mark.parametrize("name", ["", ".", "...", "a" * 5000, "con\r\nx: y.jpg", "\u202egpj.exe"])
def test_any_name_becomes_a_plain_one(name):
    stem, suffix = plain_name(name, {})
    assert 0 < len(stem) <= 100
    assert stem.isprintable()
    assert suffix in ("", ".jpg", ".exe")


def test_files_that_go_on_share_no_name_and_no_id(url):
    region = {"exterior": [[0, 0], [2, 0], [2, 2], [0, 2]], "holes": []}
    shape = {"width": 4, "height": 3, "polygons": [region]}
    names = ["100/a.JPG", "101/a.JPG", "b.jpg", "B.png", "?.jpg", "*.jpg", "b (2).jpg"]
    found, ids = [], []
    for index in range(0, len(names), 2):
        content = {
            "pictures": [{"name": name, **shape} for name in names[index : index + 2]],
            "before": names[:index],
        }
        reply = httpx2.post(f"{url}/api/files", json=content)
        found += zipfile.ZipFile(io.BytesIO(reply.content)).namelist()
        coco = httpx2.post(f"{url}/api/files?answer=coco", json=content).json()
        for annotation, image in zip(coco["annotations"], coco["images"], strict=True):
            assert image["id"] == annotation["image_id"] == annotation["id"]
            ids.append(image["id"])
    stems = ["100/a", "101/a", "b", "B (2)", "_", "_ (2)", "b (2) (2)"]
    assert found == [f"{stem}_segmentation.png" for stem in stems]
    assert ids == list(range(1, len(names) + 1))


def test_many_equal_names_take_no_long_time():
    taken = {}
    names = [plain_name("image.jpg", taken)[0] for _ in range(200_000)]
    assert (names[0], names[-1]) == ("image", "image (200000)")


def test_coco_and_labelme_hold_the_same_masks(url):
    answers = [send(url, drawn_jpeg(index)).json() for index in (0, 1)]
    keys = ("width", "height", "polygons", "score", "estimated_iou")
    pictures = [
        {"name": f"folder/{number} x.JPG", **{key: answer[key] for key in keys}}
        for number, answer in enumerate(answers)
    ]
    pictures[1].update(score=None, estimated_iou=None)  # corrected
    expected = [fill_rings(rings_of(a["polygons"]), (a["height"], a["width"])) for a in answers]
    content = {"pictures": pictures}
    coco = httpx2.post(f"{url}/api/files?answer=coco", json=content, timeout=30).json()
    assert [image["file_name"] for image in coco["images"]] == ["folder/0 x.JPG", "folder/1 x.JPG"]
    assert coco["info"]["weights_sha256"] == answers[0]["model_sha256"]
    first, second = coco["annotations"]
    assert first["estimated_iou"] == answers[0]["estimated_iou"]
    assert "score" not in second
    for annotation, mask in zip(coco["annotations"], expected, strict=True):
        rle = {
            **annotation["segmentation"],
            "counts": annotation["segmentation"]["counts"].encode(),
        }
        np.testing.assert_array_equal(coco_mask.decode(rle), mask)
    reply = httpx2.post(f"{url}/api/files?answer=labelme", json=content, timeout=30)
    archive = zipfile.ZipFile(io.BytesIO(reply.content))
    assert archive.namelist() == ["folder/0 x.json", "folder/1 x.json"]
    for name, mask in zip(archive.namelist(), expected, strict=True):
        labelme = json.loads(archive.read(name))
        assert labelme["imagePath"] == name.removeprefix("folder/").replace(".json", ".JPG")
        rings = [shape["points"] for shape in labelme["shapes"]]
        np.testing.assert_array_equal(fill_rings(rings, mask.shape), mask)


# --- refusals: one clear answer each, and the server goes on ---


def png_bomb():
    """A PNG of 30,000 x 30,000 pixels in some bytes."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(
            ">I", zlib.crc32(content, zlib.crc32(name))
        )  # fmt: skip

    head = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(1_000_000))
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "status", "message"),
    [
        (b"", 422, "0 bytes"),
        (b"hello", 422, "no JPEG, PNG"),
        (b"%PDF-1.7", 422, "no JPEG, PNG"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 422, "no JPEG, PNG"),
        (drawn_jpeg(0)[:9000], 422, "Premature end"),
        (png_bomb(), 413, "900000000 pixels"),
        (bytes(MAX_BYTES + 1), 413, "64 MB"),
    ],
    ids=["empty", "text", "pdf", "svg", "cut", "bomb", "large"],
)
def test_a_bad_file_is_named(url, data, status, message):
    answer = send(url, data)
    assert answer.status_code == status
    assert message in answer.json()["detail"]
    assert send(url, drawn_jpeg(0)).status_code == 200


@pytest.mark.parametrize(
    ("settings", "status"),
    [
        ({"content": b"x"}, 400),
        ({"content": b"x", "headers": {"Content-Type": "multipart/form-data"}}, 400),
        ({"data": {"photograph": "x"}}, 400),
        ({"files": {"other": b"x"}}, 400),
        ({"files": [("photograph", b"x"), ("photograph", b"y")]}, 400),
        ({"files": {"photograph": b"x"}, "data": {str(n): "" for n in range(20)}}, 400),
        ({"params": {"answer": "gif"}, "files": {"photograph": b"x"}}, 422),
    ],
    ids=["no form", "no boundary", "no file", "other name", "two files", "many fields", "gif"],
)
def test_a_wrong_form_is_said(url, settings, status):
    answer = httpx2.post(f"{url}/api/outlines", **settings)
    assert (answer.status_code, bool(answer.json()["detail"])) == (status, True)


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("masks", {"width": 10, "height": 10**9, "rings": []}),
        ("masks", {"width": 10, "height": 10, "rings": [[["x", 1]]]}),
        ("masks", {"width": 60_000, "height": 60_000, "rings": []}),
        ("masks", {"width": 30, "height": 30, "rings": [[[1e308, 0.5], [-1e308, 10], [0, 20]]]}),
        ("files", {"pictures": []}),
        (
            "files",
            {"pictures": [{"name": "a", "width": 13_000, "height": 13_000, "polygons": []}] * 150},
        ),
        ("files", {"pictures": [{"name": "a", "width": 60_000, "height": 60_000, "polygons": []}]}),
    ],
)
def test_a_wrong_outline_is_said(url, path, content):
    answer = httpx2.post(f"{url}/api/{path}", json=content)
    assert answer.status_code == 422
    assert answer.json()["detail"]


def test_a_long_outline_is_said(url):
    ring = [[0.123456, 1]] * 700_000
    answer = httpx2.post(f"{url}/api/masks", json={"width": 9, "height": 9, "rings": [ring]})
    assert answer.status_code == 413
    assert "more than 8 MB" in answer.json()["detail"]


MANY = [0] * 100_000


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("masks", {"width": 9, "height": 9, "rings": MANY}),
        ("masks", {"width": 9, "height": 9, "rings": [MANY]}),
        ("masks", {"width": 9, "height": 9, "rings": [[]] * 9 + [[["x", 1]]] * 50_000}),
        ("masks", {"rings": [MANY]}),
        ("masks", {"width": float("nan"), "height": 9, "rings": []}),
        ("files", {"pictures": [{"polygons": MANY}] * 3}),
        ("files", {"pictures": MANY[:1000]}),
        (
            "files",
            {
                "pictures": [
                    {
                        "name": "a", "width": 9, "height": 9,
                        "polygons": [{"exterior": MANY, "holes": MANY}] * 9,
                    }
                ]
            },
        ),
    ],
)  # fmt: skip
def test_of_many_faults_the_first_is_said(url, path, body, monkeypatch):
    made = []
    kept = RequestValidationError.__init__

    def counted(self, errors, **settings):
        made.extend(errors)
        kept(self, errors, **settings)

    monkeypatch.setattr(RequestValidationError, "__init__", counted)
    answer = httpx2.post(f"{url}/api/{path}", content=json.dumps(body), headers=JSON, timeout=30)
    assert answer.status_code == 422
    (fault,) = answer.json()["detail"]
    assert set(fault) == {"type", "loc", "msg"}
    assert len(answer.content) < 300
    assert 0 < len(made) < 10


def rectangle(x0, y0, x1, y1):
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]


@pytest.mark.parametrize(("side", "status"), [(20, 200), (400, 422)])
def test_stripes_that_cross_are_refused_when_their_squares_are_too_many(url, side, status):
    upright = [rectangle(start, 0, start + 1, side) for start in range(0, side, 2)]
    rings = upright + [rectangle(0, start, side, start + 1) for start in range(0, side, 2)]
    polygons = [{"exterior": ring, "holes": []} for ring in rings]
    size = {"width": side, "height": side}
    drawn = httpx2.post(f"{url}/api/masks", json={**size, "rings": rings}, timeout=30)
    content = {"pictures": [{"name": "a", **size, "polygons": polygons}]}
    packed = httpx2.post(f"{url}/api/files?answer=labelme", json=content, timeout=30)
    assert (drawn.status_code, packed.status_code) == (status, status)
    if status == 200:
        assert len(drawn.json()["polygons"]) == side**2 // 2
    else:
        assert "more than 200,000 corners" in drawn.json()["detail"]
        assert "more than 200,000 corners" in packed.json()["detail"]


def test_a_form_that_ends_early_is_said(url):
    body = form(b"photograph", drawn_jpeg(0))
    assert send_raw(url, request(body[:-20]))[0] == 400


def test_a_client_that_stalls_is_told_and_frees_its_place(url):
    body = form(b"photograph", drawn_jpeg(0))
    host, port = url.removeprefix("http://").split(":")
    stalled = [socket.create_connection((host, int(port)), timeout=20) for _ in range(PLACES)]
    for connection in stalled:
        connection.sendall(request(body[:1000], len(body)))
    time.sleep(0.3)
    busy = send(url, drawn_jpeg(0))
    assert busy.status_code == 429
    assert busy.headers["Retry-After"] == "1"
    for connection in stalled:
        assert b"408" in connection.recv(4096).split(b"\r\n")[0]
        connection.close()
    assert send(url, drawn_jpeg(0)).status_code == 200


def test_clients_that_leave_free_their_places(url, caplog):
    body = form(b"photograph", drawn_jpeg(0))
    host, port = url.removeprefix("http://").split(":")
    for _ in range(2 * PLACES):
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(request(body[:5000], len(body)))
    time.sleep(0.3)
    assert caplog.records == []
    assert send(url, drawn_jpeg(0)).status_code == 200


def test_two_hundred_at_once_are_answered(url):
    data = drawn_jpeg(3, 96, 128)

    async def everyone():
        limits = httpx2.Limits(max_connections=None)
        async with httpx2.AsyncClient(limits=limits, timeout=120) as client:
            files = {"photograph": ("a.jpg", data)}
            posts = [client.post(f"{url}/api/outlines", files=files) for _ in range(200)]
            return await asyncio.gather(*posts)

    answers = asyncio.run(everyone())
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) <= {200, 429}
    assert statuses.count(200) >= PLACES
    outlines = {answer.text for answer in answers if answer.status_code == 200}
    assert len(outlines) == 1
    assert send(url, data).status_code == 200


# --- who may ask ---


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:80"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": "10.0.0.7"},
        {"Host": ""},
        {"Host": "["},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://["},
        {"Origin": "http://localhost:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
    ],
    ids=str,
)
def test_other_names_and_other_sites_are_refused(url, headers):
    files = {"photograph": drawn_jpeg(0, 64, 96)}
    answer = httpx2.post(f"{url}/api/outlines", files=files, headers=headers)
    assert answer.status_code == 403
    assert answer.json()["detail"]


def test_two_host_headers_are_refused(url):
    status, _ = send_raw(url, request(form(b"photograph", b"x"), extra=b"Host: localhost\r\n"))
    assert status in (400, 403)


def test_this_computers_names_and_its_own_page_are_welcome(url):
    port = url.rpartition(":")[2]
    for host in ("localhost", f"LOCALHOST:{port}", f"127.0.0.1:{port}", f"[::1]:{port}"):
        own = {"Host": host, "Origin": f"http://{host.lower()}", "Sec-Fetch-Site": "same-origin"}
        assert httpx2.get(f"{url}/", headers=own).status_code == 200
    opened = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert httpx2.get(f"{url}/", headers=opened).status_code == 200  # a link on another page


def test_the_token_is_asked_for(guarded):
    for path in ("/", "/docs", "/openapi.json", "/static/page.css"):
        answer = httpx2.get(guarded + path)
        assert answer.status_code == 401
        assert "token" in answer.json()["detail"]
    assert send(guarded, drawn_jpeg(0, 64, 96)).status_code == 401
    assert httpx2.get(f"{guarded}/?token=wrong").status_code == 401
    for cookie in ("a(b=c", "=;;=", f"lesion_d2={TOKEN}", "\x80"):
        assert (
            send_raw(
                guarded,
                b"GET / HTTP/1.1\r\nHost: localhost\r\nCookie: %s\r\n\r\n" % cookie.encode(),
            )[0]
            == 401
        )
    with httpx2.Client(base_url=guarded) as browser:
        answer = browser.get(f"/?token={TOKEN}&x=1")
        assert (answer.status_code, answer.headers["Location"]) == (303, "/?x=1")
        cookie = answer.headers["Set-Cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert browser.get("/").status_code == 200
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    assert httpx2.get(f"{guarded}/", headers=bearer).status_code == 200


def test_with_a_token_addresses_are_welcome_and_strange_names_are_not(guarded):
    for host, status in {
        "10.0.0.7": 200,
        "[fe80::1]": 200,
        "desk.local": 200,
        "evil.example": 403,
    }.items():
        headers = {"Authorization": f"Bearer {TOKEN}", "Host": host}
        assert httpx2.get(f"{guarded}/", headers=headers).status_code == status


def test_every_answer_keeps_the_page_to_itself(url):
    for path in ("/", "/static/outline.js", "/openapi.json", "/nothing"):
        headers = httpx2.get(url + path).headers
        assert "default-src 'self'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"


def test_no_path_leads_to_other_files(url):
    for path in ("/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "/app.py"):
        status, _ = send_raw(url, b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n" % path.encode())
        assert status == 404


def test_the_page_takes_of_a_folder_what_prediction_takes():
    text = (STATIC / "outline.js").read_text(encoding="utf-8")
    assert json.loads(re.search(r"^const SUFFIXES = (.*);$", text, re.MULTILINE)[1]) == [*SUFFIXES]


def test_the_page_explains_the_words_as_they_are(url):
    page = httpx2.get(f"{url}/").text
    assert f"an estimate of {WORDS['sure']} and more" in page
    assert f"is below {WORDS['look again']}" in page
