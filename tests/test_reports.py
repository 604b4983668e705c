"""Reports: one per local day, no more and no less, and what they say is what the database holds."""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import sys
import zoneinfo
from dataclasses import replace

import pypdf
import pytest

from threatlens.config_values import EmailChannel, MonitoringConfig, ReportConfig
from threatlens.errors import ReportError
from threatlens.event import EventFilter, RuleMatch
from threatlens.incidents import Finding, fold
from threatlens.reports import Reporter, _compared, last_span, midnight_us, render_apart
from threatlens.store_detections import DetectionRow, write_detections
from threatlens.store_health import StateChange
from threatlens.store_incidents import IncidentTable

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
EVIL = "<b>x</b> \x1b[31m \u202e 漢"


def at(text: str) -> int:
    return int(dt.datetime.fromisoformat(text).replace(tzinfo=BERLIN).timestamp() * 1e6)


class Bench:
    def __init__(self, store, folder: str) -> None:
        self.store = store
        self.now = at("2026-11-25T00:00:30")
        self.config = MonitoringConfig(reports=ReportConfig(timezone="Europe/Berlin"))
        self.documents: list[dict] = []
        self.broken = 0
        self.folder = folder
        self.steady = True
        self.reporter = Reporter(
            store, lambda: self.config, folder,
            steady=lambda: self.steady, clock_us=lambda: self.now, render=self.render,
        )  # fmt: skip

    def render(self, data, path: str) -> None:
        if self.broken:
            self.broken -= 1
            raise ReportError("the disk is full")
        self.documents.append(json.loads(json.dumps(data)))
        with open(path, "wb") as file:
            file.write(b"%PDF-")

    def days(self) -> list[str]:
        return sorted(view.day for view in self.store.reports() if view.state == "done")


@pytest.fixture
def bench(store, tmp_path) -> Bench:
    return Bench(store, str(tmp_path / "reports"))


def test_a_day_is_reported_once_when_it_is_over(bench, filler):
    filler.add("a", "b", timestamp_us=at("2026-11-24T12:00:00"))
    bench.now = at("2026-11-24T23:59:59")
    assert bench.reporter.make_due() == 0
    bench.now = at("2026-11-25T00:00:01")
    assert bench.reporter.make_due() == 1
    for _ in range(5):
        assert bench.reporter.make_due() == 0
    (document,) = bench.documents
    assert (document["total"], document["kind"]) == (2, "daily")
    assert document["start_us"] == at("2026-11-24T00:00:00")


def test_a_day_is_reported_to_who_asks_for_it_and_today_as_far_as_it_is(bench, filler):
    filler.add("a", timestamp_us=at("2026-11-23T12:00:00"))
    bench.now = at("2026-11-24T09:00:00")
    filler.add("b", "c", timestamp_us=at("2026-11-24T08:00:00"))
    today, yesterday = dt.date(2026, 11, 24), dt.date(2026, 11, 23)
    first = bench.reporter.of_day(today)
    filler.add("d", timestamp_us=at("2026-11-24T09:00:05"))

    assert bench.reporter.of_day(today) == first  # nobody makes it draw more than once a minute
    bench.now = at("2026-11-24T09:02:00")
    assert bench.reporter.of_day(today) == first
    assert [document["total"] for document in bench.documents] == [2, 3]
    assert bench.reporter.of_day(yesterday) == bench.reporter.of_day(yesterday) != first
    assert bench.reporter.of_day(dt.date(2026, 11, 20)) is None
    assert bench.reporter.of_day(dt.date(2026, 11, 25)) is None
    assert len(bench.documents) == 3


def test_days_missed_while_down_are_reported_once_each_when_it_is_back(bench, filler):
    filler.add("a", timestamp_us=at("2026-11-20T12:00:00"))
    bench.now = at("2026-11-21T00:01:00")
    assert bench.reporter.make_due() == 1
    bench.now = at("2026-11-24T08:00:00")
    assert bench.reporter.make_due() == 3
    assert bench.reporter.make_due() == 0
    assert bench.days() == ["2026-11-20", "2026-11-21", "2026-11-22", "2026-11-23"]


