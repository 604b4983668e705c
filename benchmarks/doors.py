"""What the doors cost whom: a login that fails, wrong tokens by the thousand, heads and bodies that trickle.

Floods come through nginx as deploy/nginx.conf sets it up, from processes of their own; the reference of every row is
the same good request while nobody attacks.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

from benchmarks.feed import Feed
from benchmarks.product import ROOT, Product, Web, free_port, workshop
from benchmarks.table import Table, against, ms, percentile, times

NGINX = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
GOOD = "/api/v1/stats"
SLOWER = 2.0  # how many times as long a good request may take
APART = 0.05  # how far the means of two kinds of failed logins may be apart

RATE = 10_000  # wrong tokens a second
ADDRESSES = (1, 2, 10, 50)  # from so many at once
AFTER_S = 6  # until nginx has forgotten whom it told to wait
HASHING = {"THREATLENS_ARGON2_MEMORY_KIB": "8192", "THREATLENS_ARGON2_TIME": "1"}
SOCKETS = 190  # nearly all that there are

#: Sends wrong tokens at a rate from so many addresses over kept connections; prints how many were answered, and how
#: many of those with 429.
FLOOD = """
import selectors, socket, sys, time
port, seconds, rate, addresses = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
text = b"GET /api/v1/events HTTP/1.1\\r\\nHost: 127.0.0.1\\r\\nAuthorization: Bearer tl_%s\\r\\n\\r\\n" % (b"A" * 43)
BATCH = 10
chosen, answered, refused, sent, idle = selectors.DefaultSelector(), 0, 0, 0, []
def connect(address):
    sock = socket.socket()
    sock.bind((address, 0))
    sock.connect(("127.0.0.1", port))
    chosen.register(sock, selectors.EVENT_READ, [0, address])
    idle.append(sock)
for number in range(max(40, addresses)):
    connect(f"127.0.0.{2 + number % addresses}")
begun = time.monotonic()
while (now := time.monotonic() - begun) < seconds:
    while idle and sent < now * rate:
        sock = idle.pop(0)
        try:
            sock.sendall(text * BATCH)
            sent += BATCH
        except OSError:
            pass
    for key, _ in chosen.select(0.005):
        try:
            piece = key.fileobj.recv(262144)
        except OSError:
            piece = b""
        got = piece.count(b"HTTP/1.1 4")
        refused += piece.count(b"HTTP/1.1 429")
        answered += got
        key.data[0] += got
        if not piece:
            chosen.unregister(key.fileobj)
            if key.fileobj in idle:
                idle.remove(key.fileobj)
            key.fileobj.close()
            connect(key.data[1])
        elif key.data[0] >= BATCH:
            key.data[0] -= BATCH
            idle.append(key.fileobj)
