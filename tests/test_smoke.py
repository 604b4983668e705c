"""The real wiring: threads, scheduler, files, database, socket. A line is appended and appears where it should."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import websocket
from pace import Stopwatch, wait_for

from threatlens import create_app
from threatlens.event import EventFilter
from threatlens.settings import PROJECT, load_settings

LINE = "Nov 23 06:51:07 web1 sshd[4211]: Failed password for root from 203.0.113.9 port 52144 ssh2\n"


@pytest.fixture
def folder(tmp_path: Any) -> Any:
    (tmp_path / "logs").mkdir()
    (tmp_path / "data").mkdir(mode=0o700)
    (tmp_path / "data" / "threatlens.yaml").write_text(
        f"allowed_roots: [{json.dumps(str(tmp_path / 'logs'))}]\n"
        f"sources:\n  - {{name: auth, path: {json.dumps(str(tmp_path / 'logs' / 'auth.log'))}}}\n"
    )
    return tmp_path


@pytest.fixture
def engine(folder: Any) -> Iterator[Any]:
    app = create_app(load_settings({"THREATLENS_DATA": str(folder / "data")}))
    services = app.extensions["threatlens"]
    services.background.start()
    yield services
    services.background.stop()
    services.store.database.engine.dispose()


def test_an_appended_line_becomes_an_event(engine, folder):
    with open(folder / "logs" / "auth.log", "a") as file:
        file.write(LINE)
    (event,) = wait_for(lambda: engine.store.page(EventFilter()))
    assert (event.format, event.source, event.fields["user.name"]) == ("sshd", "auth", "root")
    assert event.raw == LINE.rstrip("\n")


def test_a_source_added_in_the_file_is_followed_without_a_restart(engine, folder):
    (folder / "logs" / "web.log").write_text("hello from the web\n")
    path = folder / "data" / "threatlens.yaml"
    path.write_text(path.read_text() + f"  - {{name: web, path: {json.dumps(str(folder / 'logs' / 'web.log'))}}}\n")
    (event,) = wait_for(lambda: engine.store.page(EventFilter()))
    assert (event.source, event.raw) == ("web", "hello from the web")


def test_a_broken_configuration_stops_nothing(engine, folder):
    path = folder / "data" / "threatlens.yaml"
    path.write_text("sources: [")
    wait_for(lambda: engine.config.errors)
    with open(folder / "logs" / "auth.log", "a") as file:
        file.write(LINE)
    wait_for(lambda: engine.store.page(EventFilter()))


def test_a_saved_source_outside_the_roots_says_that_it_is_refused(engine, folder):
    made = engine.config.add_log_source({"name": "later", "path": str(folder / "logs" / "later.log")})
    path = folder / "data" / "threatlens.yaml"
    path.write_text("allowed_roots: [/var/log]\n")
    source = wait_for(
        lambda: engine.store.source(made.source_id).state == "refused" and engine.store.source(made.source_id)
    )
    assert "allowed_roots" in source.remedy


def test_handed_in_data_becomes_events_and_leaves_the_spool(engine):
    ingestion = engine.ingestions.accept([b"one thing\nanother thing"], "handed-in")
    wait_for(lambda: engine.store.last_id() == 2)
    engine.ingestions.settle()
    assert engine.ingestions.get(ingestion.id).state == "done"
    assert engine.ingestions.spooled_bytes() == 0


def test_the_engine_says_how_it_is(engine, folder):
    (folder / "logs" / "auth.log").write_text(LINE)
    status = wait_for(lambda: engine.engine_status().get("lines") and engine.engine_status())
    assert status["pid"] == os.getpid()
    assert engine.readiness() == []
    assert wait_for(lambda: engine.store.sources()[0].state == "flowing")


def test_one_engine_a_database_and_another_takes_over(engine, folder):
    app = create_app(load_settings({"THREATLENS_DATA": str(folder / "data")}))
    second = app.extensions["threatlens"]
    second.background.start()
    try:
        assert engine.background.is_engine
        assert not second.background.is_engine
        (folder / "logs" / "auth.log").write_text(LINE)
        place = second.broadcaster.place()
        assert [event.id for event in second.broadcaster.wait(place, 60).events or wait_events(second, place)] == [1]
        engine.background.stop()
        wait_for(lambda: second.background.is_engine)
        with open(folder / "logs" / "auth.log", "a") as file:
            file.write(LINE)
        wait_for(lambda: second.store.last_id() == 2)
    finally:
        second.background.stop()
        second.store.database.engine.dispose()


def wait_events(services: Any, place: Any) -> Any:
    return wait_for(lambda: services.broadcaster.wait(place, 0).events)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def server(folder: Any) -> Iterator[tuple[subprocess.Popen[bytes], int, dict[str, str]]]:
    """`threatlens serve` on a free port."""
    port = free_port()
    environ = dict(os.environ, THREATLENS_DATA=str(folder / "data"), PORT=str(port))
    process = subprocess.Popen([sys.executable, "-m", "threatlens", "serve"], cwd=PROJECT, env=environ)

    def healthy() -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=300) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    try:
        wait_for(healthy)
        yield process, port, environ
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(60)


def test_the_server_follows_answers_streams_and_ends_within_five_seconds(folder):
    with server(folder) as (process, port, environ):
        made = subprocess.run(
            [sys.executable, "-m", "threatlens", "token", "create", "--name", "t", "--role", "admin"],
            cwd=PROJECT, env=environ, capture_output=True, text=True, timeout=300, check=True,
        )  # fmt: skip
        token = made.stdout.strip()
        feed = websocket.create_connection(
            f"ws://127.0.0.1:{port}/ws/events", header=[f"Authorization: Bearer {token}"], timeout=300
        )
        feed.send('{"action": "subscribe", "event_types": ["new_event"], "after": null}')
        assert json.loads(feed.recv())["event_type"] == "subscribed"
        with open(folder / "logs" / "auth.log", "a") as file:
            file.write(LINE)
        message = json.loads(feed.recv())
        assert message["event_type"] == "new_event"
        assert message["data"]["fields"]["source.ip"] == "203.0.113.9"
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/api/v1/events", headers={"Authorization": f"Bearer {token}"}
        )
        with urllib.request.urlopen(request, timeout=300) as answer:
            assert [event["id"] for event in json.load(answer)["events"]] == [1]
        with Stopwatch() as stopwatch:
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
        assert stopwatch.seconds < 5
        opcode, data = feed.recv_data()
        assert (opcode, int.from_bytes(data[:2], "big")) == (8, 1001)
        feed.shutdown()


def test_a_killed_server_neither_loses_nor_repeats(folder):
    log = folder / "logs" / "auth.log"
    log.write_text("".join(f"line {number}\n" for number in range(500)))
    with server(folder) as (process, _, _):
        process.kill()
        process.wait(60)
    with open(log, "a") as file:
        file.write("".join(f"line {number}\n" for number in range(500, 1000)))
    store = create_app(load_settings({"THREATLENS_DATA": str(folder / "data")})).extensions["threatlens"].store
    with server(folder):
        wait_for(lambda: store.last_id() >= 1000)
    events = store.page(EventFilter(), after=0, limit=2_000)
    assert [event.raw for event in events] == [f"line {number}" for number in range(1000)]
    store.database.engine.dispose()
