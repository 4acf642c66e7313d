"""A server on this machine that behaves badly in every way."""

import hashlib
import random
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CONTENT = random.Random(0).randbytes(300_000)
HALF = 150_000


class Server(ThreadingHTTPServer):
    """Serves one content at any address, with the ``answers`` in turn; the last is repeated."""

    daemon_threads = True
    block_on_close = False

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.answers, self.seen = CONTENT, [good], []
        self.ended = threading.Event()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def etag(self):
        return f'"{hashlib.md5(self.content).hexdigest()}"'

    @property
    def ranges(self):
        return [headers.get("Range") for headers in self.seen]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.seen.append(dict(self.headers))
        answers = self.server.answers
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        answer(self)

    def log_message(self, *args):
        pass

    def start(self):
        """The first byte that is asked for; 0 where If-Range does not fit."""
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
        fits = self.headers["If-Range"] in (None, self.server.etag)
        return int(asked[1]) if asked and fits else 0

    def head(self, status, **headers):
        self.send_response(status)
        self.send_header("Connection", "close")
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def begin(self, **headers):
        """Send the head of a right answer, and return its body."""
        start, whole = self.start(), len(self.server.content)
        if start >= whole:
            self.head(416, Content_Range=f"bytes */{whole}", Content_Length=0)
            return b""
        body = self.server.content[start:]
        if start:
            headers = {"Content_Range": f"bytes {start}-{whole - 1}/{whole}", **headers}
        headers = {"ETag": self.server.etag, "Content_Length": len(body), **headers}
        self.head(206 if start else 200, **{k: v for k, v in headers.items() if v is not None})
        return body


def good(handler):
    handler.wfile.write(handler.begin())


def cut(count):
    """End the connection after ``count`` bytes."""
    return lambda handler: handler.wfile.write(handler.begin()[:count])


def stall(count):
    """Send ``count`` bytes, and then nothing."""

    def answer(handler):
        handler.wfile.write(handler.begin()[:count])
        handler.wfile.flush()
        handler.server.ended.wait(60)

    return answer


def redirect(handler):
    if handler.path.startswith("/moved"):
        return good(handler)
    return handler.head(302, Location=f"/moved{handler.path}", Content_Length=0)


def for_ever(handler):
    handler.head(302, Location=handler.path, Content_Length=0)


def status(code, **headers):
    return lambda handler: handler.head(code, Content_Length=0, **headers)


def whole(handler):
    """Know nothing of ranges."""
    del handler.headers["Range"]
    good(handler)


def wrong_range(handler):
    """Answer 206 with the bytes from the beginning."""
    length = len(handler.server.content)
    handler.head(206, Content_Range=f"bytes 0-{length - 1}/{length}", Content_Length=length)
    handler.wfile.write(handler.server.content)


def half_a_range(handler):
    """Answer 206 with less than was asked for."""
    length = len(handler.server.content)
    handler.head(206, Content_Range=f"bytes {HALF}-{length - 2}/{length}", Content_Length=HALF - 1)
    handler.wfile.write(handler.server.content[HALF:-1])


def no_range(handler):
    handler.head(206, Content_Length=HALF)
    handler.wfile.write(handler.server.content[HALF:])


def lie(difference):
    """Say another length than that of what comes."""

    def answer(handler):
        length = len(handler.server.content) - handler.start()
        handler.wfile.write(handler.begin(Content_Length=length + difference))

    return answer


def no_length(count=None):
    return lambda handler: handler.wfile.write(handler.begin(Content_Length=None)[:count])


def weak(then):
    """Vouch for no byte: another ETag for each content, but a weak one."""

    def answer(handler):
        handler.wfile.write(handler.begin(ETag=f"W/{handler.server.etag}")[:then])

    return answer


def page(handler):
    handler.head(200, Content_Type="text/html; charset=utf-8", Content_Length=5)
    handler.wfile.write(b"login")


def packed(handler):
    handler.wfile.write(handler.begin(Content_Encoding="gzip"))


def replace_by(content, answer):
    """Put another content on the server, then answer."""

    def change(handler):
        handler.server.content = content
        answer(handler)

    return change
