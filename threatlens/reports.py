"""The daily report, and weekly, monthly and free ones: what happened, what needs doing, and whether all was seen.

A report is one document of plain values, made from the roll-ups and incidents; the page shows it and a short-lived
process makes the PDF of it, so that fonts and drawing never weigh on the engine. Days are local days of the
configured zone. What was missed while ThreatLens was down is made on start, once per day.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import subprocess
import sys
import time
import zoneinfo
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from threatlens.attack import tactic_of, technique_of
from threatlens.channels import Attachment
from threatlens.clock import machine_zone
from threatlens.config_values import MonitoringConfig, ReportConfig
from threatlens.durable import sync_folder
from threatlens.errors import ReportError, ThreatLensError
from threatlens.event import EventFilter, rfc3339
from threatlens.store import EventStore
from threatlens.store_incidents import outcome_words
from threatlens.store_notifications import Occurrence
from threatlens.visible import visible

#: Reports that are made up for after a time of being down, at the most.
MISSED_DAYS = 31
PDF_TIMEOUT_S = 120
#: The program that draws; it needs nothing else of ours, and runs wherever we were started.
DRAWING = os.path.join(os.path.dirname(os.path.abspath(__file__)), "reports_pdf.py")
HOURS_US = 3_600_000_000
INCIDENTS, RULES, ADDRESSES, TARGETS, STATES = 25, 15, 10, 10, 12
KINDS = ("daily", "weekly", "monthly")


class Reporter:
    """Makes reports, keeps them in a folder, and hands them to the notification channels."""

    def __init__(
        self,
        store: EventStore,
        config: Callable[[], MonitoringConfig],
        folder: str,
        *,
        steady: Callable[[], bool] = lambda: True,
        clock_us: Callable[[], int] = lambda: time.time_ns() // 1000,
        render: Callable[[Mapping[str, Any], str], None] | None = None,
    ) -> None:
        """steady: False while the clock cannot be trusted; then no day is over, and no report is old."""
        self._store = store
        self._config = config
        self._folder = folder
        self._steady = steady
        self._clock_us = clock_us
        self._render = render or render_apart

    def make_due(self) -> int:
        """Make every report whose span has ended and that is not there yet, oldest first; how many."""
        if not self._steady():
            return 0
        made = 0
        settings = self._config().reports
        for kind in KINDS:
            if getattr(settings, kind):
                for start, end in self._spans_due(kind, zone_of(settings)):
                    made += self._make(kind, start, end, zone_of(settings)) is not None
        if settings.keep_days:
            for name in self._store.forget_reports(self._clock_us() - settings.keep_days * 24 * HOURS_US):
                self._remove(name)
        return made

    def _spans_due(self, kind: str, zone: dt.tzinfo) -> list[tuple[dt.date, dt.date]]:
        """The spans of local days that are over and of which no report was begun, or whose first try failed."""
        today = dt.datetime.fromtimestamp(self._clock_us() / 1e6, zone).date()
        start, end = last_span(kind, today)
        last_us = self._store.last_reported_us(kind)
        first_us = self._store.first_event_us()
        spans: list[tuple[dt.date, dt.date]] = []
        while len(spans) < MISSED_DAYS:
            end_us = midnight_us(end, zone)
            known = self._store.report_of_day(kind, start.isoformat())
            again = known is not None and known.state != "done" and known.tries < 2
            if not again and (end_us <= last_us or not first_us or end_us <= first_us):
                break
            if not again and not last_us and spans:
                break  # the first report ever is the last span's alone
            spans.append((start, end))
            start, end = last_span(kind, start)
        return spans[::-1]

    def make_range(self, start: dt.date, end: dt.date) -> int:
        """A report of these local days, `end` excluded; its id. Raises ReportError."""
        if not 0 < (end - start).days <= 366:
            msg = "a report covers from 1 to 366 days"
            raise ReportError(msg)
        made = self._make("range", start, end, zone_of(self._config().reports))
        if made is None:
            end_us = midnight_us(end, zone_of(self._config().reports))
            found = self._store.report_of_day("range", start.isoformat(), end_us)
            if found is None or found.state != "done":
                msg = "this report could not be made"
                raise ReportError(msg)
            return found.id
        return made

    def of_day(self, day: dt.date) -> int | None:
        """The report of a local day: the daily one, else one that is made now, of today so far. None: the day holds no
        events. Raises ReportError."""
        found = self._store.report_of_day("daily", day.isoformat())
        if found is not None and found.state == "done":
            return found.id
        zone = zone_of(self._config().reports)
        try:
            tomorrow = day + dt.timedelta(days=1)
            span = EventFilter(start_us=midnight_us(day, zone), end_us=midnight_us(tomorrow, zone))
        except (OverflowError, ValueError):  # at the ends of the calendar
            return None
        return self.make_range(day, tomorrow) if self._store.counts(span).total else None

    def _make(self, kind: str, start: dt.date, end: dt.date, zone: dt.tzinfo) -> int | None:
        start_us, end_us = midnight_us(start, zone), midnight_us(end, zone)
        name = str(zone)
        report_id = self._store.begin_report(kind, start.isoformat(), start_us, end_us, name, self._clock_us())
        if report_id is None:
            return None
        file = f"threatlens-{kind}-{start.isoformat()}{'' if kind == 'daily' else f'-to-{end.isoformat()}'}.pdf"
        try:
            data = self.document(kind, start_us, end_us, name)
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
            self._render(data, os.path.join(self._folder, file))
            size = os.path.getsize(os.path.join(self._folder, file))
        except (ThreatLensError, OSError) as error:
            self._store.fail_report(report_id, str(error))
            return None
        self._store.finish_report(
            report_id, data=data, headline=data["headline"], file=file, size=size, now_us=self._clock_us()
        )
        if kind != "range":
            self._hand_over(report_id, data)
        return report_id

    def _hand_over(self, report_id: int, data: Mapping[str, Any]) -> None:
        """Tell the channels that want reports; mail carries the PDF."""
        config = self._config()
        now_us = self._clock_us()
        names = {channel.name for channel in config.channels}
        details = {"report": report_id, "summary": " ".join(data["summary"])}
        severity = max((incident["severity"] for incident in data["incidents"]), default=1)
        self._store.tell(
            [
                Occurrence(
                    name, "", "report", f"report:{report_id}", severity, f"{data['title']}: {data['headline']}",
                    data["start_us"], data["end_us"], details=details,
                )
                for name in config.reports.channels
                if name in names
            ],
            now_us,
        )  # fmt: skip

    def pdf(self, report_id: int) -> Attachment | None:
        """The PDF of a report, to go with a message; None: there is none."""
        found = self._store.report(report_id)
        if found is None or not found[0].file:
            return None
        try:
            with open(self.path(found[0].file), "rb") as file:
                return Attachment(found[0].file, "application/pdf", file.read())
        except OSError:
            return None

    def path(self, file: str) -> str:
        """Where a report's PDF is."""
        return os.path.join(self._folder, os.path.basename(file))

    def _remove(self, file: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path(file))

    # -- the document

    def document(self, kind: str, start_us: int, end_us: int, zone: str) -> dict[str, Any]:
        """Everything that a report says, as plain values. Texts are made visible; times are microseconds."""
        store = self._store
        where = EventFilter(start_us=start_us, end_us=end_us)
        days = max(1, round((end_us - start_us) / (24 * HOURS_US)))
        shift_us = (
            max(7, days) * 24 * HOURS_US
        )  # a day with the same day a week before, a month with what was before it
        before = EventFilter(start_us=start_us - shift_us, end_us=end_us - shift_us)
        counts, last_week = store.counts(where), store.counts(before)
        incidents = [_incident(row) for row in store.incidents_between(start_us, end_us, INCIDENTS)]
        sources = self._sources(counts.by_source)
        bars = store.histogram(start_us, end_us, 24 if days == 1 else min(days, 62), where)
        addresses = [
            {"address": visible(address, 60), "events": n, "failures": failed, "successes": good}
            for address, n, failed, good in store.top_addresses(start_us=start_us, end_us=end_us, limit=ADDRESSES)
        ]
        data: dict[str, Any] = {
            "title": f"{kind.capitalize()} report" if kind != "range" else "Report",
            "kind": kind,
            "start_us": start_us,
            "end_us": end_us,
            "zone": zone,
            "made": rfc3339(self._clock_us()),
            "total": counts.total,
            "last_week": last_week.total,
            "compared_with": "a week before" if days <= 7 else f"in the {days} days before",
            "by_severity": {str(number): n for number, n in sorted(counts.by_severity.items())},
            "by_category": dict(sorted(counts.by_category.items(), key=lambda pair: -pair[1])),
            "trend": [{"start_us": at, "by_severity": {str(k): n for k, n in found.items()}} for at, found in bars],
            "incidents": incidents,
            "incident_counts": store.incident_counts(start_us, end_us),
            "incidents_last_week": sum(store.incident_counts(start_us - shift_us, end_us - shift_us).values()),
            "rules": [_rule(row) for row in store.rules_between(start_us, end_us, RULES)],
            "addresses": addresses,
            "targets": [
                {"kind": kind, "name": visible(name, 80), "matches": n, "incidents": incidents}
                for kind, name, n, incidents in store.targets_between(start_us, end_us, TARGETS)
            ],
            "sources": sources,
            "states": [
                {
                    "at_us": change.at_us,
                    "component": change.component,
                    "state": change.state,
                    "reason": visible(change.reason, 200),
                }
                for change in store.changes_between(start_us, end_us, STATES)
            ],
            "ledger": store.ledger_between(start_us, end_us),
            "notifications": store.notification_counts(start_us, end_us),
        }
        data["blind_spots"] = _blind_spots(sources)
        data["headline"] = _headline(data)
        data["summary"] = _summary(data)
        data["to_do"] = _to_do(data)
        return data

    def _sources(self, by_source: Mapping[str, int]) -> list[dict[str, Any]]:
        now_us = self._clock_us()
        found = []
        for view in self._store.sources():
            decoded = 1 - view.unknown / view.events if view.events else None
            found.append(
                {
                    "name": visible(view.source_name, 80),
                    "path": visible(view.path, 120),
                    "enabled": view.enabled,
                    "state": view.state,
                    "reason": visible(view.state_reason, 200),
                    "remedy": visible(view.remedy, 200),
                    "events": by_source.get(view.source_name, 0),
                    "decoded": decoded,
                    "formats": list(view.learned[:4]),
                    "silent": bool(view.enabled and view.kind == "file" and view.events
                                   and view.last_event_us < now_us - 24 * HOURS_US),
                }
            )  # fmt: skip
        return sorted(found, key=lambda source: (-source["events"], source["name"]))