def test_the_first_report_ever_is_of_the_last_day_alone(bench, filler):
    filler.add("a", timestamp_us=at("2026-10-01T12:00:00"))
    assert bench.reporter.make_due() == 1
    assert bench.days() == ["2026-11-24"]


def test_an_empty_day_before_anything_was_seen_is_not_reported_and_one_after_it_is(bench, filler):
    assert bench.reporter.make_due() == 0
    filler.add("a", timestamp_us=at("2026-11-24T12:00:00"))
    bench.reporter.make_due()
    bench.now = at("2026-11-26T00:01:00")
    assert bench.reporter.make_due() == 1
    assert bench.documents[-1]["headline"] == "no events at all"


@pytest.mark.parametrize(("day", "hours"), [("2026-03-29", 23), ("2026-10-25", 25), ("2026-11-24", 24)])
def test_a_day_has_the_hours_that_it_has(day, hours):
    date = dt.date.fromisoformat(day)
    length = midnight_us(date + dt.timedelta(days=1), BERLIN) - midnight_us(date, BERLIN)
    assert length == hours * 3_600_000_000


def test_through_a_change_of_the_clocks_every_day_has_one_report(bench, filler):
    filler.add("a", timestamp_us=at("2026-10-23T12:00:00"))
    bench.now = at("2026-10-24T00:00:10")
    while bench.now < at("2026-10-28T00:00:00"):
        bench.reporter.make_due()
        bench.now += 1_800_000_000
    assert bench.days() == ["2026-10-23", "2026-10-24", "2026-10-25", "2026-10-26"]


def test_a_failure_is_tried_once_more_and_then_left_until_somebody_asks(bench, filler):
    filler.add("a", timestamp_us=at("2026-11-24T12:00:00"))
    bench.broken = 9
    for _ in range(5):
        bench.reporter.make_due()
    assert bench.broken == 7
    (view,) = bench.store.reports()
    assert (view.state, view.error) == ("failed", "the disk is full")
    bench.broken = 0
    assert bench.store.again(view.id)
    assert bench.reporter.make_due() == 1


@pytest.mark.parametrize(
    ("kind", "today", "span"),
    [
        ("daily", "2026-03-01", ("2026-02-28", "2026-03-01")),
        ("weekly", "2026-11-26", ("2026-11-16", "2026-11-23")),
        ("weekly", "2026-11-23", ("2026-11-16", "2026-11-23")),
        ("monthly", "2026-03-15", ("2026-02-01", "2026-03-01")),
        ("monthly", "2026-01-01", ("2025-12-01", "2026-01-01")),
    ],
)
def test_spans_are_whole_days_weeks_and_months(kind, today, span):
    assert tuple(day.isoformat() for day in last_span(kind, dt.date.fromisoformat(today))) == span


def test_it_says_what_is_not_seen_and_what_needs_doing(bench, filler, store):
    for _ in range(9):
        filler.add("?", timestamp_us=at("2026-11-24T12:00:00"), log_format="unknown")
    filler.add("x", timestamp_us=at("2026-11-24T12:00:00"))
    bench.reporter.make_due()
    (document,) = bench.documents
    assert document["blind_spots"]
    assert set(document["blind_spots"]) <= set(document["to_do"])


def test_channels_that_ask_for_reports_get_them_once(bench, filler, store):
    bench.config = replace(
        bench.config,
        channels=(EmailChannel("ops", ("a@example.org",)), EmailChannel("other", ("b@example.org",))),
        reports=replace(bench.config.reports, channels=("ops",)),
    )
    filler.add("a", timestamp_us=at("2026-11-24T12:00:00"))
    bench.reporter.make_due()
    bench.reporter.make_due()
    (row,) = store.notifications()
    assert (row.channel, row.kind) == ("ops", "report")
    (view,) = store.reports()
    attachment = bench.reporter.pdf(view.id)
    assert attachment is not None
    assert attachment.content == b"%PDF-"


def test_old_reports_go_with_their_files(bench, filler, store):
    filler.add("a", timestamp_us=at("2026-11-24T12:00:00"))
    bench.reporter.make_due()
    bench.config = replace(bench.config, reports=replace(bench.config.reports, keep_days=1, daily=False))
    bench.now += 3 * 86_400_000_000
    bench.reporter.make_due()
    assert store.reports() == []
    assert os.listdir(bench.folder) == []


