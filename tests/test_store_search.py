"""What a query finds is what a plain look at every event finds; a long search says how far it came."""

from __future__ import annotations

import random

import pytest
from builders import NOW_US, Filler

from threatlens.errors import QueryError
from threatlens.event import Event, EventFilter
from threatlens.query import parse_query
from threatlens.store import EventStore
from threatlens.store_accounts import Doer
from threatlens.store_searches import MAX_SAVED
from threatlens.store_words import address_query, user_query

pytestmark = pytest.mark.both_databases

ADDRESSES = ("192.0.2.7", "192.0.2.77", "198.51.100.3", "10.1.2.3", "2001:db8::5")
USERS = ("root", "Admin", "backup", "o'neil", "ro*t")
LINES = (
    "Nov 23 06:51:07 web1 sshd[4211]: Failed password for {user} from {address} port 52144 ssh2",
    "Nov 23 06:51:07 web2 sshd[4211]: Accepted password for {user} from {address} port 52144 ssh2",
    '{address} - - [23/Nov/2026:06:51:07 +0000] "GET /login?u={user} HTTP/1.1" {status} 12 "-" "curl/8.5"',
    "nothing that anybody knows, {user} {address}",
    r'{{"time":"2026-11-23T06:51:07Z","remote_addr":"{address}","method":"GET","uri":"\/log\u0069n?u={user}","status":{status}}}',
)


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> tuple[EventStore, list[Event]]:
    from threatlens.decoders import SourceDecoder
    from threatlens.settings import load_settings, prepare_data_folder
    from threatlens.store_database import connect
    from threatlens.store_schema import migrate

    settings = load_settings({"THREATLENS_DATA": str(tmp_path_factory.mktemp("many"))})
    prepare_data_folder(settings)
    migrate(settings)
    store = EventStore(connect(settings.database_url))
    filler, dice, decoder = Filler(store), random.Random(11), SourceDecoder()
    for _ in range(900):
        line = dice.choice(LINES).format(
            user=dice.choice(USERS), address=dice.choice(ADDRESSES), status=dice.choice((200, 404, 500, 503))
        )
        decoded = decoder.decode(line, NOW_US / 1e6)
        filler.add(
            line,
            source=dice.choice(("auth", "web")),
            severity=dice.choice((1, 3, 6, 9)),
            category=dice.choice(("authentication", "web")),
            log_format=decoded.format,
            outcome=("", "success", "failure").index(str(decoded.fields.get("event.outcome", ""))),
            source_ip=decoded.fields.get("source.ip"),
            user_name=decoded.fields.get("user.name"),
        )
    return store, list(store.page(EventFilter(), after=0, limit=1_000))


QUERIES = [
    "user:root", "user:ROOT", "-user:root", "user:(root,backup)", "user:ro*", "user:*", "has:user", "-has:user",
    "ip:192.0.2.7", "ip:192.0.2.0/24", "ip:192.0.2.0/25", "ip:10.0.0.0/8", "ip:2001:db8::/32", "ip:2001:DB8:0::5",
    "-ip:192.0.2.0/24", "src:198.51.100.3", "source.ip:192.0.2.7 user:root", "dst:192.0.2.7",
    "status>=500", "status:400..499", "status:404 method:get", "http.response.status_code:(404,503)", "-status:404",
    "outcome:failure", "outcome:(failure,success) -user:root", "format:sshd", "-format:sshd", "format:ng*",
    "host:web1", "severity>=5 user:root", "-severity:6", "-severity:3..6", "-source:auth", "source:a*",
    "-category:web source:auth", "-curl", '-"failed password"', "failed -user:root", "backup user:backup",
    "file:*auth", "has:http.response", "flag:truncated", 'user:"o\'neil"', "url:/login?u=Root", "url:*LOGIN*",
    "url:*=*", "url:(/login?u=root,*admin)", "-url:*login*", "url:/login", "url:10.0.0.0/8", "url:1..2",
]  # fmt: skip


@pytest.mark.parametrize("text", QUERIES)
def test_a_search_finds_what_a_plain_look_finds(many, text: str) -> None:
    store, events = many
    where = parse_query(text, now_us=NOW_US)
    expected = [event.id for event in events if where.matches(event)]

    assert [event.id for event in store.page(where, after=0, limit=1_000)] == expected
    found, before = [], 2**40
    while page := store.page(where, before=before, limit=7):
        found += [event.id for event in page]
        before = page[-1].id
    assert found == expected[::-1]
    if where.is_counted:
        assert store.counts(where).total == len(expected)


def test_most_of_the_queries_find_something_and_leave_something_out(many) -> None:
    _store, events = many
    sizes = [sum(parse_query(text, now_us=NOW_US).matches(event) for event in events) for text in QUERIES]
    assert sum(0 < size < len(events) for size in sizes) > 35


def test_a_search_that_takes_too_long_says_how_far_it_came_and_goes_on_from_there(many, monkeypatch) -> None:
    store, events = many
    monkeypatch.setattr("threatlens.store_search.SEARCH_S", -1.0)
    where = parse_query("status:503 -user:nobody", now_us=NOW_US)
    found, before, stops = [], None, 0
    while True:
        page = store.page(where, before=before, limit=20)
        found += [event.id for event in page]
        if page.stopped_at is None:
            break
        stops += 1
        before = page.stopped_at

    assert found == [event.id for event in reversed(events) if where.matches(event)]
    assert stops > 3


def test_an_address_and_a_user_are_words_that_a_line_cannot_forge(store: EventStore) -> None:
    filler = Filler(store)
    real = filler.add("no word of it stands here", source_ip="2001:db8::5", user_name="Zoë")
    filler.add("ip@2001-db8--5 u@zoë and 2001:db8::5 for Zoë", source_ip="192.0.2.7", user_name="u@root")
    for number in range(20):
        filler.add("another", source_ip="192.0.2.7", user_name=f"user{number}")

    for sort, first in (("source.ip", "192.0.2.7"), ("-user.name", "Zoë")):
        events = store.sorted_page(EventFilter(), sort, None, limit=30)
        assert len(events) == 22
        assert events[0].id == (real if first == "Zoë" else real + 1)
        assert events[-1].id == (real if sort == "source.ip" else real + 1)
    with store.database.reading() as connection:
        for query, n in ((address_query("2001:db8::5"), 2), (user_query("ZOë"), 1), (user_query("USER7"), 1)):
            found = connection.exec_driver_sql("SELECT rowid FROM events_fts WHERE events_fts MATCH ?", (query,))
            assert len(found.all()) == n


def test_saved_searches_belong_to_a_person(store: EventStore) -> None:
    anna = store.create_user("anna", "hash", "viewer", Doer("test", ""))
    bob = store.create_user("bob", "hash", "viewer", Doer("test", ""))
    store.save_search(anna.id, "logins", "q=a", 1)
    store.save_search(anna.id, "logins", "q=b", 2)
    store.save_search(bob.id, "logins", "q=c", 3)

    (saved,) = store.saved_searches(anna.id)
    assert (saved.name, saved.params) == ("logins", "q=b")
    assert not store.delete_search(bob.id, saved.id)
    assert store.delete_search(anna.id, saved.id)
    assert store.saved_searches(anna.id) == []
    for number in range(MAX_SAVED):
        store.save_search(anna.id, str(number), "q=a", 1)
    with pytest.raises(QueryError, match="At most 200"):
        store.save_search(anna.id, "one more", "q=a", 1)
