"""deploy/nginx.conf in a real nginx, in front of a stand-in that says what reached it."""

from __future__ import annotations

import base64
import http.client
import json
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import websocket
from flask import Flask, jsonify, request
from flask_sock import Sock
from werkzeug.serving import make_server

ROOT = Path(__file__).parent.parent
NGINX = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
PASSWORD = "Basic " + base64.b64encode(b"anna:correct horse").decode()
TOKEN = "Bearer tl_0123456789"

pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")


def stand_in() -> Flask:
    """Answers every request with what it received, and every WebSocket message with itself."""
    app = Flask(__name__)
    sock = Sock(app)

    @app.route("/", defaults={"path": ""}, methods=["GET", "POST"])
    @app.route("/<path:path>", methods=["GET", "POST"])
    def echo(path: str) -> Any:
        headers = {name.lower(): value for name, value in request.headers.items()}
        return jsonify(path=path, headers=headers, size=len(request.get_data()))

    def repeat(ws: Any) -> None:
        ws.send(json.dumps({name.lower(): value for name, value in request.headers.items()}))
        while True:
            ws.send(ws.receive())

    for path in ("/ws/events", "/ws/ui"):
        sock.route(path, endpoint=path)(repeat)
    return app


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of an nginx with our configuration; only its ports and the password file are other ones."""
    folder, port = tmp_path_factory.mktemp("nginx"), free_port()
    server = make_server("127.0.0.1", 0, stand_in(), threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    site = (ROOT / "deploy" / "nginx.conf").read_text(encoding="utf-8")
    for ours, here in (
        ("listen 80;", f"listen 127.0.0.1:{port};"),
        ("server 127.0.0.1:8000;", f"server 127.0.0.1:{server.server_port};"),
        ("/etc/nginx/threatlens.htpasswd", str(folder / "htpasswd")),
    ):
        assert site.count(ours) >= 1, ours
        site = site.replace(ours, here)
    (folder / "site.conf").write_text(site)
    (folder / "htpasswd").write_text("anna:{PLAIN}correct horse\n")
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(
        f"{user}\nworker_processes 1;\npid {folder}/pid;\nerror_log {folder}/error.log;\nevents {{}}\n"
        f"http {{\naccess_log off;\n{temporary}include {folder}/site.conf;\n}}\n"
    )
    assert NGINX is not None
    command = [NGINX, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]
    started = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert started.returncode == 0, started.stderr
    yield port  # nginx goes into the background once it listens
    subprocess.run([*command, "-s", "stop"], capture_output=True, timeout=20, check=True)
    server.shutdown()
    thread.join(10)
    server.server_close()


def ask(
    port: int, path: str, *, method: str = "GET", body: bytes | None = None, **headers: str
) -> tuple[int, dict[str, str], dict[str, Any]]:
    """(status, headers, JSON body or {}); underscores in header names stand for hyphens."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        text = answer.read()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, found, json.loads(text) if found.get("content-type") == "application/json" else {}
    finally:
        connection.close()


