"""deploy/nginx.conf in a real nginx: before a stand-in that says what reached it, and before ThreatLens itself."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import socket
import ssl
import stat
import subprocess
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import websocket
from flask import Flask, jsonify, request
from flask_sock import Sock
from receivers import certificate_for
from served import PASSWORD, Served
from werkzeug.serving import make_server

from threatlens.web.security_headers import HEADERS

ROOT = Path(__file__).parent.parent
NGINX = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
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

    @app.route("/api/v1/wait")
    def wait() -> Any:
        return "", 429, {"X-Accel-Expires": "600", "Cache-Control": "no-store", "Vary": "Cookie"}

    @app.route("/api/v1/cacheable")
    def cacheable() -> Any:
        return "{}", {"Cache-Control": "public, max-age=600", "Expires": "Fri, 01 Jan 2100 00:00:00 GMT"}

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


@contextmanager
def nginx(folder: Path, upstream: int | str, *, below: str = "", **changes: str) -> Iterator[int]:
    """The port of an nginx with our configuration, before this port or socket; changes: texts in it to replace."""
    port = free_port()
    upstream = f"127.0.0.1:{upstream}" if isinstance(upstream, int) else f"unix:{upstream}"
    site = (ROOT / "deploy" / "nginx.conf").read_text(encoding="utf-8")
    replaced = [
        ("listen 80;", f"listen 127.0.0.1:{port};"),
        ("server unix:/run/threatlens/web.sock;", f"server {upstream};"),
        ("/var/lib/nginx/threatlens", f"{folder}/refused"),
    ]
    if below:
        replaced += [
            ('SCRIPT_NAME ""', f'SCRIPT_NAME "{below}"'), ("location / {", f"location {below}/ {{"),
            ("location = /api", f"location = {below}/api"),
        ]  # fmt: skip
    for ours, here in (*replaced, *changes.items()):
        assert ours in site, ours
        site = site.replace(ours, here)
    (folder / "site.conf").write_text(site)
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
    started = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert started.returncode == 0, started.stderr
    try:
        yield port  # nginx goes into the background once it listens
    finally:
        subprocess.run([*command, "-s", "stop"], capture_output=True, timeout=300, check=True)


@pytest.fixture(scope="module")
def received() -> list[str]:
    """The paths of all requests that reached the stand-in."""
    return []


@pytest.fixture(scope="module")
def upstream(received: list[str]) -> Iterator[int]:
    """The port of the stand-in."""
    app = stand_in()
    app.before_request(lambda: received.append(request.full_path))
    server = make_server("127.0.0.1", 0, app, threaded=True)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join(60)
    server.server_close()


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory, upstream: int) -> Iterator[int]:
    """The port of an nginx before the stand-in."""
    with nginx(tmp_path_factory.mktemp("nginx"), upstream) as port:
        yield port


def ask(
    port: int, path: str, *, method: str = "GET", body: bytes | None = None, **headers: str
) -> tuple[int, dict[str, str], dict[str, Any]]:
    """(status, headers, JSON body or {}); underscores in header names stand for hyphens."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
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
    with socket.create_connection(("127.0.0.1", port), timeout=300) as connection:
        connection.sendall(text)
        return connection.recv(4096)


def test_credentials_go_through(proxy: int) -> None:
    headers = ask(proxy, "/api/v1/events", Authorization=TOKEN, Cookie="__Host-threatlens=x")[2]["headers"]

    assert headers["authorization"] == TOKEN
    assert headers["cookie"] == "__Host-threatlens=x"


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
    assert b"/evil" not in raw(proxy, b"GET /api HTTP/1.1\r\nHost: a\r\nSCRIPT_NAME: /evil\r\n\r\n")


@pytest.mark.parametrize("path", ["/ws/events", "/ws/ui"])
def test_websockets_pass_in_both_directions(proxy: int, path: str) -> None:
    client = websocket.create_connection(
        f"ws://127.0.0.1:{proxy}{path}", header=[f"Authorization: {TOKEN}"], timeout=300
    )
    try:
        headers = json.loads(client.recv())
        client.send("there and back")
        assert client.recv() == "there and back"
    finally:
        client.close()

    assert headers["origin"] == f"http://{headers['host']}", "the application can compare them"
    assert headers["authorization"] == TOKEN


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