def test_a_clock_that_runs_years_ahead_for_a_while_ends_no_report_and_no_reporting(bench, filler):
    filler.add("a", timestamp_us=at("2026-11-23T12:00:00"))
    bench.now = at("2026-11-24T00:01:00")
    bench.reporter.make_due()
    bench.now, bench.steady = at("2028-11-24T00:01:00"), False
    assert bench.reporter.make_due() == 0
    assert bench.days() == ["2026-11-23"]
    bench.now, bench.steady = at("2026-11-25T00:01:00"), True
    assert bench.reporter.make_due() == 1


def test_a_span_of_nothing_or_of_years_is_refused(bench):
    day = dt.date(2026, 11, 24)
    for end in (day, day - dt.timedelta(days=1), day + dt.timedelta(days=500)):
        with pytest.raises(ReportError, match="366"):
            bench.reporter.make_range(day, end)


def test_a_report_on_demand_is_there_at_once_and_the_same_again(bench, filler, store):
    filler.add("a", timestamp_us=at("2026-11-24T12:00:00"))
    first = bench.reporter.make_range(dt.date(2026, 11, 20), dt.date(2026, 11, 25))
    assert bench.reporter.make_range(dt.date(2026, 11, 20), dt.date(2026, 11, 25)) == first
    found = store.report(first)
    assert found is not None
    assert found[1]["total"] == 1
    shorter = bench.reporter.make_range(dt.date(2026, 11, 20), dt.date(2026, 11, 24))
    assert shorter != first
    assert bench.reporter.make_range(dt.date(2026, 11, 20), dt.date(2026, 11, 24)) == shorter


def test_the_pdf_holds_its_text_and_what_strangers_wrote_does_no_harm(bench, filler, tmp_path):
    filler.add("a", timestamp_us=at("2026-11-24T12:00:00"), source_ip=EVIL, outcome=2)
    data = bench.reporter.document("daily", at("2026-11-24T00:00:00"), at("2026-11-25T00:00:00"), "Europe/Berlin")
    path = str(tmp_path / "report.pdf")
    render_apart(data, path)

    with open(path, "rb") as file:
        content = file.read()
    assert content.startswith(b"%PDF-")
    assert b"/JavaScript" not in content
    assert b"/URI" not in content
    assert b"/Outlines" in content


def test_a_day_is_compared_with_a_week_before_and_a_month_with_what_was_before_it(bench, filler):
    for day in ("2026-10-20", "2026-11-05", "2026-11-17", "2026-11-24"):
        filler.add("a", timestamp_us=at(f"{day}T12:00:00"))
    one = bench.reporter.document("daily", at("2026-11-24T00:00:00"), at("2026-11-25T00:00:00"), "Europe/Berlin")
    month = bench.reporter.document("monthly", at("2026-11-01T00:00:00"), at("2026-12-01T00:00:00"), "Europe/Berlin")
    assert (one["last_week"], one["compared_with"]) == (1, "a week before")
    assert (month["total"], month["last_week"], month["compared_with"]) == (3, 1, "in the 30 days before")
    assert "That is 200 % more than in the 30 days before." in month["summary"]


@pytest.mark.parametrize(
    ("total", "before", "words"),
    [(103, 100, "3 % more than"), (50, 100, "50 % less than"), (1000, 1001, "as many as"),
     (1_200_000, 1000, "1,200 times as many as")],
)  # fmt: skip
def test_how_much_more_is_told_in_per_cent_or_in_times(total, before, words):
    assert _compared(total, before) == words


