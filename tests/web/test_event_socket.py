"""/ws/events as a conversation, with a client made of two lists and a store and a ring that are real."""

from __future__ import annotations

import itertools
import json
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
from builders import NOW_US, Filler

from threatlens.broadcaster import EventBroadcaster
from threatlens.errors import StoreUnavailable
from threatlens.event import Event, EventUpdate
from threatlens.web import event_socket
from threatlens.web.event_messages import EVENT_TYPES, FrameCache
from threatlens.web.event_socket import ClosingError, EventFeed, Grant

EVERYTHING = Grant(frozenset(EVENT_TYPES))


class Client:
    """What a client has said, and what it was told."""

    def __init__(self) -> None:
        self.says: deque[str | bytes] = deque()
        self.told: list[dict[str, Any]] = []
        self.sends = 0

    def receive(self, timeout: float) -> str | bytes | None:
        return self.says.popleft() if self.says else None

    def send_frames(self, frames: bytes) -> None:
        self.sends += 1
        while frames:
            size, start = frames[1], 2
            if size > 125:
                width = 2 if size == 126 else 8
                size, start = int.from_bytes(frames[2 : 2 + width], "big"), 2 + width
            assert frames[0] == 0x81
            self.told.append(json.loads(frames[start : start + size]))
            frames = frames[start + size :]

    def take(self, event_type: str = "new_event") -> list[dict[str, Any]]:
        """What was told of this type since the last look; the rest is forgotten."""
        found = [each for each in self.told if each["event_type"] == event_type]
        self.told.clear()
        return found