INNER = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
HEAD = b"POST /api/v1/ingest HTTP/1.1\r\nHost: a\r\n"
CHUNKED = b"0\r\n\r\n" + INNER
LENGTH = b"Content-Length: %d\r\n" % len(CHUNKED)
SMUGGLING = {
    "CL.TE": HEAD + LENGTH + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKED,
    "TE.CL": HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n" + CHUNKED,
    "two lengths": HEAD + b"Content-Length: 0\r\n" + LENGTH + b"\r\n" + INNER,
    "two equal lengths": HEAD + LENGTH + LENGTH + b"\r\n" + CHUNKED,
    "a list of lengths": HEAD + b"Content-Length: 0, 40\r\n\r\n" + INNER,
    "a length with a sign": HEAD + b"Content-Length: +0\r\n\r\n" + INNER,
    "a length that is negative": HEAD + b"Content-Length: -1\r\n\r\n" + INNER,
    "a length in hex": HEAD + b"Content-Length: 0x0\r\n\r\n" + INNER,
    "TE identity, chunked": HEAD + b"Transfer-Encoding: identity, chunked\r\n\r\n" + CHUNKED,
    "TE chunked, identity": HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n" + CHUNKED,
    "TE twice": HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n" + CHUNKED,
    "TE with a tab": HEAD + b"Transfer-Encoding:\tx chunked\r\n\r\n" + CHUNKED,
    "TE xchunked": HEAD + LENGTH + b"Transfer-Encoding: xchunked\r\n\r\n" + CHUNKED,
    "TE with a vertical tab": HEAD + LENGTH + b"Transfer-Encoding: \x0bchunked\r\n\r\n" + CHUNKED,
    "TE with a blank before the colon": HEAD + LENGTH + b"Transfer-Encoding : chunked\r\n\r\n" + CHUNKED,
    "a NUL in a header": HEAD + b"X: a\0b\r\n\r\n" + INNER,
    "a chunk that is no number": HEAD + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n\r\n" + INNER,
    "a chunk with a sign": HEAD + b"Transfer-Encoding: chunked\r\n\r\n+1\r\nx\r\n" + CHUNKED,
    "a chunk that is too long a number": HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 20 + b"\r\n" + INNER,
    "two hosts": b"GET /api/v1/events HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "no host": b"GET /api/v1/events HTTP/1.1\r\n\r\n",
    "a version that is none": b"GET / HTTP/1.1x\r\nHost: a\r\n\r\n",
    "a blank in a header's name": HEAD + b"Content Length: 0\r\nContent-Length: 0\r\nX y: z\r\n\r\n",
}
HARMLESS = {"a blank in a header's name", "TE with a blank before the colon"}  # nginx leaves the header out or refuses


@pytest.mark.parametrize("name", SMUGGLING)
def test_a_request_that_two_servers_could_read_differently_is_refused(
    proxy: int, received: list[str], name: str
) -> None:
    received.clear()
    with socket.create_connection(("127.0.0.1", proxy), timeout=300) as connection:
        connection.sendall(SMUGGLING[name])
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece

    statuses = re.findall(rb"^HTTP/1\.1 (\d+) ", answer, re.MULTILINE)
    assert statuses[0] in ({b"200", b"400"} if name in HARMLESS else {b"400", b"501", b"505"})
    assert len(statuses) == 1
    assert not any("smuggled" in path for path in received)


