"""Several processes on one database, with a real Redis between them, and without it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import websocket
from pace import Stopwatch, wait_for
from postgresql import Server
from redis_server import RedisServer

from threatlens import create_app
from threatlens.doctor import run_checks
from threatlens.event import EventUpdate
from threatlens.fanout import LONGEST_WAIT_S, Fanout, Patience
from threatlens.health import redis_component
from threatlens.settings import PROJECT, load_settings
from threatlens.web.limits import Allowance, share

KEY = "0123456789abcdef" * 4
LINE = "Nov 23 06:51:07 web1 sshd[4211]: Failed password for root from 203.0.113.9 port 52144 ssh2"


@pytest.fixture
def running(redis: RedisServer) -> Iterator[Callable[..., Fanout]]:
    """Starts what a process has, given its key."""
    stopping = threading.Event()
    threads: list[threading.Thread] = []

    def start(secret: str = KEY, url: str = redis.url) -> Fanout:
        fanout = Fanout(url, secret)
        for step in (fanout.listen, fanout.send):
            threads.append(threading.Thread(target=step, args=(stopping.wait,)))
            threads[-1].start()
        return fanout

    yield start
    stopping.set()
    for thread in threads:
        thread.join(60)


def heard(fanout: Fanout, kind: str) -> list[Any]:
    """What it will hear of this kind, without the gaps."""
    found: list[Any] = []
    fanout.on(kind, lambda value: found.append(value) if value is not None else None)
    return found


def test_what_one_tells_the_others_hear_once_though_the_server_is_killed_meanwhile(running, redis):
    one, other, third = running(), running(), running()
    found, of_third, own = heard(other, "update"), heard(third, "update"), heard(one, "update")
    wait_for(lambda: one.hears and other.hears and third.hears)
    one.tell("update", 1)
    wait_for(lambda: found == of_third == [1])
    redis.kill()
    wait_for(lambda: not other.hears and not third.hears)
    assert "does not answer" in other.problem()[0]
    for number in (2, 3):
        one.tell("update", number)
    one.tell("stored", 6, latest=True)
    one.tell("stored", 7, latest=True)
    stored = heard(other, "stored")
    redis.start()
    wait_for(lambda: found == of_third == [1, 2, 3] and stored == [7])
    assert not own, "nobody hears what it told itself"
    wait_for(lambda: not one.problem()[0])


def test_the_last_word_of_the_engine_is_known_to_all_and_grows_old(running):
    engine, page = running(), running()
    now = [1_000.0]
    page._clock = lambda: now[0]
    engine.tell_status({"state": "ok", "habits": {1: "x"}})
    wait_for(page.status)
    assert page.status() == {"state": "ok", "habits": {"1": "x"}}
    now[0] += 6
    assert page.status() == {}


def test_another_installation_on_the_same_server_is_not_heard(running, redis):
    ours, theirs = running(), running("another key")
    found = heard(ours, "update")
    wait_for(lambda: ours.hears and theirs.hears)
    theirs.tell("update", "theirs")
    theirs._stream = ours._stream  # somebody who may write into our stream, and lacks the key
    theirs.tell("update", "forged")
    wait_for(lambda: theirs.counts["sent"] >= 1)
    running().tell("update", "ours")
    wait_for(lambda: found)
    assert found == ["ours"]


def test_nothing_signed_can_be_put_in_another_place_or_said_again_later():
    now = [1_000_000_000]
    sender, hearer = (Fanout("redis://h", KEY, now=lambda: now[0]) for _ in range(2))
    found = heard(hearer, "update")
    sender.tell("update", 1)
    news = sender._entry()
    sender.tell_status({"state": "ok"})
    first = sender._own_status
    hearer._take({b"m": first})
    hearer._take_status(news)
    assert (found, hearer.status()) == ([], {}), "a status is no news, and news are no status"
    hearer._take({b"m": news})
    hearer._take({b"m": news})
    hearer._take_status(first)
    assert (found, hearer.status()) == ([1], {"state": "ok"})

    now[0] += 1
    sender.tell_status({"state": "failed"})
    hearer._take_status(sender._own_status)
    hearer._take_status(first)
    assert hearer.status() == {"state": "failed"}, "what somebody kept says nothing about now"

    later = Fanout("redis://h", KEY, now=lambda: now[0] + 3_700_000_000)
    of_later = heard(later, "update")
    later._take({b"m": news})
    later._take_status(first)
    assert (of_later, later.status()) == ([], {})


def test_a_wrong_password_is_told_with_a_remedy_and_without_the_password(running, redis, tmp_path, caplog):
    wrong = redis.url.replace("s3cret", "guessed")
    fanout = running(url=wrong)
    wait_for(lambda: fanout.problem()[1])
    (component,) = redis_component(fanout)
    assert (component.name, component.state) == ("redis", "degraded")
    assert "refuses the password" in component.reason
    assert component.remedy == "correct it in THREATLENS_REDIS_URL"
    settings = load_settings({"THREATLENS_DATA": str(tmp_path), "THREATLENS_REDIS_URL": wrong})
    finding = next(each for each in run_checks(settings, None) if each.name == "redis")
    assert not finding.ok
    assert "guessed" not in caplog.text + repr(settings) + component.reason + finding.detail


def test_allowances_are_common_where_others_are_heard_and_ones_own_otherwise(running, redis):
    fanouts = running(), running()
    here, there = Allowance(10, 0.0, 100), Allowance(10, 0.0, 100)
    for fanout, allowance in zip(fanouts, (here, there), strict=True):
        share({"wrong tokens": allowance}, fanout)
    wait_for(lambda: all(fanout.hears for fanout in fanouts))
    assert [here.take("192.0.2.1") for _ in range(10)] == [True] * 10
    wait_for(lambda: fanouts[1].counts["received"] and not there.take("192.0.2.1"))
    assert there.take("192.0.2.2")
    redis.kill()
    try:
        assert here.take("192.0.2.3"), "nobody waits for a server that is away"
    finally:
        redis.start()


def test_who_goes_on_at_one_process_has_nothing_left_at_another():
    now = [0.0]
    here, there = (Allowance(10, 1.0, 100, strict=True, clock=lambda: now[0]) for _ in range(2))
    here.tell = there.used_elsewhere
    for _ in range(600):  # ten tries a second for a minute
        now[0] += 0.1
        here.take("192.0.2.1")
    assert not there.take("192.0.2.1")


def test_waiting_grows_to_a_limit_and_differs_between_processes():
    waits = [Patience(lambda: 0.5).next()]
    patience = Patience(lambda: 0.5)
    waits = [patience.next() for _ in range(10)]
    assert waits == sorted(waits)
    assert waits[0] < 0.2
    assert waits[-1] == LONGEST_WAIT_S
    patience.reset()
    assert patience.next() == waits[0]
    assert Patience(lambda: 0.0).next() != Patience(lambda: 0.9).next()


def test_without_the_setting_nothing_is_told_and_the_package_is_not_imported(tmp_path):
    code = (
        "import sys; from threatlens import create_app; from threatlens.settings import load_settings\n"
        "services = create_app(load_settings({'THREATLENS_DATA': sys.argv[1]})).extensions['threatlens']\n"
        "services.fanout.tell('update', 1)\n"
        "print('redis' in sys.modules, services.fanout.used, bool(services.fanout._waiting))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=PROJECT, capture_output=True, check=True)
    assert done.stdout.split() == [b"False"] * 3


# -- several nodes


@dataclass
class Node:
    """A web process with a data folder of its own."""

    port: int
    token: str

    def feed(self, after: int = 0) -> Any:
        """A socket that is fed with events, updates and incidents."""
        feed = websocket.create_connection(
            f"ws://127.0.0.1:{self.port}/ws/events", header=[f"Authorization: Bearer {self.token}"], timeout=300
        )
        wanted = {"action": "subscribe", "event_types": ["new_event", "incident"], "after": after}
        feed.send(json.dumps(wanted))
        assert json.loads(feed.recv())["event_type"] == "subscribed"
        return feed

    def get(self, path: str, token: str = "") -> tuple[int, str]:
        """Status and body of an answer."""
        headers = {"Authorization": f"Bearer {token or self.token}"}
        try:
            request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", headers=headers)
            with urllib.request.urlopen(request, timeout=300) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()


@dataclass
class Nodes:
    """One engine in this process, two web processes."""

    engine: Any  # its services
    log: Path
    web: list[Node]


#: A web process, as gunicorn's worker is one: PORT, and whatever create_app reads.
NODE = """
import os
from werkzeug.serving import make_server
from wsgi import app
server = make_server("127.0.0.1", int(os.environ["PORT"]), app, threaded=True)
print("it listens", flush=True)
server.serve_forever()
"""


@contextmanager
def node(folder: Path, environ: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    folder.mkdir(mode=0o700)
    env = {**os.environ, **environ, "THREATLENS_DATA": str(folder)}
    command = [sys.executable, "-c", NODE]
    with subprocess.Popen(command, cwd=PROJECT, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def nodes(tmp_path: Path, postgresql: Server, redis: RedisServer) -> Iterator[Nodes]:
    postgresql.empty()
    shared = {"THREATLENS_DATABASE_URL": postgresql.url, "THREATLENS_REDIS_URL": redis.url,
              "THREATLENS_SECRET_KEY": KEY}  # fmt: skip
    log = tmp_path / "logs" / "auth.log"
    log.parent.mkdir()
    (tmp_path / "engine").mkdir(mode=0o700)
    (tmp_path / "engine" / "threatlens.yaml").write_text(
        f"allowed_roots: [{json.dumps(str(log.parent))}]\nsources:\n  - {{name: auth, path: {json.dumps(str(log))}}}\n"
    )
    services = create_app(load_settings({**shared, "THREATLENS_DATA": str(tmp_path / "engine")})).extensions[
        "threatlens"
    ]
    services.background.start()
    token = services.store.create_token("tests", "admin")
    with ExitStack() as stack:
        found = []
        for number in range(2):
            port = free_port()
            process = stack.enter_context(node(tmp_path / f"web{number}", {**shared, "PORT": str(port)}))
            found.append((process, port))
        for process, _ in found:
            assert process.stdout is not None
            assert any(b"listens" in line for line in process.stdout)
        yield Nodes(services, log, [Node(port, token) for _, port in found])
        services.background.stop()
    services.store.database.engine.dispose()


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def read(feed: Any, count: int) -> list[str]:
    """The lines of so many events."""
    found: list[str] = []
    while len(found) < count:
        message = json.loads(feed.recv())
        if message["event_type"] == "new_event":
            found.append(message["data"]["raw"])
    return found


def test_nodes_show_each_line_once_share_limits_and_end_sessions_though_redis_comes_and_goes(nodes, redis):
    engine, web = nodes.engine, nodes.web
    for each in web:
        wait_for(lambda each=each: each.get("/readyz")[0] == 200)
    feeds = [each.feed() for each in web]
    lines = [f"{LINE} {number}" for number in range(300)]

    def write(some: list[str]) -> None:
        with open(nodes.log, "a") as file:
            file.write("".join(f"{line}\n" for line in some))

    write(lines[:100])
    assert [read(feed, 100) for feed in feeds] == [lines[:100]] * 2
    redis.kill()
    write(lines[100:200])
    assert [read(feed, 100) for feed in feeds] == [lines[100:200]] * 2, "the database is asked instead"
    assert web[0].get("/healthz")[0] == 200
    wait_for(lambda: "does not answer" in engine.fanout.problem()[0])
    redis.start()
    write(lines[200:])
    assert [read(feed, 100) for feed in feeds] == [lines[200:]] * 2

    # What is no event comes to every node too, and the state of the engine, whose data folder is elsewhere.
    wait_for(lambda: engine.fanout.hears and not engine.fanout.problem()[0])
    for each in web:
        wait_for(lambda each=each: "ok" in each.get("/api/v1/health")[1])
        wait_for(lambda each=each: 'component_healthy{component="redis"} 1' in each.get("/metrics")[1])
        wait_for(lambda each=each: "threatlens_redis_up 1" in each.get("/metrics")[1])
    engine.broadcaster.publish_update(EventUpdate("incident", {"id": 77, "source": "auth"}, 1))
    for feed in feeds:
        while (message := json.loads(feed.recv()))["event_type"] != "incident" or message["data"]["id"] != 77:
            assert message["event_type"] != "new_event", "nothing comes twice"

    # Wrong tokens are counted together.
    wrong = "tl_" + "x" * 43
    assert [web[0].get("/api/v1/stats", wrong)[0] for _ in range(10)] == [401] * 10
    wait_for(lambda: web[1].get("/api/v1/stats", wrong)[0] == 429)

    # A token that is revoked at one process ends at the others.
    token_id = next(view.id for view in engine.store.tokens() if view.name == "tests")
    with Stopwatch() as stopwatch:
        engine.store.revoke_token(token_id)
        for feed in feeds:
            while True:
                opcode, data = feed.recv_data()
                if opcode == 8:
                    assert int.from_bytes(data[:2], "big") == 4401
                    break
            feed.shutdown()
    assert stopwatch.seconds < 5