class Scene:
    """A feed on a store and a ring, run step by step."""

    def __init__(self, store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(event_socket, "WAIT_S", 0)
        self.store = store
        self.filler = Filler(store)
        self.ring = EventBroadcaster(max_events=10)
        self.client = Client()
        self.now = 0.0
        self.grant: Grant | None = EVERYTHING
        self.feed = EventFeed(
            self.client, store, self.ring, FrameCache(), grant=lambda: self.grant, clock=lambda: self.now
        )

    def store_events(self, number: int, *, announce: bool = True, **more: Any) -> None:
        for start in range(0, number, 4):
            count = min(4, number - start)
            first = self.filler.add(*(f"line {n}" for n in range(start, start + count)), **more)
            if announce:
                self.announce(first, count)

    def announce(self, first: int, number: int) -> None:
        made = tuple(event for n in range(number) if (event := self.store.event(first + n)))
        self.ring.publish(first, number, lambda: made)

    def say(self, message: Any) -> list[dict[str, Any]]:
        """Say it and return the answers."""
        self.client.says.append(message if isinstance(message, (str, bytes)) else json.dumps(message))
        self.client.told.clear()
        self.feed.hear(0)
        return self.client.told

    def subscribe(self, after: Any = None, types: Any = ("new_event",), **more: Any) -> dict[str, Any]:
        message = {"action": "subscribe", "event_types": list(types), "after": after, **more}
        return self.say(message)[0]

    def run(self, steps: int = 6) -> list[int]:
        """The ids of the events that these steps bring."""
        for _step in range(steps):
            self.feed.tell()
        return [each["id"] for each in self.client.take()]


@pytest.fixture
def scene(store: Any, monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(store, monkeypatch)


def code(answers: list[dict[str, Any]]) -> str:
    [answer] = answers
    assert answer["event_type"] == "error"
    assert answer["data"]["message"]
    return str(answer["data"]["code"])


def test_an_update_has_the_shape_of_the_contract(scene: Scene) -> None:
    scene.subscribe()
    scene.store_events(1, severity=7)
    scene.feed.tell()

    [update] = scene.client.take()

    assert set(update) == {"event_type", "id", "data", "timestamp", "priority"}
    assert (update["id"], update["data"]["id"], update["data"]["raw"], update["priority"]) == (1, 1, "line 0", 7)


def test_without_after_only_what_comes_from_now_on_is_sent(scene: Scene) -> None:
    scene.store_events(3)

    answer = scene.subscribe()
    scene.store_events(2)

    assert answer["event_type"] == "subscribed"
    assert scene.run() == [4, 5]


def test_with_after_everything_since_comes_first_and_nothing_twice(scene: Scene) -> None:
    scene.store_events(30)  # the ring holds the last of them only
    scene.subscribe(after=12)
    first = scene.run()
    scene.store_events(3)

    assert first == list(range(13, 31))
    assert scene.run() == [31, 32, 33]


@pytest.mark.parametrize("rounds", range(4))
def test_what_is_stored_during_the_replay_is_neither_missed_nor_repeated(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, rounds: int
) -> None:
    monkeypatch.setattr(event_socket, "PAGE", 7)
    scene.store_events(30)
    scene.subscribe(after=0)
    received = []
    for step in range(12):
        if step == rounds:
            scene.store_events(5, announce=False)  # committed, not announced yet
        received += scene.run(1)
        if step == rounds:
            scene.announce(31, 5)
            scene.store_events(2)

    assert received == list(range(1, 38))


def test_a_client_that_falls_off_the_ring_goes_on_from_the_database(scene: Scene) -> None:
    scene.subscribe()
    for _batch in range(8):
        scene.store_events(5)

    assert scene.run(30) == list(range(1, 41))


def test_a_reconnect_with_the_last_id_continues_exactly(scene: Scene, store: Any) -> None:
    scene.subscribe()
    scene.store_events(4)
    last = scene.run()[-1]
    scene.store_events(20)

    again = Client()
    scene.feed = EventFeed(again, store, scene.ring, FrameCache(), grant=lambda: EVERYTHING, clock=lambda: 0.0)
    scene.client = again
    scene.subscribe(after=last)

    assert scene.run() == list(range(5, 25))


def test_a_replay_is_read_a_page_at_a_time(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_socket, "PAGE", 5)
    scene.store_events(23)
    pages: list[int] = []
    read = scene.store.page

    def page(*arguments: Any, limit: int, **more: Any) -> Any:
        pages.append(limit)
        return read(*arguments, limit=limit, **more)

    monkeypatch.setattr(scene.store, "page", page)
    scene.subscribe(after=0)

    assert scene.run(10) == list(range(1, 24))
    assert pages == [5] * 5


def test_the_filter_holds_for_replay_and_live_alike(scene: Scene) -> None:
    for severity in (3, 8, 3, 9):
        scene.store_events(6, severity=severity)
    answer = scene.subscribe(after=0, filter="severity>=7 source:auth")
    replayed = scene.run()
    scene.store_events(1, severity=2)
    scene.store_events(1, severity=10)

    assert answer["data"]["filter"] == 'severity>=7 source:("auth")'
    assert replayed == [*range(7, 13), *range(19, 25)]
    assert scene.run() == [26]


def test_a_filter_that_finds_nothing_does_not_keep_reading(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.store_events(40)
    reads = itertools.count()
    read = scene.store.page
    monkeypatch.setattr(scene.store, "page", lambda *a, **m: (next(reads), read(*a, **m))[1])
    scene.subscribe(after=0, filter="nosuchword")

    assert scene.run(20) == []
    assert next(reads) == 1


def test_an_id_beyond_the_last_is_live_only_with_a_notice(scene: Scene) -> None:
    scene.store_events(3)

    subscribed, notice = scene.say({"action": "subscribe", "event_types": ["new_event"], "after": 99})
    scene.store_events(1)

    assert subscribed["event_type"] == "subscribed"
    assert (notice["event_type"], notice["data"]["code"], notice["data"]["last_id"]) == (
        "system_status", "after_beyond_last", 3)  # fmt: skip
    assert scene.run() == [4]


def test_subscribing_twice_delivers_nothing_twice(scene: Scene) -> None:
    scene.store_events(3)
    scene.subscribe(after=0)
    first = scene.run()
    scene.subscribe(after=0)
    scene.subscribe()
    scene.store_events(1)

    assert (first, scene.run()) == ([1, 2, 3], [4])


def test_a_second_subscription_changes_the_filter_without_a_gap(scene: Scene) -> None:
    scene.subscribe()
    scene.store_events(2)
    scene.subscribe(filter="severity>=1")

    assert scene.run() == [1, 2]


def test_after_unsubscribing_nothing_comes(scene: Scene) -> None:
    scene.subscribe()
    [answer] = scene.say({"action": "unsubscribe"})
    again = scene.say({"action": "unsubscribe", "event_types": ["incident"]})
    scene.store_events(2)

    assert answer["data"] == {"event_types": []}
    assert again[0]["event_type"] == "unsubscribed"
    assert scene.run() == []


def test_other_updates_come_to_those_who_want_them(scene: Scene) -> None:
    scene.subscribe(types=["system_status"])
    scene.client.told.clear()
    scene.ring.publish_update(EventUpdate("system_status", {"queue": 1}, NOW_US))
    scene.ring.publish_update(EventUpdate("incident", {"id": 1}, NOW_US))
    scene.store_events(15)  # more than the ring holds
    scene.feed.tell()
    scene.feed.tell()

    assert [each["event_type"] for each in scene.client.told] == ["system_status"]


def test_a_ping_is_answered(scene: Scene) -> None:
    assert [each["event_type"] for each in scene.say({"action": "ping"})] == ["pong"]


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("{not json", "invalid_json"),
        ("", "invalid_json"),
        ("[" * 2000, "invalid_json"),
        ('{"action":"ping","action":"ping"}', "invalid_json"),
        ('{"action":NaN}', "invalid_json"),
        ("\ufeff{}", "invalid_json"),
        (json.dumps({"action": "subscribe", "filter": [[[[1]]]]}), "invalid_json"),
        ("[]", "invalid_message"),
        ('"x"', "invalid_message"),
        ("null", "invalid_message"),
        ("1", "invalid_message"),
        ('{"action":"ping","more":1}', "invalid_message"),
        ('{"action":"subscribe","event_types":["new_event"],"role":"admin"}', "invalid_message"),
        ("{}", "unknown_action"),
        ('{"action":"drop_tables"}', "unknown_action"),
        ('{"action":["ping"]}', "unknown_action"),
        ('{"action":{"a":1}}', "unknown_action"),
        ('{"action":"subscribe"}', "invalid_event_types"),
        ('{"action":"subscribe","event_types":"new_event"}', "invalid_event_types"),
        ('{"action":"subscribe","event_types":[1]}', "invalid_event_types"),
        ('{"action":"subscribe","event_types":[["new_event"]]}', "invalid_event_types"),
        ('{"action":"subscribe","event_types":[]}', "invalid_event_types"),
        ('{"action":"subscribe","event_types":["../x"]}', "invalid_event_types"),
        ('{"action":"subscribe","event_types":["audit"]}', "invalid_event_types"),
        ('{"action":"subscribe","event_types":["error"]}', "invalid_event_types"),
        (json.dumps({"action": "subscribe", "event_types": ["new_event"] * 200}), "invalid_event_types"),
        ('{"action":"unsubscribe","event_types":null}', "invalid_event_types"),
        *(
            ('{"action":"subscribe","event_types":["new_event"],"after":' + after + "}", "invalid_after")
            for after in ("-1", "true", "1.0", '"1 OR 1=1"', "{}", '{"$gt":0}', str(2**63), "[]")
        ),
        ('{"action":"subscribe","event_types":["new_event"],"after":1e400}', "invalid_json"),
        ('{"action":"subscribe","event_types":["new_event"],"filter":1}', "invalid_filter"),
        ('{"action":"subscribe","event_types":["new_event"],"filter":"usr:root"}', "invalid_filter"),
    ],
)
def test_a_bad_message_is_answered_with_a_code_and_the_connection_stays(
    scene: Scene, message: str, expected: str
) -> None:
    assert code(scene.say(message)) == expected
    assert scene.subscribe()["event_type"] == "subscribed"


def test_five_errors_close_the_connection(scene: Scene) -> None:
    for _ in range(4):
        scene.say("{not json")
    with pytest.raises(ClosingError) as closing:
        scene.say("{not json")

    assert closing.value.code == 1008
    assert code(scene.client.told) == "invalid_json"


def test_too_many_messages_close_the_connection(scene: Scene) -> None:
    for _ in range(20):
        scene.say({"action": "ping"})
    with pytest.raises(ClosingError) as closing:
        scene.say({"action": "ping"})

    assert closing.value.code == 1008
    assert code(scene.client.told) == "rate_limited"


def test_ten_messages_a_second_are_fine_for_ever(scene: Scene) -> None:
    for _ in range(1000):
        scene.now += 0.1
        assert scene.say({"action": "ping"})[0]["event_type"] == "pong"


@pytest.mark.parametrize(
    ("message", "expected"),
    [(b"\x00\xff", 1003), (b"{}", 1003), ("x" * 4097, 1009), ("\u00e9" * 2049, 1009)],
)
def test_a_message_of_another_kind_closes_the_connection(scene: Scene, message: str | bytes, expected: int) -> None:
    with pytest.raises(ClosingError) as closing:
        scene.say(message)

    assert closing.value.code == expected


def test_a_stopping_server_says_so(scene: Scene) -> None:
    scene.subscribe()
    scene.ring.close()

    with pytest.raises(ClosingError) as closing:
        scene.feed.run()
    assert closing.value.code == 1001


def test_a_token_that_ends_closes_the_connection_within_a_second(scene: Scene) -> None:
    scene.subscribe()
    scene.grant = None
    scene.now += 1.0

    with pytest.raises(ClosingError) as closing:
        scene.feed.run()
    assert closing.value.code == 4401


@pytest.mark.parametrize("asked", ["page", "last_id"])
def test_a_database_that_is_away_ends_the_connection_so_that_the_client_resumes(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    def away(*_arguments: Any, **_more: Any) -> None:
        raise StoreUnavailable("/data is away")

    scene.store_events(30)
    monkeypatch.setattr(scene.store, asked, away)

    with pytest.raises(ClosingError) as closing:  # noqa: PT012 - either step may be the one
        scene.subscribe(after=0 if asked == "page" else 99)
        scene.run()
    assert closing.value.code == 1013
    assert scene.client.told[-1]["data"]["code"] == "unavailable"
    assert "/data" not in str(scene.client.told)


def test_a_line_that_looks_like_a_message_stays_data(scene: Scene) -> None:
    scene.subscribe()
    evil = '"}],"event_type":"config_changed" \u2028\u0000'
    first = scene.filler.add(evil)
    scene.announce(first, 1)
    scene.client.told.clear()
    scene.feed.tell()

    [update] = scene.client.told
    assert (update["event_type"], update["data"]["raw"]) == ("new_event", evil)


@pytest.mark.parametrize("value", [10**30, float("nan"), "\ud800", ["\udfff"]])
def test_any_value_of_a_field_can_be_sent(scene: Scene, value: Any) -> None:
    event = Event(1, NOW_US, NOW_US, "s", 1, "", "other", 3, "json", "m", "raw", {"x": value})
    scene.subscribe()
    scene.ring.publish(1, 1, lambda: (event,))
    scene.feed.tell()

    [update] = scene.client.take()
    assert set(update["data"]["fields"]) == {"x"}


def test_a_frame_is_made_once_for_all_clients(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    make: Callable[[Event], bytes] = event_socket.event_frame
    monkeypatch.setattr("threatlens.web.event_messages.event_frame", lambda e: (made.append(e.id), make(e))[1])
    cache = FrameCache()
    feeds = [
        EventFeed(Client(), scene.store, scene.ring, cache, grant=lambda: EVERYTHING, clock=lambda: 0.0)
        for _ in range(3)
    ]
    for feed in feeds:
        feed._act(event_socket.Subscribe(frozenset({"new_event"}), event_socket.EventFilter(), None))
    scene.store_events(4)
    for feed in feeds:
        feed.tell()

    assert made == [1, 2, 3, 4]


def test_the_frames_that_are_kept_are_bounded_in_bytes(scene: Scene) -> None:
    cache = FrameCache(max_bytes=5_000)
    scene.store_events(50, announce=False)
    for number in range(1, 51):
        cache.frame(scene.store.event(number))

    assert cache._bytes <= 5_000
    assert cache._bytes == sum(map(len, cache._frames.values()))


def test_new_events_of_one_moment_are_one_write(scene: Scene) -> None:
    scene.subscribe()
    scene.store_events(8)
    before = scene.client.sends

    assert scene.run(1) == list(range(1, 9))
    assert scene.client.sends == before + 1


@pytest.mark.parametrize("types", [["notification"], ["new_event", "notification"]])
def test_a_type_that_the_role_does_not_allow_is_refused_and_nothing_comes(scene: Scene, types: list[str]) -> None:
    scene.grant = Grant(frozenset({"new_event"}))
    scene.feed.check()
    assert code(scene.say({"action": "subscribe", "event_types": types})) == "forbidden"
    scene.store_events(2)
    scene.ring.publish_update(EventUpdate("notification", {}, NOW_US))
    scene.feed._types = frozenset()
    assert scene.client.take("notification") == []


def test_a_client_for_one_source_gets_no_other_live_or_from_the_database(scene: Scene) -> None:
    for number in range(6):
        scene.store_events(2, source="web" if number % 2 else "auth")
    scene.grant = Grant(frozenset(EVENT_TYPES), ("web",))
    scene.feed.check()
    assert (
        code(scene.say({"action": "subscribe", "event_types": ["new_event"], "filter": "source:auth"})) == "forbidden"
    )
    scene.subscribe(after=0, types=["new_event", "detection"])
    got = scene.run()
    scene.store_events(2, source="auth")
    scene.store_events(2, source="web")
    scene.ring.publish_update(EventUpdate("detection", {"source": "auth"}, NOW_US))
    scene.ring.publish_update(EventUpdate("detection", {}, NOW_US))
    for _ in range(4):
        scene.feed.tell()
    assert got == [3, 4, 7, 8, 11, 12]
    assert [told["event_type"] for told in scene.client.told] == ["new_event"] * 2
    assert {told["data"]["source"] for told in scene.client.told} == {"web"}


def test_a_role_that_is_lowered_in_mid_stream_takes_types_away(scene: Scene) -> None:
    scene.subscribe(types=["new_event", "notification"])
    scene.client.told.clear()
    scene.grant = Grant(frozenset({"new_event"}))
    scene.feed.check()
    scene.ring.publish_update(EventUpdate("notification", {}, NOW_US))
    scene.store_events(1)
    scene.feed.tell()
    assert [told["event_type"] for told in scene.client.told] == ["new_event"]