def test_heads_that_trickle_hold_up_nobody_and_end(tmp_path: Path, received: list[str]) -> None:
    """Slow-loris: every connection sends a bit now and then, and never the end of its head."""
    server = make_server("127.0.0.1", 0, stand_in(), threaded=True)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    changes = {"client_header_timeout 15s;": "client_header_timeout 1s;", "connections 100;": "connections 20;"}
    with nginx(tmp_path, server.server_port, **changes) as port:
        slow = [socket.create_connection(("127.0.0.1", port), timeout=300) for _ in range(15)]
        for connection in slow:
            with contextlib.suppress(ConnectionError):  # its time is up already
                connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nX: ")
        answers = [ask(port, "/healthz")[0] for _ in range(20)]
        for connection in slow:  # nginx ends each of them by itself
            with contextlib.suppress(ConnectionResetError):
                assert connection.recv(100) in {b"", b"HTTP/1.1 408"}
            connection.close()
    server.shutdown()
    thread.join(60)
    server.server_close()

    assert answers == [200] * 20


def test_who_sends_wrong_tokens_without_end_is_answered_by_nginx(
    upstream: int, tmp_path: Path, received: list[str]
) -> None:
    with nginx(tmp_path, upstream) as port:
        for _ in range(2):
            ask(port, "/api/v1/cacheable", Authorization=TOKEN)
        assert received[-2:] == ["/api/v1/cacheable?"] * 2, "no other answer to a token is kept"

        first = ask(port, "/api/v1/wait", Authorization=TOKEN)
        received.clear()
        again = ask(port, "/api/v1/events", Authorization=TOKEN, X_Other="token")
        page = ask(port, "/events")

    assert first[0] == again[0] == 429
    assert "x-accel-expires" not in again[1]
    assert page[0] == 200, "without a token, the same address gets in"
    assert received == ["/events?"]


def test_what_nginx_refuses_by_itself_carries_the_headers_and_what_it_passes_on_carries_them_once(
    proxy: int, served: Served, tmp_path: Path
) -> None:
    with nginx(tmp_path, served.path) as port:
        page = raw(port, b"GET /login HTTP/1.1\r\nHost: localhost\r\n\r\n")
    refusals = [
        raw(proxy, b"GET / HTTP/1.1x\r\nHost: a\r\n\r\n"),
        raw(proxy, b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 40_000 + b"\r\n\r\n"),
        raw(proxy, b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n"),
    ]

    assert [answer.split()[1] for answer in (page, *refusals)] == [b"200", b"400", b"400", b"413"]
    for answer in (page, *refusals):
        names = [line.partition(b":")[0].decode() for line in answer.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]]
        told = {*HEADERS, "Cache-Control"} - {"Reporting-Endpoints"}
        assert {name: names.count(name) for name in told} == dict.fromkeys(told, 1), answer
    assert all(b"Content-Security-Policy: default-src 'none';" in answer for answer in (page, *refusals))


def test_with_tls_a_browser_is_led_to_it_and_a_program_is_not(served: Served, tmp_path: Path) -> None:
    sealed = free_port()
    certificate = certificate_for(tmp_path, "localhost")
    changes = {
        "    # listen 443 ssl http2;": f"    listen 127.0.0.1:{sealed} ssl;",
        "/etc/letsencrypt/live/logs.example.org/fullchain.pem": str(certificate),
        "/etc/letsencrypt/live/logs.example.org/privkey.pem": str(certificate),
        "    # add_header Strict": "    add_header Strict", "    # ssl_": "    ssl_", "# server {": "server {",
        "#     listen": "listen", "#     server": "server", "#     location": "location", "# }": "}",
    }  # fmt: skip
    with nginx(tmp_path, served.path, **changes) as port:
        page = raw(port, b"GET /events?q=a HTTP/1.1\r\nHost: logs.example.org\r\n\r\n")
        api = raw(port, b"GET /api/v1/events HTTP/1.1\r\nHost: logs.example.org\r\n\r\n")
        trusting = ssl.create_default_context(cafile=str(certificate))
        told = []
        for size in ("0", "99999999"):  # nginx refuses the second by itself
            connection = http.client.HTTPSConnection("localhost", sealed, context=trusting, timeout=20)
            connection.request("POST", "/appearance", headers={"Host": "localhost", "Content-Length": size})
            told.append(connection.getresponse().headers.get_all("Strict-Transport-Security"))
            connection.close()
        trusting.maximum_version = ssl.TLSVersion.TLSv1_2
        trusting.set_ciphers("AES128-SHA:AES256-GCM-SHA384:ECDHE-ECDSA-AES256-SHA:@SECLEVEL=0")
        with pytest.raises(ssl.SSLError), socket.create_connection(("127.0.0.1", sealed), 20) as plain:
            trusting.wrap_socket(plain, server_hostname="localhost")

    assert page.split()[1] == b"308"
    assert b"Location: https://logs.example.org/events?q=a\r\n" in page
    assert api.split()[1] == b"403"
    assert told == [["max-age=31536000; includeSubDomains"]] * 2