def raw(port: int, text: bytes) -> bytes:
    """The first piece of the answer to these very bytes."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(text)
        return connection.recv(4096)


def test_a_person_is_asked_for_a_password(proxy: int) -> None:
    wrong = "Basic " + base64.b64encode(b"anna:guess").decode()

    for path in ("/", "/events", "/ws/ui", "/readyz", "/static/app.css"):
        assert ask(proxy, path)[0] == 401, path
        assert ask(proxy, path, Authorization=wrong)[0] == 401, path
        assert ask(proxy, path, Authorization=TOKEN)[0] == 401, path
    assert ask(proxy, "/events?q=a%20b", Authorization=PASSWORD)[0] == 200
    assert ask(proxy, "/healthz")[0] == 200


def test_the_password_stays_with_nginx_and_the_token_goes_through(proxy: int) -> None:
    page = ask(proxy, "/events", Authorization=PASSWORD)[2]
    program = ask(proxy, "/api/v1/events", Authorization=TOKEN)[2]

    assert "authorization" not in page["headers"]
    assert program["headers"]["authorization"] == TOKEN


def test_no_spelling_of_a_path_leads_past_the_password(proxy: int) -> None:
    for path in ("/api/v1/../../events", "/api/v1/%2e%2e/%2e%2e/events", "//events", "/healthz/../events", "/api/v1x"):
        assert ask(proxy, path)[0] in {400, 401}, path


def test_what_a_client_says_about_its_origin_is_overwritten(proxy: int) -> None:
    headers = ask(
        proxy,
        "/api/v1/events",
        X_Forwarded_For="198.51.100.1",
        X_Forwarded_Proto="https",
        X_Forwarded_Host="evil.example",
        X_Forwarded_Port="1",
        X_Forwarded_Prefix="/evil",
        X_Real_IP="198.51.100.1",
        Forwarded="for=198.51.100.1;proto=https",
    )[2]["headers"]

    assert headers["x-forwarded-for"] == headers["x-real-ip"] == "127.0.0.1"
    assert headers["x-forwarded-proto"] == "http"
    assert headers["x-forwarded-host"] == headers["host"] == f"127.0.0.1:{proxy}"
    assert headers["x-forwarded-port"] == str(proxy)
    assert "forwarded" not in headers
    assert "x-forwarded-prefix" not in headers


@pytest.mark.parametrize(("path", "header"), [("/ws/events", TOKEN), ("/ws/ui", PASSWORD)])
def test_websockets_pass_in_both_directions(proxy: int, path: str, header: str) -> None:
    client = websocket.create_connection(
        f"ws://127.0.0.1:{proxy}{path}", header=[f"Authorization: {header}"], timeout=20
    )
    try:
        headers = json.loads(client.recv())
        client.send("there and back")
        assert client.recv() == "there and back"
    finally:
        client.close()

    assert headers["origin"] == f"http://{headers['host']}", "the application can compare them"
    assert headers.get("authorization") == (header if header == TOKEN else None)


def test_nothing_but_websockets_is_upgraded_to(proxy: int) -> None:
    headers = ask(proxy, "/api/v1/events", Connection="Upgrade, HTTP2-Settings", Upgrade="h2c", HTTP2_Settings="AA")[2]

    assert "upgrade" not in headers["headers"]


def test_bodies_are_limited_and_the_ingest_interface_takes_more(proxy: int) -> None:
    mebibyte = 1 << 20

    assert ask(proxy, "/api/v1/sources", method="POST", body=b"x" * mebibyte)[0] == 200
    assert ask(proxy, "/api/v1/sources", method="POST", body=b"x" * (mebibyte + 1))[0] == 413
    assert ask(proxy, "/api/v1/ingest?source=a", method="POST", body=b"x" * 3 * mebibyte)[2]["size"] == 3 * mebibyte
    too_much = f"POST /api/v1/ingest HTTP/1.1\r\nHost: a\r\nContent-Length: {50 * mebibyte + 1}\r\n\r\n"
    assert raw(proxy, too_much.encode()).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    "request_head",
    [
        b"POST /api/v1/ingest HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /api/v1/ingest HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
        b"POST /api/v1/ingest HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n",
        b"POST /api/v1/ingest HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n\r\n",
        b"GET /api/v1/events HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    ],
)
def test_a_request_that_two_servers_could_read_differently_is_refused(proxy: int, request_head: bytes) -> None:
    status = raw(proxy, request_head).split(b" ")[1]

    assert status in {b"400", b"501"}


def test_versions_are_not_told(proxy: int) -> None:
    for path in ("/api/v1/events", "/events"):
        assert ask(proxy, path)[1]["server"] == "nginx"


def test_one_address_cannot_take_all(proxy: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", proxy, timeout=20)
    statuses = set()
    for _ in range(2000):
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        answer.read()
        statuses.add(answer.status)
        if 429 in statuses:
            break
    connection.close()

    assert statuses == {200, 429}
