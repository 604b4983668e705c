"""Pages, counts and histograms agree with a plain look at every event."""

from __future__ import annotations

import contextlib
import random

import pytest
from builders import NOW_US, Filler

from threatlens.errors import QueryTimeout
from threatlens.event import Event, EventFilter
from threatlens.store import EventStore

pytestmark = pytest.mark.both_databases

SOURCES = ("auth", "web", "mail")
CATEGORIES = ("authentication", "web", "network", "other")
WORDS = ("alpha", "beta", "10.0.0.1", "failed password", "/wp-login.php")


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> tuple[EventStore, list[Event]]:
    from threatlens.settings import load_settings, prepare_data_folder
    from threatlens.store_database import connect
    from threatlens.store_schema import migrate

    settings = load_settings({"THREATLENS_DATA": str(tmp_path_factory.mktemp("many"))})
    prepare_data_folder(settings)
    migrate(settings)
    store = EventStore(connect(settings.database_url))
    filler = Filler(store)
    dice = random.Random(7)
    for number in range(1500):
        filler.add(
            f"line {number} {dice.choice(WORDS)} {dice.choice(WORDS)}",
            source=dice.choice(SOURCES),
            category=dice.choice(CATEGORIES),
            severity=dice.choice((1, 2, 2, 2, 3, 4, 5, 7, 9)),
            # mostly in order, some late by hours
            timestamp_us=NOW_US + number * 7_000_000 - (dice.randrange(20_000) * 1_000_000 if number % 10 == 0 else 0),
            outcome=dice.randrange(3),
            source_ip=dice.choice((None, "192.0.2.1", "192.0.2.2")),
        )
    events = store.page(EventFilter(), after=0, limit=10_000)
    assert len(events) == 1500
    return store, events


FILTERS = [
    EventFilter(),
    EventFilter(min_severity=7),
    EventFilter(max_severity=3),
    EventFilter(min_severity=4, max_severity=5, sources=("web",)),
    EventFilter(categories=("web", "network")),
    EventFilter(sources=("mail",), categories=("other",)),
    EventFilter(sources=("nobody",)),
    EventFilter(start_us=NOW_US + 3_000_000_000, end_us=NOW_US + 5_000_000_000),
    EventFilter(max_severity=3, end_us=NOW_US + 1_980_000_000),
    EventFilter(max_severity=3, end_us=NOW_US - 10**12),  # before there was any
    EventFilter(sources=("web",), start_us=NOW_US + 10**12, end_us=NOW_US + 2 * 10**12),
    EventFilter(start_us=NOW_US + 3_000_000_000, sources=("auth",), min_severity=2),
    EventFilter(words=("beta",)),
    EventFilter(words=("10.0.0.1", "alpha"), sources=("web",)),
    EventFilter(words=("failed pass",)),
    EventFilter(words=("FAILED password",), min_severity=5),
    EventFilter(words=("/wp-login.php",)),
    EventFilter(words=("/",)),
    EventFilter(words=("10.0",), end_us=NOW_US + 5_000_000_000),
]


@pytest.mark.parametrize("where", FILTERS, ids=str)
def test_paging_backwards_gives_every_match_once_newest_first(many, where):
    store, events = many
    found: list[int] = []
    before = None
    while page := store.page(where, before=before, limit=37):
        found += [event.id for event in page]
        before = page[-1].id
    assert found == [event.id for event in reversed(events) if where.matches(event)]


@pytest.mark.parametrize("where", FILTERS, ids=str)
def test_paging_forwards_gives_every_match_once_oldest_first(many, where):
    store, events = many
    found: list[int] = []
    after = 0
    while page := store.page(where, after=after, limit=41):
        found += [event.id for event in page]
        after = page[-1].id
    assert found == [event.id for event in events if where.matches(event)]


@pytest.mark.parametrize("where", [where for where in FILTERS if not where.words and not where.start_us], ids=str)
def test_counts_agree(many, where):
    store, events = many
    matching = [event for event in events if where.matches(event)]
    counts = store.counts(where)
    assert counts.total == len(matching)
    for name, key in (("by_severity", "severity"), ("by_category", "category"), ("by_source", "source")):
        expected: dict = {}
        for event in matching:
            expected[getattr(event, key)] = expected.get(getattr(event, key), 0) + 1
        assert getattr(counts, name) == expected


def test_the_histogram_has_every_event_in_its_bar(many):
    store, events = many
    start, end = NOW_US - 86_400_000_000, NOW_US + 86_400_000_000
    bars = store.histogram(start, end, 48, EventFilter(min_severity=2))
    assert len(bars) == 48
    width = bars[1][0] - bars[0][0]
    for bar_start, by_severity in bars:
        inside = [e for e in events if bar_start <= e.timestamp_us < bar_start + width and e.severity >= 2]
        assert sum(by_severity.values()) == len(inside)