print(answered, refused)
"""


@contextlib.contextmanager
def nginx(folder: str, upstream: int) -> Iterator[int]:
    """The port of nginx with deploy/nginx.conf before this port."""
    port = free_port()
    with open(os.path.join(ROOT, "deploy", "nginx.conf"), encoding="utf-8") as file:
        site = file.read()
    site = site.replace("listen 80;", f"listen 127.0.0.1:{port};").replace(
        "server unix:/run/threatlens/web.sock;", f"server 127.0.0.1:{upstream};"
    )
    own = tempfile.mkdtemp(dir=folder)
    site = site.replace("/var/lib/nginx/threatlens", f"{own}/refused")
    with open(os.path.join(own, "site.conf"), "w", encoding="utf-8") as file:
        file.write(site)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"{kind}_temp_path {own}/{kind};\n" for kind in kinds)
    user = "user root;" if os.geteuid() == 0 else ""
    with open(os.path.join(own, "nginx.conf"), "w", encoding="utf-8") as file:
        file.write(
            f"{user}\nworker_processes 1;\npid {own}/pid;\nevents {{ worker_connections 4096; }}\n"
            f"http {{\naccess_log off;\n{temporary}include {own}/site.conf;\n}}\n"
        )
    assert NGINX is not None
    command = [NGINX, "-p", own, "-c", os.path.join(own, "nginx.conf"), "-e", os.path.join(own, "error.log")]
    subprocess.run(command, check=True, capture_output=True)
    try:
        yield port
    finally:
        subprocess.run([*command, "-s", "stop"], check=True, capture_output=True)


def ask(web: Web, port: int, seconds: float, pause_s: float = 0.03) -> list[float]:
    """How long good requests took, one after the other, a new connection each like those of short programs."""
    taken, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        begun = time.perf_counter()
        connection.request("GET", GOOD, headers={"Authorization": f"Bearer {web.token}"})
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise RuntimeError(f"a good request was answered {answer.status}")
        taken.append(time.perf_counter() - begun)
        connection.close()
        time.sleep(pause_s)
    return taken


@contextlib.contextmanager
def flood(port: int, seconds: float, addresses: int) -> Iterator[list[int]]:
    """Wrong tokens from so many addresses; afterwards [answered, of those told to wait]."""
    command = [sys.executable, "-c", FLOOD, str(port), str(seconds), str(RATE), str(addresses)]
    counted = [0, 0]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield counted
        finally:
            counted[:] = map(int, process.communicate()[0].split())


@contextlib.contextmanager
def trickle(port: int, text: bytes, number: int) -> Iterator[None]:
    """Connections that have sent the beginning of a request and now wait."""
    opened = []
    for index in range(number):
        sock = socket.socket()
        sock.bind((f"127.0.1.{1 + index % 40}", 0))
        sock.connect(("127.0.0.1", port))
        sock.sendall(text)
        opened.append(sock)
    try:
        yield
    finally:
        for sock in opened:
            sock.close()


def logins(table: Table, number: int) -> None:
    """How long logins take that fail, for an account that exists and for one that does not, in turns.

    Hashing costs a twentieth of what it does by default, so that a difference would show twenty times as much.
    """
    from threatlens import create_app
    from threatlens.settings import load_settings
    from threatlens.store_accounts import COMMAND_LINE

    with workshop() as folder:
        app = create_app(load_settings({"THREATLENS_DATA": os.path.join(folder, "data")} | HASHING))
        app.config["WTF_CSRF_ENABLED"] = False
        services = app.extensions["threatlens"]
        kept = services.passwords.hash("lamps along the winter quay")
        for index in range(number // 10 + 1):  # ten tries of each account are free
            services.store.create_user(f"user{index}", kept, "viewer", COMMAND_LINE)
        client = app.test_client()
        kinds: dict[str, list[float]] = {"user": [], "nobody": []}
        for index in range(number):
            for kind in ("user", "nobody") if index % 2 else ("nobody", "user"):
                form = {"name": f"{kind}{index // 10}", "password": "wrong"}
                begun = time.perf_counter()
                answer = client.post(
                    "/login", data=form, environ_base={"REMOTE_ADDR": f"10.{index // 250}.{index % 250}.1"}
                )
                kinds[kind].append(time.perf_counter() - begun)
                if answer.status_code != 401:
                    raise RuntimeError(f"a wrong login was answered {answer.status_code}")
        services.store.database.engine.dispose()
    means = {kind: sum(values) / len(values) for kind, values in kinds.items()}
    apart = abs(means["user"] / means["nobody"] - 1)
    for kind, words in (("user", "wrong password"), ("nobody", "no such account")):
        verdict = against(apart, APART) if kind == "user" else ""
        row = kinds[kind]
        table.add(
            words, ms(percentile(row, 50)), ms(percentile(row, 95)), f"mean {ms(means[kind])}", f"{apart:.1%}", verdict
        )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=10)
    options.add_argument("--logins", type=int, default=500)
    options.add_argument("--quick", action="store_true", help="4 seconds, 50 logins")
    arguments = options.parse_args()
    seconds, number = (4.0, 50) if arguments.quick else (arguments.seconds, arguments.logins)
    table = Table("the doors", "good requests while", "p50", "p95", "attack", "p95 is", "target")
    if NGINX is None:
        print("nginx is not installed: the rows of floods are left out")
    else:
        with workshop() as folder:
            product = Product(folder)
            product.configure()
            product.fill(20_000)
            with (
                product.serving(THREATLENS_TRUSTED_PROXIES="127.0.0.1") as web,
                nginx(folder, web.port) as port,
            ):
                attacks(table, web, port, seconds)
    logins(table, number)
    table.show()
    print(f"targets: good requests at most {SLOWER:g} times as slow; failed logins at most {APART:.0%} apart")


def attacks(table: Table, web: Web, port: int, seconds: float) -> None:
    """The rows of what comes through nginx."""
    ask(web, port, 1.0)
    calm = ask(web, port, seconds)
    base = percentile(calm, 95)
    table.add("nobody attacks", ms(percentile(calm, 50)), ms(base), "", "", "")

    def row(words: str, taken: list[float], attack: str) -> None:
        p95 = percentile(taken, 95)
        table.add(words, ms(percentile(taken, 50)), ms(p95), attack, times(p95, base), against(p95, SLOWER * base))

    for addresses in ADDRESSES:
        with flood(port, seconds + 1, addresses) as counted:
            time.sleep(0.5)
            taken = ask(web, port, seconds)
        words = f"wrong tokens, {addresses} address{'es' if addresses > 1 else ''}"
        row(words, taken, f"{counted[0] / (seconds + 1):,.0f}/s, {counted[1] / max(1, counted[0]):.1%} got 429")
        time.sleep(AFTER_S)
    feed = Feed()
    for _ in range(SOCKETS):
        feed.subscribe(web.port, web.token)
    row("live clients", ask(web, port, min(seconds, 10)), f"{SOCKETS} open")
    feed.close()
    with trickle(port, b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ", 2_000):
        row("heads trickle", ask(web, port, min(seconds, 10)), "2,000 open")
    body = b"POST /login HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000\r\n\r\nx"
    with trickle(port, body, 2_000):
        row("bodies trickle", ask(web, port, min(seconds, 10)), "2,000 open")


if __name__ == "__main__":
    main()
