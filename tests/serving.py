"""The page's server in a thread, and raw requests to it."""

import socket
import threading
from contextlib import contextmanager

import cv2
import httpx2
import uvicorn

from lesion_d2.synthetic import render
from lesion_d2.web.guard import Guard


@contextmanager
def running(app, **guard):
    """Serve an application behind the guard; yields its address without a slash at the end."""
    app.add_middleware(Guard, **guard)
    config = uvicorn.Config(app, log_level="error", access_log=False, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def drawn_jpeg(index, height=384, width=512):
    """Return a drawn photograph as JPEG bytes."""
    image, _ = render(5, index, height, width)
    return cv2.imencode(".jpg", image)[1].tobytes()


def send(url, data, name="lesion.jpg", **params):
    """Post one photograph; returns the response."""
    files = {"photograph": (name, data)}
    return httpx2.post(f"{url}/api/outlines", files=files, params=params, timeout=60)


def rings_of(polygons):
    """Return the rings of the API's polygons."""
    return [ring for polygon in polygons for ring in (polygon["exterior"], *polygon["holes"])]


def send_raw(url, data, wait=10):
    """Send bytes as they are; returns the status and the whole answer, (0, b"") without one."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    with socket.create_connection((host, int(port)), timeout=wait) as connection:
        connection.sendall(data)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
            if b"\r\n\r\n" in answer:
                break
    return (int(answer.split()[1]) if answer else 0), answer