def _incident(row: Mapping[str, Any]) -> dict[str, Any]:
    story = [
        {
            "what": visible(member["rule_name"], 120),
            "outcome": member["outcome"],
            "n": member["n"],
            "events": member["events"],
            "first_us": member["first_us"],
            "last_us": member["last_us"],
            "techniques": _techniques(member["tags"]),
        }
        for member in row["story"]
    ]
    plain = {name: row[name] for name in ("id", "status", "severity", "outcome", "first_us", "last_us", "n")}
    subject = visible(row["subject"], 120)
    return {
        **plain,
        "title": f"{subject} {visible(row['title'], 200)}",
        "subject": subject,
        "words": outcome_words(row["subject_kind"], row["outcome"]),
        "story": story,
    }


def _rule(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": visible(row["rule_id"], 60),
        "name": visible(row["rule_name"], 120),
        "level": row["level"],
        "matches": int(row["matches"]),
        "events": int(row["events"] or 0),
        "techniques": _techniques(row["tags"]),
    }


def _techniques(tags: Sequence[str]) -> list[str]:
    found = [technique_of(tag) for tag in tags]
    names = [f"{technique.id} {technique.name}" for technique in found if technique]
    return names or [name for name in map(tactic_of, tags) if name]


def _blind_spots(sources: Sequence[Mapping[str, Any]]) -> list[str]:
    """What was not seen, and why: each a sentence with its remedy."""
    found = []
    for source in sources:
        if not source["enabled"]:
            continue
        if source["state"] in {"no_permission", "refused", "error", "missing"}:
            remedy = f" {source['remedy']}" if source["remedy"] else ""
            found.append(f"{source['name']} is not read: {source['reason'] or source['state']}.{remedy}")
        elif source["silent"]:
            found.append(f"{source['name']} wrote nothing for more than a day.")
        elif source["decoded"] is not None and source["decoded"] < 0.8 and source["events"]:
            found.append(f"Of {source['name']} only {source['decoded'] * 100:.0f} % of the lines are understood.")
    return found