def test_the_most_frequent_addresses_come_with_their_outcomes(many):
    store, _ = many
    start = NOW_US + 3_000_000_000
    for category in (None, "web"):
        expected: dict = {}
        with store.database.reading() as connection:
            rows = connection.exec_driver_sql(
                "SELECT e.id, e.source_ip, e.outcome, n.name FROM events e JOIN names n ON n.id = e.category_id"
                " WHERE e.source_ip IS NOT NULL AND e.timestamp >= ?",
                (start // 600_000_000 * 600_000_000,),
            ).all()
        for _, address, outcome, name in rows:
            if category in (None, name):
                n, failures, successes = expected.get(address, (0, 0, 0))
                expected[address] = (n + 1, failures + (outcome == 2), successes + (outcome == 1))
        found = store.top_addresses(start_us=start, category=category)
        assert {address: rest for address, *rest in found} == {key: list(value) for key, value in expected.items()}
        assert [row[1] for row in found] == sorted((row[1] for row in found), reverse=True)
    assert len(store.top_addresses(start_us=0, limit=1)) == 1
    for limits in ((3, 50), (50, 1)):
        assert store.busiest_addresses(start_us=start, category="web", limits=limits) == (
            store.top_addresses(start_us=start, limit=limits[0]),
            store.top_addresses(start_us=start, category="web", limit=limits[1]),
        )


@pytest.mark.parametrize("first", [1, 10, 10_000])
@pytest.mark.parametrize("where", [where for where in FILTERS if where.words], ids=str)
def test_words_are_found_alike_with_and_without_the_index(many, monkeypatch, where, first):
    store, events = many
    monkeypatch.setattr("threatlens.store_search.SCANNED_FIRST", first)
    expected = [event.id for event in events if where.matches(event)]
    assert [event.id for event in store.page(where, after=0, limit=5_000)] == expected
    assert [event.id for event in store.page(where, limit=30)] == expected[::-1][:30]


def test_a_word_matches_from_its_start_in_the_database_and_in_the_feed_alike(store, filler):
    filler.add("prefix failedlogin unfailed")
    for word in ("fail", "failed", "failedlogin", "ailed", "unfailed", "prefix fail"):
        where = EventFilter(words=(word,))
        assert bool(store.page(where)) == where.matches(store.event(1)), word


@pytest.mark.parametrize(
    "word", ['"', "'", "*", "a*b", 'x" OR "y', "NEAR(a b)", "-", "^", ":", "%_", "\x00", "AND", "ü"]
)
def test_no_word_is_an_operator_of_the_search(store, filler, word):
    filler.add("harmless line", f"with {word} in it")
    assert [event.id for event in store.page(EventFilter(words=(word,)))] == [2]


def test_a_query_that_takes_too_long_is_cut_off(store, filler, monkeypatch):
    filler.add(*(f"line {number}" for number in range(5_000)))
    monkeypatch.setattr("threatlens.store_database.PROGRESS_STEPS", 1)
    with pytest.raises(QueryTimeout, match="narrow"), store.database.reading(timeout_s=-1) as connection:
        connection.exec_driver_sql("SELECT count(*) FROM events a, events b").scalar()


def test_what_a_page_asks_within_a_snapshot_is_of_one_moment(store, filler):
    filler.add("one")
    with store.database.snapshot():
        assert [source.events for source in store.sources()] == [1]
        filler.add("two")
        assert store.last_id() == 1
        assert store.counts(EventFilter()).total == 1
        assert [source.events for source in store.sources()] == [1]
    assert store.last_id() == 2
    assert [source.events for source in store.sources()] == [2]


def test_a_snapshot_ends_with_the_page_that_failed_in_it(store, filler):
    filler.add("one")
    with contextlib.suppress(QueryTimeout), store.database.snapshot():
        assert store.last_id() == 1
        raise QueryTimeout
    filler.add("two")
    assert store.last_id() == 2


def test_merging_the_index_changes_no_answer(store, filler):
    for number in range(100):
        filler.add(f"word{number % 7} number{number}")
    before = [event.id for event in store.page(EventFilter(words=("word3",)))]
    store.merge_words()
    assert [event.id for event in store.page(EventFilter(words=("word3",)))] == before
    assert len(before) == 14


def test_an_unknown_event_is_none(store):
    assert store.event(99) is None
    assert store.last_id() == 0
    assert store.page(EventFilter()) == []
    assert store.counts(EventFilter()).total == 0
