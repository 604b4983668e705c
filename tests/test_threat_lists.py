"""Threat lists from URLs stay fresh and never get worse, and past events turn out to be hits when a list grows."""

from __future__ import annotations

import ipaddress
import os
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from builders import NOW_US, Filler

from threatlens.config_values import ThreatListConfig
from threatlens.detectors.threats import ThreatLists
from threatlens.errors import ConfigError
from threatlens.event import EventFilter
from threatlens.outbound import Limits, OutboundClient
from threatlens.outbound_urls import Permissions
from threatlens.raising import Raiser
from threatlens.sources.base import CASE_PREFIX
from threatlens.store_accounts import Doer
from threatlens.threat_lists import SLICE, ThreatListKeeper

DOER = Doer("user anna")
HOUR_US = 3_600_000_000


@dataclass
class Feed:
    """A server of one list."""

    url: str = ""
    status: int = 200
    body: bytes = b"203.0.113.9\n"
    etag: str = ""
    asked: list[dict[str, str]] = field(default_factory=list)


@pytest.fixture
def feed():
    made = Feed()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            made.asked.append({name.lower(): value for name, value in self.headers.items()})
            fresh = made.etag and self.headers.get("if-none-match") == made.etag
            self.send_response(304 if fresh else made.status)
            if made.etag:
                self.send_header("etag", made.etag)
            if not fresh:
                self.send_header("content-length", str(len(made.body)))
            self.end_headers()
            if not fresh:
                self.wfile.write(made.body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    made.url = f"http://127.0.0.1:{server.server_address[1]}/list.txt"
    yield made
    server.shutdown()
    server.server_close()


class Bench:
    """A keeper over a real store, and a clock that is moved by hand."""

    def __init__(self, store, folder):
        self.store, self.folder = store, folder
        self.now = NOW_US
        self.declared: tuple[ThreatListConfig, ...] | None = None
        self.restart()

    def restart(self):
        permissions = Permissions(networks=(ipaddress.ip_network("127.0.0.0/8"),))
        self.keeper = ThreatListKeeper(
            str(self.folder / "threats"), str(self.folder / "cache"), self.store,
            OutboundClient(lambda: permissions), Raiser(self.store, clock_us=lambda: self.now), lambda: permissions,
            declared=lambda: self.declared, clock_us=lambda: self.now, limits=Limits(total_s=5, body_bytes=10_000),
        )  # fmt: skip

    def file(self, name: str) -> str:
        with open(self.folder / "threats" / name, encoding="utf-8") as file:
            return file.read()

    def put(self, name: str, text: str) -> None:
        os.makedirs(self.folder / "threats", exist_ok=True)
        (self.folder / "threats" / name).write_text(text)

    def tend(self, after_s: float = 0, **more):
        self.now += int(after_s * 1e6)
        self.keeper.tend(**more)

    def compare(self):
        """Notice what has changed, and compare it to the end."""
        self.tend()
        for _ in range(100):
            self.tend(20)

    def only(self):
        (found,) = self.store.threat_lists()
        return found

    def marked(self) -> list[tuple[str, int]]:
        return sorted((found.rule_id.removeprefix("threatlens-list-"), found.event_id) for found in
                      self.store.detections(limit=1_000))  # fmt: skip


@pytest.fixture
def bench(store, tmp_path):
    return Bench(store, tmp_path)


def test_a_list_is_fetched_and_asked_for_again_only_if_it_has_changed(bench, feed):
    feed.etag = '"one"'
    bench.keeper.add("feed", feed.url, 3600, DOER)
    bench.tend()
    assert bench.file("feed.txt") == "203.0.113.9\n"
    assert (bench.only().entries, bench.only().error, bench.only().etag) == (1, "", '"one"')

    bench.tend(1800)
    assert len(feed.asked) == 1, "it is not due"
    bench.tend(1801)
    assert feed.asked[1]["if-none-match"] == '"one"'
    assert (bench.only().checked_at, bench.only().changed_at) == (bench.now, NOW_US)

    feed.etag, feed.body = '"two"', b"203.0.113.9\n198.51.100.0/24\n"
    bench.tend(3601)
    assert (bench.only().entries, bench.only().added) == (2, 1)

    bench.tend(-86_400)
    assert len(feed.asked) == 4, "a clock that is put back puts it off for no day"


@pytest.mark.parametrize(
    ("status", "body", "why"),
    [
        (500, b"203.0.113.9\n", "status 500"),
        (200, b"<html><body>Please log in</body></html>\n" * 3, "no address, network, domain or hash"),
        (200, b"<p>\n<b>\n<i>\nexample.org\n", "is no list"),
        (200, b"", "no address, network, domain or hash"),
        (200, b"203.0.113.1\n" * 1_000, "longer than it may be"),
    ],
)
def test_whatever_is_no_list_leaves_the_last_good_copy(bench, feed, status, body, why):
    bench.keeper.add("feed", feed.url, 3600, DOER)
    bench.tend()
    feed.status, feed.body = status, body
    bench.tend(3601)

    assert bench.file("feed.txt") == "203.0.113.9\n"
    found = bench.only()
    assert found.failures == 1
    assert re.search(why, found.error), found.error
    assert found.next_at == bench.now + 300_000_000
    bench.tend(301)
    assert bench.only().failures == 2
    assert bench.only().next_at == bench.now + 600_000_000
    feed.status, feed.body = 200, b"203.0.113.10\n"
    bench.tend(601)
    assert (bench.only().error, bench.only().failures, bench.file("feed.txt")) == ("", 0, "203.0.113.10\n")


def test_an_address_of_our_own_network_is_not_fetched(bench):
    for url in ("http://169.254.169.254/latest", "http://10.0.0.1/list", "file:///etc/passwd"):
        with pytest.raises(ConfigError):
            bench.keeper.add("feed", url, 3600, DOER)
    with pytest.raises(ConfigError, match="name"):
        bench.keeper.add("../feed", "https://example.org/list", 3600, DOER)
    assert bench.store.threat_lists() == []


def test_a_removed_list_is_gone_with_its_file_and_a_file_of_somebody_is_not_taken_over(bench, feed):
    bench.keeper.add("feed", feed.url, 3600, DOER)
    bench.tend()
    assert bench.keeper.remove("feed", DOER)
    assert not (bench.folder / "threats" / "feed.txt").exists()
    assert not bench.keeper.remove("feed", DOER)

    bench.put("mine.txt", "203.0.113.1\n")
    with pytest.raises(ConfigError, match="file"):
        bench.keeper.add("mine", feed.url, 3600, DOER)
    bench.tend()
    assert (bench.only().name, bench.only().url, bench.only().entries) == ("mine", "", 1)
    assert not bench.keeper.remove("mine", DOER), "who put it there takes it away"
    os.unlink(bench.folder / "threats" / "mine.txt")
    bench.tend()
    assert bench.store.threat_lists() == []


def test_lists_that_the_configuration_names_are_followed_until_it_does_not(bench, feed):
    bench.declared = (ThreatListConfig("feed", feed.url, 2),)
    bench.keeper.add("mine", feed.url, 3600, DOER)
    bench.tend()
    assert {each.name: (each.every_s, each.declared, each.entries) for each in bench.store.threat_lists()} == {
        "feed": (7200, 1, 1), "mine": (3600, 0, 1),
    }  # fmt: skip
    with pytest.raises(ConfigError, match="declared in the configuration"):
        bench.keeper.remove("feed", DOER)

    feed.body = b"203.0.113.9\n203.0.113.10\n"
    bench.declared = (ThreatListConfig("feed", feed.url + "?new", 2),)
    bench.tend()
    assert {each.name: each.entries for each in bench.store.threat_lists()} == {"feed": 2, "mine": 1}

    bench.declared = None  # the file is not right now
    bench.restart()
    bench.tend()
    assert len(bench.store.threat_lists()) == 2
    bench.declared = ()
    bench.tend()
    assert bench.only().name == "mine"
    assert os.listdir(bench.folder / "threats") == ["mine.txt"]

    bench.declared = (ThreatListConfig("mine", feed.url, 1),)
    bench.tend()
    assert bench.only().declared, "what is declared wins"


LINES = [
    "Failed password for root from 203.0.113.9 port 5214 ssh2",
    "Failed password for root from 198.51.100.77 port 5214 ssh2",
    "Accepted password for anna from 192.0.2.7 port 5214 ssh2",
]


def fill(store, source: str = "auth", n: int = 3) -> list[int]:
    lines = [f"2026-11-23T06:00:00+00:00 web1 sshd[42]: {LINES[at % 3]}" for at in range(n)]
    first = Filler(store).add(*lines, source=source)
    return list(range(first, first + n))


def test_past_events_are_marked_when_a_list_grows_and_each_only_once(bench):
    ids = fill(bench.store, n=6)
    bench.put("bad.txt", "198.51.100.0/24\n")
    bench.compare()
    assert bench.marked() == [("bad", ids[4])], "one match for what one address did"
    (match,) = bench.store.detections()
    assert (match.n, match.source_ip, match.level) == (2, "198.51.100.77", "high")
    (incident,) = bench.store.incidents()
    assert incident.subject == ("source.ip", "198.51.100.77")
    assert [event.id for event in bench.store.page(EventFilter()) if event.detections] == [ids[4], ids[1]]
    severe = bench.store.page(EventFilter(min_severity=5))
    assert [event.id for event in severe] == [ids[4], ids[1]], "they are as severe as they turned out to be"
    assert sum(n for severity, n in bench.store.counts(EventFilter()).by_severity.items() if severity >= 5) == 2

    bench.put("bad.txt", "198.51.100.0/24\n203.0.113.9:22\n")
    bench.compare()
    assert bench.marked() == [("bad", ids[3]), ("bad", ids[4])]
    assert bench.only().marked == 4
    os.unlink(bench.folder / "cache" / "bad.known")  # everything counts as new again
    bench.put("bad.txt", "198.51.100.0/24\n203.0.113.9:22\n# touched\n")
    bench.compare()
    assert len(bench.marked()) == 2


def test_a_comparison_goes_on_where_it_was_interrupted(bench):
    ids = fill(bench.store, n=SLICE + 500)
    bench.put("bad.txt", "203.0.113.9\n")
    bench.tend()
    bench.tend(20, budget_s=-1)  # one slice
    half = bench.store.list_pass()
    assert (half.looked, half.ended_at) == (SLICE, 0)
    bench.restart()
    fill(bench.store, n=3)  # newer than the pass: the rules have seen them
    bench.compare()

    done = bench.store.list_pass()
    assert (done.looked, done.marked) == (SLICE + 500, 500)
    assert sum(found.n for found in bench.store.detections()) == 500
    assert max(found.event_id for found in bench.store.detections()) <= ids[-1]


def test_past_events_of_a_case_are_marked_in_it(bench):
    fill(bench.store, source=CASE_PREFIX + "one")
    bench.put("bad.txt", "203.0.113.9\n")
    bench.compare()
    assert [match.suppressed for match in bench.store.detections()] == ["case"]
    assert bench.store.incidents() == []


@pytest.mark.parametrize(
    ("entry", "line", "wanted"),
    [
        ("203.0.113.9", "from=203.0.113.9, x", True),
        ("203.0.113.9:8080", "dst=203.0.113.9:443", True),
        ("203.0.113.9", "203.0.113.90", False),
        ("203.0.113.0/24", "client 203.0.113.77#53", True),
        ("2001:db8::1", "from 2001:DB8:0:0::1 port", True),
        ("2001:db8::/32", "[2001:db8:1::5]:443", True),
        ("bad.example", "query: www.BAD.example IN A", True),
        ("0.0.0.0 bad.example", "https://bad.example:8443/x", True),
        ("bad.example", "query: notbad.example IN A", False),
        ("d41d8cd98f00b204e9800998ecf8427e", "MD5=D41D8CD98F00B204E9800998ECF8427E,SHA1=", True),
        ("0.0.0.0/0", "from 203.0.113.9", False),
        ("192.168.0.0/16", "from 192.168.1.5", False),
        ("192.168.1.5", "from 192.168.1.5", True),
    ],
)
def test_the_text_of_a_line_tells_whether_it_may_be_a_hit(entry, line, wanted):
    assert ThreatLists({"x": (entry,)}).may_hold(line) is wanted