def _headline(data: Mapping[str, Any]) -> str:
    broken_in = [each for each in data["incidents"] if each["outcome"] == "success" and each["severity"] >= 7]
    if broken_in:
        return f"{_many(len(broken_in), 'attack')} may have succeeded"
    if data["incidents"]:
        return f"{_many(len(data['incidents']), 'incident')}, nothing got through as far as ThreatLens can see"
    if data["total"]:
        return "nothing that needs you"
    return "no events at all"


def _summary(data: Mapping[str, Any]) -> list[str]:
    total, before = data["total"], data["last_week"]
    sentences = [f"ThreatLens stored {_many(total, 'event')} from {_many(len(data['sources']), 'source')}."]
    if before:
        sentences.append(f"That is {_compared(total, before)} {data['compared_with']}.")
    severe = sum(n for number, n in data["by_severity"].items() if int(number) >= 7)
    sentences.append(
        f"{_many(severe, 'event')} had severity 7 or more." if severe else "No event had severity 7 or more."
    )
    if data["addresses"] and data["addresses"][0]["failures"]:
        worst = max(data["addresses"], key=lambda each: each["failures"])
        sentences.append(f"{worst['address']} failed most often: {_many(worst['failures'], 'time')}.")
    return sentences


def _compared(total: int, before: int) -> str:
    """Such as "12 % more than"; more than three times as many are told in times."""
    change = (total - before) / before
    if change > 2:
        return f"{total / before:,.0f} times as many as"
    if abs(change) < 0.01:
        return "as many as"
    return f"{abs(change) * 100:.0f} % {'more' if change > 0 else 'less'} than"