def test_versions_are_not_told(proxy: int) -> None:
    for path in ("/api/v1/events", "/events"):
        assert ask(proxy, path)[1]["server"] == "nginx"


def test_one_address_cannot_take_all(proxy: int) -> None:
    statuses: set[int] = set()
    for _ in range(20):  # behind a slow server these are too many connections, behind a quick one too many requests
        connections = [http.client.HTTPConnection("127.0.0.1", proxy, timeout=300) for _ in range(150)]
        for connection in connections:
            connection.request("GET", "/healthz")
        statuses |= {connection.getresponse().status for connection in connections}
        for connection in connections:
            connection.close()
        if 429 in statuses:
            break

    assert statuses == {200, 429}


# --- before ThreatLens itself

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.mark.parametrize("below", ["", "/logs"])
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_a_browser_gets_along_through_nginx_below_a_path_too(served: Served, tmp_path: Path, below: str) -> None:
    sync_api = pytest.importorskip("playwright.sync_api")
    with nginx(tmp_path, served.path, below=below) as port, sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        )
        tab = browser.new_page()
        asked, complaints = [], []
        tab.on("response", lambda answer: asked.append((answer.url, answer.status)))
        tab.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        site = f"http://127.0.0.1:{port}{below}"
        tab.goto(site + "/events?q=x")
        tab.fill("#name", "anna")
        tab.fill("#password", PASSWORD.decode().strip())
        tab.press("#password", "Enter")
        tab.wait_for_url(site + "/events?q=x")
        for path in ("/", "/events", "/sources", "/settings"):
            tab.goto(site + path)
            tab.wait_for_selector('#connection[data-state="live"]', state="attached")
            links = tab.eval_on_selector_all(
                "a[href^='/'], form[action^='/']",
                "all => all.map(e => new URL(e.getAttribute('href') ?? e.getAttribute('action'), location).href)",
            )
            assert [link for link in links if not link.startswith(site + "/")] == []
        nowhere = tab.goto(site + "/nowhere")
        browser.close()

    assert nowhere.status == 404
    assert all(url.startswith(site + "/") for url, _ in asked), asked
    assert {status for url, status in asked if "/static/" in url} == {200}
    assert [each for each in complaints if "404" not in each] == []


def test_the_socket_is_for_its_user_and_group_and_its_proxy_is_believed(served: Served, tmp_path: Path) -> None:
    mode = os.stat(served.path).st_mode
    assert (stat.S_ISSOCK(mode), stat.S_IMODE(mode)) == (True, 0o660)
    with nginx(tmp_path, served.path) as port:
        tries = [login(port, X_Forwarded_For="198.51.100.1")]
        while tries[-1] != 429 and len(tries) < 40:  # a second after the last of the free tries there is one more
            tries.append(login(port, X_Forwarded_For=f"198.51.100.{len(tries) + 1}"))

    assert tries[:20] == [401] * 20
    assert tries[-1] == 429, "they all come from the address that nginx says, not from what a client says"


def login(port: int, **headers: str) -> int:
    """The status of one wrong try, with a form of its own and a name of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    connection.request("GET", "/login")
    answer = connection.getresponse()
    form = answer.read().decode().split('name="csrf_token" value="')[1].split('"')[0]
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    sent |= {"Cookie": str(answer.getheader("Set-Cookie")), "Content-Type": "application/x-www-form-urlencoded"}
    body = urllib.parse.urlencode({"csrf_token": form, "name": os.urandom(4).hex(), "password": "x"})
    connection.request("POST", "/login", body, sent)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status
