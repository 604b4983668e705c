"""Saved searches that are sent: one at each hour, what its owner may see, and the rows in a file."""

from __future__ import annotations

import csv
import datetime as dt
import io
import zoneinfo
from dataclasses import replace
from typing import Any

import pypdf
import pytest

from threatlens.broadcaster import EventBroadcaster
from threatlens.channels.email import as_text, compose
from threatlens.config_values import EmailChannel, MonitoringConfig, ReportConfig, Secret, SlackChannel
from threatlens.errors import ReportError
from threatlens.notifications import NotificationManager
from threatlens.reports import render_apart
from threatlens.reports_searches import CSV_ROWS, SearchReporter, asked, planned
from threatlens.store_accounts import COMMAND_LINE
from threatlens.store_searches import Schedule

BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
HOUR_US = 3_600_000_000


def at(text: str) -> int:
    return int(dt.datetime.fromisoformat(text).replace(tzinfo=BERLIN).timestamp()) * 1_000_000


class Bench:
    """A search of anna's that is sent every day at seven, and the mail that comes of it."""

    def __init__(self, store: Any, folder: str) -> None:
        self.store = store
        self.now = at("2026-11-24T06:30")
        self.config = MonitoringConfig(
            channels=(EmailChannel("ops", ("ops@example.org",)), SlackChannel("chat", Secret("x"))),
            reports=ReportConfig(timezone="Europe/Berlin"),
        )
        self.anna = store.create_user("anna", "hash", "analyst", COMMAND_LINE).id
        self.steady = True
        self.searches = SearchReporter(
            store, lambda: self.config, folder,
            render=render_apart, steady=lambda: self.steady, clock_us=lambda: self.now,
        )  # fmt: skip
        self.mails: list[Any] = []
        self.manager = NotificationManager(
            store, lambda: self.config, None, EventBroadcaster(), base_url="https://logs.example.org",
            clock_us=lambda: self.now, report_file=self.searches.attachment, build=lambda *_: self,
        )  # fmt: skip

    def send(self, message: Any, _room: Any) -> Any:
        self.mails.append(message)
        return type("Delivery", (), {"transcript": ()})

    def schedule(self, params: str = "q=failed", name: str = "Failed logins", **changes: Any) -> Schedule:
        self.store.save_search(self.anna, name, params, self.now)
        (search,) = (one for one in self.store.saved_searches(self.anna) if one.name == name)
        return self.searches.begin(replace(Schedule(search.id, "day", 0, 7, "csv", ("ops",), 0, 0), **changes))

    def pass_to(self, text: str) -> list[Any]:
        """What is mailed when it is this late."""
        self.now = at(text)
        self.searches.send_due()
        self.mails.clear()
        for channel in self.manager.channels_with_work():
            self.manager.deliver(channel)
        return self.mails

    def problem(self) -> str:
        return str(self.store.schedules()[0].problem)


@pytest.fixture
def bench(store: Any, tmp_path: Any) -> Bench:
    return Bench(store, str(tmp_path))


def rows(mail: Any) -> list[dict[str, str]]:
    (attachment,) = mail.attachments
    return list(csv.DictReader(io.StringIO(attachment.content.decode())))


def test_a_search_is_mailed_once_at_its_hour_with_counts_rows_a_link_and_a_file(bench: Bench, filler: Any) -> None:
    filler.add("failed login of root", severity=4, timestamp_us=at("2026-11-23T06:59:59"))
    filler.add("failed login of anna", severity=8, timestamp_us=at("2026-11-23T07:00:00"))
    filler.add("failed login of bob", severity=3, timestamp_us=at("2026-11-24T06:59:59"), source="web")
    filler.add("all is well", timestamp_us=at("2026-11-24T06:00:00"))
    filler.add("failed login of eve", severity=9, timestamp_us=at("2026-11-24T07:00:00"))
    bench.schedule()
    assert bench.pass_to("2026-11-24T06:59") == []
    (mail,) = bench.pass_to("2026-11-24T07:01")
    assert mail.title == "Failed logins: 2 events"
    assert (mail.severity, dict(mail.facts)["from web"]) == (8, "1")
    assert "2026-11-23 07:00 to 2026-11-24 07:00" in mail.text
    assert "1 event of severity 7 and up" in mail.text
    assert [line.split("  ")[1:] for line in mail.samples] == [
        ["8/10", "auth", "failed login of anna"], ["3/10", "web", "failed login of bob"],
    ]  # fmt: skip
    assert mail.url == (
        "https://logs.example.org/events?q=failed&start=2026-11-23T06%3A00%3A00%2B00%3A00&end=2026-11-24T06%3A00%3A00%2B00%3A00"
    )
    assert [row["message"] for row in rows(mail)] == ["failed login of anna", "failed login of bob"]
    assert bench.pass_to("2026-11-24T07:02") == []
    (next_mail,) = bench.pass_to("2026-11-25T07:00")
    assert next_mail.title == "Failed logins: 1 event"
    history = bench.store.notifications()
    assert [(row.kind, row.status, row.channel) for row in history] == [("report", "sent", "ops")] * 2
    audited = [entry.action for entry in bench.store.audit.entries()]
    assert audited.count("search.send") == 2