def _to_do(data: Mapping[str, Any]) -> list[str]:
    found = [
        f"Look at incident {each['id']}: {each['title']} (severity {each['severity']}, {each['words']})."
        for each in data["incidents"]
        if each["status"] == "open" and each["severity"] >= 6
    ][:8]
    found += data["blind_spots"][:8]
    if data["ledger"]["dead_letters"]:
        found.append(f"{_many(data['ledger']['dead_letters'], 'line')} could not be stored: see the dead letters.")
    if data["notifications"].get("failed"):
        found.append(f"{_many(data['notifications']['failed'], 'notification')} could not be delivered.")
    return found


def _many(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def zone_of(settings: ReportConfig) -> dt.tzinfo:
    """The zone whose midnights count: the configured one, else the machine's."""
    if settings.timezone:
        return zoneinfo.ZoneInfo(settings.timezone)
    return machine_zone()


def midnight_us(day: dt.date, zone: dt.tzinfo) -> int:
    """When a local day begins, in microseconds since the epoch; right on days of 23 and 25 hours."""
    return int(dt.datetime.combine(day, dt.time(), zone).timestamp()) * 1_000_000


def last_span(kind: str, today: dt.date) -> tuple[dt.date, dt.date]:
    """The last whole day, week (from Monday) or month before today, its end excluded."""
    if kind == "daily":
        return today - dt.timedelta(days=1), today
    if kind == "weekly":
        monday = today - dt.timedelta(days=today.weekday())
        return monday - dt.timedelta(days=7), monday
    first = today.replace(day=1)
    return (first - dt.timedelta(days=1)).replace(day=1), first


def render_apart(data: Mapping[str, Any], path: str) -> None:
    """Make the PDF in a process of its own, whole or not at all. Raises ReportError."""
    command = [sys.executable, "-I", DRAWING, path]  # -I: nothing of this folder stands in for a library
    try:
        done = subprocess.run(  # noqa: S603  (our own module; nothing of the data is in the command)
            command, input=json.dumps(data).encode(), capture_output=True, timeout=PDF_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        msg = f"the PDF was not made within {PDF_TIMEOUT_S} s"
        raise ReportError(msg) from error
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        msg = f"the PDF could not be made: {lines[-1] if lines else f'exit code {done.returncode}'}"
        raise ReportError(msg)
    sync_folder(os.path.dirname(path))