def test_the_text_of_the_pdf_is_what_the_database_holds(bench, store, filler, tmp_path):
    day = at("2026-11-24T00:00:00"), at("2026-11-25T00:00:00")
    for number in range(1, 41):
        filler.add(f"line {number}", timestamp_us=day[0] + number * 60_000_000, severity=1 + number % 10,
                   source_ip=f"203.0.113.{number % 7}", outcome=1 + number % 2)  # fmt: skip
    matches = [
        RuleMatch(f"r{number}", f"Rule {number}", "high", 8, "rule", day[0] + number, day[0] + number, 1, (),
                  "203.0.113.9", f"user{number % 3}", "web1", ("attack.t1110.001",), (0,))
        for number in range(1, 13)
    ]  # fmt: skip
    with store.database.writing() as connection:
        findings = [Finding(one, 1, 1, 1, "failure", "authentication") for one in matches]
        ids, _ = fold(findings, IncidentTable(connection))
        write_detections(
            connection, [DetectionRow(one, 1, (1,), 1, number, "") for one, number in zip(matches, ids, strict=True)]
        )
    store.write_changes([StateChange(day[0] + 5, "disk", "failed", "disk_full")])
    path = str(tmp_path / "report.pdf")
    render_apart(bench.reporter.document("daily", *day, "Europe/Berlin"), path)

    pdf = pypdf.PdfReader(path)
    text = " ".join(" ".join(page.extract_text() for page in pdf.pages).split())

    counts = store.counts(EventFilter(start_us=day[0], end_us=day[1]))
    assert f"ThreatLens stored {counts.total} events" in text
    for low in range(1, 10, 2):
        assert f"{low}–{low + 1}: {counts.by_severity[low] + counts.by_severity[low + 1]}" in text
    for address, n, failed, good in store.top_addresses(start_us=day[0], end_us=day[1], limit=10):
        assert f"{address} {n} {failed} {good}" in text
    for incident in store.incidents_between(*day, 25):
        assert f"{incident['severity']}/10 {incident['subject']} {incident['title']}" in text
    for rule in store.rules_between(*day, 15):
        assert f"{rule['rule_name']} T1110.001 Password Guessing high {rule['matches']}" in text
    for kind, name, n, incidents in store.targets_between(*day, 10):
        assert f"{name} {kind} {n} {incidents}" in text
    assert "disk failed: disk_full" in text


def test_the_pdf_has_a_language_a_title_bookmarks_and_tags_with_words_for_its_pictures(bench, filler, tmp_path):
    filler.add("a", timestamp_us=at("2026-11-24T12:00:00"), severity=9)
    path = str(tmp_path / "report.pdf")
    day = at("2026-11-24T00:00:00"), at("2026-11-25T00:00:00")
    render_apart(bench.reporter.document("daily", *day, "Europe/Berlin"), path)

    pdf = pypdf.PdfReader(path)
    root = pdf.trailer["/Root"]
    assert (root["/Lang"], root["/MarkInfo"]["/Marked"]) == ("en", True)
    assert root["/ViewerPreferences"]["/DisplayDocTitle"]
    assert pdf.metadata.title == "ThreatLens: Daily report, Tuesday, 24 November 2026"
    titles = [entry["/Title"] for entry in pdf.outline]
    assert titles[:2] == ["Summary", "What needs doing"]
    marked = [each.get_object() for each in root["/StructTreeRoot"]["/K"][0].get_object()["/K"]]
    kinds = [each["/S"] for each in marked]
    assert kinds[0] == "/H1"
    assert {"/H2", "/Figure"} <= set(kinds)
    pictures = [each["/Alt"] for each in marked if each["/S"] == "/Figure"]
    assert "severity 9 to 10: 1 events" in pictures[0]
    assert "Nov 12:00:00: 1;" in pictures[1]


def test_an_empty_day_has_a_report_of_one_page_or_two_that_says_so(bench, tmp_path):
    path = str(tmp_path / "report.pdf")
    day = at("2026-11-24T00:00:00"), at("2026-11-25T00:00:00")
    render_apart(bench.reporter.document("daily", *day, "Europe/Berlin"), path)
    pdf = pypdf.PdfReader(path)
    text = "".join(page.extract_text() for page in pdf.pages)
    assert "No events at all." in text
    assert len(pdf.pages) <= 2


def test_a_pdf_that_cannot_be_made_says_why(tmp_path):
    with pytest.raises(ReportError, match="could not be made"):
        render_apart({"zone": "UTC"}, str(tmp_path / "x.pdf"))
    assert os.listdir(tmp_path) == []


def test_the_engine_does_not_load_the_drawing_library():
    code = "import sys, threatlens.reports; print('fpdf' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "False"