def test_what_was_missed_comes_as_one_that_covers_it_all(bench: Bench, filler: Any) -> None:
    bench.schedule()
    for day in range(24, 28):
        filler.add("failed", timestamp_us=at(f"2026-11-{day}T12:00"))
    (mail,) = bench.pass_to("2026-11-27T09:00")
    assert mail.title == "Failed logins: 3 events"
    (mail,) = bench.pass_to("2026-11-28T07:00")
    assert mail.title == "Failed logins: 1 event"


def test_a_clock_that_runs_a_year_ahead_for_a_while_puts_nothing_off(bench: Bench) -> None:
    bench.schedule()
    bench.steady = False
    assert bench.pass_to("2027-11-24T07:01") == []
    bench.steady = True
    assert len(bench.pass_to("2026-11-24T07:01")) == 1


def test_a_pdf_says_the_same_and_nothing_found_needs_no_file(bench: Bench, filler: Any) -> None:
    bench.schedule("min_severity=5", name="Ü <b>x</b>", form="pdf")
    filler.add("\x1b[31m <script>", severity=9, timestamp_us=at("2026-11-24T05:00"))
    (mail,) = bench.pass_to("2026-11-24T07:00")
    (attachment,) = mail.attachments
    assert attachment.name == "b-x-b-2026-11-24.pdf"
    text = " ".join(page.extract_text() for page in pypdf.PdfReader(io.BytesIO(attachment.content)).pages)
    assert "Ü <b>x</b>" in text
    assert "severity>=5" in text
    assert "<script>" in text
    assert attachment.content in compose(mail, "t@example.org", ("ops@example.org",)).get_payload()[-1].get_content()
    (mail,) = bench.pass_to("2026-11-25T07:00")
    assert (mail.title, mail.attachments, mail.severity) == ("Ü <b>x</b>: no events", (), 1)
    assert "No events." in as_text(mail)


def test_a_search_finds_what_its_owner_may_see_at_that_moment(bench: Bench, filler: Any) -> None:
    bench.schedule("range=1h&source=web&source=auth")
    for source in ("auth", "web", "mail"):
        filler.add("failed", source=source, timestamp_us=at("2026-11-24T05:00"))
    bench.store.set_sources(bench.anna, ["web"], COMMAND_LINE)
    (mail,) = bench.pass_to("2026-11-24T07:00")
    assert {row["source"] for row in rows(mail)} == {"web"}
    bench.store.set_role(bench.anna, "viewer", COMMAND_LINE)
    assert bench.pass_to("2026-11-25T07:00") == []
    assert "may not" in bench.problem()
    bench.store.set_role(bench.anna, "analyst", COMMAND_LINE)
    filler.add("failed", source="web", timestamp_us=at("2026-11-24T12:00"))
    (mail,) = bench.pass_to("2026-11-26T07:00")
    assert mail.title.endswith(": 1 event"), "what was held back is in the next one"
    assert not bench.problem()
    bench.store.set_enabled(bench.anna, False, COMMAND_LINE)
    assert bench.pass_to("2026-11-27T07:00") == []
    bench.store.remove_user(bench.anna, COMMAND_LINE)
    assert bench.store.schedules() == []


