"""Serving the page: on this computer alone, or with a token."""

import ipaddress
import secrets
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from lesion_d2.commands.predict import MAX_WORKERS
from lesion_d2.cpus import available_cpus
from lesion_d2.errors import LesionError
from lesion_d2.files import escape_name
from lesion_d2.prediction.predictor import LesionPredictor
from lesion_d2.web.app import outline_app, review_app
from lesion_d2.web.guard import Guard
from lesion_d2.web.review import Review

HERE = "127.0.0.1"


def serve_outlines(model: str, opts: Sequence[str], host: str | None, port: int) -> None:
    """Serve the page that outlines photographs, until the process is ended.

    Args:
        model: a bundle's file, or ``pretrained``.
        opts: alternating config keys and values over that of the model.
        host: address to listen on; None for loopback, else a token is required.
        port: 0 for any that is free.

    Raises:
        LesionError: the model cannot be read, or the address not be used.
    """
    with _bound(host, port) as listener:
        print(f"loading the model ({model}) ...", flush=True)
        predictor = LesionPredictor.from_bundle(model, opts)
        print(f"computed by {predictor.engine}", flush=True)
        workers = min(MAX_WORKERS, available_cpus())
        with predictor.sharing(workers):
            _run_server(outline_app(predictor, workers), listener, host)


def serve_review(predictions: Path, photographs: Path, host: str | None, port: int) -> None:
    """Serve the page that reviews a folder of predictions; see :class:`Review`.

    Raises:
        LesionError: there is nothing to review, another process reviews it, or the address cannot
            be used.
    """
    review = Review(predictions, photographs)
    with _bound(host, port) as listener, review.alone():
        for name, reason in review.left_out:
            print(f"left out: {escape_name(name)}: {reason}")
        print(
            f"{len(review.items)} predictions, {len(review.decisions)} decided: {review.table}",
            flush=True,
        )
        _run_server(review_app(review), listener, host)


def _run_server(app: FastAPI, listener: socket.socket, host: str | None) -> None:
    token = secrets.token_urlsafe(24) if host else ""
    name = socket.gethostname()
    names = [name, f"{name}.local", host] if host else []
    app.add_middleware(Guard, token=token, names=names)
    query = f"?token={token}" if token else ""
    port = listener.getsockname()[1]
    print(f"open http://{_address(host or HERE)}:{port}/{query} (Ctrl-C ends it)", flush=True)
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=5
    )
    uvicorn.Server(config).run([listener])


@contextmanager
def _bound(host: str | None, port: int) -> Iterator[socket.socket]:
    """Take the port before the model is loaded."""
    if not 0 <= port <= 65535:  # getaddrinfo would take another one
        raise LesionError(f"--port {port}: give a number up to 65535, or 0 for any that is free")
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host or HERE, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family)
    except OSError as error:
        raise LesionError(f"--host {host}: no address of this computer ({error})") from error
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError as error:
            option = f"--host {host} --port {port}" if host else f"--port {port}"
            raise LesionError(f"{option}: cannot be used ({error}); choose another") from error
        yield listener


def _address(host: str) -> str:
    """Return what stands for a host in an address that other computers can open."""
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return host
    if ip.is_unspecified:
        return _own_address()
    return f"[{host}]" if ip.version == 6 else host


def _own_address() -> str:
    """Return this computer's address in its network; its name where it is in none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # a documentation address; connecting sends nothing
        except OSError:
            return socket.gethostname()
        return str(probe.getsockname()[0])
