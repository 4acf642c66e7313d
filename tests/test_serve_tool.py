"""tools/serve.py as a command."""

import re
import signal
import socket

import httpx2
import pytest
import uvicorn
from serving import drawn_jpeg, send
from starlette.testclient import TestClient
from tiny import ROOT, load_tool, python

from lesion_d2.errors import LesionError

TOOL = ROOT / "tools" / "serve.py"


def test_it_serves_this_computer_alone_until_it_is_ended(bundle):
    process = python(TOOL, "--port", 0, "--model", bundle)
    try:
        lines = [process.stdout.readline() for _ in range(3)]
        assert lines[0] == f"loading the model ({bundle}) ...\n"
        assert lines[1] == "computed by torch on cpu\n"
        printed = re.fullmatch(r"open (http://127\.0\.0\.1:\d+)/ \(Ctrl-C ends it\)\n", lines[2])
        address = printed[1]
        assert httpx2.get(address).status_code == 200
        assert send(address, drawn_jpeg(0, 96, 128)).status_code == 200
        port = int(address.rpartition(":")[2])
        with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.2", port)):
            pass
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
        assert (process.returncode, stderr.splitlines()[-1]) == (130, "interrupted")
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_with_a_host_requests_need_the_printed_token(host, bundle, monkeypatch, capsys):
    served = []
    monkeypatch.setattr(uvicorn.Server, "run", lambda server, _: served.append(server.config.app))
    monkeypatch.setattr(
        "sys.argv", ["serve", "--port", "0", "--model", str(bundle), "--host", host]
    )
    load_tool("serve").main()
    token = re.search(
        r"^open http://[^/]+:\d+/\?token=(\S+) ", capsys.readouterr().out, re.MULTILINE
    )
    assert len(token[1]) >= 32
    with TestClient(served[0], base_url="http://10.0.0.7") as client:
        assert client.get("/").status_code == 401
        assert client.get("/", headers={"Authorization": f"Bearer {token[1]}"}).status_code == 200


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--model", "nowhere.safetensors"), "nowhere.safetensors"),
        (("MODEL.DEVICE", "potato"), "MODEL.DEVICE: 'potato'"),
        (("--review", "nowhere", "--images", "."), "--review: nowhere holds no predictions"),
        (("--port", "99999999"), "--port 99999999"),
        (("--host", "192.0.2.1"), "--host 192.0.2.1"),
        (("--host", "no such host"), "--host no such host"),
    ],
)
def test_mistakes_are_named(options, message, monkeypatch):
    monkeypatch.setattr("sys.argv", ["serve", "--port", "0", *options])
    with pytest.raises(LesionError, match=re.escape(message)):
        load_tool("serve").main()


def test_a_port_in_use_is_named(monkeypatch):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        monkeypatch.setattr("sys.argv", ["serve", "--port", port])
        with pytest.raises(LesionError, match=f"--port {port}: cannot be used"):
            load_tool("serve").main()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "--review and --images go together"),
        (("--images", ".", "TEST.SECOND_LOOK", "1.75"), "leave --model and KEY VALUE out"),
        (("--images", ".", "--model", "lesion.onnx"), "leave --model and KEY VALUE out"),
    ],
)
def test_what_goes_with_a_review(options, message, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["serve", "--review", "predictions", *options])
    with pytest.raises(SystemExit):
        load_tool("serve").main()
    assert message in capsys.readouterr().err


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setattr("sys.argv", ["serve"])
    tool = load_tool("serve")
    monkeypatch.setattr(tool, "find_spec", lambda name: None)
    with pytest.raises(LesionError, match=re.escape("pip install '.[onnx,web]'")):
        tool.main()


def test_nothing_else_needs_the_extra():
    needing = set()
    for path in (ROOT / "lesion_d2").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if re.search(r"^\s*(from|import) (fastapi|starlette|uvicorn|pydantic)", text, re.MULTILINE):
            needing.add(str(path.relative_to(ROOT / "lesion_d2")))
    assert needing - {"commands/serve.py"} == {f"web/{n}.py" for n in ("app", "guard", "outlines")}