def test_a_channel_that_is_gone_or_a_search_that_cannot_be_asked_is_said(bench: Bench, filler: Any) -> None:
    filler.add("failed", timestamp_us=at("2026-11-24T05:00"))
    one = bench.schedule(channels=("gone", "chat"))
    with pytest.raises(ReportError, match="none of its e-mail channels"):
        bench.searches.send_now(bench.store.schedules()[0])
    assert bench.pass_to("2026-11-24T07:00") == []
    assert "none of its e-mail channels" in bench.problem()
    bench.store.save_search(bench.anna, "Failed logins", "q=%28", bench.now)
    bench.searches.begin(replace(one, channels=("ops",)))
    assert bench.pass_to("2026-11-25T07:00") == []
    assert "cannot be asked" in bench.problem()


def test_sending_one_now_does_not_move_the_next(bench: Bench, filler: Any) -> None:
    bench.schedule()
    filler.add("failed", timestamp_us=at("2026-11-23T10:00"))
    bench.searches.send_now(bench.store.schedules()[0])
    (mail,) = bench.pass_to("2026-11-24T06:31")
    assert mail.title.endswith(": 1 event")
    (again,) = bench.pass_to("2026-11-24T07:00")
    assert again.title.endswith(": 1 event")


def test_a_mailed_file_holds_no_secret_of_a_line(bench: Bench, filler: Any) -> None:
    line = '{"msg": "failed password=hunter2 for Bearer abcdefgh12345", "api_key": "k-plain-1", "user": "eve"}'
    filler.add(line, timestamp_us=at("2026-11-24T05:00"))
    bench.schedule("min_severity=1")
    (mail,) = bench.pass_to("2026-11-24T07:00")
    (attachment,) = mail.attachments
    assert b"eve" in attachment.content
    assert [secret for secret in (b"hunter2", b"abcdefgh12345", b"k-plain-1") if secret in attachment.content] == []


def test_nobody_fills_the_disk_by_sending_one_now(
    bench: Bench, filler: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("threatlens.reports_searches.MAX_KEPT_BYTES", 1)
    bench.schedule()
    filler.add("failed", timestamp_us=at("2026-11-23T10:00"))
    bench.searches.send_now(bench.store.schedules()[0])
    with pytest.raises(ReportError, match="within the last minute"):
        bench.searches.send_now(bench.store.schedules()[0])
    assert list((tmp_path / "searches").iterdir()) == [], "of more than may be kept, the oldest go"


def test_a_file_holds_so_many_rows_and_says_so(bench: Bench, filler: Any, monkeypatch: Any) -> None:
    assert CSV_ROWS > 1_000
    monkeypatch.setattr("threatlens.reports_searches.CSV_ROWS", 3)
    bench.schedule("min_severity=1")
    filler.add(*["failed"] * 5, timestamp_us=at("2026-11-24T05:00"))
    (mail,) = bench.pass_to("2026-11-24T07:00")
    assert len(rows(mail)) == 3
    assert "the first 3 of them" in mail.text


def test_a_file_that_cannot_be_made_holds_no_mail_up(bench: Bench, filler: Any, tmp_path: Any) -> None:
    (tmp_path / "searches").write_text("in the way")
    bench.schedule()
    filler.add("failed", timestamp_us=at("2026-11-24T05:00"))
    (mail,) = bench.pass_to("2026-11-24T07:00")
    assert "could not be made" in mail.text
    assert bench.searches.attachment("../../secret.key") is None


@pytest.mark.parametrize(
    ("every", "after", "due"),
    [
        ("day", "2026-11-24T06:59:59", "2026-11-24T07:00"),
        ("day", "2026-11-24T07:00", "2026-11-25T07:00"),
        ("day", "2026-10-24T07:00", "2026-10-25T07:00"),  # 25 hours
        ("week", "2026-11-24T06:00", "2026-11-26T07:00"),  # from Tuesday to Thursday
        ("week", "2026-11-26T07:00", "2026-12-03T07:00"),
    ],
)
def test_the_next_one_is_at_the_local_hour(every: str, after: str, due: str) -> None:
    assert planned(Schedule(1, every, 3, 7, "csv", (), 0, 0), BERLIN, at(after)) == at(due)


def test_a_saved_search_asks_the_same_as_its_page_but_of_this_span() -> None:
    where = asked(
        "q=user%3Aroot+failed&category=web&category=mail&min_severity=3&range=15m&sort=time&column=path", 5, 9
    )
    assert (where.words, where.categories, where.min_severity) == (("failed",), ("web", "mail"), 3)
    assert (where.start_us, where.end_us, where.sources) == (5, 9, ())
    assert asked("min_severity=x&max_severity=99999", 5, 9).max_severity == 10
